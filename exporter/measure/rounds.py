"""How fast each side is: text in, scores out, one process per side and round, all sides in turn.

In a round the sides pass over the same pairs by turns, so that what a shared machine does hits all of them; the speed-up is
the median of the rounds' paired ratios with its interval. Nothing here knows a bar.
"""

from __future__ import annotations

import math
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from exporter.artifact import PlanEntry, SweepRow, Work
from exporter.verify.worker import ArtifactSpec, Call, Contestant, Dtype, Job, Run, Spec, TorchSpec, peak_flops, run_job

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from exporter.progress import Progress
    from exporter.verify.pairs import PairSet

_S = TypeVar("_S", TorchSpec, ArtifactSpec)

# The fewest values whose extremes hold their median with 95 %: 1 - 2 / 2^6 = 97 %, with five 94 %.
MIN_ROUNDS = 6
# Real lengths, few enough that a run takes seconds.
N_TIMED_PAIRS = 48
_N_SWEEP_PAIRS = 32
_N_WARMUP_PAIRS = 10
# About how long a side is timed in a round.
MIN_RUN_S = 3.0
# Between turns: threads of the last one's engine may spin a little before they sleep.
_REST_S = 0.02
# Sides nobody gates on are run in the first rounds only.
_N_SELDOM_ROUNDS = 3
# Pairs of one length.
_N_LENGTH_PAIRS = 8
_TORCH_BATCH_SIZES = (4, 8, 16)
_TOKEN_BUDGETS = (128, 256, 512, 1024)
# (candidates of one query, calls)
_LATENCIES = ((10, 12), (100, 1))


@dataclass(frozen=True, slots=True)
class Throughput:
    """All runs of one side, and what they come to.

    `pairs_per_s` is the median over runs; `spread` their standard deviation over their mean; `tokenize_share`,
    `cpu_share`, `crowding` and `steal` are 0...1, medians like `load_s`; `peak_rss_bytes` is the largest over runs.
    """

    side: str
    plan: str
    runs: tuple[Run, ...]
    pairs_per_s: float
    tokens_per_s: float
    spread: float
    tokenize_share: float
    cpu_share: float
    crowding: float
    steal: float
    load_s: float
    peak_rss_bytes: int


@dataclass(frozen=True, slots=True)
class Ratio:
    """A speed-up: the median of paired ratios, its 95 % interval, and their spread.

    `spread` is the standard deviation of the ratios' logarithms, taken from their interquartile range (over 1.349, what it is
    for normal noise), so that one spoilt round does not make it. `crowding` is how much of the cores others had, 0...1, the
    median over rounds of the side that suffered more, and `steal` the same of the host's part in it. `drift` is by how much the
    ratio of the second half of the rounds is above that of the first, `clock` by how much the CPU's clock differed between two of
    the runs, both as shares.
    """

    value: float
    low: float
    high: float
    spread: float
    n_rounds: int
    crowding: float
    steal: float
    drift: float
    clock: float


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Matrix products per second, `flops_per_s` multiplications and additions without padding, and what the machine can do.

    `peak_flops_per_s` is of large products on all cores in the same run, in int8 for int8 kinds, else float32. The whole work is
    held against it, though int8 kinds do some of theirs (attention) in float32.
    """

    flops_per_s: float
    peak_dtype: Dtype
    peak_flops_per_s: float

    @property
    def peak_share(self) -> float:
        """How much of the peak is reached, 0...1."""
        return self.flops_per_s / self.peak_flops_per_s


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds to score one query's candidates, from text to scores."""

    side: str
    n_documents: int
    n_calls: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class LengthSpeed:
    """Pairs per second on pairs of like length, and times tuned PyTorch's; one process each, so without an interval."""

    name: str
    n_pairs: int
    pairs_per_s: float
    over_tuned: float


def pool(side: str, plan: str, runs: Sequence[Run]) -> Throughput:
    """Turn the runs of one side into numbers.

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
        crowding=statistics.median(run.crowding for run in runs),
        steal=statistics.median(run.steal for run in runs),
        load_s=statistics.median(run.load_s for run in runs),
        peak_rss_bytes=max(run.peak_rss_bytes for run in runs),
    )


def speedup(candidate: Sequence[Run], reference: Sequence[Run]) -> Ratio:
    """Compare two sides round by round; rounds that only one of them ran are left out.

    The median, and the interval its order statistics give: one round in which a neighbour took the machine must neither move
    the number nor widen it, which a mean and Student's t would let it do. Below six rounds no such interval has 95 %; low and
    high are then the extremes.
    Source: https://docs.scipy.org/doc/scipy/reference/generated/scipy.stats.quantile_test.html

    Raises:
        ValueError: a side was not run at all.
    """
    from scipy.stats import iqr

    rounds = list(zip(candidate, reference, strict=False))
    if not rounds:
        raise ValueError("no rounds to compare")
    # In logarithms, so that a over b and b over a are each other's inverse.
    logs = [math.log(statistics.fmean(theirs.seconds) / statistics.fmean(ours.seconds)) for ours, theirs in rounds]
    median, low, high = median_interval(logs)
    half = len(logs) // 2
    clocks = [run.clock for pair in rounds for run in pair]
    return Ratio(
        value=math.exp(median),
        low=math.exp(low),
        high=math.exp(high),
        spread=float(iqr(logs, scale="normal")),
        n_rounds=len(logs),
        crowding=statistics.median(max(ours.crowding, theirs.crowding) for ours, theirs in rounds),
        steal=statistics.median(max(ours.steal, theirs.steal) for ours, theirs in rounds),
        drift=math.exp(statistics.median(logs[-half:]) - statistics.median(logs[:half])) - 1 if half else 0.0,
        clock=max(clocks) / min(clocks) - 1 if min(clocks) > 0 else 0.0,
    )


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Give the median of values and its 95 % interval; below MIN_ROUNDS values there is none, and the extremes are given."""
    from scipy.stats import quantile_test

    median = statistics.median(values)
    if len(values) < MIN_ROUNDS:
        return median, min(values), max(values)
    interval = quantile_test(values, q=median, p=0.5).confidence_interval(0.95)
    # scipy-stubs declare the interval a float; it is a ConfidenceInterval with low and high.
    # Source: https://docs.scipy.org/doc/scipy/reference/generated/scipy.stats.quantile_test.html
    return median, float(interval.low), float(interval.high)  # type: ignore[attr-defined] # the stubs' mistake, see above


def arithmetic(kind: str, work: Work, runs: Sequence[Run], peaks: Mapping[Dtype, Sequence[Run]]) -> Arithmetic:
    """Hold a variant's arithmetic against the machine's peak, both the medians of their runs.

    Args:
        kind: the variant's; decides which peak.
        work: of its graph.
        runs: the variant's.
        peaks: the runs of `PeakSpec` by dtype.
    """
    dtype: Dtype = "int8" if "int8" in kind else "float32"
    per_run = [work.flops(run.n_pairs, run.n_tokens, run.n_tokens_squared) / statistics.fmean(run.seconds) for run in runs]
    peak = [peak_flops(dtype) * run.n_pairs / statistics.fmean(run.seconds) for run in peaks[dtype]]
    return Arithmetic(statistics.median(per_run), dtype, statistics.median(peak))


def spread_out(pair_set: PairSet, n: int) -> tuple[tuple[str, str], ...]:
    """Pick `n` pairs evenly from the set sorted by passage length: the same mix of lengths, the same every time."""
    return tuple(pair_set.pairs[i] for i in spread_out_positions(pair_set, n))


def spread_out_positions(pair_set: PairSet, n: int) -> list[int]:
    """Give the positions of the pairs that `spread_out` picks, ascending."""
    order = sorted(range(len(pair_set.pairs)), key=lambda i: (len(pair_set.pairs[i][1]), i))
    return sorted({order[int(i)] for i in np.linspace(0, len(order) - 1, min(n, len(order)))})


def tune_torch(folder: str, max_length: int, device: str, pair_set: PairSet, *, n_cores: int, progress: Progress) -> TorchSpec:
    """Find the reference's own best plan: every small batch size on one worker with all threads, and one worker a core."""
    layouts = [(1, n_cores), (n_cores, 1)] if n_cores > 1 and device == "cpu" else [(1, n_cores)]
    sizes = _TORCH_BATCH_SIZES if device == "cpu" else (32, 64, 128, 256)
    best: list[tuple[float, TorchSpec]] = []
    with progress.stage("torch: sweep", len(layouts)) as step:
        for done, (workers, threads) in enumerate(layouts):
            specs = tuple(TorchSpec(folder, max_length, device, size, workers, threads) for size in sizes)
            best += _sweep(specs, pair_set, n_passes=1)
            step(done + 1)
    return min(best, key=lambda row: row[0])[1]


def tune_artifact(folder: str, kind: str, pair_set: PairSet, isa: str, n_cores: int) -> PlanEntry:
    """Find a variant's best plan on this machine, `n_cores` of `isa`, and keep what was tried."""
    rows = _sweep([ArtifactSpec(folder, kind, n_cores, 1, budget) for budget in _TOKEN_BUDGETS], pair_set, n_passes=2)
    if n_cores > 1:
        wide = [ArtifactSpec(folder, kind, 1, n_cores, budget) for budget in _TOKEN_BUDGETS[1::2]]
        rows += _sweep(wide, pair_set, n_passes=2)
    n = len(spread_out(pair_set, _N_SWEEP_PAIRS))
    best = min(rows, key=lambda row: row[0])[1]
    sweep = tuple(SweepRow(spec.workers, spec.threads, spec.token_budget, round(n / seconds, 1)) for seconds, spec in rows)
    return PlanEntry(isa, n_cores, best.workers, best.threads, best.token_budget, sweep)


def _sweep(specs: Sequence[_S], pair_set: PairSet, *, n_passes: int) -> list[tuple[float, _S]]:
    pairs = spread_out(pair_set, _N_SWEEP_PAIRS)
    runs, _ = run_job(Job("time", tuple(specs), pairs, (Call(tuple(range(len(pairs))), n_passes),), _N_WARMUP_PAIRS))
    return [(min(run.seconds), spec) for run, spec in zip(runs, specs, strict=True)]


def measure(
    sides: Mapping[str, Spec],
    pairs: tuple[tuple[str, str], ...],
    progress: Progress,
    *,
    seldom: frozenset[str],
    budget_s: float,
    unsettled: Callable[[dict[str, list[Run]]], frozenset[str]],
    what: str = "speed",
) -> dict[str, list[Run]]:
    """Run every side in a process of its own each round, until the numbers are settled or the time is up; MIN_ROUNDS in any case.

    Every second round goes through the sides backwards, so that none always has the warmer machine. Round i of a side is its
    i-th run, so two sides' first runs pair up though one was measured on.

    Args:
        sides: how each is run.
        pairs: what it scores.
        progress: told the rounds done.
        seldom: sides run in the first rounds only, to save time.
        budget_s: no round is begun after so many seconds.
        unsettled: asked after each round from MIN_ROUNDS on which sides to run once more; none ends the measurement.
        what: the name of the stage.
    """
    runs: dict[str, list[Run]] = {side: [] for side in sides}
    going, done, started = frozenset(sides), 0, time.monotonic()
    with progress.stage(f"{what}: rounds") as step:
        while going and (done < MIN_ROUNDS or time.monotonic() - started < budget_s):
            in_turn = {side: spec for side, spec in sides.items() if side in going}
            for side, run in _round(in_turn, pairs, seldom, backwards=done % 2 == 1).items():
                runs[side].append(run)
            done += 1
            step(done)
            if done >= _N_SELDOM_ROUNDS:
                going -= seldom
            if done >= MIN_ROUNDS:
                going = unsettled(runs)
    return runs


def _round(
    sides: Mapping[str, Spec], pairs: tuple[tuple[str, str], ...], seldom: frozenset[str], *, backwards: bool
) -> dict[str, Run]:
    """Start a process for each side, and let them pass over the pairs in turn.

    A neighbour on a shared machine comes and goes within a second. Of sides that ran one after the other, three seconds each, the
    ratio of an artifact to itself had a standard deviation of 11 %; in turns of a third of a second it has 2.6 %. A turn is as
    long as one pass of the slowest side that is gated; the rest do as many passes as fit. A seldom side slower than that has one.
    """
    order = list(sides)[::-1] if backwards else list(sides)
    with ExitStack() as stack:
        started = {side: stack.enter_context(Contestant(sides[side], pairs)) for side in order}
        slice_s = max(one.warm_s for side, one in started.items() if side not in seldom or len(seldom) >= len(started))
        for turn in range(max(1, round(MIN_RUN_S / slice_s))):
            for side in order[::-1] if turn % 2 else order:
                if turn == 0 or side not in seldom or started[side].warm_s <= slice_s:
                    time.sleep(_REST_S)
                    started[side].passes(max(1, round(slice_s / started[side].warm_s)))
        return {side: started[side].end() for side in sides}


def measure_latency(side: str, spec: Spec, pair_set: PairSet) -> tuple[Latency, ...]:
    """Time single queries with 10 and 100 candidates of mixed length; p99 of so few calls is close to their maximum."""
    query = pair_set.pairs[0][0]
    pairs = tuple((query, passage) for _, passage in spread_out(pair_set, max(n for n, _ in _LATENCIES)))
    calls = tuple(
        Call(tuple(int(i) for i in np.linspace(0, len(pairs) - 1, min(n, len(pairs)))), n_calls) for n, n_calls in _LATENCIES
    )
    runs, _ = run_job(Job("time", (spec,), pairs, calls, _N_WARMUP_PAIRS))
    return tuple(percentiles(side, run) for run in runs)


def measure_lengths(spec: Spec, pair_set: PairSet, buckets: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """Time a few pairs of every length, and give pairs per second.

    Args:
        spec: how the side is run.
        pair_set: what the positions are of.
        buckets: positions by name.
    """
    few = {name: positions[:: max(1, len(positions) // _N_LENGTH_PAIRS)][:_N_LENGTH_PAIRS] for name, positions in buckets.items()}
    pairs = tuple(pair_set.pairs[i] for positions in few.values() for i in positions)
    calls, start = [], 0
    for positions in few.values():
        calls.append(Call(tuple(range(start, start + len(positions))), 3))
        start += len(positions)
    runs, _ = run_job(Job("time", (spec,), pairs, tuple(calls), _N_WARMUP_PAIRS))
    return {name: run.n_pairs / statistics.median(run.seconds) for name, run in zip(few, runs, strict=True)}


def percentiles(side: str, run: Run) -> Latency:
    """Turn the calls of a run into a latency."""
    p50, p95, p99 = (float(p) * 1000 for p in np.percentile(run.seconds, [50, 95, 99]))
    return Latency(side, run.n_pairs, len(run.seconds), p50, p95, p99)


def default_torch(tuned: TorchSpec, n_cores: int) -> TorchSpec:
    """Give `CrossEncoder.predict` as it comes: batch 32, one worker, all cores allowed."""
    return replace(tuned, batch_size=32, workers=1, threads=n_cores)
