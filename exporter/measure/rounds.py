"""How fast each side is: text in, scores out, one process per side and round, all sides in turn.

In a round the sides pass over the same pairs by turns, so that what a shared machine does hits all of them;
the speed-up is the median of the rounds' paired ratios with its interval. Nothing here knows a bar.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from exporter import worker
from exporter.measure.speed import Latency, percentiles
from exporter.pairs import spread_out
from exporter.worker.job import Call, Run, Spec, TimeJob

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from exporter.measure.settings import MeasureSettings
    from exporter.pairs import Pair, PairSet
    from exporter.progress import Progress

    StartWorker = Callable[[Spec, tuple[Pair, ...]], worker.TimedWorker]

_Side = TypeVar("_Side", bound="Hashable")


def measure_rounds(
    sides: Mapping[_Side, Spec],
    pairs: tuple[Pair, ...],
    settings: MeasureSettings,
    progress: Progress,
    *,
    baselines: frozenset[_Side],
    budget_s: float,
    unsettled: Callable[[dict[_Side, list[Run]]], frozenset[_Side]],
    what: str = "speed",
    start: StartWorker = worker.TimedWorker,
) -> dict[_Side, list[Run]]:
    """Run every side in a process of its own each round, until the numbers are settled or the time is up.

    Every second round goes through the sides backwards, so that none always has the warmer machine. Round i
    of a side is its i-th run, so two sides' first runs pair up though one was measured on.

    Args:
        sides: how each is run.
        pairs: what each scores.
        settings: how long a round is, and how many there are in any case.
        progress: told the rounds done.
        baselines: sides that no speed bar is held against; they run in the first rounds only.
        budget_s: no round is begun after this many seconds.
        unsettled: asked after each round from the least number on which sides to run once more; an empty
            answer ends the measurement.
        what: the name of the stage.
        start: starts a side's worker.

    Raises:
        BackendError: a side fails.
    """
    runs: dict[_Side, list[Run]] = {side: [] for side in sides}
    going, done, started = frozenset(sides), 0, time.monotonic()
    with progress.stage(f"{what}: rounds") as step:
        while going and (done < settings.min_rounds or time.monotonic() - started < budget_s):
            in_turn = {side: spec for side, spec in sides.items() if side in going}
            backwards = done % 2 == 1
            of_round = _round(in_turn, pairs, settings, baselines, start=start, backwards=backwards)
            for side, run in of_round.items():
                runs[side].append(run)
            done += 1
            step(done)
            if done >= settings.n_baseline_rounds:
                going -= baselines
            if done >= settings.min_rounds:
                going = unsettled(runs)
    return runs


def _round(
    sides: Mapping[_Side, Spec],
    pairs: tuple[Pair, ...],
    settings: MeasureSettings,
    baselines: frozenset[_Side],
    *,
    start: StartWorker,
    backwards: bool,
) -> dict[_Side, Run]:
    """Start a process for each side, and let the sides pass over the pairs in turn.

    A neighbour on a shared machine comes and goes within a second. Of sides that ran one after the other,
    three seconds each, the ratio of an artifact to itself had a standard deviation of 11 %; in turns of a
    third of a second it has 2.6 %. A turn is as long as one pass of the slowest side that is gated; the rest
    do as many passes as fit. A baseline has the first two turns, there and back; one slower than a turn has
    one pass.
    """
    order = list(sides)[::-1] if backwards else list(sides)
    with ExitStack() as stack:
        started = {side: stack.enter_context(start(sides[side], pairs)) for side in order}
        for side in order:
            started[side].wait_imported()
        for side in order:
            started[side].load()
        gated = [side for side in started if side not in baselines] or list(started)
        slice_s = max(started[side].warm_s for side in gated)
        for turn in range(max(1, round(settings.min_run_s / slice_s))):
            for side in order[::-1] if turn % 2 else order:
                if side not in baselines or turn == 0 or (turn == 1 and started[side].warm_s <= slice_s):
                    time.sleep(settings.rest_s)
                    started[side].passes(max(1, round(slice_s / started[side].warm_s)))
        return {side: started[side].end() for side in sides}


def measure_calls(
    side: str,
    spec: Spec,
    pair_set: PairSet,
    buckets: Mapping[str, Sequence[int]],
    settings: MeasureSettings,
    *,
    pairs_per_s: float,
) -> tuple[tuple[Latency, ...], dict[str, float]]:
    """Time single queries with few and many candidates of mixed length, and a few pairs of every length.

    Args:
        side: the side's name.
        spec: how it is run.
        pair_set: what the positions are of.
        buckets: positions of pairs of like length by name.
        settings: how many candidates and calls, and how many pairs of each length.
        pairs_per_s: how fast the side is; a slow one is called less often.

    Returns:
        The latencies, and pairs per second by bucket; all of one process.

    Raises:
        BackendError: the side fails.
    """
    query = pair_set.pairs[0][0]
    n_most = max(n for n, _ in settings.latencies)
    pairs = [(query, passage) for _, passage in spread_out(pair_set, n_most)]
    calls = [
        Call(
            tuple(int(i) for i in np.linspace(0, len(pairs) - 1, min(n, len(pairs)))),
            max(1, min(most, int(settings.latency_s * pairs_per_s / n))),
        )
        for n, most in settings.latencies
    ]
    n = settings.n_length_pairs
    for positions in buckets.values():
        few = positions[:: max(1, len(positions) // n)][:n]
        calls.append(Call(tuple(range(len(pairs), len(pairs) + len(few))), 3))
        pairs += [pair_set.pairs[i] for i in few]

    runs = worker.time(TimeJob(tuple(pairs), (spec,), tuple(calls), settings.n_warmup_pairs))
    n_latencies = len(settings.latencies)
    latencies, lengths = runs[:n_latencies], runs[n_latencies:]
    return tuple(percentiles(side, run) for run in latencies), {
        name: run.n_pairs / statistics.median(run.seconds) for name, run in zip(buckets, lengths, strict=True)
    }
