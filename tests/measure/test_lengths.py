"""What averages hide, on numbers made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.measure.lengths import bucket_names, by_length, positions_by_length
from tests.factories import a_pair_set


@pytest.mark.parametrize(
    ("n_tokens", "max_length", "name"),
    [
        (1, 512, "1 to 64"),
        (64, 512, "1 to 64"),
        (65, 512, "65 to 128"),
        (512, 512, "257 to 512"),
        (513, 512, "truncated"),
        (100, 100, "65 to 100"),
        (101, 100, "truncated"),
        (40, 40, "1 to 40"),
    ],
)
def test_bucket_by_hand(n_tokens: int, max_length: int, name: str) -> None:
    """A bucket holds its upper end; what is longer than the model reads has one of its own."""
    assert bucket_names(np.array([n_tokens]), max_length) == [name]


def test_lengths_by_hand() -> None:
    """A length that is off by one logit shows beside one that is right, though the average does not tell."""
    reference = np.array([2.0, -2.0, 2.0, -2.0], np.float32)  # a standard deviation of 2
    candidate = np.array([2.0, -2.0, 1.0, -1.0], np.float32)
    short, long = by_length(reference, candidate, np.array([10, 20, 513, 513]), 512, a_pair_set((2, 2)))
    assert (short.name, short.n_pairs, short.relative_rms) == ("1 to 64", 2, 0.0)
    assert (long.name, long.n_pairs, long.max_abs_diff, long.relative_rms) == ("truncated", 2, 1.0, 0.5)
    assert (long.worst.position, long.worst.query_id, long.worst.reference, long.worst.candidate) == (
        2,
        "b",
        2.0,
        1.0,
    )


def test_lengths_leave_out_what_is_not_finite() -> None:
    """NaN is counted elsewhere; a length of which nothing is finite has no numbers."""
    reference, candidate = np.array([1.0, 0.0], np.float32), np.array([1.0, np.nan], np.float32)
    found = by_length(reference, candidate, np.array([10, 100]), 512, a_pair_set((2,)))
    assert [bucket.name for bucket in found] == ["1 to 64"]


def test_positions_by_length_by_hand() -> None:
    """The shortest bucket first, in it the shortest pair; equals keep their order."""
    found = positions_by_length(np.array([513, 70, 10, 10, 65]), 512)
    assert found == {"1 to 64": [2, 3], "65 to 128": [4, 1], "truncated": [0]}
    assert list(found) == ["1 to 64", "65 to 128", "truncated"]
