"""Hold measurements against bars. Pure: the same report and bars give the same verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from exporter.artifact.cpus import saturates
from exporter.measure.estimate import queries_needed, share_unseen
from exporter.measure.lengths import TRUNCATED
from exporter.measure.parity import MIN_GROUP_PAIRS
from exporter.measure.saturation import LARGEST_SUM
from exporter.measure.speed import MAX_CLOCK_CHANGE, MAX_DEFAULT_FASTER, MIN_ROUNDS, speedup
from exporter.worker.job import Run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from exporter.measure.estimate import Estimate
    from exporter.measure.fidelity import Fidelity
    from exporter.measure.lengths import LengthBucket
    from exporter.measure.speed import Ratio
    from exporter.recipe.schema import Bars


Outcome = Literal["pass", "fail", "invalid", "not judged"]

# Standard deviation of the logarithms of the rounds' speed-ups; pyperf calls a benchmark unstable from 10 %
# up.
# Source: https://pyperf.readthedocs.io/en/latest/run_benchmark.html#stdev
MAX_SPREAD = 0.10
# Share of the cores that others may have while speed is measured. A steady load spreads nothing and still
# moves the ratio: with both of two cores busy elsewhere an int8 variant read as 6.1 times tuned PyTorch
# instead of 3.6.
MAX_CPU_CONTENTION = 0.05
# By how much the speed-up may differ between the first and the second half of the rounds.
MAX_DRIFT = 0.10
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
# Bars on shares of queries, whose lower bound counts what n queries cannot have shown as lost.
COUNT_UNSEEN = ("min_ndcg_retained", "min_top1_agreement")


@dataclass(frozen=True, slots=True)
class Check:
    """One bar held against one measurement.

    Attributes:
        name: the bar's key, or the measurement's.
        observed: the measurement, an estimate where it is of a sample.
        bar: the limit, with its sign.
        outcome: pass, fail, invalid (no verdict), or not judged.
        why: what makes it invalid, where it failed, or why it was not judged.
        low: lower end of the interval that is held against the bar; None where the measurement is exact.
        high: upper end.
        note: what the measurement rests on, and what it leaves open.
    """

    name: str
    observed: float
    bar: str
    outcome: Outcome
    why: str = ""
    low: float | None = None
    high: float | None = None
    note: str = ""


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
    parity, quality = found.parity, found.quality
    checks = [_at_most("nonfinite_scores", parity.n_nonfinite, 0), *_soundness(found)]
    for name, estimate in (
        ("min_ndcg_retained", quality.ndcg_retained if quality else None),
        ("min_kendall_tau", parity.kendall_tau),
        ("min_top1_agreement", parity.top1_agreement),
        ("min_top10_overlap", parity.top10_overlap),
    ):
        if (bar := getattr(bars, name)) is not None:
            checks.append(judge_sampled(name, estimate, bar))
    for name, largest, n in (
        ("max_abs_diff", parity.max_abs_diff, parity.n_pairs),
        ("max_batch_delta", found.batches.max_delta, found.batches.n_pairs),
    ):
        if (bar := getattr(bars, name)) is not None:
            checks.append(_exact_on_these(name, largest, bar, n))
    if bars.max_size_ratio is not None:
        checks.append(_at_most("max_size_ratio", found.size_ratio, bars.max_size_ratio))
    if bars.min_speedup is not None:
        checks.append(judge_speed(speedup, bars.min_speedup))
    return tuple(checks)


def validity_problems(ratio: Ratio) -> tuple[str, ...]:
    """Return the reasons why a speed-up is invalid, each with what was found and what is allowed."""
    few = (
        ()
        if ratio.n_rounds >= MIN_ROUNDS
        else (f"{ratio.n_rounds} rounds, {MIN_ROUNDS} needed: `exporter verify` makes them",)
    )
    return (*few, *noise_problems(ratio))


def noise_problems(ratio: Ratio) -> tuple[str, ...]:
    """Return what disturbed the measurement of a speed-up; as `validity_problems`, but for too few rounds."""
    found = []
    for value, most, said in (  # NaN is not below a limit either
        (ratio.spread, MAX_SPREAD, "rounds spread by {:.1%}"),
        (
            ratio.cpu_contention,
            MAX_CPU_CONTENTION,
            f"others had {{:.1%}} of the cores meanwhile, the host {ratio.steal:.1%} of it",
        ),
        (abs(ratio.drift), MAX_DRIFT, "the speed-up drifted by {:.1%}"),
        (ratio.clock, MAX_CLOCK_CHANGE, "the CPU's clock changed by {:.1%}"),
        (
            ratio.default_faster,
            MAX_DEFAULT_FASTER,
            "PyTorch with default arguments was {:.1%} faster, or more, than at its tuned plan",
        ),
    ):
        if not value <= most:
            found.append(f"{said.format(value)}, {most:.0%} allowed")
    return tuple(found)


def judge_speed(ratio: Ratio | None, bar: float) -> Check:
    """Check a speed-up: pass or fail only where it is valid and its interval lies on one side of the bar."""
    name, wanted = "min_speedup", f"≥ {bar:g}"
    if ratio is None:
        return Check(name, 0.0, wanted, "invalid", "speed was not measured")
    given, why = _side(ratio.low, ratio.high, bar), ""
    if found := validity_problems(ratio):
        given, why = "invalid", "; ".join(found)
    elif given == "invalid":
        why = "the interval holds the bar"
    left_out = f", {ratio.n_left_out} more at another clock left out" if ratio.n_left_out else ""
    note = f"{ratio.n_rounds} rounds{left_out}"
    return Check(name, ratio.value, wanted, given, why, ratio.low, ratio.high, note)


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
        """Pass, fail, invalid, or not judged."""
        ...


def outcome(judged: Iterable[Judged]) -> Outcome:
    """Reduce checks, or outcomes of variants, to one: fail before invalid before pass.

    Noise cannot mend a wrong model. What was not judged changes nothing, unless nothing was judged at all.
    """
    found = {one.outcome for one in judged}
    return next((word for word in ("fail", "invalid", "pass") if word in found), "not judged")


def _soundness(found: Fidelity) -> list[Check]:
    """Return the checks that stand in no recipe, because nobody would want less."""
    parity = found.parity
    checks = [
        _grouped("relative_rms", parity.relative_rms, MAX_RELATIVE_RMS, parity.n_pairs),
        _of_queries(parity.worst_query_relative_rms, parity.farthest_query),
        *_of_lengths(found.lengths),
        _grouped("batch_relative_rms", found.batches.relative_rms, MAX_RELATIVE_RMS, found.batches.n_pairs),
    ]
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


def _of_queries(farthest: float | None, query: str) -> Check:
    """Check the query whose scores are farthest from the reference's."""
    name, bar = "worst_query_relative_rms", MAX_QUERY_RELATIVE_RMS
    if farthest is None:
        return _not_judged(name, bar, f"no query has {MIN_GROUP_PAIRS} pairs")
    return _at_most(name, farthest, bar, f"query {query}" if query else "")


def _of_lengths(lengths: Sequence[LengthBucket]) -> list[Check]:
    """Check the length whose scores are farthest from the reference's; too few pairs of one are named."""
    if not lengths:
        return []
    name, bar = "worst_length_relative_rms", MAX_RELATIVE_RMS
    few = [_pairs_of(bucket) for bucket in lengths if bucket.n_pairs < MIN_GROUP_PAIRS]
    note = f"not judged, below {MIN_GROUP_PAIRS} pairs: {', '.join(few)}" if few else ""
    enough = [bucket for bucket in lengths if bucket.n_pairs >= MIN_GROUP_PAIRS]
    if not enough:
        return [_not_judged(name, bar, f"no length has {MIN_GROUP_PAIRS} pairs")]
    farthest = max(enough, key=lambda bucket: bucket.relative_rms)
    return [replace(_at_most(name, farthest.relative_rms, bar, _pairs_of(farthest)), note=note)]


def _pairs_of(bucket: LengthBucket) -> str:
    what = "truncated pairs" if bucket.name == TRUNCATED else f"pairs of {bucket.name} tokens"
    return f"{bucket.n_pairs} {what}"


def _grouped(name: str, observed: float, bar: float, n_pairs: int) -> Check:
    """Check a root mean square over pairs, unless they are too few to tell."""
    if n_pairs < MIN_GROUP_PAIRS:
        return _not_judged(name, bar, f"{n_pairs} pairs, {MIN_GROUP_PAIRS} needed")
    return _at_most(name, observed, bar)


def _not_judged(name: str, bar: float, why: str) -> Check:
    return Check(name, 0.0, f"≤ {bar:g}", "not judged", f"too few pairs to tell: {why}")


def judge_sampled(name: str, found: Estimate | None, bar: float) -> Check:
    """Check what queries are a sample of: pass or fail only where the whole interval is on one side.

    Args:
        name: the bar's key.
        found: the measurement, None where no query can tell; the verdict is then invalid.
        bar: the lower limit.
    """
    wanted = f"≥ {bar:g}"
    if found is None:
        return Check(name, 0.0, wanted, "invalid", "no query can tell")
    given, why = _side(found.low, found.high, bar), ""
    note = f"{found.n_queries} queries" + (f", {found.n_silent} cannot tell" if found.n_silent else "")
    if given == "invalid":
        needed = queries_needed(found, bar, counts_unseen=name in COUNT_UNSEEN)
        why = (
            f"the interval holds the bar; about {needed} queries would tell"
            if needed
            else "the estimate sits on the bar, and no number of queries would tell"
        )
    return Check(name, found.value, wanted, given, why, found.low, found.high, note)


def _side(low: float, high: float, bar: float) -> Outcome:
    """Return pass or fail where an interval lies on one side of a lower limit; NaN fails, as it must."""
    if low >= bar:
        return "pass"
    return "invalid" if high >= bar else "fail"


def _exact_on_these(name: str, observed: float, bar: float, n_pairs: int) -> Check:
    """Check a maximum: exact on these pairs, and said beside it what it leaves open of others."""
    note = f"of {n_pairs} pairs; up to {share_unseen(n_pairs):.2%} of unseen ones may exceed it"
    return replace(_at_most(name, observed, bar), note=note)


def _at_most(name: str, observed: float, bar: float, where: str = "") -> Check:
    met = observed <= bar  # NaN fails, as it must
    return Check(name, observed, f"≤ {bar:g}", "pass" if met else "fail", "" if met else where)


def _at_least(name: str, observed: float, bar: float) -> Check:
    return Check(name, observed, f"≥ {bar:g}", "pass" if observed >= bar else "fail")
