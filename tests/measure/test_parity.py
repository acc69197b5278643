"""Parity and quality: hand-made numbers, and the laws any comparison keeps."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.measure.parity import compare, tells_apart
from exporter.measure.quality import quality
from tests.factories import a_pair_set

SIZES = (4, 3, 2)
N = sum(SIZES)
PAIRS = a_pair_set(SIZES)
LABELLED = a_pair_set(SIZES, [2, 0, 1, 0, 0, 1, 0, 1, 0])


def scores(*values: float) -> np.ndarray:
    """Give float32 scores."""
    return np.array(values, np.float32)


# Whole numbers, so that doubling and cubing are exact in float32; each query has two scores that differ.
SCORES = st.lists(st.integers(-50, 50), min_size=N, max_size=N).map(lambda xs: scores(*xs))
RANKED = SCORES.filter(lambda s: all(np.ptp(s[PAIRS.query_of == q]) > 0 for q in range(len(SIZES))))
ANY_FLOATS = st.lists(st.floats(-30, 30, width=32, allow_subnormal=False), min_size=N, max_size=N).map(
    lambda xs: scores(*xs)
)


# --- the laws of compare ---


@given(RANKED | ANY_FLOATS.filter(lambda s: np.ptp(s[:4]) > 0))
def test_itself_is_perfect(reference: np.ndarray) -> None:
    """A vector compared with itself differs in nothing and ranks alike."""
    parity = compare(reference, reference.copy(), PAIRS)
    assert (parity.max_abs_diff, parity.p99_abs_diff, parity.mean_abs_diff, parity.n_nonfinite) == (
        0,
        0,
        0,
        0,
    )
    assert parity.kendall_tau.value == pytest.approx(1)
    assert parity.worst_query_tau == pytest.approx(1)
    assert parity.top1_agreement.value == 1
    assert parity.top10_overlap is None
    assert parity.pearson == pytest.approx(1)


@given(RANKED, st.sampled_from([lambda x: 2 * x, lambda x: x + 7, lambda x: x**3, lambda x: x / 4 - 1]))
def test_monotone_change_keeps_the_order(reference: np.ndarray, change: object) -> None:
    """A change that keeps the order of scores costs nothing in ranking, however large it is in logits."""
    assert callable(change)
    parity = compare(reference, change(reference).astype(np.float32), PAIRS)
    assert parity.kendall_tau.value == pytest.approx(1)
    assert parity.top1_agreement.value == 1


@given(RANKED, st.integers(-20, 20))
def test_shift_is_the_difference(reference: np.ndarray, shift: int) -> None:
    """Adding a number to every score makes every difference that number."""
    parity = compare(reference, reference + np.float32(shift), PAIRS)
    assert parity.max_abs_diff == parity.mean_abs_diff == parity.p99_abs_diff == abs(shift)
    assert parity.pearson == pytest.approx(1)


@given(RANKED)
def test_reversed_is_the_opposite(reference: np.ndarray) -> None:
    """Scores with their sign turned rank the other way round."""
    parity = compare(reference, -reference, PAIRS)
    assert parity.kendall_tau.value == pytest.approx(-1)
    assert parity.pearson == pytest.approx(-1)


@given(RANKED, RANKED)
def test_ranges(reference: np.ndarray, candidate: np.ndarray) -> None:
    """Shares are shares, tau lies within one of zero, and the worst query is no better than the mean."""
    parity = compare(reference, candidate, PAIRS)
    assert 0 <= parity.top1_agreement.value <= 1
    assert -1 <= parity.worst_query_tau <= parity.kendall_tau.value + 1e-12
    assert parity.mean_abs_diff <= parity.max_abs_diff
    assert parity.p99_abs_diff <= parity.max_abs_diff


BROKEN = st.lists(
    st.floats(-1e6, 1e6, width=32) | st.sampled_from([math.nan, math.inf, -math.inf]), min_size=N, max_size=N
)


@given(RANKED, BROKEN.map(lambda xs: scores(*xs)))
def test_every_number_is_a_number(reference: np.ndarray, candidate: np.ndarray) -> None:
    """However broken a candidate is, what is measured of it can be written, shown and held against a bar."""
    parity = compare(reference, candidate, PAIRS)
    found = dataclasses.asdict(parity)
    values = [*found["kendall_tau"].values(), *found["top1_agreement"].values(), *found["query_taus"]]
    values += [value for value in found.values() if isinstance(value, int | float)]
    assert all(math.isfinite(value) for value in values), parity
    assert parity.n_nonfinite == sum(not math.isfinite(score) for score in candidate)


@given(RANKED, RANKED, st.randoms())
def test_order_of_rows_does_not_matter(reference: np.ndarray, candidate: np.ndarray, random: object) -> None:
    """Queries may stand in the file in any order, rows of one apart from each other."""
    rows = list(range(N))
    random.shuffle(rows)  # type: ignore[attr-defined] # hypothesis draws a Random
    shuffled = a_pair_set(SIZES)
    shuffled.query_of[:] = PAIRS.query_of[rows]
    there = compare(reference[rows], candidate[rows], shuffled)
    here = compare(reference, candidate, PAIRS)
    assert there.kendall_tau.value == pytest.approx(here.kendall_tau.value)
    assert there.max_abs_diff == here.max_abs_diff
    assert there.mean_abs_diff == pytest.approx(here.mean_abs_diff)


# --- compare, by hand ---


def test_by_hand() -> None:
    """Query a: 2 of 3 passage pairs ranked alike, tau 1/3; query b: turned round, tau -1."""
    parity = compare(scores(3, 2, 1, 1, 2), scores(3, 1, 2, 2, 1), a_pair_set((3, 2)))
    assert (parity.n_pairs, parity.n_queries) == (5, 2)
    assert parity.kendall_tau.value == pytest.approx((1 / 3 - 1) / 2)
    assert (parity.worst_query, parity.worst_query_tau) == ("b", pytest.approx(-1))
    assert parity.top1_agreement.value == 0.5
    assert parity.max_abs_diff == 1
    assert parity.mean_abs_diff == pytest.approx(4 / 5)


def test_tau_b_counts_ties() -> None:
    """Three passages, two tied by the candidate: 2 of 3 pairs ordered alike, tau-b 2 / sqrt(3 * 2)."""
    parity = compare(scores(3, 2, 1), scores(3, 1, 1), a_pair_set((3,)))
    assert parity.kendall_tau.value == pytest.approx(2 / math.sqrt(6))


def test_top10_is_of_ten() -> None:
    """Of eleven passages the tenth and eleventh change places: nine of ten are kept, the first too."""
    reference = scores(*range(11, 0, -1))
    candidate = reference.copy()
    candidate[[9, 10]] = candidate[[10, 9]]
    parity = compare(reference, candidate, a_pair_set((11,)))
    assert parity.top10_overlap is not None
    assert parity.top10_overlap.value == 0.9
    assert parity.top1_agreement.value == 1


def test_queries_without_an_order_do_not_count() -> None:
    """A query of one passage, or of tied ones, says nothing on ranking; its scores still count."""
    parity = compare(scores(1, 5, 5, 2, 1), scores(1, 5, 9, 2, 1), a_pair_set((1, 2, 2)))
    assert parity.n_queries == 1
    assert parity.kendall_tau.value == pytest.approx(1)
    assert parity.max_abs_diff == 4


def test_single_outlier_shows_in_the_maximum() -> None:
    """One pair of a hundred off by 8: the largest difference is 8, the mean 0.08."""
    reference = scores(*range(100))
    candidate = reference.copy()
    candidate[99] += 8
    parity = compare(reference, candidate, a_pair_set((50, 50)))
    assert parity.max_abs_diff == 8
    assert parity.mean_abs_diff == pytest.approx(0.08)
    assert parity.kendall_tau.value == pytest.approx(1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nonfinite_is_counted_and_ranked_last(bad: float) -> None:
    """A score that is not finite is counted and costs its passage its rank; others' differences stand."""
    parity = compare(scores(3, 2, 1, 2, 1), scores(bad, 2, 1.5, 2, 1), a_pair_set((3, 2)))
    assert parity.n_nonfinite == 1
    assert parity.max_abs_diff == 0.5
    assert parity.top1_agreement.value == 0.5
    assert parity.kendall_tau.value == pytest.approx((-1 / 3 + 1) / 2)


def test_nothing_finite() -> None:
    """A candidate that gives no finite score at all agrees in nothing, and every number is still a number."""
    parity = compare(scores(3, 2, 1, 2, 1), scores(*[math.nan] * 5), a_pair_set((3, 2)))
    assert parity.n_nonfinite == 5
    assert parity.kendall_tau.value == 0
    assert parity.pearson == 0
    assert parity.top1_agreement.value == 0


def test_constant_candidate_agrees_in_nothing() -> None:
    """A model that gives every passage one score ranks nothing, though the best happens to come first."""
    parity = compare(scores(3, 2, 1, 2, 1), scores(*[0.5] * 5), a_pair_set((3, 2)))
    assert parity.kendall_tau.value == 0
    assert parity.pearson == 0
    assert parity.top1_agreement.value == 0


@pytest.mark.parametrize(("n_reference", "n_candidate"), [(4, 5), (5, 4), (6, 6), (0, 0)])
def test_lengths_must_fit(n_reference: int, n_candidate: int) -> None:
    """Scores of other pairs cannot be compared."""
    with pytest.raises(ValueError, match="scores for 5 pairs"):
        compare(scores(*range(n_reference)), scores(*range(n_candidate)), a_pair_set((3, 2)))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_reference_must_be_finite(bad: float) -> None:
    """There is nothing to compare with a reference that is broken itself."""
    with pytest.raises(ValueError, match="not finite"):
        compare(scores(bad, 2, 1, 2, 1), scores(3, 2, 1, 2, 1), a_pair_set((3, 2)))


def test_reference_must_rank() -> None:
    """A reference that ties all passages gives no ranking to keep."""
    assert not tells_apart(scores(1, 1, 1, 2, 2), a_pair_set((3, 2)))
    assert tells_apart(scores(1, 1, 1, 2, 3), a_pair_set((3, 2)))
    with pytest.raises(ValueError, match="no ranking to compare"):
        compare(scores(1, 1, 1, 2, 2), scores(3, 2, 1, 2, 1), a_pair_set((3, 2)))


# --- quality ---


@settings(max_examples=20)
@given(RANKED)
def test_itself_keeps_all_quality(reference: np.ndarray) -> None:
    """A vector compared with itself keeps everything, without any doubt."""
    found = quality(reference, reference.copy(), LABELLED)
    assert found is not None
    share = found.ndcg_retained
    assert share.low < share.value == 1 <= share.high
    assert found.reference_ndcg == found.candidate_ndcg
    assert found.reference_mrr == found.candidate_mrr


@settings(max_examples=10)
@given(RANKED, RANKED)
def test_quality_ranges(reference: np.ndarray, candidate: np.ndarray) -> None:
    """Both nDCG and MRR are shares, and the interval has its ends in order."""
    found = quality(reference, candidate, LABELLED)
    assert found is not None
    for share in (found.reference_ndcg, found.candidate_ndcg, found.reference_mrr, found.candidate_mrr):
        assert 0 <= share <= 1
    share = found.ndcg_retained
    assert 0 < share.low <= share.value <= share.high
    assert share.value == pytest.approx(found.candidate_ndcg / found.reference_ndcg)


def test_quality_by_hand() -> None:
    """The relevant of two passages second, not first, on one of two queries: nDCG 1 / log2(3), MRR 1/2."""
    found = quality(scores(2, 1, 2, 1), scores(2, 1, 1, 2), a_pair_set((2, 2), [1, 0, 1, 0]))
    assert found is not None
    assert found.n_queries == 2
    assert (found.reference_ndcg, found.reference_mrr) == (1, 1)
    assert found.candidate_ndcg == pytest.approx((1 + 1 / math.log2(3)) / 2)
    assert found.candidate_mrr == pytest.approx((1 + 1 / 2) / 2)
    assert found.ndcg_retained.value == pytest.approx(found.candidate_ndcg)
    # Resampling two queries gives twice the good one, twice the bad one, or one of each; but two queries
    # cannot have shown more than 0.05^(1/2).
    assert found.ndcg_retained.low == pytest.approx(math.sqrt(0.05))
    assert found.ndcg_retained.high == pytest.approx(1)


def test_quality_is_the_same_every_time() -> None:
    """The interval does not change from call to call."""
    candidate = scores(1, 2, 3, 4, 1, 2, 3, 1, 2)
    reference = scores(4, 3, 2, 1, 3, 2, 1, 2, 1)
    assert quality(reference, candidate, LABELLED) == quality(reference, candidate, LABELLED)


def test_quality_needs_labels() -> None:
    """Without labels there is no quality to measure."""
    assert quality(scores(2, 1), scores(2, 1), a_pair_set((2,))) is None


def test_queries_without_a_relevant_passage_do_not_count() -> None:
    """Only queries for which something could be found are judged."""
    found = quality(
        scores(2, 1, 2, 1, 2, 1), scores(2, 1, 1, 2, 2, 1), a_pair_set((2, 2, 2), [1, 0, 0, 0, 1, 0])
    )
    assert found is not None
    assert (found.n_queries, found.n_silent) == (2, 1)
    assert found.ndcg_retained.value == 1


@pytest.mark.parametrize("labels", [[1, 1, 1, 1], [0, 0, 0, 0], [2, 2, 1, 1]])
def test_labels_that_are_all_alike_tell_nothing(labels: list[int]) -> None:
    """Where a query's labels are all alike any order is as good: there is nothing to measure."""
    assert quality(scores(2, 1, 2, 1), scores(1, 2, 1, 2), a_pair_set((2, 2), labels)) is None


def test_top10_of_ten_tells_nothing() -> None:
    """Of ten passages every ranking has the same ten best; only the query of eleven is compared."""
    reference, candidate = scores(*range(21)), scores(*range(20, -1, -1))
    parity = compare(reference, candidate, a_pair_set((10, 11)))
    assert parity.top10_overlap is not None
    assert (parity.top10_overlap.n_queries, parity.top10_overlap.n_silent) == (1, 1)
    assert parity.top10_overlap.value == 0.9


def test_copies_of_the_best_passage_are_as_good() -> None:
    """Where the reference has two passages first in a tie, a candidate may choose either."""
    parity = compare(scores(5, 5, 1), scores(4, 6, 1), a_pair_set((3,)))
    assert parity.top1_agreement.value == 1
    assert compare(scores(5, 5, 1), scores(4, 4, 9), a_pair_set((3,))).top1_agreement.value == 0


def test_a_query_of_few_pairs_has_no_root_mean_square() -> None:
    """A query of seven pairs is not named as farthest, however far it is; one of eight is."""
    reference = scores(*range(15))
    candidate = reference + scores(*[9] * 7, *[1] * 8)
    parity = compare(reference, candidate, a_pair_set((7, 8)))
    assert parity.farthest_query == "b"
    assert parity.worst_query_relative_rms == pytest.approx(1 / reference.std())
    assert compare(reference[:7], candidate[:7], a_pair_set((7,))).worst_query_relative_rms is None


def test_better_than_the_reference() -> None:
    """A candidate may rank better than the reference; the share kept is then above one."""
    found = quality(scores(1, 2, 1, 2), scores(2, 1, 2, 1), a_pair_set((2, 2), [1, 0, 1, 0]))
    assert found is not None
    assert found.ndcg_retained.value == pytest.approx(math.log2(3))


def test_nonfinite_costs_quality() -> None:
    """A relevant passage whose score is not finite is ranked last."""
    found = quality(
        scores(3, 2, 1, 3, 2, 1),
        scores(math.nan, 2, 1, math.inf, 2, 1),
        a_pair_set((3, 3), [1, 0, 0, 1, 0, 0]),
    )
    assert found is not None
    assert found.candidate_mrr == pytest.approx(1 / 3)
    assert found.candidate_ndcg == pytest.approx(1 / 2)  # 1 / log2(1 + 3)


def test_single_judged_query() -> None:
    """One query with labels is measured, and its interval says how little it shows."""
    found = quality(scores(2, 1, 2, 1), scores(2, 1, 1, 2), a_pair_set((2, 2), [1, 0, 0, 0]))
    assert found is not None
    assert (found.ndcg_retained.value, found.ndcg_retained.low) == (1, pytest.approx(0.05))
