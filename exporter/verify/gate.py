"""Hold measurements against bars. Pure: the same report and bars give the same verdict, without a model, file or clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from exporter.verify.throughput import MIN_ROUNDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.recipe import Bars
    from exporter.verify.parity import Parity, Quality
    from exporter.verify.throughput import Ratio

Outcome = Literal["pass", "fail", "invalid"]

# Standard deviation of the rounds' speed-ups over their mean. Source: pyperf calls a benchmark unstable from 10 % up.
# Source: https://pyperf.readthedocs.io/en/latest/run_benchmark.html#stdev
MAX_SPREAD = 0.10
# How much of the cores others may have while speed is measured. A steady load spreads nothing and still moves the ratio: with
# both of two cores busy elsewhere an int8 variant read as 6.1 times tuned PyTorch instead of 3.6.
MAX_CROWDING = 0.05


@dataclass(frozen=True, slots=True)
class Check:
    """One bar held against one measurement; `why` says what makes it invalid, else it is empty."""

    name: str
    observed: float
    bar: str
    outcome: Outcome
    why: str = ""


def judge(bars: Bars, parity: Parity, quality: Quality | None, speedup: Ratio, size_ratio: float) -> tuple[Check, ...]:
    """Hold one variant against its bars; every check runs, the first failure hides none.

    Args:
        bars: the limits; one that is None is not checked.
        parity: score and order differences.
        quality: against labels, or None where there are none; a quality bar is then invalid.
        speedup: over tuned PyTorch.
        size_ratio: the variant's bytes over the reference's weights.
    """
    checks = [_at_most("non-finite scores", parity.n_nonfinite, 0)]
    if bars.min_ndcg_retained is not None:
        low = quality.ndcg_retained_low if quality else float("nan")
        check = _at_least("nDCG@10 retained, lower bound", low, bars.min_ndcg_retained)
        checks.append(check if quality else Check(check.name, 0.0, check.bar, "invalid", "the pairs have no labels"))
    for name, observed, bar in (
        ("Kendall tau-b", parity.kendall_tau, bars.min_kendall_tau),
        ("top-1 agreement", parity.top1_agreement, bars.min_top1_agreement),
        ("top-10 overlap", parity.top10_overlap, bars.min_top10_overlap),
    ):
        if bar is not None:
            checks.append(_at_least(name, observed, bar))
    if bars.max_abs_diff is not None:
        checks.append(_at_most("max |diff|, logits", parity.max_abs_diff, bars.max_abs_diff))
    if bars.max_size_ratio is not None:
        checks.append(_at_most("size over reference weights", size_ratio, bars.max_size_ratio))
    if bars.min_speedup is not None:
        checks.append(_speed(speedup, bars.min_speedup))
    return tuple(checks)


class Judged(Protocol):
    """Anything with an outcome: a check, a variant."""

    @property
    def outcome(self) -> Outcome:
        """Pass, fail or invalid."""
        ...


def outcome(judged: Iterable[Judged]) -> Outcome:
    """Reduce checks, or outcomes of variants, to one: fail before invalid before pass. Noise cannot mend a wrong model."""
    found = {one.outcome for one in judged}
    return "fail" if "fail" in found else "invalid" if "invalid" in found else "pass"


def _at_most(name: str, observed: float, bar: float) -> Check:
    return Check(name, observed, f"≤ {bar:g}", "pass" if observed <= bar else "fail")  # NaN fails, as it must


def _at_least(name: str, observed: float, bar: float) -> Check:
    return Check(name, observed, f"≥ {bar:g}", "pass" if observed >= bar else "fail")


def _speed(ratio: Ratio, bar: float) -> Check:
    """Pass or fail only where the whole interval lies on one side of the bar."""
    name, wanted = "speed-up over tuned torch", f"≥ {bar:g}"
    if ratio.n_rounds < MIN_ROUNDS:
        return Check(name, ratio.value, wanted, "invalid", f"{ratio.n_rounds} rounds, {MIN_ROUNDS} needed")
    if ratio.spread > MAX_SPREAD:
        why = f"rounds spread by {ratio.spread:.1%}, {MAX_SPREAD:.0%} allowed"
        return Check(name, ratio.value, wanted, "invalid", why)
    if not ratio.crowding <= MAX_CROWDING:  # nor is NaN
        why = f"others had {ratio.crowding:.0%} of the cores meanwhile, {MAX_CROWDING:.0%} allowed"
        return Check(name, ratio.value, wanted, "invalid", why)
    if ratio.low >= bar:
        return Check(name, ratio.value, wanted, "pass")
    if ratio.high < bar:
        return Check(name, ratio.value, wanted, "fail")
    why = f"the interval {ratio.low:.2f}-{ratio.high:.2f} holds the bar"
    return Check(name, ratio.value, wanted, "invalid", why)
