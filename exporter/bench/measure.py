"""Measurements of an artifact side by side with what a user would pick instead, as data.

The same weights, pairs and threads for all. Each peer is timed beside ours and no other peer, as documented
and at its own best batch size: one process each, in turns over the same pairs, so that what a shared
machine does hits both alike.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from exporter import worker
from exporter.bench.scaling import ScalingRow, of_lengths
from exporter.errors import ExporterError
from exporter.libraries.peers import PEERS
from exporter.machine import Machine
from exporter.measure.parity import compare
from exporter.measure.quality import Quality, quality
from exporter.measure.rounds import measure_rounds
from exporter.measure.speed import Latency, Ratio, Throughput, median_interval, percentiles, pool, speedup
from exporter.pairs import Pair, whole_queries
from exporter.worker.job import Call, PeerSpec, Run, Spec, TimeJob

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from exporter.bench.scaling import TokenCounter
    from exporter.bench.settings import BenchSettings
    from exporter.pairs import PairSet
    from exporter.progress import Progress


# 2: runs without the GPU's own events, the field's words. 1: first version.
BENCH_SCHEMA = 2
AS_DOCUMENTED, AT_BEST, TUNED, OURS = "as documented", "best batch", "best plan", "ours"


@dataclass(frozen=True, slots=True)
class BenchRow:
    """One side under one setting.

    `low` to `high` is the 95 % interval of the median pairs per second. `ours_over` is our speed over the
    side's, round by round; None for ours itself. Quality and `pearson` are over PyTorch's scores, on a part
    of the queries.
    """

    side: str
    setting: str
    package: str
    throughput: Throughput
    low: float
    high: float
    load_s: float
    ours_over: Ratio | None
    latency: Latency
    quality: Quality | None
    pearson: float


@dataclass(frozen=True, slots=True)
class MixRow:
    """Pairs per second on pairs of like length, and ours over that; medians of a few rounds."""

    mix: str
    side: str
    setting: str
    n_tokens: int
    n_rounds: int
    pairs_per_s: float
    ours_over: float


@dataclass(frozen=True, slots=True)
class Bench:
    """All measurements of one run on one machine; `skipped` holds peers that could not be run, and why."""

    schema: int
    name: str
    manifest_root: str
    started_at: str
    machine: Machine
    pairs: str
    ours: str
    rows: tuple[BenchRow, ...]
    mixes: tuple[MixRow, ...]
    scaling: tuple[ScalingRow, ...]
    skipped: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Side:
    """A library, and how it is run: its specs by setting."""

    name: str
    package: str
    specs: dict[str, Spec]


def best_batch(name: str, folder: str, n_cores: int, pairs: tuple[Pair, ...], settings: BenchSettings) -> int:
    """Return a peer's fastest batch size on some pairs.

    Raises:
        BackendError: the peer fails.
    """
    specs = tuple(PeerSpec(name, folder, batch, 1, n_cores) for batch in settings.batches)
    runs = worker.time(TimeJob(pairs, specs, (Call(tuple(range(len(pairs))), 2),), n_warmup=4))
    return min(zip(runs, settings.batches, strict=True), key=lambda row: min(row[0].seconds))[1]


def peer_sides(
    folders: dict[str, Path],
    n_cores: int,
    pairs: tuple[Pair, ...],
    settings: BenchSettings,
    progress: Progress,
) -> tuple[list[Side], list[tuple[str, str]]]:
    """Return how each peer is run, after a sweep of its batch sizes, and which peers failed, and why.

    Args:
        folders: the prepared peers, each with the folder it loads.
        n_cores: threads of each.
        pairs: what is swept on.
        settings: which batch sizes.
        progress: told the number of peers done.
    """
    sides, failed = [], []
    with progress.stage("peers: best batch sizes", len(folders)) as step:
        for done, (name, folder) in enumerate(folders.items(), 1):
            try:
                best = best_batch(name, str(folder), n_cores, pairs, settings)
            except ExporterError as error:
                failed.append((name, str(error).strip().splitlines()[-1]))
            else:
                peer = PEERS[name]
                specs: dict[str, Spec] = {
                    AS_DOCUMENTED: PeerSpec(name, str(folder), peer.batch, 1, n_cores),
                    AT_BEST: PeerSpec(name, str(folder), best, 1, n_cores),
                }
                sides.append(Side(name, f"{peer.package} {peer.version}", specs))
            step(done)
    return sides, failed


def measure_rows(
    sides: Sequence[Side],
    ours: str,
    pair_set: PairSet,
    reference: NDArray[np.float32],
    *,
    settings: BenchSettings,
    progress: Progress,
) -> tuple[BenchRow, ...]:
    """Return speed, measured in rounds, latency and quality of every side.

    Args:
        sides: ours and the peers.
        ours: the name of the side the others are held against.
        pair_set: the pairs.
        reference: float32[n_pairs], the PyTorch model's raw logits.
        settings: how much is measured.
        progress: told what goes on.

    Raises:
        BackendError: a side fails.
    """
    pairs = tuple(pair_set.pairs[i] for i in whole_queries(pair_set, settings.n_queries))
    runs = _rounds(sides, ours, pairs, settings, progress)
    few_at = whole_queries(pair_set, settings.n_quality_queries)
    few = pair_set.picked(few_at)
    rows = []
    with progress.stage("latency and quality", len(sides)) as step:
        for done, side in enumerate(sides, 1):
            latency = _latencies(side, few, settings)
            spec = list(side.specs.values())[-1]
            scores = worker.score(spec, few.pairs)
            parity, kept = compare(reference[few_at], scores, few), quality(reference[few_at], scores, few)
            for setting, plan in side.specs.items():
                of_side, of_ours = runs[side.name, setting]
                _, low, high = median_interval(
                    [run.n_pairs / statistics.fmean(run.seconds) for run in of_side]
                )
                rows.append(
                    BenchRow(
                        side=side.name,
                        setting=setting,
                        package=side.package,
                        throughput=pool(side.name, str(plan), of_side),
                        low=low,
                        high=high,
                        load_s=statistics.median(run.load_s for run in of_side),
                        ours_over=None if side.name == ours else speedup(of_ours, of_side),
                        latency=latency[setting],
                        quality=kept,
                        pearson=parity.pearson,
                    )
                )
            step(done)
    return tuple(rows)


def measure_mixes(
    sides: Sequence[Side],
    ours: str,
    pair_set: PairSet,
    count: TokenCounter,
    *,
    settings: BenchSettings,
    progress: Progress,
) -> tuple[MixRow, ...]:
    """Return the speed of every side on pairs of like length, all lengths in one process.

    Args:
        sides: ours and the peers.
        ours: the name of the side the others are held against.
        pair_set: where texts come from.
        count: counts the tokens of pairs.
        settings: which lengths, and how many rounds.
        progress: told the rounds done.

    Raises:
        BackendError: a side fails.
    """
    pairs: list[Pair] = []
    calls = []
    for _, least, most in settings.mixes:
        lengths = np.linspace(least, most, settings.n_mix_pairs).round().astype(int).tolist()
        start = len(pairs)
        pairs += of_lengths(pair_set, lengths, count)
        calls.append(Call(tuple(range(start, len(pairs))), 1))
    found: dict[tuple[str, str, str], list[Run]] = {}
    with progress.stage("speed by length: rounds", settings.n_mix_rounds) as step:
        for done in range(1, settings.n_mix_rounds + 1):
            for side in sides:
                specs, min_s = tuple(side.specs.values()), settings.min_run_s / 2
                runs = worker.time(TimeJob(tuple(pairs), specs, tuple(calls), n_warmup=4, min_s=min_s))
                keys = ((mix, side.name, setting) for setting in side.specs for mix, _, _ in settings.mixes)
                for key, run in zip(keys, runs, strict=True):
                    found.setdefault(key, []).append(run)
            step(done)
    rows = []
    for (mix, name, setting), of_side in found.items():
        rate = statistics.median(run.n_pairs / statistics.fmean(run.seconds) for run in of_side)
        of_ours = found[mix, ours, OURS]
        n_tokens = of_ours[0].n_tokens // of_ours[0].n_pairs
        rows.append(MixRow(mix, name, setting, n_tokens, len(of_side), rate, speedup(of_ours, of_side).value))
    return tuple(rows)


def _rounds(
    sides: Sequence[Side],
    ours: str,
    pairs: tuple[Pair, ...],
    settings: BenchSettings,
    progress: Progress,
) -> dict[tuple[str, str], tuple[list[Run], list[Run]]]:
    """Return every side's runs by setting, each with ours of the same rounds; for ours, all of ours."""
    (spec,) = (side.specs[OURS] for side in sides if side.name == ours)
    found: dict[tuple[str, str], tuple[list[Run], list[Run]]] = {(ours, OURS): ([], [])}
    for side in sides:
        if side.name == ours:
            continue
        beside_it = f"{OURS} beside it"
        group: dict[str, Spec] = {beside_it: spec, **side.specs}
        runs = measure_rounds(
            group,
            pairs,
            settings.rounds,
            progress,
            baselines=frozenset(),
            budget_s=0,
            unsettled=lambda _runs: frozenset(),
            what=side.name,
        )
        beside = runs[beside_it]
        found[ours, OURS][0].extend(beside)
        found |= {(side.name, setting): (runs[setting], beside) for setting in side.specs}
    return found


def _latencies(side: Side, few: PairSet, settings: BenchSettings) -> dict[str, Latency]:
    """Return the latency of one query with its candidates, under each setting."""
    pairs = tuple(
        pair for pair, query in zip(few.pairs, few.query_of.tolist(), strict=True) if query == few.query_of[0]
    )
    calls = (Call(tuple(range(len(pairs))), settings.n_latency_calls),)
    runs = worker.time(TimeJob(pairs, tuple(side.specs.values()), calls, n_warmup=len(pairs)))
    return {setting: percentiles(side.name, run) for setting, run in zip(side.specs, runs, strict=True)}
