"""Notes on a reference that may rank nothing: said where it is so, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from exporter.measure.doubt import doubts
from tests.factories import a_pair_set

if TYPE_CHECKING:
    from numpy.typing import NDArray

LABELS = [1.0, 0.0, 0.0, 0.0] * 20


def scores_of(base: float, step: float, labels: list[float]) -> NDArray[np.float32]:
    """Return scores that rank what is labelled first, `step` above the rest, which differ too."""
    jitter = np.tile([0.0, 0.1, -0.1, 0.2], len(labels) // 4)
    return (base + step * (np.array(labels) + jitter)).astype(np.float32)


@pytest.mark.parametrize(("base", "step"), [(0.0, 1.0), (5.0, 1.0), (0.0, 1e-6)])
def test_none_where_it_ranks(base: float, step: float) -> None:
    """Scores that follow the labels, at any scale and however small, give no note."""
    assert doubts(scores_of(base, step, LABELS), a_pair_set((4,) * 20, LABELS)) == ()


def test_scores_that_hardly_differ() -> None:
    """Of 0.311, 0.0017 times sqrt(0.175) is less than bfloat16 tells: its steps there are 0.001."""
    (note,) = doubts(scores_of(0.31, 0.0017, LABELS), a_pair_set((4,) * 20, LABELS))
    assert "hardly tells" in note
    assert "about 0.311 " in note
    assert "of 0.00071, " in note


def test_no_better_than_chance() -> None:
    """Scores that know nothing of the labels are no better than a random order, and the note has both."""
    scores = np.random.default_rng(7).random(80, np.float32)
    (note,) = doubts(scores, a_pair_set((4,) * 20, LABELS))
    assert "better than chance: nDCG@10 0." in note
    assert "20 queries" in note


@pytest.mark.parametrize("labels", [None, [1.0] * 80])
def test_labels_that_cannot_tell(labels: list[float] | None) -> None:
    """Without labels that differ, nothing is said of chance; whether scores differ is still looked at."""
    pair_set = a_pair_set((4,) * 20, labels)
    assert doubts(scores_of(0.0, 1.0, LABELS), pair_set) == ()
    assert len(doubts(scores_of(1.0, 1e-5, LABELS), pair_set)) == 1
    assert doubts(np.zeros(80, np.float32), a_pair_set((1,) * 80, None)) == ()
