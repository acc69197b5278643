"""Ranking quality against labels: nDCG@10 and MRR@10, the share retained, and its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from exporter.measure.estimate import Estimate, ratio_of_means

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from exporter.pairs import PairSet


# Grades that labels with decimals are told apart by: the table of gains then costs no time.
_MAX_GAIN = 10_000


@dataclass(frozen=True, slots=True)
class Quality:
    """Ranking quality against labels, over the queries whose labels differ; `n_silent` others are left out.

    `ndcg_retained` is the candidate's mean nDCG@10 over the reference's, with its 95 % interval;
    `query_ndcgs` are the candidate's of each of these queries.
    """

    n_queries: int
    n_silent: int
    reference_ndcg: float
    candidate_ndcg: float
    reference_mrr: float
    candidate_mrr: float
    ndcg_retained: Estimate
    query_ndcgs: tuple[float, ...]


def quality(
    reference: NDArray[np.float32], candidate: NDArray[np.float32], pair_set: PairSet
) -> Quality | None:
    """Measure nDCG@10 and MRR@10 against labels, over the queries whose labels differ.

    Where all passages of a query have one label every order is as good, and a random one keeps all of nDCG.

    Args:
        reference: float32[n_pairs], raw logits of the PyTorch model.
        candidate: float32[n_pairs], raw logits of the exported model.
        pair_set: the pairs both scored.

    Returns:
        The measurement, or None where no query has labels that differ, or the reference ranks no relevant
        passage among the first ten.
    """
    if pair_set.labels is None or not pair_set.tellable.any():
        return None
    theirs = per_query(reference, pair_set)
    ours = per_query(lowest_if_not_finite(candidate), pair_set)
    if not theirs[:, 0].any():
        return None
    n_silent = len(pair_set.query_ids) - len(theirs)
    return Quality(
        n_queries=len(theirs),
        n_silent=n_silent,
        reference_ndcg=float(theirs[:, 0].mean()),
        candidate_ndcg=float(ours[:, 0].mean()),
        reference_mrr=float(theirs[:, 1].mean()),
        candidate_mrr=float(ours[:, 1].mean()),
        ndcg_retained=ratio_of_means(ours[:, 0], theirs[:, 0], n_silent),
        query_ndcgs=tuple(ours[:, 0].tolist()),
    )


def per_query(scores: NDArray[np.float32], pair_set: PairSet) -> NDArray[np.float64]:
    """Return float64[n_queries, 2]: nDCG@10 and reciprocal rank@10 of each query whose labels differ.

    nDCG's gain is the label itself, and its discount log2(rank + 1); relevant is what is labelled above 0.

    Args:
        scores: float32[n_pairs], finite.
        pair_set: pairs with labels.
    """
    import ir_measures
    from ir_measures import RR, nDCG

    labels = pair_set.labels
    assert labels is not None
    judged = set(np.flatnonzero(pair_set.tellable).tolist())
    rows = [i for i, query in enumerate(pair_set.query_of.tolist()) if query in judged]
    query = [str(q) for q in pair_set.query_of.tolist()]
    gains = whole_gains(labels).tolist()
    qrels = [ir_measures.Qrel(query[i], str(i), gains[i]) for i in rows]
    run = [ir_measures.ScoredDoc(query[i], str(i), float(scores[i])) for i in rows]
    table = {q: [0.0, 0.0] for q in sorted(map(str, judged), key=int)}
    for metric in ir_measures.iter_calc([nDCG @ 10, RR @ 10], qrels, run):
        table[metric.query_id][0 if metric.measure == nDCG @ 10 else 1] = metric.value
    return np.array(list(table.values()))


def whole_gains(labels: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return int64[n_pairs], labels times one factor that makes them whole, which changes no nDCG.

    trec_eval knows whole gains only, and keeps a table up to the largest. So where the factor would lead
    above `_MAX_GAIN`, labels become whole shares of the largest, and what is above 0 stays above 0.
    Source: https://github.com/usnistgov/trec_eval/blob/main/m_ndcg_cut.c
    """
    distinct = {label: Fraction(str(label)) for label in set(labels.tolist())}
    factor = math.lcm(*(label.denominator for label in distinct.values()))
    largest = max(distinct.values(), default=Fraction(0))
    if factor == 1 or largest * factor <= _MAX_GAIN:
        gains = {label: int(exact * factor) for label, exact in distinct.items()}
    else:
        gains = {
            label: max(round(exact / largest * _MAX_GAIN), int(exact > 0))
            for label, exact in distinct.items()
        }
    return np.array([gains[label] for label in labels.tolist()], np.int64)


def lowest_if_not_finite(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rank what is not finite last: a user's sort has to put it somewhere."""
    return np.where(np.isfinite(scores), scores, np.float32(np.finfo(np.float32).min))
