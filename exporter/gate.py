"""Hold measurements against bars. Pure: the same report and bars give the same verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from exporter.measure.lengths import TRUNCATED
from exporter.measure.saturation import LARGEST_SUM
from exporter.measure.speed import MIN_ROUNDS, speedup
from exporter.recipe.kinds import saturates
from exporter.worker.job import Run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from exporter.measure.fidelity import Fidelity
    from exporter.measure.quality import Quality
    from exporter.measure.speed import Ratio
    from exporter.recipe.schema import Bars


Outcome = Literal["pass", "fail", "invalid", "not judged here"]

# Standard deviation of the logarithms of the rounds' speed-ups; pyperf calls a benchmark unstable from 10 %
# up.
# Source: https://pyperf.readthedocs.io/en/latest/run_benchmark.html#stdev
MAX_SPREAD = 0.10
# Share of the cores that others may have while speed is measured. A steady load spreads nothing and still
# moves the ratio: with both of two cores busy elsewhere an int8 variant read as 6.1 times tuned PyTorch
# instead of 3.6.
MAX_CPU_CONTENTION = 0.05
# By how much the speed-up may differ between the first and the second half of the rounds, and the clock
# between runs.
MAX_DRIFT = 0.10
MAX_CLOCK_CHANGE = 0.15
# Root mean square of the differences from the reference over the standard deviation of its scores: of all
# pairs, of those of one length, of the same pairs alone and batched; and of one query. int8 of the sample has
# 0.044, 0.051, 0.044 and 0.12 (Intel Xeon 6/207 with VNNI); a query with another's scores, or scores behind a
# sigmoid, have about 1.
MAX_RELATIVE_RMS = 0.25
MAX_QUERY_RELATIVE_RMS = 0.5
# Between two processes at one plan nothing is left to chance; engines sum in a fixed order.
MAX_REPEAT_DIFF = 1e-6
# Share of the matrix products' weights that has to be in the precision a kind promises. A recipe may keep
# some of an int8 variant's in fp32, not most; biases of products do not count.
MIN_PROMISED_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Check:
    """One bar held against one measurement; `why` says what makes it invalid or where it failed."""

    name: str
    observed: float
    bar: str
    outcome: Outcome
    why: str = ""


class Measured(Protocol):
    """What was measured of one variant, as far as a verdict asks."""

    @property
    def kind(self) -> str:
        """The variant's kind."""
        ...

    @property
    def fidelity(self) -> Fidelity:
        """Everything but speed."""
        ...

    @property
    def speedup_judged(self) -> Ratio:
        """The speed-up over the tuned PyTorch that the recipe wants it over."""
        ...


def judge_all(bars: Mapping[str, Bars], measured: Iterable[Measured]) -> dict[str, tuple[Check, ...]]:
    """Return the checks of every measured variant by kind."""
    return {one.kind: judge(bars[one.kind], one.fidelity, one.speedup_judged) for one in measured}


def judge(bars: Bars, found: Fidelity, speedup: Ratio | None) -> tuple[Check, ...]:
    """Check one variant against its bars; every check runs, the first failure hides none.

    Before the bars come checks that no recipe can switch off: scores are finite and on the reference's scale
    for every length and query, the files hold what the kind promises, sums cannot saturate, and the same
    pairs score the same twice.

    Args:
        bars: the limits; one that is None is not checked.
        found: everything but speed.
        speedup: over tuned PyTorch, or None where it was not measured; a speed bar is then invalid.
    """
    parity = found.parity
    checks = [_at_most("nonfinite_scores", parity.n_nonfinite, 0), *_soundness(found)]
    if bars.min_ndcg_retained is not None:
        checks.append(_quality(found.quality, bars.min_ndcg_retained))
    for name, observed, bar in (
        ("min_kendall_tau", parity.kendall_tau, bars.min_kendall_tau),
        ("min_top1_agreement", parity.top1_agreement, bars.min_top1_agreement),
        ("min_top10_overlap", parity.top10_overlap, bars.min_top10_overlap),
    ):
        if bar is not None:
            checks.append(_at_least(name, observed, bar))
    if bars.max_abs_diff is not None:
        checks.append(_at_most("max_abs_diff", parity.max_abs_diff, bars.max_abs_diff))
    if bars.max_batch_delta is not None:
        checks.append(_at_most("max_batch_delta", found.batches.max_delta, bars.max_batch_delta))
    if bars.max_size_ratio is not None:
        checks.append(_at_most("max_size_ratio", found.size_ratio, bars.max_size_ratio))
    if bars.min_speedup is not None:
        checks.append(judge_speed(speedup, bars.min_speedup))
    return tuple(checks)


def validity_problems(ratio: Ratio) -> tuple[str, ...]:
    """Return the reasons why a speed-up is invalid, each with what was found and what is allowed."""
    found = []
    if ratio.n_rounds < MIN_ROUNDS:
        found.append(f"{ratio.n_rounds} rounds, {MIN_ROUNDS} needed")
    for value, most, said in (  # NaN is not below a limit either
        (ratio.spread, MAX_SPREAD, "rounds spread by {:.1%}"),
        (
            ratio.cpu_contention,
            MAX_CPU_CONTENTION,
            f"others had {{:.1%}} of the cores meanwhile, the host {ratio.steal:.1%} of it",
        ),
        (abs(ratio.drift), MAX_DRIFT, "the speed-up drifted by {:.1%}"),
        (ratio.clock, MAX_CLOCK_CHANGE, "the CPU's clock changed by {:.1%}"),
    ):
        if not value <= most:
            found.append(f"{said.format(value)}, {most:.0%} allowed")
    return tuple(found)


def judge_speed(ratio: Ratio | None, bar: float) -> Check:
    """Check a speed-up: pass or fail only where it is valid and its interval lies on one side of the bar."""
    name, wanted = "min_speedup", f"≥ {bar:g}"
    if ratio is None:
        return Check(name, 0.0, wanted, "invalid", "speed was not measured")
    if found := validity_problems(ratio):
        return Check(name, ratio.value, wanted, "invalid", "; ".join(found))
    if ratio.low >= bar:
        return Check(name, ratio.value, wanted, "pass")
    if ratio.high < bar:
        return Check(name, ratio.value, wanted, "fail")
    why = f"the interval {ratio.low:.2f}-{ratio.high:.2f} holds the bar"
    return Check(name, ratio.value, wanted, "invalid", why)


def unsettled(
    bars: Mapping[str, Bars],
    precision: float,
    runs: Mapping[str, Sequence[Run]],
    tuned: Sequence[Run],
) -> frozenset[str]:
    """Return the kinds to measure on: those with a speed bar whose speed-up is not known well enough.

    Args:
        bars: the recipe's, by kind.
        precision: half the width of the 95 % interval over the speed-up, at which it is known well enough.
        runs: the candidates' so far, by kind.
        tuned: those of PyTorch at its best plan.
    """
    going = set()
    for kind, of_kind in runs.items():
        if bars[kind].min_speedup is None:
            continue
        ratio = speedup(of_kind, tuned)
        if validity_problems(ratio) or (ratio.high - ratio.low) / 2 > precision * ratio.value:
            going.add(kind)
    return frozenset(going)


class Judged(Protocol):
    """Anything with an outcome: a check, a variant."""

    @property
    def outcome(self) -> Outcome:
        """Pass, fail, invalid, or not judged here."""
        ...


def outcome(judged: Iterable[Judged]) -> Outcome:
    """Reduce checks, or outcomes of variants, to one: fail before invalid before pass.

    Noise cannot mend a wrong model. What was not judged changes nothing, unless nothing was judged at all.
    """
    found = {one.outcome for one in judged}
    return next((word for word in ("fail", "invalid", "pass") if word in found), "not judged here")


def _soundness(found: Fidelity) -> list[Check]:
    """Return the checks that stand in no recipe, because nobody would want less."""
    parity = found.parity
    checks = [
        _at_most("relative_rms", parity.relative_rms, MAX_RELATIVE_RMS),
        _at_most(
            "worst_query_relative_rms",
            parity.worst_query_relative_rms,
            MAX_QUERY_RELATIVE_RMS,
            f"query {parity.farthest_query}",
        ),
    ]
    if found.lengths:
        farthest = max(found.lengths, key=lambda bucket: bucket.relative_rms)
        where = (
            f"{farthest.n_pairs} pairs of {farthest.name} tokens"
            if farthest.name != TRUNCATED
            else "truncated pairs"
        )
        checks.append(_at_most("worst_length_relative_rms", farthest.relative_rms, MAX_RELATIVE_RMS, where))
    checks.append(_at_most("batch_relative_rms", found.batches.relative_rms, MAX_RELATIVE_RMS))
    contents = found.contents
    if found.traits.weights == "fp32":
        checks.append(_at_most("lower_precision_share", contents.int8_share + contents.fp16_share, 0))
    else:
        share = contents.share_of(found.traits.weights)
        checks.append(_at_least("promised_weight_share", share, MIN_PROMISED_SHARE))
    if found.saturation is not None and found.isa is not None and saturates(found.isa):
        sums = found.saturation
        checks.append(_at_most("max_int16_sum", max(sums.highest, -sums.lowest), LARGEST_SUM, sums.worst))
    return [*checks, _at_most("repeat_diff", found.repeat_diff, MAX_REPEAT_DIFF)]


def _quality(found: Quality | None, bar: float) -> Check:
    """Check nDCG's interval against the bar; invalid where only the estimate clears it."""
    name, wanted = "min_ndcg_retained", f"≥ {bar:g}"
    if found is None:
        return Check(name, 0.0, wanted, "invalid", "the pairs have no labels")
    # NaN is no matter of too few queries.
    if not found.ndcg_retained_low < bar or not found.ndcg_retained > bar:
        return _at_least(name, found.ndcg_retained_low, bar)
    # An interval narrows with the square root of the number of queries.
    reach = (found.ndcg_retained - found.ndcg_retained_low) / (found.ndcg_retained - bar)
    n_needed = math.ceil(found.n_queries * reach**2)
    why = f"{found.ndcg_retained:.4f} of {found.n_queries} queries; about {n_needed} would tell"
    return Check(name, found.ndcg_retained_low, wanted, "invalid", why)


def _at_most(name: str, observed: float, bar: float, where: str = "") -> Check:
    met = observed <= bar  # NaN fails, as it must
    return Check(name, observed, f"≤ {bar:g}", "pass" if met else "fail", "" if met else where)


def _at_least(name: str, observed: float, bar: float) -> Check:
    return Check(name, observed, f"≥ {bar:g}", "pass" if observed >= bar else "fail")
