"""nDCG of labels with decimals: trec_eval's whole gains, without a change of what is measured."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.measure.quality import per_query, whole_gains
from tests.factories import a_pair_set


def measured(labels: list[float], scores: list[float]) -> list[float]:
    """Return nDCG@10 and reciprocal rank of one query."""
    pair_set = a_pair_set((len(labels),), labels)
    return per_query(np.array(scores, np.float32), pair_set)[0].tolist()


def test_decimals_by_hand() -> None:
    """Of 0.75, 0 and 0.25 ranked as 0.25, 0.75, 0: (0.25 + 0.75 / log2 3) / (0.75 + 0.25 / log2 3)."""
    ndcg, rank = measured([0.75, 0, 0.25], [2, 1, 3])
    assert ndcg == pytest.approx((0.25 + 0.75 / math.log2(3)) / (0.75 + 0.25 / math.log2(3)))
    assert ndcg == pytest.approx(0.7967, abs=1e-4)
    assert rank == 1


def test_whatever_is_above_0_is_relevant() -> None:
    """The reciprocal rank counts a label of 0.01 as relevant, and 0 not."""
    assert measured([0, 0.01], [2, 1])[1] == 0.5
    assert measured([1000, 1e-9, 0], [1, 2, 3])[1] == 0.5


@pytest.mark.parametrize(
    ("labels", "gains"),
    [
        ([2, 0, 1], [2, 0, 1]),
        ([0.75, 0.5, 0], [3, 2, 0]),
        ([0.1, 0.2, 0.3], [1, 2, 3]),
        ([1000, 0.1, 0], [10_000, 1, 0]),
        ([1000, 0.01, 0], [10_000, 1, 0]),  # above the largest gain: shares of it, and never 0
        ([1 / 3, 1, 0], [3333, 10_000, 0]),
        ([0, 0], [0, 0]),
        ([1000, 1], [1000, 1]),
    ],
)
def test_whole_gains(labels: list[float], gains: list[int]) -> None:
    """Whole labels stay; decimals become whole by one factor, or shares of the largest."""
    assert whole_gains(np.array(labels, np.float64)).tolist() == gains


@given(st.lists(st.floats(0, 1000), min_size=2, max_size=12), st.randoms())
def test_ndcg_law(labels: list[float], order: object) -> None:
    """Any labels give the nDCG of its formula, to what shares of 1/10,000 leave."""
    labels = [*labels, 0.0, 1.0]
    scores = list(range(len(labels)))
    order.shuffle(scores)  # type: ignore[attr-defined] # hypothesis draws a Random

    def dcg(ranked: list[float]) -> float:
        return sum(label / math.log2(rank + 1) for rank, label in enumerate(ranked[:10], 1))

    ranked = [label for _, label in sorted(zip(scores, labels, strict=True), reverse=True)]
    exact = dcg(ranked) / dcg(sorted(labels, reverse=True))
    assert measured(labels, [float(score) for score in scores])[0] == pytest.approx(exact, abs=1e-3)
