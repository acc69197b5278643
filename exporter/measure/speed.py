"""What timed runs come to: throughput, speed-up with its interval, utilisation, latency. Pure."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from exporter.artifact.manifest import FlopCount, Traits
from exporter.worker.job import Dtype, Run, peak_flops

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

_Side = TypeVar("_Side", bound="Hashable")
# Which of the measured peaks a variant's products are held against, by their precision.
_PEAK_OF: dict[str, Dtype] = {"fp32": "float32", "int8": "int8"}
# The fewest values whose extremes hold their median with 95 %: 1 - 2 / 2^6 = 97 %, with five 94 %.
MIN_ROUNDS = 6
# Calls from which a percentile p of latencies is told. Of fewer than 100 / (100 - p) calls not one lies
# beyond it on average: it is the maximum under another name. A median is told of five, which two spoilt calls
# do not make.
MIN_CALLS = {50: 5, 95: 100 // (100 - 95), 99: 100 // (100 - 99)}
# By how much the CPU's clock may differ between the runs that a speed-up is taken from.
MAX_CLOCK_CHANGE = 0.15
# By how much PyTorch with default arguments may be faster than at its tuned plan. Default arguments are timed
# in three rounds: given the same plan, the lower end was 1.02 at most in six such runs, though single rounds
# were up to 1.29 (Intel Xeon 6/207, 2 cores of a shared machine).
MAX_DEFAULT_FASTER = 0.10


@dataclass(frozen=True, slots=True)
class Throughput:
    """All runs of one side, and what they come to.

    `pairs_per_s` is the median over runs; `spread` their standard deviation over their mean;
    `tokenize_share`, `cpu_share`, `cpu_contention` and `steal` are 0...1, medians like `load_s`;
    `peak_rss_bytes` is the largest over runs.
    """

    side: str
    plan: str
    runs: tuple[Run, ...]
    pairs_per_s: float
    tokens_per_s: float
    spread: float
    tokenize_share: float
    cpu_share: float
    cpu_contention: float
    steal: float
    load_s: float
    peak_rss_bytes: int


@dataclass(frozen=True, slots=True)
class Ratio:
    """A speed-up: the median of paired ratios, its 95 % interval, and their spread.

    `spread` is the standard deviation of the ratios' logarithms, taken from their interquartile range (over
    1.349, what it is for normal noise), so that one spoilt round does not make it. `cpu_contention` is how
    much of the cores others had, 0...1, the median over rounds of the side that suffered more, and `steal`
    the same of the host's part in it. `drift` is by how much the ratio of the second half of the rounds is
    above that of the first, `clock` by how much the CPU's clock differed between two of the runs, both as
    shares. `n_left_out` rounds, not among the `n_rounds`, were run at another clock. `default_faster` is by
    what share PyTorch with default arguments was faster than the tuned PyTorch that this is over, the lower
    end of the interval, 0 where it is below: the plan was then not PyTorch's best, and the speed-up flatters.
    """

    value: float
    low: float
    high: float
    spread: float
    n_rounds: int
    cpu_contention: float
    steal: float
    drift: float
    clock: float
    n_left_out: int = 0
    default_faster: float = 0.0


@dataclass(frozen=True, slots=True)
class Utilization:
    """Achieved over peak: `flops_per_s` counts matrix products' multiplications and additions, no padding.

    `peak_flops_per_s` is of large products on all cores in the same run, in int8 for int8 kinds, else
    float32. The whole work is held against it, though int8 kinds do some of theirs (attention) in float32.
    """

    flops_per_s: float
    peak_dtype: Dtype
    peak_flops_per_s: float

    @property
    def share_of_peak(self) -> float:
        """How much of the peak is reached, 0...1."""
        return self.flops_per_s / self.peak_flops_per_s


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds to score one query's candidates, from text to scores.

    A percentile of too few calls is None, see `at`. Older reports hold such percentiles too.
    """

    side: str
    n_documents: int
    n_calls: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None

    def at(self, percentile: Literal[50, 95, 99]) -> float | None:
        """Return a percentile in milliseconds; None where fewer calls were made than it takes to tell it."""
        if self.n_calls < MIN_CALLS[percentile]:
            return None
        return {50: self.p50_ms, 95: self.p95_ms, 99: self.p99_ms}[percentile]


@dataclass(frozen=True, slots=True)
class LengthSpeed:
    """Pairs per second on pairs of like length, and over tuned PyTorch's; of one process, so no interval."""

    name: str
    n_pairs: int
    pairs_per_s: float
    over_tuned: float


def pool(side: str, plan: str, runs: Sequence[Run]) -> Throughput:
    """Pool the runs of one side.

    Raises:
        ValueError: there are no runs, or they did not score the same pairs.
    """
    if not runs or len({(run.n_pairs, run.n_tokens) for run in runs}) != 1:
        raise ValueError(f"{side}: runs cannot be pooled, they scored different pairs or there are none")
    rates = [run.n_pairs / statistics.fmean(run.seconds) for run in runs]
    return Throughput(
        side=side,
        plan=plan,
        runs=tuple(runs),
        pairs_per_s=statistics.median(rates),
        tokens_per_s=statistics.median(rates) * runs[0].n_tokens / runs[0].n_pairs,
        spread=statistics.stdev(rates) / statistics.fmean(rates) if len(rates) > 1 else 0.0,
        tokenize_share=statistics.median(run.tokenize_s / statistics.fmean(run.seconds) for run in runs),
        cpu_share=statistics.median(run.cpu_share for run in runs),
        cpu_contention=statistics.median(run.cpu_contention for run in runs),
        steal=statistics.median(run.steal for run in runs),
        load_s=statistics.median(run.load_s for run in runs),
        peak_rss_bytes=max(run.peak_rss_bytes for run in runs),
    )


def speedup(candidate: Sequence[Run], reference: Sequence[Run]) -> Ratio:
    """Compare two sides round by round, those at a like clock that both of them ran.

    The median, and the interval its order statistics give: one round in which a neighbour took the machine
    must neither move the number nor widen it, which a mean and Student's t would let it do. Below six rounds
    no such interval has 95 %; low and high are then the extremes.
    Source: https://docs.scipy.org/doc/scipy/reference/generated/scipy.stats.quantile_test.html

    Raises:
        ValueError: a side was not run at all.
    """
    from scipy.stats import iqr

    if not candidate or not reference:
        raise ValueError("no rounds to compare")
    rounds = rounds_at_like_clock(candidate, reference)
    logs = log_ratios(candidate, reference)
    median, low, high = median_interval(logs)
    half = len(logs) // 2
    clocks = [run.clock for pair in rounds for run in pair]
    return Ratio(
        value=math.exp(median),
        low=math.exp(low),
        high=math.exp(high),
        spread=float(iqr(logs, scale="normal")),
        n_rounds=len(logs),
        cpu_contention=statistics.median(
            max(ours.cpu_contention, theirs.cpu_contention) for ours, theirs in rounds
        ),
        steal=statistics.median(max(ours.steal, theirs.steal) for ours, theirs in rounds),
        drift=math.exp(statistics.median(logs[-half:]) - statistics.median(logs[:half])) - 1 if half else 0.0,
        clock=_clock_change(clocks),
        n_left_out=min(len(candidate), len(reference)) - len(rounds),
    )


def speedup_over_plan(candidate: Sequence[Run], planned: Sequence[Run], default: Sequence[Run]) -> Ratio:
    """Compare a candidate with PyTorch at its tuned plan, and that with PyTorch at its default arguments.

    Args:
        candidate: runs of a variant.
        planned: those of PyTorch at its tuned plan.
        default: those of PyTorch with default arguments, in the same rounds.

    Raises:
        ValueError: a side was not run at all.
    """
    beside = speedup(default, planned)
    return replace(speedup(candidate, planned), default_faster=max(beside.low - 1, 0.0))


def rounds_at_like_clock(candidate: Sequence[Run], reference: Sequence[Run]) -> list[tuple[Run, Run]]:
    """Return the rounds that both sides ran, without those at another clock.

    A clock that falls for a second spoils the rounds it met and no others. What counts is the largest number
    of rounds whose clocks differ by 15 % at most, of two such sets the faster; which these are is told by
    the clocks alone, never by the ratios. Where they are too few for an interval all rounds are returned,
    and the change of the clock tells that they are not comparable.
    """
    rounds = list(zip(candidate, reference, strict=False))
    alike = [
        [
            pair
            for pair in rounds
            if all(lowest <= run.clock <= lowest * (1 + MAX_CLOCK_CHANGE) for run in pair)
        ]
        for lowest in sorted({run.clock for pair in rounds for run in pair}, reverse=True)
    ]
    most = max(alike, key=len, default=[])
    return most if len(most) >= MIN_ROUNDS else rounds


def _clock_change(clocks: Sequence[float]) -> float:
    return max(clocks) / min(clocks) - 1 if min(clocks) > 0 else 0.0


def log_ratios(candidate: Sequence[Run], reference: Sequence[Run]) -> list[float]:
    """Return the speed-up of each round at a like clock that both sides ran, as its natural logarithm.

    In logarithms a over b and b over a are each other's inverse.
    """
    return [
        math.log(statistics.fmean(theirs.seconds) / statistics.fmean(ours.seconds))
        for ours, theirs in rounds_at_like_clock(candidate, reference)
    ]


def mean_difference(
    old: Sequence[float], new: Sequence[float], confidence: float
) -> tuple[float, float, float]:
    """Return the difference of two means of independent values, and its interval by Welch's t.

    Source: https://docs.scipy.org/doc/scipy/reference/generated/scipy.stats.ttest_ind.html

    Args:
        old: values of one side.
        new: values of the other; the difference is new minus old.
        confidence: of the interval, such as 0.95; it has no ends where a side has a single value.
    """
    from scipy.stats import ttest_ind

    value = statistics.fmean(new) - statistics.fmean(old)
    if min(len(old), len(new)) < 2:
        return value, -math.inf, math.inf
    if max(statistics.stdev(old), statistics.stdev(new)) == 0:
        return value, value, value
    found = ttest_ind(new, old, equal_var=False).confidence_interval(confidence)
    return value, float(found.low), float(found.high)


def faster(runs: Mapping[_Side, Sequence[Run]], one: _Side, other: _Side) -> _Side:
    """Return the faster of two sides, round by round; `one` where the other was not run."""
    return other if runs.get(other) and speedup(runs[other], runs[one]).value > 1 else one


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median of values and its 95 % interval; of fewer than MIN_ROUNDS values, the extremes."""
    from scipy.stats import quantile_test

    median = statistics.median(values)
    if len(values) < MIN_ROUNDS:
        return median, min(values), max(values)
    interval = quantile_test(values, q=median, p=0.5).confidence_interval(0.95)
    # scipy-stubs declare the interval a float; it is a ConfidenceInterval with low and high.
    # Source: https://docs.scipy.org/doc/scipy/reference/generated/scipy.stats.quantile_test.html
    return median, float(interval.low), float(interval.high)  # type: ignore[attr-defined] # the stubs' mistake, see above


def utilization(
    traits: Traits, flop_count: FlopCount, runs: Sequence[Run], peaks: Mapping[Dtype, Sequence[Run]]
) -> Utilization | None:
    """Compare a variant's arithmetic with the machine's peak, both the medians of their runs.

    Returns None for a precision whose peak is not measured.

    Args:
        traits: the variant's; the precision of its products decides which peak.
        flop_count: of its graph.
        runs: the variant's.
        peaks: the runs of `PeakSpec` by dtype.
    """
    dtype = _PEAK_OF.get(traits.activations)
    if dtype is None:
        return None
    per_run = [
        flop_count.flops(run.n_pairs, run.n_tokens, run.n_tokens_squared) / statistics.fmean(run.seconds)
        for run in runs
    ]
    peak = [peak_flops(dtype) * run.n_pairs / statistics.fmean(run.seconds) for run in peaks[dtype]]
    return Utilization(statistics.median(per_run), dtype, statistics.median(peak))


def percentiles(side: str, run: Run) -> Latency:
    """Return the latency that the calls of a run come to; percentiles only from enough calls."""
    n_calls = len(run.seconds)
    p50, p95, p99 = (
        float(value) * 1000 if n_calls >= least else None
        for least, value in zip(MIN_CALLS.values(), np.percentile(run.seconds, list(MIN_CALLS)), strict=True)
    )
    return Latency(side, run.n_pairs, n_calls, p50, p95, p99)
