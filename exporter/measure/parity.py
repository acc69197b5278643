"""How far a candidate's scores and rankings are from the reference's. Measures only; bars are `gate.py`'s.

Everything is in raw logits: a sigmoid hides a wrong model at both ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from exporter.measure.estimate import Estimate, mean_of, share_of
from exporter.measure.quality import lowest_if_not_finite
from exporter.pairs import N_TOP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from exporter.pairs import PairSet

# The fewest pairs of a group (a query, a length) whose root mean square is judged: of 10,000 random groups of
# good int8 variants' own differences at most 0.1 % fail from one pair on (the table is in
# docs/measurements/choices.md), and eight is the least anyone should judge by.
MIN_GROUP_PAIRS = 8


@dataclass(frozen=True, slots=True)
class Parity:
    """Differences of scores and of order on the same pairs.

    Score differences are in logits and, like the rankings, over the pairs finite on both sides; `n_nonfinite`
    counts the candidate's others. Order is compared within each query that has two passages the reference
    tells apart, and the ten best within those of more than ten passages: of fewer, every ranking has the
    same. The root mean square of the differences is relative to the standard deviation of the reference's
    scores, of all pairs and of one query's, the farthest's of those with enough pairs to tell: what is on
    another scale than the reference, or has another query's scores, is 1 or more.

    Attributes:
        n_queries: queries whose order is compared.
        kendall_tau: tau-b, mean over queries.
        query_taus: tau-b of each query.
        worst_query_relative_rms: None where no query has enough pairs.
        top1_agreement: share of queries whose best passage by the candidate is one the reference has first.
        top10_overlap: mean over queries; None where no query has more than ten passages.
    """

    n_pairs: int
    n_queries: int
    n_nonfinite: int
    max_abs_diff: float
    p99_abs_diff: float
    mean_abs_diff: float
    pearson: float
    kendall_tau: Estimate
    worst_query_tau: float
    worst_query: str
    query_taus: tuple[float, ...]
    relative_rms: float
    worst_query_relative_rms: float | None
    farthest_query: str
    top1_agreement: Estimate
    top10_overlap: Estimate | None


def compare(reference: NDArray[np.float32], candidate: NDArray[np.float32], pair_set: PairSet) -> Parity:
    """Measure how a candidate's scores and rankings differ from the reference's.

    Args:
        reference: float32[n_pairs], raw logits of the PyTorch model.
        candidate: float32[n_pairs], raw logits of the exported model.
        pair_set: the pairs both scored.

    Raises:
        ValueError: the arrays are not as long as the pair set, or the reference is not finite, or does not
            tell passages apart, see `tells_apart`.
    """
    if not len(reference) == len(candidate) == len(pair_set.pairs):
        raise ValueError(f"{len(reference)} and {len(candidate)} scores for {len(pair_set.pairs)} pairs")
    if not np.isfinite(reference).all():
        raise ValueError("the reference gives scores that are not finite; there is nothing to compare with")

    queries = _rank_agreement(reference, candidate, pair_set)
    if not queries:
        raise ValueError(
            "the reference tells no two passages of any query apart; there is no ranking to compare"
        )
    finite = np.isfinite(candidate)
    diff = np.abs(reference[finite].astype(np.float64) - candidate[finite]) if finite.any() else np.zeros(1)
    varies = finite.sum() > 1 and np.ptp(reference[finite]) > 0 and np.ptp(candidate[finite]) > 0
    worst = min(queries, key=lambda query: query.tau)
    enough = [query for query in queries if query.n_pairs >= MIN_GROUP_PAIRS]
    farthest = max(enough, key=lambda query: query.relative_rms, default=None)
    overlaps = [query.top10_overlap for query in queries if query.n_pairs > N_TOP]
    n_silent = len(pair_set.query_ids) - len(queries)
    return Parity(
        n_pairs=len(reference),
        n_queries=len(queries),
        n_nonfinite=int((~finite).sum()),
        max_abs_diff=float(diff.max()),
        p99_abs_diff=float(np.percentile(diff, 99)),
        mean_abs_diff=float(diff.mean()),
        pearson=float(np.corrcoef(reference[finite], candidate[finite])[0, 1]) if varies else 0.0,
        kendall_tau=mean_of(np.array([query.tau for query in queries]), n_silent),
        worst_query_tau=worst.tau,
        worst_query=worst.name,
        query_taus=tuple(query.tau for query in queries),
        relative_rms=_rms(diff) / float(reference.astype(np.float64).std()),
        worst_query_relative_rms=farthest.relative_rms if farthest else None,
        farthest_query=farthest.name if farthest else "",
        top1_agreement=share_of(sum(query.same_best for query in queries), len(queries), n_silent),
        top10_overlap=mean_of(np.array(overlaps), len(pair_set.query_ids) - len(overlaps))
        if overlaps
        else None,
    )


def tells_apart(scores: NDArray[np.float32], pair_set: PairSet) -> bool:
    """Return whether scores, float32[n_pairs], tell two passages of any query apart."""
    return any(True for _ in _ranked_queries(scores, pair_set.query_of))


class _Query(NamedTuple):
    """How one query's passages are ranked on both sides."""

    name: str
    n_pairs: int
    tau: float
    relative_rms: float
    same_best: bool
    top10_overlap: float


def _rank_agreement(
    reference: NDArray[np.float32], candidate: NDArray[np.float32], pair_set: PairSet
) -> list[_Query]:
    """Compare the rankings of every query that has two passages the reference tells apart."""
    from scipy.stats import kendalltau

    spread, found = float(reference.astype(np.float64).std()), []
    for query, rows in _ranked_queries(reference, pair_set.query_of):
        ours, theirs = lowest_if_not_finite(candidate[rows]), reference[rows]
        # A constant candidate has no order at all: tau-b is undefined, and nothing agrees.
        tau = float(kendalltau(theirs, ours).statistic) if np.ptp(ours) > 0 else 0.0
        # A tie the candidate makes is broken against it: else a constant model would keep whatever order the
        # file has.
        by_reference, by_candidate = np.argsort(-theirs, kind="stable"), np.lexsort((theirs, -ours))
        found.append(
            _Query(
                name=pair_set.query_ids[query],
                n_pairs=len(rows),
                tau=tau,
                relative_rms=_rms(theirs - candidate[rows]) / spread,
                # Any of the passages that the reference has first in a tie, such as copies of one text.
                same_best=bool(theirs[by_candidate[0]] == theirs.max()),
                top10_overlap=len(set(by_reference[:N_TOP]) & set(by_candidate[:N_TOP])) / N_TOP,
            )
        )
    return found


def _rms(differences: NDArray[np.floating]) -> float:
    finite = differences[np.isfinite(differences)].astype(np.float64)
    return float(np.sqrt((finite**2).mean())) if len(finite) else 0.0


def _ranked_queries(
    reference: NDArray[np.float32], query_of: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    order = np.argsort(query_of, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(query_of[order])) + 1):
        if len(rows) > 1 and np.ptp(reference[rows]) > 0:
            yield int(query_of[rows[0]]), rows
