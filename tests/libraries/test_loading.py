"""Batches of pairs."""

from __future__ import annotations

import pytest

from exporter.libraries.loading import batches, query_batches

PAIRS = (("a", "1"), ("a", "2"), ("a", "3"), ("b", "4"))


@pytest.mark.parametrize(
    ("n_pairs", "batch", "found"),
    [(5, 2, [[0, 1], [2, 3], [4]]), (3, None, [[0, 1, 2]]), (3, 9, [[0, 1, 2]]), (0, 2, []), (0, None, [])],
)
def test_batches(n_pairs: int, batch: int | None, found: list[list[int]]) -> None:
    """Positions come in order, at most a batch at a time, or all at once."""
    assert [list(rows) for rows in batches(n_pairs, batch)] == found


def test_a_query_a_batch() -> None:
    """Candidates of one query stand together."""
    assert [(query, list(rows)) for query, rows in query_batches(PAIRS, None)] == [
        ("a", [0, 1, 2]),
        ("b", [3]),
    ]


def test_part_of_a_query_a_batch() -> None:
    """A query with more candidates than a batch holds comes in parts, never with another query's."""
    assert [(query, list(rows)) for query, rows in query_batches(PAIRS, 2)] == [
        ("a", [0, 1]),
        ("a", [2]),
        ("b", [3]),
    ]
