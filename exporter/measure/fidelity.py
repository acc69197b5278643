"""Does a variant score like its reference: everything about it but its speed, measured the one way `verify` and `selftest` share.

Averages hide what matters to one user: a pair that scores otherwise in another batch, a length that is cut off wrongly, one query
that got another's scores. Each is measured here and judged in `gate.py`.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from exporter.runtime import Reranker
from exporter.verify.contents import Contents, read_contents
from exporter.verify.pairs import PairSet, whole_queries
from exporter.verify.parity import Parity, Quality, compare, quality
from exporter.verify.saturation import Saturation, bound_sums
from exporter.verify.worker import ArtifactSpec, Call, Job, run_job

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from exporter.artifact import Manifest, VariantEntry

# Whole queries whose pairs are scored in other company too.
_N_COMPANY_QUERIES = 12
# Pairs a batch there: a padded batch of 512 tokens then takes tens of megabytes.
_COMPANY_PAIRS = 16
# More than any batch has: nothing is split off.
_ONE_BATCH = 1 << 30
_SEED = 20_241
# Of scores; a constant model has none to divide by.
_SMALLEST_SPREAD = 1e-12
_N_WORST_PAIRS = 10
_SHOWN_CHARACTERS = 400
# Upper ends of token-length buckets; the artifact's max_length is another, and longer pairs are truncated.
_BUCKET_ENDS = (64, 128, 256, 512)
TRUNCATED = "truncated"


@dataclass(frozen=True, slots=True)
class BatchEffect:
    """What plan and company do to a pair's score, in logits: |difference| of a pair alone and in batches of mixed lengths.

    Each pair is scored alone with all threads in one worker, and under the plan that ships among mixed lengths, in the same
    company the other way round, and beside the longest pair: whatever plan a user runs lies between. `relative_rms` is the
    root mean square of the differences over the spread of the scores, as in `LengthBucket`. Of `n_orders` orders of two passages
    of one query that are told apart alone, `n_flips` turned round in company.
    """

    n_pairs: int
    p99_delta: float
    max_delta: float
    relative_rms: float
    n_orders: int
    n_flips: int


@dataclass(frozen=True, slots=True)
class PairScore:
    """One pair, by its position in the set, with both scores and its tokens (see `token_counts`); texts are shortened."""

    position: int
    query_id: str
    query: str
    passage: str
    n_tokens: int
    reference: float
    candidate: float | None


@dataclass(frozen=True, slots=True)
class LengthBucket:
    """Pairs of like length: |difference| from the reference in logits, and its root mean square over the spread of all scores.

    `name` gives tokens, special ones counted, or says that the pairs are longer than the model reads. `worst` is the pair with
    the largest difference.
    """

    name: str
    n_pairs: int
    mean_abs_diff: float
    p99_abs_diff: float
    max_abs_diff: float
    relative_rms: float
    worst: PairScore


@dataclass(frozen=True, slots=True)
class OwnPrecision:
    """An engine at its own default precision instead of the stated one: parity, and pairs per second of both in one process."""

    max_abs_diff: float
    kendall_tau: float
    pairs_per_s: float
    stated_pairs_per_s: float


@dataclass(frozen=True, slots=True)
class Fidelity:
    """One candidate against the reference, but for speed.

    `worst_query` is the text of the query that agrees least. `scores` are the raw logits, in the order of the pair set, None
    where not finite. `repeat_diff` is the largest |difference|, in logits, between two processes at one plan.
    """

    kind: str
    isa: str | None
    size_bytes: int
    size_ratio: float
    contents: Contents
    saturation: Saturation | None
    parity: Parity
    quality: Quality | None
    lengths: tuple[LengthBucket, ...]
    batches: BatchEffect
    repeat_diff: float
    worst_query: str
    worst_pairs: tuple[PairScore, ...]
    scores: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Expected:
    """What candidates are held against: the pairs, the reference's raw logits, float32[n_pairs], and its weights' bytes."""

    pair_set: PairSet
    scores: NDArray[np.float32]
    weights_bytes: int

    def picked(self, positions: Sequence[int]) -> Expected:
        """Give a part of it, in the order of `positions`."""
        return Expected(self.pair_set.picked(positions), self.scores[list(positions)], self.weights_bytes)


def measure_fidelity(
    manifest: Manifest,
    entry: VariantEntry,
    spec: ArtifactSpec,
    expected: Expected,
    progress: Callable[[int], None],
) -> Fidelity:
    """Score every pair with a variant, some of them in other company, and compare with the reference.

    Args:
        manifest: the artifact's.
        entry: the variant.
        spec: where the artifact is, and how the variant is run.
        expected: the pairs and what the reference says of them.
        progress: called with the number of pairs scored so far.

    Raises:
        BackendError: the engine fails.
        ValueError: see `parity.compare`.
    """
    pair_set, folder = expected.pair_set, Path(spec.folder)
    scores = _scores(Job("score", (spec,), pair_set.pairs), progress)
    few = pair_set.picked(whole_queries(pair_set, _N_COMPANY_QUERIES))
    once, again = (_scores(Job("score", (spec,), few.pairs)) for _ in range(2))
    lengths = token_counts(folder, entry.kind, pair_set.pairs, manifest.max_length)
    parity = compare(expected.scores, scores, pair_set)
    worst = pair_set.query_of.tolist().index(pair_set.query_ids.index(parity.worst_query))
    size = manifest.size_bytes(entry)
    model = folder / entry.model
    return Fidelity(
        kind=entry.kind,
        isa=entry.isa,
        size_bytes=size,
        size_ratio=size / expected.weights_bytes,
        contents=read_contents(model),
        saturation=_saturation(model, spec, few, once) if "int8" in entry.kind else None,
        parity=parity,
        quality=quality(expected.scores, scores, pair_set),
        lengths=by_length(expected.scores, scores, lengths, manifest.max_length, pair_set),
        batches=batch_effect(spec, few),
        repeat_diff=_largest_diff(once, again),
        worst_query=textwrap.shorten(pair_set.pairs[worst][0], _SHOWN_CHARACTERS, placeholder=" …"),
        worst_pairs=_worst_pairs(expected.scores, scores, lengths, pair_set),
        scores=tuple(_number(score) for score in scores),
    )


def token_counts(folder: Path, kind: str, pairs: Sequence[tuple[str, str]], max_length: int) -> NDArray[np.int64]:
    """Count each pair's tokens, special ones too, int64[n_pairs]; one more than `max_length` stands for a truncated pair."""
    reranker = Reranker.load(folder, kind)
    return np.array([max_length + 1 if e.overflowing else len(e) for e in reranker.tokenize(pairs)], np.int64)


def bucket_names(lengths: NDArray[np.int64], max_length: int) -> list[str]:
    """Name the bucket of every pair by its tokens."""
    ends = [*(end for end in _BUCKET_ENDS if end < max_length), max_length]
    starts = [1, *(end + 1 for end in ends)]
    names = [*(f"{start} to {end}" for start, end in zip(starts, ends, strict=False)), TRUNCATED]
    return [names[i] for i in np.searchsorted(ends, lengths)]


def by_length(
    reference: NDArray[np.float32],
    candidate: NDArray[np.float32],
    lengths: NDArray[np.int64],
    max_length: int,
    pair_set: PairSet,
) -> tuple[LengthBucket, ...]:
    """Compare scores bucket by bucket, shortest first; a bucket without pairs is left out, as are scores that are not finite."""
    diff = np.abs(reference.astype(np.float64) - candidate)
    names = np.array(bucket_names(lengths, max_length))
    spread = float(reference.std())
    found = []
    for name in dict.fromkeys(names[np.argsort(lengths, kind="stable")].tolist()):
        rows = np.flatnonzero((names == name) & np.isfinite(diff))
        if len(rows):
            found.append(
                LengthBucket(
                    name=name,
                    n_pairs=len(rows),
                    mean_abs_diff=float(diff[rows].mean()),
                    p99_abs_diff=float(np.percentile(diff[rows], 99)),
                    max_abs_diff=float(diff[rows].max()),
                    relative_rms=float(np.sqrt((diff[rows] ** 2).mean())) / spread,
                    worst=_pair(int(rows[diff[rows].argmax()]), reference, candidate, lengths, pair_set),
                )
            )
    return tuple(found)


def batch_effect(spec: ArtifactSpec, pair_set: PairSet) -> BatchEffect:
    """Score pairs alone and in three kinds of company, and compare.

    Args:
        spec: how the variant is run; its token budget is not kept to, and pairs alone have one worker of all its threads.
        pair_set: whole queries.
    """
    n = len(pair_set.pairs)
    shuffled = np.random.default_rng(_SEED).permutation(n)
    groups = [shuffled[start : start + _COMPANY_PAIRS].tolist() for start in range(0, n, _COMPANY_PAIRS)]
    longest = max(range(n), key=lambda i: len(pair_set.pairs[i][1]))
    companies = [groups, [group[::-1] for group in groups], [[*group[:-1], longest, group[-1]] for group in groups]]
    calls = tuple(Call(tuple(group), 1) for company in companies for group in company)
    one_worker = replace(spec, token_budget=1, workers=1, threads=spec.workers * spec.threads)
    alone = _scores(Job("score", (one_worker,), pair_set.pairs))
    together = _scores(Job("score", (replace(spec, token_budget=_ONE_BATCH),), pair_set.pairs, calls))
    start, deltas, n_orders, n_flips = 0, [], 0, 0
    for company in companies:
        positions = [i for group in company for i in group]
        scores = alone.copy()
        scores[positions] = together[start : start + len(positions)]
        start += len(positions)
        deltas.append(np.abs(scores - alone)[np.isfinite(scores) & np.isfinite(alone)])
        for rows in (np.flatnonzero(pair_set.query_of == query) for query in range(len(pair_set.query_ids))):
            first, second = np.triu_indices(len(rows), 1)
            before = np.sign(alone[rows][first] - alone[rows][second])
            after = np.sign(scores[rows][first] - scores[rows][second])
            n_orders += int((before != 0).sum())
            n_flips += int(((before != after) & (before != 0)).sum())
    all_deltas = np.concatenate([*deltas, np.zeros(1)])
    return BatchEffect(
        n_pairs=n,
        p99_delta=float(np.percentile(all_deltas, 99)),
        max_delta=float(all_deltas.max()),
        relative_rms=float(np.sqrt((all_deltas**2).mean()) / max(float(np.nanstd(alone)), _SMALLEST_SPREAD)),
        n_orders=n_orders,
        n_flips=n_flips,
    )


def own_precision(spec: ArtifactSpec, expected: Expected) -> OwnPrecision:
    """Score some whole queries at the engine's own precision, and time it beside the stated one.

    Source: https://github.com/openvinotoolkit/openvino/issues/24501 (bf16 where the CPU has it)
    """
    positions = whole_queries(expected.pair_set, _N_COMPANY_QUERIES)
    few = expected.pair_set.picked(positions)
    own = replace(spec, precision="own")
    parity = compare(expected.scores[positions], _scores(Job("score", (own,), few.pairs)), few)
    calls = (Call(tuple(range(len(few.pairs))), 1),)
    (stated_run, own_run), _ = run_job(Job("time", (spec, own), few.pairs, calls, n_warmup=_COMPANY_PAIRS))
    rates = [len(few.pairs) / run.seconds[0] for run in (stated_run, own_run)]
    return OwnPrecision(parity.max_abs_diff, parity.kendall_tau, rates[1], rates[0])


def _saturation(model: Path, spec: ArtifactSpec, few: PairSet, scores: NDArray[np.float32]) -> Saturation:
    if model.suffix != ".onnx":
        return bound_sums(model)
    unsaturated = _scores(Job("score", (replace(spec, precision="unsaturated"),), few.pairs))
    return bound_sums(model, _largest_diff(scores, unsaturated))


def _worst_pairs(
    reference: NDArray[np.float32], candidate: NDArray[np.float32], lengths: NDArray[np.int64], pair_set: PairSet
) -> tuple[PairScore, ...]:
    diff = np.abs(reference - candidate)
    order = np.argsort(-np.where(np.isfinite(diff), diff, np.inf), kind="stable")[:_N_WORST_PAIRS]
    return tuple(_pair(int(i), reference, candidate, lengths, pair_set) for i in order)


def _pair(
    i: int, reference: NDArray[np.float32], candidate: NDArray[np.float32], lengths: NDArray[np.int64], pair_set: PairSet
) -> PairScore:
    query, passage = (textwrap.shorten(text, _SHOWN_CHARACTERS, placeholder=" …") for text in pair_set.pairs[i])
    return PairScore(
        position=i,
        query_id=pair_set.query_ids[pair_set.query_of[i]],
        query=query,
        passage=passage,
        n_tokens=int(lengths[i]),
        reference=float(reference[i]),
        candidate=_number(candidate[i]),
    )


def _scores(job: Job, progress: Callable[[int], None] = lambda _n: None) -> NDArray[np.float32]:
    _, scores = run_job(job, progress)
    assert scores is not None
    return scores


def _largest_diff(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Give the largest |difference| of what is finite on both sides; the rest is counted elsewhere."""
    finite = np.isfinite(one) & np.isfinite(other)
    return float(np.abs(one[finite].astype(np.float64) - other[finite]).max(initial=0.0))


def _number(score: np.float32) -> float | None:
    """Give a score as JSON has it: NaN and infinity are no numbers there."""
    return float(score) if np.isfinite(score) else None
