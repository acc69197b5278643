"""How our cost grows with the tokens of a pair, the cores, the candidates of a query, and the pairs."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from exporter import worker
from exporter.pairs import whole_queries
from exporter.runtime import Plan
from exporter.worker.job import ArtifactSpec, Call, TimeJob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from exporter.artifact.manifest import FlopCount
    from exporter.bench.settings import BenchSettings
    from exporter.pairs import Pair, PairSet
    from exporter.progress import Progress

    TokenCounter: TypeAlias = Callable[[Sequence[Pair]], list[int]]  # returns the tokens of each pair


@dataclass(frozen=True, slots=True)
class ScalingRow:
    """One of our variants on pairs of `n_tokens` tokens: seconds for `n_pairs`, µs a token and core.

    `what` names what is varied: tokens, cores, candidates or pairs. `flops` are a pair's multiplications and
    additions; `peak_rss_bytes` is the whole process's.
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


def measure_scaling(
    specs: dict[str, ArtifactSpec],
    flop_counts: dict[str, FlopCount],
    pair_set: PairSet,
    count: TokenCounter,
    *,
    settings: BenchSettings,
    progress: Progress,
) -> tuple[ScalingRow, ...]:
    """Return how our cost grows with a pair's tokens, the cores, a query's candidates, and the pairs.

    Args:
        specs: our variants, at their plan on all cores; the first is also measured on many candidates and
            pairs.
        flop_counts: the arithmetic of each.
        pair_set: where texts come from.
        count: counts a pair's tokens.
        settings: how far each goes.
        progress: told the number of jobs done.

    Raises:
        BackendError: the engine fails.
    """
    jobs = list(_scaling_jobs(specs, pair_set, count, settings))
    rows = []
    with progress.stage("scaling", len(jobs)) as step:
        for done, (what, kind, spec, pairs) in enumerate(jobs, 1):
            n_calls = 3 if len(pairs) <= 1_000 else 1
            calls = (Call(tuple(range(len(pairs))), n_calls),)
            job = TimeJob(tuple(pairs), (spec,), calls, n_warmup=16, min_s=settings.min_run_s)
            (run,) = worker.time(job)
            seconds, n_cores = min(run.seconds), spec.workers * spec.threads
            flops = flop_counts[kind].flops(run.n_pairs, run.n_tokens, run.n_tokens_squared) // run.n_pairs
            cost = seconds * n_cores / run.n_tokens * 1e6
            mean = run.n_tokens / run.n_pairs
            rows.append(
                ScalingRow(what, kind, n_cores, run.n_pairs, mean, seconds, cost, flops, run.peak_rss_bytes)
            )
            step(done)
    return tuple(rows)


def of_lengths(pair_set: PairSet, lengths: Sequence[int], count: TokenCounter) -> list[Pair]:
    """Return a pair of at most each number of tokens, made of queries in turn and their passages in a row.

    Texts are cut between words.

    Args:
        pair_set: where texts come from.
        lengths: the numbers of tokens.
        count: counts a pair's tokens.
    """
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

        # The most words that do not go over the length.
        n_words = bisect_right(range(1, len(words) + 1), length, key=n_tokens)
        made.append((query, " ".join(words[: max(1, n_words)])))
    return made


def _scaling_jobs(
    specs: dict[str, ArtifactSpec], pair_set: PairSet, count: TokenCounter, settings: BenchSettings
) -> Iterator[tuple[str, str, ArtifactSpec, list[Pair]]]:
    mixed = [pair_set.pairs[i] for i in whole_queries(pair_set, 2 * settings.n_queries)]
    for kind, spec in specs.items():
        for n_tokens in settings.token_counts:
            yield "tokens", kind, spec, of_lengths(pair_set, [n_tokens] * max(16, 4096 // n_tokens), count)
        n_cores = spec.workers * spec.threads
        for cores in sorted({1, *(2**i for i in range(1, n_cores.bit_length())), n_cores}):
            yield "cores", kind, _on_cores(spec, cores), mixed
    kind, spec = next(iter(specs.items()))
    query = pair_set.pairs[0][0]
    yield "candidates", kind, spec, [(query, passage) for _, passage in (pair_set.pairs * 4)[:1_000]]
    short = of_lengths(pair_set, [32] * min(settings.job_sizes), count)
    for size in settings.job_sizes:
        yield "pairs", kind, spec, short * (size // len(short))


def _on_cores(spec: ArtifactSpec, n_cores: int) -> ArtifactSpec:
    plan = Plan(spec.workers, spec.threads, spec.token_budget).for_cores(n_cores)
    return replace(spec, workers=plan.workers, threads=plan.threads)
