"""How far a candidate's scores and rankings are from the reference's. Measures only; bars are `gate.py`'s.

Everything is in raw logits: a sigmoid hides a wrong model at both ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from exporter.measure.quality import lowest_if_not_finite

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from exporter.pairs import PairSet


@dataclass(frozen=True, slots=True)
class Parity:
    """Differences of scores and of order on the same pairs.

    Score differences are in logits and, like the rankings, over the pairs finite on both sides; `n_nonfinite`
    counts the candidate's others. Order is compared within each query that has two passages the reference
    tells apart. The root mean square of the differences is relative to the standard deviation of the
    reference's scores, of all pairs and of one query's, the farthest's: what is on another scale than the
    reference, or has another query's scores, is 1 or more.
    """

    n_pairs: int
    n_queries: int
    n_nonfinite: int
    max_abs_diff: float
    p99_abs_diff: float
    mean_abs_diff: float
    pearson: float
    kendall_tau: float  # tau-b, mean over queries
    worst_query_tau: float
    worst_query: str
    query_taus: tuple[float, ...]  # one per query
    relative_rms: float
    worst_query_relative_rms: float
    farthest_query: str
    top1_agreement: float
    top10_overlap: float


def compare(reference: NDArray[np.float32], candidate: NDArray[np.float32], pair_set: PairSet) -> Parity:
    """Measure how a candidate's scores and rankings differ from the reference's.

    Args:
        reference: float32[n_pairs], raw logits of the PyTorch model.
        candidate: float32[n_pairs], raw logits of the exported model.
        pair_set: the pairs both scored.

    Raises:
        ValueError: the arrays are not as long as the pair set, or the reference is not finite.
    """
    from scipy.stats import kendalltau

    if not len(reference) == len(candidate) == len(pair_set.pairs):
        raise ValueError(f"{len(reference)} and {len(candidate)} scores for {len(pair_set.pairs)} pairs")
    if not np.isfinite(reference).all():
        raise ValueError("the reference gives scores that are not finite; there is nothing to compare with")
    finite = np.isfinite(candidate)
    diff = np.abs(reference[finite].astype(np.float64) - candidate[finite]) if finite.any() else np.zeros(1)
    spread = float(reference.std())
    names, taus, top1, top10, far = [], [], [], [], []
    for query, rows in _ranked_queries(reference, pair_set.query_of):
        ours, theirs = lowest_if_not_finite(candidate[rows]), reference[rows]
        # A constant candidate has no order at all: tau-b is undefined, agreement is none.
        tau = float(kendalltau(theirs, ours).statistic) if np.ptp(ours) > 0 else 0.0
        # A tie the candidate makes is broken against it: else a constant model would keep whatever order the
        # file has.
        best = np.argsort(-theirs, kind="stable"), np.lexsort((theirs, -ours))
        names.append(pair_set.query_ids[query])
        taus.append(tau)
        far.append(_rms(theirs - candidate[rows]) / spread)
        top1.append(best[0][0] == best[1][0])
        top10.append(len(set(best[0][:10]) & set(best[1][:10])) / min(10, len(rows)))
    if not taus:
        raise ValueError(
            "the reference tells no two passages of any query apart; there is no ranking to compare"
        )
    worst = int(np.argmin(taus))
    varies = finite.sum() > 1 and np.ptp(reference[finite]) > 0 and np.ptp(candidate[finite]) > 0
    return Parity(
        n_pairs=len(reference),
        n_queries=len(taus),
        n_nonfinite=int((~finite).sum()),
        max_abs_diff=float(diff.max()),
        p99_abs_diff=float(np.percentile(diff, 99)),
        mean_abs_diff=float(diff.mean()),
        pearson=float(np.corrcoef(reference[finite], candidate[finite])[0, 1]) if varies else 0.0,
        kendall_tau=float(np.mean(taus)),
        worst_query_tau=taus[worst],
        worst_query=names[worst],
        query_taus=tuple(taus),
        relative_rms=_rms(diff) / spread,
        worst_query_relative_rms=max(far),
        farthest_query=names[int(np.argmax(far))],
        top1_agreement=float(np.mean(top1)),
        top10_overlap=float(np.mean(top10)),
    )


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
