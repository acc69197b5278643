"""A pair set: (query, passage[, label]) rows grouped by query, with a hash of what they hold; and samples."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


# A query and a passage.
Pair: TypeAlias = tuple[str, str]

# Pairs that speed is measured on: real lengths, few enough that a run takes seconds.
N_TIMED_PAIRS = 48
# Of so many passages or fewer every ranking has the same ten best.
N_TOP = 10


@dataclass(frozen=True, slots=True)
class PairSet:
    """A named collection of pairs.

    `pairs` are (query, passage) texts; `labels` float64[n_pairs] graded relevance, 0 = none, or None;
    `query_of` int64[n_pairs], the query each pair belongs to, 0...n_queries-1 in order of appearance;
    `query_ids` one name per query; `reading` how the file was read, for people.
    """

    name: str
    pairs: tuple[Pair, ...]
    labels: NDArray[np.float64] | None
    query_of: NDArray[np.int64]
    query_ids: tuple[str, ...]
    reading: str = field(default="", compare=False)

    @property
    def digest(self) -> str:
        """One sha256 over texts, labels and grouping."""
        labels = self.query_of if self.labels is None else self.labels
        rows = zip(self.pairs, map(whole_if_possible, labels.tolist()), self.query_of.tolist(), strict=True)
        text = "".join(json.dumps([*pair, label, query]) + "\n" for pair, label, query in rows)
        return hashlib.sha256(f"{self.labels is not None}\n{text}".encode()).hexdigest()

    @property
    def tellable(self) -> NDArray[np.bool_]:
        """Which queries have labels that differ, bool[n_queries]: on the others any order is as good."""
        n = len(self.query_ids)
        if self.labels is None:
            return np.zeros(n, np.bool_)
        highest, lowest = np.full(n, -np.inf), np.full(n, np.inf)
        np.maximum.at(highest, self.query_of, self.labels)
        np.minimum.at(lowest, self.query_of, self.labels)
        return highest > lowest

    def picked(self, positions: Sequence[int]) -> PairSet:
        """Return the pairs at `positions`, in that order; queries keep their names and are numbered anew."""
        queries = self.query_of[list(positions)]
        order = list(dict.fromkeys(queries.tolist()))
        return PairSet(
            name=f"{len(positions)} pairs of {self.name}",
            pairs=tuple(self.pairs[i] for i in positions),
            labels=None if self.labels is None else self.labels[list(positions)],
            query_of=np.array([order.index(query) for query in queries.tolist()], np.int64),
            query_ids=tuple(self.query_ids[query] for query in order),
        )


def whole_if_possible(label: float) -> int | float:
    """Return a label as JSON and people write it: 1 rather than 1.0, and 0.75."""
    return int(label) if float(label).is_integer() else label


def whole_queries(pair_set: PairSet, n_queries: int) -> list[int]:
    """Return the positions of all pairs of `n_queries` queries, picked evenly by their passages' length.

    Queries with one passage, which rank nothing, are picked only where there are no others.
    """
    lengths = np.zeros(len(pair_set.query_ids))
    for (_, passage), query in zip(pair_set.pairs, pair_set.query_of.tolist(), strict=True):
        lengths[query] += len(passage)
    order = np.argsort(lengths, kind="stable")
    ranked = order[np.bincount(pair_set.query_of, minlength=len(order))[order] > 1]
    order = ranked if len(ranked) else order
    # The middles of as many equal parts: the shortest and the longest query are not picked.
    n_queries = min(n_queries, len(order))
    picked = {int(order[int((i + 0.5) * len(order) / n_queries)]) for i in range(n_queries)}
    return sorted(
        (i for i, q in enumerate(pair_set.query_of.tolist()) if q in picked),
        key=lambda i: (pair_set.query_of[i], i),
    )


def spread_out(pair_set: PairSet, n: int) -> tuple[Pair, ...]:
    """Return `n` pairs picked evenly from the set sorted by passage length; the same every time."""
    return tuple(pair_set.pairs[i] for i in spread_out_positions(pair_set, n))


def spread_out_positions(pair_set: PairSet, n: int) -> list[int]:
    """Return the positions of the pairs that `spread_out` picks, ascending."""
    order = sorted(range(len(pair_set.pairs)), key=lambda i: (len(pair_set.pairs[i][1]), i))
    return sorted({order[int(i)] for i in np.linspace(0, len(order) - 1, min(n, len(order)))})
