"""The gate: pass, fail and invalid, each for its reasons, without a model or a clock."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.gate import (
    MAX_CLOCK_CHANGE,
    MAX_CPU_CONTENTION,
    MAX_DRIFT,
    MAX_SPREAD,
    Check,
    Outcome,
    judge,
    outcome,
)
from exporter.measure.estimate import Estimate
from exporter.measure.saturation import Saturation
from exporter.measure.speed import MIN_ROUNDS
from exporter.recipe.kinds import KINDS
from exporter.recipe.schema import Bars
from tests.factories import (
    a_batches,
    a_bucket,
    a_fidelity,
    a_parity,
    a_quality,
    a_ratio,
    an_estimate,
    an_int8_fidelity,
    bars,
)

if TYPE_CHECKING:
    from exporter.measure.fidelity import Fidelity
    from exporter.measure.parity import Parity
    from exporter.measure.speed import Ratio

SOUND = (
    "nonfinite_scores",
    "relative_rms",
    "worst_query_relative_rms",
    "worst_length_relative_rms",
    "batch_relative_rms",
    "lower_precision_share",
    "repeat_diff",
)


def judged(
    limits: Bars,
    parity: Parity | None = None,
    ratio: Ratio | None = None,
    fidelity: Fidelity | None = None,
    **changes: object,
) -> tuple[Outcome, dict[str, Check]]:
    """Judge a fp32 variant with something changed, and return the verdict with the checks by name."""
    found = fidelity or a_fidelity(parity=parity or a_parity(), **changes)
    checks = judge(limits, found, ratio or a_ratio())
    return outcome(checks), {check.name: check for check in checks}


# --- one bar at a time ---


@pytest.mark.parametrize(
    ("bar", "meets", "misses", "observed"),
    [
        ("min_ndcg_retained", 0.99, 1.0, 1.0),
        ("min_kendall_tau", 0.97, 0.971, 0.97),
        ("min_top1_agreement", 0.9, 0.91, 0.9),
        ("min_top10_overlap", 0.95, 0.951, 0.95),
        ("max_abs_diff", 0.25, 0.249, 0.25),
        ("max_batch_delta", 1e-6, 9e-7, 1e-6),
        ("max_size_ratio", 0.25, 0.249, 0.25),
        ("min_speedup", 1.9, 2.11, 2.0),
    ],
)
def test_bar_is_met_or_missed(bar: str, meets: float, misses: float, observed: float) -> None:
    """A measurement that is just at its bar passes, one beyond it fails, and the check shows both numbers."""
    quality = a_quality(ndcg_retained=an_estimate(observed, 0.99, 0.999))
    verdict, checks = judged(bars(**{bar: meets}), quality=quality)
    *_, check = checks.values()
    assert verdict == check.outcome == "pass"
    assert check.observed == observed
    assert f"{meets:g}" in check.bar
    assert judged(bars(**{bar: misses}), quality=quality)[0] == "fail"


def test_only_the_bars_that_are_set_are_checked() -> None:
    """A bar left out is not checked; what stands in no recipe always is."""
    assert list(judged(bars(min_kendall_tau=0.5))[1]) == [*SOUND, "min_kendall_tau"]


def test_all_bars_are_checked() -> None:
    """With every bar set there is a check for each, and the first failure hides none of the rest."""
    limits = Bars.model_validate(dict.fromkeys(Bars.model_fields, 1.0))
    quality = a_quality(ndcg_retained=an_estimate(0.9))
    verdict, checks = judged(limits, parity=a_parity(n_nonfinite=3, max_abs_diff=2.0), quality=quality)
    assert verdict == "fail"
    assert len(checks) == len(SOUND) + len(Bars.model_fields)
    assert [name for name, check in checks.items() if check.outcome == "pass"] == [
        *SOUND[1:],
        "max_batch_delta",
        "max_size_ratio",
        "min_speedup",
    ]


def test_any_nonfinite_score_fails() -> None:
    """One score that is not finite fails a variant that meets all its bars."""
    verdict, checks = judged(bars(min_kendall_tau=0.5), parity=a_parity(n_nonfinite=1))
    assert verdict == "fail"
    assert checks["nonfinite_scores"].observed == 1


SAMPLED = {
    "min_ndcg_retained": lambda found: {"quality": a_quality(ndcg_retained=found)},
    "min_kendall_tau": lambda found: {"parity": a_parity(kendall_tau=found)},
    "min_top1_agreement": lambda found: {"parity": a_parity(top1_agreement=found)},
    "min_top10_overlap": lambda found: {"parity": a_parity(top10_overlap=found)},
}


@pytest.mark.parametrize("bar", SAMPLED)
@pytest.mark.parametrize(
    ("low", "value", "high", "wanted"),
    [
        (0.98, 0.99, 1.0, "pass"),
        (0.979, 0.99, 1.0, "invalid"),
        (0.949, 0.975, 0.981, "invalid"),
        (0.9, 0.97, 0.98, "invalid"),
        (0.9, 0.95, 0.979, "fail"),
    ],
)
def test_sampled_bars_need_the_whole_interval(
    bar: str, low: float, value: float, high: float, wanted: Outcome
) -> None:
    """Only an interval that lies wholly on one side of the bar, 0.98, gives a verdict, and it is shown."""
    verdict, checks = judged(bars(**{bar: 0.98}), **SAMPLED[bar](an_estimate(value, low, high)))
    check = checks[bar]
    assert verdict == check.outcome == wanted
    assert (check.low, check.observed, check.high) == (low, value, high)
    assert check.note == "10 queries"


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (
            # The lower end is 0.02 below the estimate and may be 0.01: half as far takes four times as many.
            Estimate(0.985, 0.965, 1.0, 200, n_silent=3),
            "the interval holds the bar; about 800 queries would tell",
        ),
        (
            Estimate(0.975, 0.965, 1.0, 50),
            "the estimate sits on the bar, and no number of queries would tell",
        ),
        # None lost, and ln 0.05 / ln 0.975 = 118.3.
        (
            Estimate(1.0, 0.05 ** (1 / 50), 1.0, 50),
            "the interval holds the bar; about 119 queries would tell",
        ),
    ],
)
def test_too_few_queries_are_invalid(found: Estimate, why: str) -> None:
    """Where the interval holds the bar, 0.975, the check says how many would do, or that none would."""
    verdict, checks = judged(bars(min_ndcg_retained=0.975), quality=a_quality(ndcg_retained=found))
    check = checks["min_ndcg_retained"]
    assert verdict == check.outcome == "invalid"
    assert check.why == why
    assert check.note == f"{found.n_queries} queries" + (", 3 cannot tell" if found.n_silent else "")


def test_nothing_that_can_tell_is_invalid() -> None:
    """Where every query has ten passages or fewer, the ten best of both are the same: no verdict."""
    verdict, checks = judged(bars(min_top10_overlap=0.9), parity=a_parity(top10_overlap=None))
    assert verdict == checks["min_top10_overlap"].outcome == "invalid"


def test_maxima_say_what_they_leave_open() -> None:
    """A largest difference is exact on these pairs; of others, up to 3 of n may exceed it."""
    checks = judged(bars(max_abs_diff=0.3, max_batch_delta=1.0), batches=a_batches(n_pairs=60))[1]
    assert checks["max_abs_diff"].note == "of 100 pairs; up to 3.00% of unseen ones may exceed it"
    assert checks["max_batch_delta"].note == "of 60 pairs; up to 5.00% of unseen ones may exceed it"


# --- groups too small to tell ---


def test_lengths_of_few_pairs_are_not_judged() -> None:
    """A length with 3 pairs fails nothing, however far off it is; the check names it, and judges the rest."""
    few, enough = a_bucket("1 to 64", 0.9, n_pairs=3), a_bucket("65 to 128", 0.1, n_pairs=8)
    check = judged(bars(), lengths=(few, enough))[1]["worst_length_relative_rms"]
    assert (check.outcome, check.observed) == ("pass", 0.1)
    assert check.note == "not judged, below 8 pairs: 3 pairs of 1 to 64 tokens"
    check = judged(bars(), lengths=(few,))[1]["worst_length_relative_rms"]
    assert check.outcome == "not judged"
    assert check.why == "too few pairs to tell: no length has 8 pairs"


def test_few_pairs_are_not_judged() -> None:
    """A query, a set, or batches of few pairs are not judged by their root mean square, and say so."""
    parity = a_parity(n_pairs=7, relative_rms=0.9, worst_query_relative_rms=None, farthest_query="")
    batches = a_batches(n_pairs=7, relative_rms=0.9)
    verdict, checks = judged(bars(), parity=parity, batches=batches)
    assert verdict == "pass"
    for name in ("relative_rms", "worst_query_relative_rms", "batch_relative_rms"):
        assert checks[name].outcome == "not judged"
        assert "too few pairs to tell" in checks[name].why


def test_quality_bar_without_labels() -> None:
    """What cannot be measured is neither met nor missed, and the check can be shown and written."""
    verdict, checks = judged(bars(min_ndcg_retained=0.98), quality=None)
    check = checks["min_ndcg_retained"]
    assert verdict == check.outcome == "invalid"
    assert check.why == "no query can tell"
    assert math.isfinite(check.observed)


@pytest.mark.parametrize(
    ("bar", "field"),
    [
        ("min_kendall_tau", "kendall_tau"),
        ("min_top1_agreement", "top1_agreement"),
        ("min_top10_overlap", "top10_overlap"),
        ("max_abs_diff", "max_abs_diff"),
    ],
)
def test_nan_fails(bar: str, field: str) -> None:
    """A measurement that is no number does not slip through."""
    nothing = math.nan if field == "max_abs_diff" else an_estimate(math.nan)
    assert judged(bars(**{bar: 0.5}), parity=a_parity(**{field: nothing}))[0] == "fail"


def test_nan_fails_elsewhere() -> None:
    """Nor does one of quality or size."""
    assert (
        judged(bars(min_ndcg_retained=0.5), quality=a_quality(ndcg_retained=an_estimate(math.nan)))[0]
        == "fail"
    )
    assert judged(bars(max_size_ratio=0.5), size_ratio=math.nan)[0] == "fail"


@pytest.mark.parametrize(
    "field", ["low", "high", "spread", "cpu_contention", "drift", "clock", "default_faster"]
)
def test_nan_speed_never_passes(field: str) -> None:
    """A speed-up of which any part is no number is not passed."""
    nothing = {"value": math.nan, "low": math.nan, "high": math.nan, "spread": math.nan}
    assert judged(bars(min_speedup=1.0), ratio=a_ratio(**nothing))[0] != "pass"
    assert judged(bars(min_speedup=2.05), ratio=a_ratio(**{field: math.nan}))[0] != "pass"


# --- what no recipe can switch off ---


@pytest.mark.parametrize(
    ("fidelity", "name", "where"),
    [
        (a_fidelity(parity=a_parity(relative_rms=0.9)), "relative_rms", ""),
        (a_fidelity(parity=a_parity(worst_query_relative_rms=1.0)), "worst_query_relative_rms", "query q7"),
        (
            a_fidelity(lengths=(a_bucket("65 to 128", 0.9),)),
            "worst_length_relative_rms",
            "12 pairs of 65 to 128 tokens",
        ),
        (
            a_fidelity(lengths=(a_bucket("truncated", 0.9),)),
            "worst_length_relative_rms",
            "12 truncated pairs",
        ),
        (
            a_fidelity(batches=a_batches(relative_rms=0.9)),
            "batch_relative_rms",
            "",
        ),
        (a_fidelity(repeat_diff=1e-3), "repeat_diff", ""),
        (a_fidelity(contents=an_int8_fidelity().contents), "lower_precision_share", ""),
        (an_int8_fidelity(contents=a_fidelity().contents), "promised_weight_share", ""),
        (a_fidelity(traits=KINDS["openvino-fp16"].traits), "promised_weight_share", ""),
        (
            an_int8_fidelity(saturation=Saturation(1, "p, n 0, k 0 and 1: 127 and 127", 64_770, 0, None)),
            "max_int16_sum",
            "p, n 0, k 0 and 1: 127 and 127",
        ),
    ],
)
def test_unsound_fails(fidelity: Fidelity, name: str, where: str) -> None:
    """What nobody would want fails under any bars, alone, and the check says where."""
    verdict, checks = judged(bars(min_kendall_tau=0.5), fidelity=fidelity)
    assert verdict == "fail"
    assert [check.name for check in checks.values() if check.outcome == "fail"] == [name]
    assert checks[name].why == where


def test_saturation_is_for_cpus_without_vnni() -> None:
    """A variant for CPUs that sum in 32 bits needs no proof."""
    sums = Saturation(1, "p, n 0, k 0 and 1: 127 and 127", 64_770, 0, None)
    found = an_int8_fidelity(isa="avx512_vnni", saturation=sums)
    assert judged(bars(min_kendall_tau=0.5), fidelity=found)[0] == "pass"


def test_speed_that_was_not_measured() -> None:
    """A speed bar without a measurement has no verdict."""
    (check,) = (c for c in judge(bars(min_speedup=1.5), a_fidelity(), None) if "speed" in c.name)
    assert (check.outcome, check.why) == ("invalid", "speed was not measured")


# --- validity of the speed ---


@pytest.mark.parametrize(
    ("ratio", "why"),
    [
        (
            a_ratio(n_rounds=MIN_ROUNDS - 1),
            f"{MIN_ROUNDS - 1} rounds, {MIN_ROUNDS} needed: `exporter verify` makes them",
        ),
        (a_ratio(spread=MAX_SPREAD + 0.05), "rounds spread by 15.0%, 10% allowed"),
        (
            a_ratio(cpu_contention=0.5),
            "others had 50.0% of the cores meanwhile, the host 1.0% of it, 5% allowed",
        ),
        (a_ratio(drift=-0.2), "the speed-up drifted by 20.0%, 10% allowed"),
        (a_ratio(clock=0.3), "the CPU's clock changed by 30.0%, 15% allowed"),
        (
            a_ratio(default_faster=0.12),
            "PyTorch with default arguments was 12.0% faster, or more, than at its tuned plan, 10% allowed",
        ),
        (
            a_ratio(spread=0.2, drift=0.2),
            "rounds spread by 20.0%, 10% allowed; the speed-up drifted by 20.0%, 10% allowed",
        ),
        (a_ratio(low=1.4, high=2.6), "the interval holds the bar"),
    ],
    ids=[
        "too few rounds",
        "too much spread",
        "a busy machine",
        "drift",
        "another clock",
        "a plan that is not the best",
        "two problems",
        "interval holds the bar",
    ],
)
def test_speed_with_problems_is_invalid(ratio: Ratio, why: str) -> None:
    """A speed that cannot be trusted is neither passed nor failed, and the reason has both numbers."""
    verdict, checks = judged(bars(min_speedup=1.5), ratio=ratio)
    check = checks["min_speedup"]
    assert verdict == check.outcome == "invalid"
    assert check.why == why


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(1.5, 1.6, "pass"), (1.4, 1.5, "invalid"), (1.49, 1.51, "invalid"), (1.3, 1.49, "fail")],
)
def test_interval_and_bar(low: float, high: float, verdict: Outcome) -> None:
    """Only an interval that lies wholly on one side of the bar, 1.5, gives a verdict."""
    assert (
        judged(bars(min_speedup=1.5), ratio=a_ratio(low=low, value=(low + high) / 2, high=high))[0] == verdict
    )


def test_limits_of_validity() -> None:
    """Just enough rounds, and just the spread, contention, drift and clock allowed, are no problem."""
    just = a_ratio(
        n_rounds=MIN_ROUNDS,
        spread=MAX_SPREAD,
        cpu_contention=MAX_CPU_CONTENTION,
        drift=-MAX_DRIFT,
        clock=MAX_CLOCK_CHANGE,
    )
    assert judged(bars(min_speedup=1.5), ratio=just)[0] == "pass"


def test_problems_without_a_speed_bar() -> None:
    """Where speed is not asked for, noise does not matter."""
    assert judged(bars(min_kendall_tau=0.5), ratio=a_ratio(n_rounds=1, spread=9.0))[0] == "pass"


@pytest.mark.parametrize(
    "ratio", [a_ratio(), a_ratio(n_rounds=1), a_ratio(spread=1.0), a_ratio(low=0.5, high=9.0)]
)
def test_noise_cannot_mend_a_wrong_model(ratio: Ratio) -> None:
    """A model that ranks wrongly fails, whatever is known about its speed."""
    assert judged(bars(min_kendall_tau=0.99, min_speedup=1.5), ratio=ratio)[0] == "fail"


# --- reducing ---


@dataclass(frozen=True)
class Judged:
    """Something with an outcome."""

    outcome: Outcome


WORST_FIRST: tuple[Outcome, ...] = ("fail", "invalid", "pass", "not judged")


@pytest.mark.parametrize("found", itertools.product(WORST_FIRST, repeat=2))
def test_outcome_of_two(found: tuple[Outcome, Outcome]) -> None:
    """Fail before invalid before pass, in either order; what was not judged changes nothing."""
    worst = next(one for one in WORST_FIRST if one in found)
    assert outcome([Judged(one) for one in found]) == worst


def test_outcome_of_nothing() -> None:
    """Where nothing was judged there is no verdict."""
    assert outcome([]) == "not judged"


@given(st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0, 1))
def test_a_lower_bar_is_no_harder(low: float, high: float, tau: float) -> None:
    """What meets a bar meets every lower one."""
    low, high = sorted((low, high))
    parity = a_parity(kendall_tau=an_estimate(tau))
    if judged(bars(min_kendall_tau=high), parity=parity)[0] == "pass":
        assert judged(bars(min_kendall_tau=low), parity=parity)[0] == "pass"


def test_same_in_same_out() -> None:
    """The same measurements and bars give the same verdict."""
    limits = bars(min_kendall_tau=0.9, min_speedup=1.95)
    assert judged(limits) == judged(limits)
