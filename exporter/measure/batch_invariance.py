"""How far a pair's score changes with the batch it is scored in. Pure; `scores.py` asks for the scores.

Each pair is scored alone, and in three batch compositions of mixed lengths: whatever plan a user runs lies
between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from exporter.pairs import PairSet

_SEED = 20_241
# Of scores; a constant model has none to divide by.
_SMALLEST_SPREAD = 1e-12

# Batches of positions; a pair may be in several, and the last of its scores counts.
Composition: TypeAlias = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class BatchInvariance:
    """How a pair's score changes with the batch it is scored in: |difference| of alone and batched, logits.

    Each pair is scored alone with all threads in one worker, and under the plan that ships in three batch
    compositions: among mixed lengths, in the same batches the other way round, and beside the longest pair.
    `relative_rms` is the root mean square of the differences over the standard deviation of the scores alone.
    `n_pairs_ordered` passage pairs of one query are ranked strictly when scored alone, counted once a
    composition; `n_inversions` of them are reversed or tied when batched.
    """

    n_pairs: int
    p99_delta: float
    max_delta: float
    relative_rms: float
    n_pairs_ordered: int
    n_inversions: int


def compositions(pair_set: PairSet, n_batch: int) -> tuple[Composition, ...]:
    """Return the batch compositions: mixed lengths, the same reversed, and beside the longest pair.

    Args:
        pair_set: whole queries.
        n_batch: pairs a batch.
    """
    n = len(pair_set.pairs)
    shuffled = np.random.default_rng(_SEED).permutation(n)
    mixed = [shuffled[start : start + n_batch].tolist() for start in range(0, n, n_batch)]
    longest = max(range(n), key=lambda i: len(pair_set.pairs[i][1]))
    reverse = [batch[::-1] for batch in mixed]
    beside_longest = [[*batch[:-1], longest, batch[-1]] for batch in mixed]
    return tuple(tuple(map(tuple, batches)) for batches in (mixed, reverse, beside_longest))


def batch_invariance(
    alone: NDArray[np.float32],
    batched: Sequence[tuple[Composition, NDArray[np.float32]]],
    pair_set: PairSet,
) -> BatchInvariance:
    """Compare the scores of pairs alone with those in batches; what is not finite is counted elsewhere.

    Args:
        alone: float32[n_pairs], raw logits of each pair alone.
        batched: each composition with the scores of its batches, one after the other.
        pair_set: whole queries.
    """
    deltas, n_pairs_ordered, n_inversions = [], 0, 0
    for composition, in_order in batched:
        scores = alone.copy()
        scores[[i for batch in composition for i in batch]] = in_order
        deltas.append(np.abs(scores - alone)[np.isfinite(scores) & np.isfinite(alone)])
        for rows in (np.flatnonzero(pair_set.query_of == query) for query in range(len(pair_set.query_ids))):
            first, second = np.triu_indices(len(rows), 1)
            before = np.sign(alone[rows][first] - alone[rows][second])
            after = np.sign(scores[rows][first] - scores[rows][second])
            n_pairs_ordered += int((before != 0).sum())
            n_inversions += int(((before != after) & (before != 0)).sum())

    all_deltas = np.concatenate([*deltas, np.zeros(1)])
    spread = max(float(np.nanstd(alone)), _SMALLEST_SPREAD)
    return BatchInvariance(
        n_pairs=len(pair_set.pairs),
        p99_delta=float(np.percentile(all_deltas, 99)),
        max_delta=float(all_deltas.max()),
        relative_rms=float(np.sqrt((all_deltas**2).mean())) / spread,
        n_pairs_ordered=n_pairs_ordered,
        n_inversions=n_inversions,
    )
