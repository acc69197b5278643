"""Compare scores by token length, and describe single pairs."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from exporter.pairs import PairSet
from exporter.worker import CountWorker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from exporter.artifact.manifest import Manifest
    from exporter.pairs import Pair


SHOWN_CHARACTERS = 400
# Upper ends of token-length buckets; the artifact's max_length is another, and longer pairs are truncated.
_BUCKET_ENDS = (64, 128, 256, 512)
TRUNCATED = "truncated"


@dataclass(frozen=True, slots=True)
class PairScore:
    """One pair, by its position in the set, with both scores and its tokens; its texts are shortened."""

    position: int
    query_id: str
    query: str
    passage: str
    n_tokens: int
    reference: float
    candidate: float | None


@dataclass(frozen=True, slots=True)
class LengthBucket:
    """Pairs of like length: |difference| from the reference, in logits.

    `relative_rms` is their root mean square over the standard deviation of all reference scores.

    `name` gives tokens, special ones counted, or says that the pairs are longer than the model reads. `worst`
    is the pair with the largest difference, None in a published report of private pairs.
    """

    name: str
    n_pairs: int
    mean_abs_diff: float
    p99_abs_diff: float
    max_abs_diff: float
    relative_rms: float
    worst: PairScore | None


def token_counts(folder: Path, manifest: Manifest, pairs: Sequence[Pair]) -> NDArray[np.int64]:
    """Return each pair's tokens, int64[n_pairs]; `max_length + 1` stands for a truncated pair.

    Counted in a worker: the tokenizer may be a stranger's.

    Raises:
        IntegrityError: the tokenizer is not the one the manifest names, or is none.
        BackendError: the worker failed.
    """
    with CountWorker(folder, manifest) as worker:
        n_tokens = worker.count(pairs)
    return np.minimum(n_tokens, manifest.max_length + 1)


def bucket_names(lengths: NDArray[np.int64], max_length: int) -> list[str]:
    """Return the name of every pair's bucket."""
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
    """Compare scores by bucket, shortest first; empty buckets and non-finite scores are left out."""
    diff = np.abs(reference.astype(np.float64) - candidate)
    names = np.array(bucket_names(lengths, max_length))
    spread = float(reference.astype(np.float64).std())
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
                    worst=pair_score(int(rows[diff[rows].argmax()]), reference, candidate, lengths, pair_set),
                )
            )
    return tuple(found)


def pair_score(
    i: int,
    reference: NDArray[np.float32],
    candidate: NDArray[np.float32],
    lengths: NDArray[np.int64],
    pair_set: PairSet,
) -> PairScore:
    """Describe the pair at position `i`."""
    query, passage = (
        textwrap.shorten(text, SHOWN_CHARACTERS, placeholder=" …") for text in pair_set.pairs[i]
    )
    return PairScore(
        position=i,
        query_id=pair_set.query_ids[pair_set.query_of[i]],
        query=query,
        passage=passage,
        n_tokens=int(lengths[i]),
        reference=float(reference[i]),
        candidate=number(candidate[i]),
    )


def number(score: np.float32) -> float | None:
    """Return a score as JSON can hold it: None for NaN and infinity."""
    return float(score) if np.isfinite(score) else None


def positions_by_length(lengths: NDArray[np.int64], max_length: int) -> dict[str, list[int]]:
    """Return the pairs' positions by bucket, the shortest bucket and in it the shortest pair first.

    Args:
        lengths: int64[n_pairs], see `token_counts`.
        max_length: tokens of a pair that the model reads.
    """
    names = bucket_names(lengths, max_length)
    buckets: dict[str, list[int]] = {}
    for i in np.argsort(lengths, kind="stable").tolist():
        buckets.setdefault(names[i], []).append(i)
    return buckets
