"""Side by side with what a user would pick instead, and how the cost grows: the measurements, as data and as text.

The same weights, pairs and threads for all. Each peer is timed against ours alone, as documented and at its own best batch size:
one process each, in turns over the same pairs, so that what a shared machine does hits both alike.
"""

from __future__ import annotations

import statistics
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from exporter import __version__
from exporter.artifact.manifest import FlopCount
from exporter.artifact.plans import read_plans
from exporter.errors import ExporterError, RecipeError
from exporter.libraries.peers import PEERS, prepare_peers
from exporter.machine import Machine, package_version, this_machine
from exporter.measure.parity import compare
from exporter.measure.quality import Quality, quality
from exporter.measure.reference import reference_scores, tuned_reference
from exporter.measure.rounds import measure
from exporter.measure.speed import Latency, Ratio, Throughput, median_interval, percentiles, pool, speedup
from exporter.measure.workspace import open_artifact, spec_of
from exporter.pairs import whole_queries
from exporter.runtime import PairTokenizer, Plan
from exporter.worker.job import ArtifactSpec, Call, Job, PeerSpec, Run, Spec
from exporter.worker.process import run_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from exporter.context import Context
    from exporter.pairs import PairSet
    from exporter.progress import Progress

    TokenCounter: TypeAlias = Callable[
        [Sequence[tuple[str, str]]], list[int]
    ]  # gives the tokens of each pair


BENCH_SCHEMA = 1
AS_DOCUMENTED, AT_BEST, TUNED, OURS = "as documented", "best batch", "best plan", "ours"
_BATCHES = (1, 2, 4, 8, 16, 32)
# Whole queries, so that those that take a query with its candidates are not handed one pair at a time.
N_QUERIES = 4
N_QUALITY_QUERIES = 30
_N_LATENCY_CALLS = 10
_MIN_RUN_S = 2.0
_MIX_PAIRS = 8
_MIX_ROUNDS = 2
# Tokens of a pair, special tokens counted: least and most.
MIXES = {"short": (32, 64), "medium": (128, 256), "long": (512, 512)}
TOKEN_COUNTS = (32, 64, 128, 256, 512)
JOB_SIZES = (100, 1_000, 10_000, 100_000)


@dataclass(frozen=True, slots=True)
class BenchRow:
    """One side under one setting. `ours_over` is our speed over its, round by round; None for ours itself.

    `low` and `high` hold the median of `throughput`'s pairs per second with 95 %. Quality is on a subset of whole queries.
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
    """Pairs per second on pairs of like length, and ours over it; the median of few rounds, so without an interval."""

    mix: str
    side: str
    setting: str
    n_tokens: int
    n_rounds: int
    pairs_per_s: float
    ours_over: float


@dataclass(frozen=True, slots=True)
class ScalingRow:
    """One of ours on pairs of `n_tokens`, on `n_cores`: seconds for `n_pairs`, and what a token costs a core.

    `flops` are a pair's multiplications and additions; `peak_rss_bytes` is the whole process's.
    """

    what: str
    kind: str
    n_cores: int
    n_pairs: int
    n_tokens: float
    seconds: float
    us_per_token: float
    flops: int
    peak_rss_bytes: int

    @property
    def pairs_per_s(self) -> float:
        """Pairs scored a second."""
        return self.n_pairs / self.seconds


@dataclass(frozen=True, slots=True)
class Bench:
    """All that was measured in one run on one machine. `skipped` names peers that could not be run, and why."""

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
    """How one side is run: its specs by setting."""

    name: str
    package: str
    specs: dict[str, Spec]


def best_batch(name: str, folder: str, n_cores: int, pairs: Sequence[tuple[str, str]]) -> int:
    """Find a peer's fastest batch size on these pairs.

    Raises:
        BackendError: the peer fails.
    """
    specs = tuple(PeerSpec(name, folder, batch, 1, n_cores) for batch in _BATCHES)
    runs, _ = run_job(Job("time", specs, tuple(pairs), (Call(tuple(range(len(pairs))), 2),), n_warmup=4))
    return min(zip(runs, _BATCHES, strict=True), key=lambda row: min(row[0].seconds))[1]


def peer_sides(
    folders: dict[str, Path], n_cores: int, pairs: Sequence[tuple[str, str]], progress: Progress
) -> tuple[list[Side], list[tuple[str, str]]]:
    """Sweep each prepared peer's batch sizes; those that fail are named with the reason, and the rest goes on."""
    sides, failed = [], []
    with progress.stage("peers: best batch sizes", len(folders)) as step:
        for done, (name, folder) in enumerate(folders.items(), 1):
            peer = PEERS[name]
            try:
                best = best_batch(name, str(folder), n_cores, pairs)
            except ExporterError as error:
                failed.append((name, str(error).strip().splitlines()[-1]))
                continue
            specs: dict[str, Spec] = {
                AS_DOCUMENTED: PeerSpec(name, str(folder), peer.batch, 1, n_cores),
                AT_BEST: PeerSpec(name, str(folder), best, 1, n_cores),
            }
            sides.append(Side(name, f"{peer.package} {peer.version}", specs))
            step(done)
    return sides, failed


def measure_rows(
    sides: Sequence[Side], ours: str, pair_set: PairSet, reference: NDArray[np.float32], progress: Progress
) -> tuple[BenchRow, ...]:
    """Measure speed in rounds, then latency and quality of every side.

    Args:
        sides: ours and the peers.
        ours: the name of the side the others are held against.
        pair_set: the pairs.
        reference: float32[n_pairs], the PyTorch model's raw logits.
        progress: told what is going on.

    Raises:
        BackendError: a side fails.
    """
    runs = _rounds(
        sides, ours, tuple(pair_set.pairs[i] for i in whole_queries(pair_set, N_QUERIES)), progress
    )
    few_at = whole_queries(pair_set, N_QUALITY_QUERIES)
    few = pair_set.picked(few_at)
    rows = []
    with progress.stage("latency and quality", len(sides)) as step:
        for done, side in enumerate(sides, 1):
            latency = _latencies(side, few)
            spec = list(side.specs.values())[-1]
            _, scores = run_job(Job("score", (spec,), few.pairs))
            assert scores is not None
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
    sides: Sequence[Side], ours: str, pair_set: PairSet, count: TokenCounter, progress: Progress
) -> tuple[MixRow, ...]:
    """Measure every side on pairs of like length, all lengths in one process."""
    pairs: list[tuple[str, str]] = []
    calls = []
    for least, most in MIXES.values():
        lengths = np.linspace(least, most, _MIX_PAIRS).round().astype(int).tolist()
        start = len(pairs)
        pairs += of_lengths(pair_set, lengths, count)
        calls.append(Call(tuple(range(start, len(pairs))), 1))
    found: dict[tuple[str, str, str], list[Run]] = {}
    with progress.stage("speed by length: rounds", _MIX_ROUNDS) as step:
        for done in range(1, _MIX_ROUNDS + 1):
            for side in sides:
                specs = tuple(side.specs.values())
                runs, _ = run_job(
                    Job("time", specs, tuple(pairs), tuple(calls), n_warmup=4, min_s=_MIN_RUN_S / 2)
                )
                keys = ((mix, side.name, setting) for setting in side.specs for mix in MIXES)
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


def measure_scaling(
    specs: dict[str, ArtifactSpec],
    works: dict[str, FlopCount],
    pair_set: PairSet,
    count: TokenCounter,
    progress: Progress,
) -> tuple[ScalingRow, ...]:
    """Measure how our cost grows: with the tokens of a pair, the cores, the candidates of a query, and the number of pairs.

    Args:
        specs: ours, at their plan on all cores; the first is also measured on many candidates and pairs.
        works: the arithmetic of each.
        pair_set: where texts come from.
        count: counts a pair's tokens.
        progress: told what is going on.
    """
    jobs = list(_scaling_jobs(specs, pair_set, count))
    rows = []
    with progress.stage("scaling", len(jobs)) as step:
        for done, (what, kind, spec, pairs) in enumerate(jobs, 1):
            n_calls = 3 if len(pairs) <= 1_000 else 1
            job = Job(
                "time",
                (spec,),
                tuple(pairs),
                (Call(tuple(range(len(pairs))), n_calls),),
                n_warmup=16,
                min_s=_MIN_RUN_S,
            )
            ((run,), _) = run_job(job)
            seconds, n_cores = min(run.seconds), spec.workers * spec.threads
            flops = works[kind].flops(run.n_pairs, run.n_tokens, run.n_tokens_squared) // run.n_pairs
            cost = seconds * n_cores / run.n_tokens * 1e6
            mean = run.n_tokens / run.n_pairs
            rows.append(
                ScalingRow(what, kind, n_cores, run.n_pairs, mean, seconds, cost, flops, run.peak_rss_bytes)
            )
            step(done)
    return tuple(rows)


def _scaling_jobs(
    specs: dict[str, ArtifactSpec], pair_set: PairSet, count: TokenCounter
) -> Iterator[tuple[str, str, ArtifactSpec, list[tuple[str, str]]]]:
    mixed = [pair_set.pairs[i] for i in whole_queries(pair_set, 2 * N_QUERIES)]
    for kind, spec in specs.items():
        for n_tokens in TOKEN_COUNTS:
            yield "tokens", kind, spec, of_lengths(pair_set, [n_tokens] * max(16, 4096 // n_tokens), count)
        n_cores = spec.workers * spec.threads
        for cores in sorted({1, *(2**i for i in range(1, n_cores.bit_length())), n_cores}):
            yield "cores", kind, _on_cores(spec, cores), mixed
    kind, spec = next(iter(specs.items()))
    query = pair_set.pairs[0][0]
    yield "candidates", kind, spec, [(query, passage) for _, passage in (pair_set.pairs * 4)[:1_000]]
    short = of_lengths(pair_set, [32] * min(JOB_SIZES), count)
    for size in JOB_SIZES:
        yield "pairs", kind, spec, short * (size // len(short))


def of_lengths(pair_set: PairSet, lengths: Sequence[int], count: TokenCounter) -> list[tuple[str, str]]:
    """Make a pair of about each number of tokens, from queries in turn: the passages of each in a row, cut between words."""
    texts: dict[int, list[str]] = {}
    for (_, passage), query in zip(pair_set.pairs, pair_set.query_of.tolist(), strict=True):
        texts.setdefault(query, []).append(passage)
    firsts = {
        query: pair_set.pairs[i][0] for i, query in reversed(list(enumerate(pair_set.query_of.tolist())))
    }
    made = []
    for i, length in enumerate(lengths):
        query_words, words = firsts[i % len(texts)].split(), " ".join(texts[i % len(texts)]).split()
        query = " ".join(query_words[: max(1, length // 4)])

        def n_tokens(n_words: int, query: str = query, words: list[str] = words) -> int:
            return count([(query, " ".join(words[:n_words]))])[0]

        n_words = bisect_right(
            range(1, len(words) + 1), length, key=n_tokens
        )  # the most that do not go over the length
        made.append((query, " ".join(words[: max(1, n_words)])))
    return made


def _on_cores(spec: ArtifactSpec, n_cores: int) -> ArtifactSpec:
    plan = Plan(spec.workers, spec.threads, spec.token_budget).for_cores(n_cores)
    return replace(spec, workers=plan.workers, threads=plan.threads)


def _rounds(
    sides: Sequence[Side], ours: str, pairs: tuple[tuple[str, str], ...], progress: Progress
) -> dict[tuple[str, str], tuple[list[Run], list[Run]]]:
    """Give every side's runs by setting, and those of ours beside it; ours itself has all of its own."""
    (spec,) = (side.specs[OURS] for side in sides if side.name == ours)
    found: dict[tuple[str, str], tuple[list[Run], list[Run]]] = {(ours, OURS): ([], [])}
    for side in sides:
        if side.name == ours:
            continue
        group: dict[str, Spec] = {OURS + " beside it": spec, **side.specs}
        runs = measure(
            group,
            pairs,
            progress,
            baselines=frozenset(),
            budget_s=0,
            unsettled=lambda _runs: frozenset(),
            what=side.name,
        )
        beside = runs[OURS + " beside it"]
        found[ours, OURS][0].extend(beside)
        found |= {(side.name, setting): (runs[setting], beside) for setting in side.specs}
    return found


def _latencies(side: Side, few: PairSet) -> dict[str, Latency]:
    """Time one query with its candidates, under each setting."""
    pairs = tuple(
        pair for pair, query in zip(few.pairs, few.query_of.tolist(), strict=True) if query == few.query_of[0]
    )
    calls = (Call(tuple(range(len(pairs))), _N_LATENCY_CALLS),)
    runs, _ = run_job(Job("time", tuple(side.specs.values()), pairs, calls, n_warmup=len(pairs)))
    return {setting: percentiles(side.name, run) for setting, run in zip(side.specs, runs, strict=True)}


# The kind that stands for us in a benchmark.
OURS_KIND = "onnx-int8"


def bench(
    folder: Path,
    context: Context,
    *,
    only: Sequence[str] = (),
    lengths: bool,
    scaling: bool,
) -> Bench:
    """Time an artifact's ONNX kinds beside other libraries on the same weights and pairs.

    Args:
        folder: the artifact; onnx-int8 must be among its kinds.
        context: told what goes on.
        only: names of peers, by default all of them.
        lengths: also on short, medium and long pairs.
        scaling: also how our cost grows with tokens, cores and pairs.

    Raises:
        RecipeError: the folder is no artifact, has no onnx-int8, its model or pairs are gone, or there is no such peer.
        IntegrityError: its files, or its model, are not what its manifest says.
        BackendError: the reference or an engine fails.
    """
    manifest, recipe, pair_set, source = open_artifact(folder, context)
    ours = manifest.variant(OURS_KIND)
    if unknown := [name for name in only if name not in PEERS]:
        raise RecipeError(f"{unknown[0]!r} is no peer; they are {', '.join(PEERS)}")
    machine = this_machine()
    tuned = tuned_reference(source, recipe.model.max_length, "cpu", pair_set, context)
    scores = reference_scores(source, tuned, pair_set, context)

    ours_first = sorted(manifest.variants, key=lambda entry: entry.kind != OURS_KIND)
    specs = {
        entry.kind: spec_of(folder, entry, read_plans(folder, manifest), machine)
        for entry in ours_first
        if entry.traits.engine == "onnxruntime"
    }
    sides = [
        Side(f"exporter {kind}", f"exporter {__version__}", {OURS: spec}) for kind, spec in specs.items()
    ]
    folders, skipped = prepare_peers(source, recipe.model.max_length, only or tuple(PEERS), context)
    sweep_pairs = [pair_set.pairs[i] for i in whole_queries(pair_set, N_QUERIES // 2)]
    peers, failed = peer_sides(folders, machine.n_cores, sweep_pairs, context.progress)
    sides += [
        Side(
            "torch tuned", f"sentence-transformers {package_version('sentence-transformers')}", {TUNED: tuned}
        ),
        *peers,
    ]
    name = f"exporter {ours.kind}"
    tokenizer = PairTokenizer.load(folder, manifest)

    def count(pairs: Sequence[tuple[str, str]]) -> list[int]:
        n_tokens: list[int] = tokenizer.count(pairs).tolist()
        return n_tokens

    works = {entry.kind: entry.flop_count for entry in manifest.variants}
    return Bench(
        schema=BENCH_SCHEMA,
        name=manifest.name,
        manifest_root=manifest.root,
        started_at=context.started_at,
        machine=machine,
        pairs=f"{N_QUERIES} queries with all their candidates of {pair_set.name}, nDCG and r on {N_QUALITY_QUERIES}",
        ours=name,
        rows=measure_rows(sides, name, pair_set, scores, context.progress),
        mixes=measure_mixes(sides, name, pair_set, count, context.progress) if lengths else (),
        scaling=measure_scaling(specs, works, pair_set, count, context.progress) if scaling else (),
        skipped=(*skipped, *failed),
    )
