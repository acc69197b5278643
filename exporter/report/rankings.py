"""The queries that a candidate ranks worst: the reference's order and the candidate's side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from exporter.pairs import N_TOP

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from exporter.report.report import Report, VariantReport


# Rows of a ranking that are shown, and queries that are shown of each way to be bad.
N_RANKS = 20
N_QUERIES = 2
# By as much tau-b and nDCG of the same order may differ.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of a query, by its pair's number in the set (from 1), with its ranks (from 1) and scores.

    `candidate` is None where the score is not finite, `label` where the pairs have none.
    """

    number: int
    label: float | None
    reference: float
    candidate: float | None
    reference_rank: int
    candidate_rank: int

    @property
    def difference(self) -> float | None:
        """Candidate less reference, in logits; None where it is not finite."""
        return None if self.candidate is None else self.candidate - self.reference

    @property
    def rise(self) -> int:
        """By how many ranks the candidate has it higher than the reference."""
        return self.reference_rank - self.candidate_rank


@dataclass(frozen=True, slots=True)
class RankedQuery:
    """One query's passages as both sides rank them.

    Attributes:
        name: of the query.
        text: of the query, empty where the report has none.
        reasons: why it is shown.
        checks: names of the checks that it tells of.
        ranks: the passage of the reference and of the candidate at each rank, best first.
        n_more: further ranks, not shown.
        texts: of passages in `ranks`, by number, as far as the report has them.
    """

    name: str
    text: str
    reasons: tuple[str, ...]
    checks: frozenset[str]
    ranks: tuple[tuple[Passage, Passage], ...]
    n_more: int
    texts: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class _Query:
    """A query's pairs with both orders of them; `tau` is None where the reference tells no two apart."""

    index: int
    rows: NDArray[np.int64]
    by_reference: NDArray[np.int64]
    by_candidate: NDArray[np.int64]
    tau: float | None

    @property
    def differs(self) -> bool:
        """Whether the two sides order the passages differently."""
        return bool((self.by_reference != self.by_candidate).any())


class _Scores:
    """What rankings are made of, as arrays, float64[n_pairs]."""

    def __init__(self, report: Report, row: VariantReport) -> None:
        self.reference = np.array(report.reference.scores, np.float64)
        self.candidate = np.array(row.fidelity.scores, np.float64)
        self.query_of = np.array(report.pairs.query_of, np.int64)
        labels = report.pairs.labels
        self.labels = np.array(labels, np.float64) if labels else None
        self.n_queries = len(report.pairs.query_ids)

    @property
    def is_whole(self) -> bool:
        """Whether scores, labels and queries are of the same pairs; a published report has none of them."""
        n = len(self.query_of)
        lengths = {len(self.reference), len(self.candidate), n if self.labels is None else len(self.labels)}
        return n > 0 and lengths == {n} and 0 <= self.query_of.min() <= self.query_of.max() < self.n_queries

    def queries(self, taus: tuple[float, ...]) -> list[_Query]:
        """Return the queries of two passages or more, with both orders, as `measure.parity` ranks them."""
        order = np.argsort(self.query_of, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(self.query_of[order])) + 1)
        groups = [rows for rows in groups if len(rows) > 1]
        told_apart = [bool(np.ptp(self.reference[rows]) > 0) for rows in groups]
        known = iter(taus) if sum(told_apart) == len(taus) else iter(())
        found = []
        for rows, is_told_apart in zip(groups, told_apart, strict=True):
            theirs = self.reference[rows]
            ours = np.where(np.isfinite(self.candidate[rows]), self.candidate[rows], -np.inf)
            found.append(
                _Query(
                    int(self.query_of[rows[0]]),
                    rows,
                    rows[np.argsort(-theirs, kind="stable")],
                    # A tie the candidate makes is broken against it.
                    rows[np.lexsort((theirs, -ours))],
                    next(known, None) if is_told_apart else None,
                )
            )
        return found


def worst_queries(report: Report, row: VariantReport) -> list[RankedQuery]:
    """Return the queries that a variant ranks worst, by each check on rankings; none where it ranks alike.

    Empty too where the report has no scores, as a published one of private pairs.
    """
    scores = _Scores(report, row)
    if not scores.is_whole:
        return []
    queries = scores.queries(row.fidelity.parity.query_taus)
    by_index = {query.index: query for query in queries}
    reasons: dict[int, list[tuple[str, str]]] = {}
    for check, index, said in _picked(report, row, scores, queries):
        reasons.setdefault(index, []).append((check, said))
    texts = _texts(report, row)
    return [
        RankedQuery(
            name=(name := report.pairs.query_ids[index]),
            text=_query_text(row, name),
            reasons=tuple(said for _, said in found),
            checks=frozenset(check for check, _ in found),
            ranks=(ranks := _ranks(scores, by_index[index])),
            n_more=len(by_index[index].rows) - len(ranks),
            texts=tuple(
                (number, texts[number])
                for number in sorted({passage.number for rank in ranks for passage in rank})
                if number in texts
            ),
        )
        for index, found in reasons.items()
    ]


def _picked(
    report: Report, row: VariantReport, scores: _Scores, queries: list[_Query]
) -> Iterator[tuple[str, int, str]]:
    """Yield check, query and reason, the worst of each check first."""
    taus = ((query.tau, query.index) for query in queries if query.tau is not None)
    for tau, index in _least(taus, below=1 - _ROUNDING):
        yield "min_kendall_tau", index, f"tau-b {tau:.3f}"

    if (labels := scores.labels) is not None:
        gains = {query.index: _ndcgs(labels, query) for query in queries}
        for _, index in _least(((ours - theirs, i) for i, (theirs, ours) in gains.items()), below=-_ROUNDING):
            theirs, ours = gains[index]
            yield "min_ndcg_retained", index, f"nDCG@10 {theirs:.3f} → {ours:.3f}"

    for gap, index in _least(((_gap(scores, query), query.index) for query in queries), below=0):
        yield "min_top1_agreement", index, f"another first, {-gap:.2f} lower by the reference"

    kept = ((_n_kept(query), query.index) for query in queries if len(query.rows) > N_TOP)
    for n_kept, index in _least(kept, below=N_TOP):
        yield "min_top10_overlap", index, f"{n_kept} of the ten best kept"

    parity = row.fidelity.parity
    said = f"scores farthest off, relative RMS {parity.worst_query_relative_rms or 0:.2g}"
    for query in queries:
        if report.pairs.query_ids[query.index] == parity.farthest_query and query.differs:
            yield "worst_query_relative_rms", query.index, said
            break


def _least(found: Iterable[tuple[float, int]], below: float) -> list[tuple[float, int]]:
    """Return the least values with their queries, as far as they are below a limit."""
    return sorted(one for one in found if one[0] < below)[:N_QUERIES]


def _gap(scores: _Scores, query: _Query) -> float:
    """Return how far below the reference's first passage it scores the candidate's, at most 0."""
    return float(scores.reference[query.by_candidate[0]] - scores.reference[query.by_reference[0]])


def _n_kept(query: _Query) -> int:
    return len(set(query.by_reference[:N_TOP].tolist()) & set(query.by_candidate[:N_TOP].tolist()))


def _ndcgs(labels: NDArray[np.float64], query: _Query) -> tuple[float, float]:
    """Return nDCG@10 of the reference's order and of the candidate's, gain being the label itself.

    Source: https://ir-measur.es/en/latest/measures.html#ndcg
    """
    discounts = 1 / np.log2(np.arange(2, N_TOP + 2))

    def dcg(ordered: NDArray[np.float64]) -> float:
        best = ordered[:N_TOP]
        return float((best * discounts[: len(best)]).sum())

    ideal = dcg(np.sort(labels[query.rows])[::-1])
    if not ideal > 0:
        return 0.0, 0.0
    return dcg(labels[query.by_reference]) / ideal, dcg(labels[query.by_candidate]) / ideal


def _ranks(scores: _Scores, query: _Query) -> tuple[tuple[Passage, Passage], ...]:
    theirs = {int(i): rank for rank, i in enumerate(query.by_reference, 1)}
    ours = {int(i): rank for rank, i in enumerate(query.by_candidate, 1)}

    def passage(i: int) -> Passage:
        score = float(scores.candidate[i])
        return Passage(
            number=i + 1,
            label=None if scores.labels is None else float(scores.labels[i]),
            reference=float(scores.reference[i]),
            candidate=score if np.isfinite(score) else None,
            reference_rank=theirs[i],
            candidate_rank=ours[i],
        )

    both = zip(query.by_reference[:N_RANKS].tolist(), query.by_candidate[:N_RANKS].tolist(), strict=True)
    return tuple((passage(one), passage(other)) for one, other in both)


def _texts(report: Report, row: VariantReport) -> dict[int, str]:
    """Return the passages that a report has the text of, by their pair's number."""
    found: dict[int, str] = {}
    for one in (row, *report.variants):
        worst = (bucket.worst for bucket in one.fidelity.lengths)
        for pair in (*one.fidelity.worst_pairs, *worst):
            if pair is not None and pair.position is not None:
                found.setdefault(pair.position + 1, pair.passage)
    return found


def _query_text(row: VariantReport, name: str) -> str:
    """Return a query's text, from wherever the report has it."""
    if name == row.fidelity.parity.worst_query:
        return row.fidelity.worst_query
    pairs = (*row.fidelity.worst_pairs, *(bucket.worst for bucket in row.fidelity.lengths))
    return next((pair.query for pair in pairs if pair is not None and pair.query_id == name), "")
