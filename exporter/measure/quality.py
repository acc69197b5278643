"""Ranking quality against labels: nDCG@10 and MRR@10, the share retained, and its interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from exporter.pairs import PairSet


# Resamples of the paired bootstrap: the interval's ends then move by less than 0.0005 from seed to seed.
_N_RESAMPLES = 9_999
_SEED = 20_240


@dataclass(frozen=True, slots=True)
class Quality:
    """Ranking quality against labels: reference, candidate, and the share retained with its 95 % interval.

    `query_ndcgs` has the candidate's nDCG@10 of each query that has a relevant passage, in their order.
    """

    n_queries: int
    reference_ndcg: float
    candidate_ndcg: float
    reference_mrr: float
    candidate_mrr: float
    ndcg_retained: float
    ndcg_retained_low: float
    ndcg_retained_high: float
    query_ndcgs: tuple[float, ...]


def quality(
    reference: NDArray[np.float32], candidate: NDArray[np.float32], pair_set: PairSet
) -> Quality | None:
    """Measure nDCG@10 and MRR@10 against labels, over the queries that have a relevant passage.

    The interval is a paired percentile bootstrap over queries of the ratio of means, seeded.

    Args:
        reference: float32[n_pairs], raw logits of the PyTorch model.
        candidate: float32[n_pairs], raw logits of the exported model.
        pair_set: the pairs both scored.

    Returns:
        The measurement, or None where there are no labels.

    Raises:
        ValueError: fewer than two queries have a relevant passage.
    """
    if pair_set.labels is None:
        return None
    if len(set(pair_set.query_of[pair_set.labels > 0].tolist())) < 2:
        raise ValueError("an interval over queries needs two queries with a relevant passage")
    theirs = per_query(reference, pair_set, pair_set.labels)
    ours = per_query(lowest_if_not_finite(candidate), pair_set, pair_set.labels)
    point, low, high = retained(theirs[:, 0], ours[:, 0])
    return Quality(
        n_queries=len(theirs),
        reference_ndcg=float(theirs[:, 0].mean()),
        candidate_ndcg=float(ours[:, 0].mean()),
        reference_mrr=float(theirs[:, 1].mean()),
        candidate_mrr=float(ours[:, 1].mean()),
        ndcg_retained=point,
        ndcg_retained_low=low,
        ndcg_retained_high=high,
        query_ndcgs=tuple(ours[:, 0].tolist()),
    )


def retained(reference: NDArray[np.float64], candidate: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the ratio of two means over the same queries and its 95 % interval, a paired bootstrap.

    Args:
        reference: float64[n_queries], a measure of the reference's rankings.
        candidate: float64[n_queries], of the candidate's.
    """
    from scipy.stats import bootstrap

    def ratio(
        candidate: NDArray[np.float64], reference: NDArray[np.float64], axis: int = -1
    ) -> NDArray[np.float64]:
        return np.asarray(candidate.mean(axis=axis) / np.maximum(reference.mean(axis=axis), 1e-12))

    point = float(ratio(candidate, reference))
    if not np.any(candidate != reference):
        return point, point, point
    interval = bootstrap(
        (candidate, reference),
        ratio,
        n_resamples=_N_RESAMPLES,
        paired=True,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(_SEED),
        batch=500,
    ).confidence_interval
    return point, float(interval.low), float(interval.high)


def per_query(
    scores: NDArray[np.float32], pair_set: PairSet, labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return float64[n_queries, 2]: nDCG@10 and reciprocal rank@10 of each query with a relevant passage."""
    import ir_measures
    from ir_measures import RR, nDCG

    judged = set(pair_set.query_of[labels > 0].tolist())
    rows = [i for i, query in enumerate(pair_set.query_of.tolist()) if query in judged]
    query = [str(q) for q in pair_set.query_of.tolist()]
    qrels = [ir_measures.Qrel(query[i], str(i), int(labels[i])) for i in rows]
    run = [ir_measures.ScoredDoc(query[i], str(i), float(scores[i])) for i in rows]
    table = {q: [0.0, 0.0] for q in sorted(map(str, judged), key=int)}
    for metric in ir_measures.iter_calc([nDCG @ 10, RR @ 10], qrels, run):
        table[metric.query_id][0 if metric.measure == nDCG @ 10 else 1] = metric.value
    return np.array(list(table.values()))


def lowest_if_not_finite(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rank what is not finite last: a user's sort has to put it somewhere."""
    return np.where(np.isfinite(scores), scores, np.float32(np.finfo(np.float32).min))
