"""How fast each side is: text in, scores out, one process per side and round, all sides in turn.

In a round the sides pass over the same pairs by turns, so that what a shared machine does hits all of them; the speed-up is
the median of the rounds' paired ratios with its interval. Nothing here knows a bar.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np

from exporter.measure.speed import MIN_ROUNDS, Latency, percentiles
from exporter.pairs import spread_out
from exporter.worker.job import Call, Job, Run, Spec
from exporter.worker.process import TimedWorker, run_job

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from exporter.pairs import PairSet
    from exporter.progress import Progress

N_WARMUP_PAIRS = 10
# About how long a side is timed in a round.
MIN_RUN_S = 3.0
# Between turns: threads of the last one's engine may spin a little before they sleep.
_REST_S = 0.02
# Sides nobody gates on are run in the first rounds only.
_N_BASELINE_ROUNDS = 3
# Pairs of one length.
_N_LENGTH_PAIRS = 8
# (candidates of one query, calls)
_LATENCIES = ((10, 12), (100, 1))


def measure(
    sides: Mapping[str, Spec],
    pairs: tuple[tuple[str, str], ...],
    progress: Progress,
    *,
    baselines: frozenset[str],
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
        baselines: sides run in the first rounds only, to save time.
        budget_s: no round is begun after so many seconds.
        unsettled: asked after each round from MIN_ROUNDS on which sides to run once more; none ends the measurement.
        what: the name of the stage.
    """
    runs: dict[str, list[Run]] = {side: [] for side in sides}
    going, done, started = frozenset(sides), 0, time.monotonic()
    with progress.stage(f"{what}: rounds") as step:
        while going and (done < MIN_ROUNDS or time.monotonic() - started < budget_s):
            in_turn = {side: spec for side, spec in sides.items() if side in going}
            for side, run in _round(in_turn, pairs, baselines, backwards=done % 2 == 1).items():
                runs[side].append(run)
            done += 1
            step(done)
            if done >= _N_BASELINE_ROUNDS:
                going -= baselines
            if done >= MIN_ROUNDS:
                going = unsettled(runs)
    return runs


def _round(
    sides: Mapping[str, Spec],
    pairs: tuple[tuple[str, str], ...],
    baselines: frozenset[str],
    *,
    backwards: bool,
) -> dict[str, Run]:
    """Start a process for each side, and let them pass over the pairs in turn.

    A neighbour on a shared machine comes and goes within a second. Of sides that ran one after the other, three seconds each, the
    ratio of an artifact to itself had a standard deviation of 11 %; in turns of a third of a second it has 2.6 %. A turn is as
    long as one pass of the slowest side that is gated; the rest do as many passes as fit. A baselines side slower than that has one.
    """
    order = list(sides)[::-1] if backwards else list(sides)
    with ExitStack() as stack:
        started = {side: stack.enter_context(TimedWorker(sides[side], pairs)) for side in order}
        slice_s = max(
            one.warm_s
            for side, one in started.items()
            if side not in baselines or len(baselines) >= len(started)
        )
        for turn in range(max(1, round(MIN_RUN_S / slice_s))):
            for side in order[::-1] if turn % 2 else order:
                if turn == 0 or side not in baselines or started[side].warm_s <= slice_s:
                    time.sleep(_REST_S)
                    started[side].passes(max(1, round(slice_s / started[side].warm_s)))
        return {side: started[side].end() for side in sides}


def measure_latency(side: str, spec: Spec, pair_set: PairSet) -> tuple[Latency, ...]:
    """Time single queries with 10 and 100 candidates of mixed length; p99 of so few calls is close to their maximum."""
    query = pair_set.pairs[0][0]
    pairs = tuple((query, passage) for _, passage in spread_out(pair_set, max(n for n, _ in _LATENCIES)))
    calls = tuple(
        Call(tuple(int(i) for i in np.linspace(0, len(pairs) - 1, min(n, len(pairs)))), n_calls)
        for n, n_calls in _LATENCIES
    )
    runs, _ = run_job(Job("time", (spec,), pairs, calls, N_WARMUP_PAIRS))
    return tuple(percentiles(side, run) for run in runs)


def measure_lengths(spec: Spec, pair_set: PairSet, buckets: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """Time a few pairs of every length, and give pairs per second.

    Args:
        spec: how the side is run.
        pair_set: what the positions are of.
        buckets: positions by name.
    """
    few = {
        name: positions[:: max(1, len(positions) // _N_LENGTH_PAIRS)][:_N_LENGTH_PAIRS]
        for name, positions in buckets.items()
    }
    pairs = tuple(pair_set.pairs[i] for positions in few.values() for i in positions)
    calls, start = [], 0
    for positions in few.values():
        calls.append(Call(tuple(range(start, start + len(positions))), 3))
        start += len(positions)
    runs, _ = run_job(Job("time", (spec,), pairs, tuple(calls), N_WARMUP_PAIRS))
    return {name: run.n_pairs / statistics.median(run.seconds) for name, run in zip(few, runs, strict=True)}
