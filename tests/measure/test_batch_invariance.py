"""How scores change with the batch, on scores made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.measure.batch_invariance import batch_invariance, compositions
from tests.factories import a_pair_set

# Three passages of one query and two of another, of rising score.
PAIRS = a_pair_set((3, 2))
ALONE = np.array([0.0, 1.0, 2.0, 10.0, 11.0], np.float32)
ONE_BATCH = ((0, 1, 2, 3, 4),)


def test_scores_that_do_not_change() -> None:
    """A pair that scores the same in every batch has no difference, and no order is reversed."""
    found = batch_invariance(ALONE, [(ONE_BATCH, ALONE)] * 3, PAIRS)
    assert (found.n_pairs, found.p99_delta, found.max_delta, found.relative_rms) == (5, 0.0, 0.0, 0.0)
    # Three compositions; three orders of three passages, one of two.
    assert (found.n_pairs_ordered, found.n_inversions) == (3 * (3 + 1), 0)


def test_by_hand() -> None:
    """One batch moves the second pair by 1.5: above the third, whose order with it is reversed; nothing else is."""
    batched = ALONE + np.array([0.0, 1.5, 0.0, 0.0, 0.0], np.float32)
    found = batch_invariance(ALONE, [(ONE_BATCH, batched)], PAIRS)
    assert found.max_delta == 1.5
    assert (found.n_pairs_ordered, found.n_inversions) == (4, 1)
    # Over five differences and one zero that stands for an empty set: sqrt(1.5^2 / 6) over the standard deviation.
    assert found.relative_rms == pytest.approx(np.sqrt(2.25 / 6) / ALONE.std())


def test_ties_count_as_inversions_where_there_was_an_order() -> None:
    """Two passages told apart alone and tied when batched have lost their order; a tie alone has none to lose."""
    tied = np.array([1.0, 1.0, 2.0, 10.0, 11.0], np.float32)
    assert batch_invariance(ALONE, [(ONE_BATCH, tied)], PAIRS).n_inversions == 1
    found = batch_invariance(tied, [(ONE_BATCH, ALONE)], PAIRS)
    assert (found.n_pairs_ordered, found.n_inversions) == (3, 0)


def test_order_of_the_batches() -> None:
    """Scores come batch after batch; they are put back to the pairs they belong to."""
    composition = ((4, 0), (3, 1, 2))
    scores = ALONE[[4, 0, 3, 1, 2]]
    assert batch_invariance(ALONE, [(composition, scores)], PAIRS).max_delta == 0.0


def test_what_is_not_finite_is_left_out() -> None:
    """NaN is counted elsewhere."""
    batched = np.array([np.nan, 1.0, 2.0, 10.0, 11.25], np.float32)
    assert batch_invariance(ALONE, [(ONE_BATCH, batched)], PAIRS).max_delta == 0.25


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(1, 8))
def test_every_composition_holds_every_pair(sizes: list[int], n_batch: int) -> None:
    """Each pair is in every composition, no batch is larger than asked for by more than the longest pair."""
    pair_set = a_pair_set(sizes)
    for composition in compositions(pair_set, n_batch):
        assert {i for batch in composition for i in batch} == set(range(len(pair_set.pairs)))
        assert all(len(batch) <= n_batch + 1 for batch in composition)
