"""Estimates over queries: numbers to check by hand, and the laws that any interval keeps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap

from exporter.measure.estimate import (
    Estimate,
    mean_of,
    queries_needed,
    ratio_of_means,
    share_of,
    share_unseen,
)


def ones(n: int) -> np.ndarray:
    """Return n queries ranked perfectly."""
    return np.ones(n)


@pytest.mark.parametrize(("n", "clears"), [(1, False), (298, False), (299, True), (300, True)])
def test_lossless_clears_99_percent_from_299_queries_on(n: int, *, clears: bool) -> None:
    """0.05^(1/299) is 0.99003: of one query less, a hundredth of all may still be lost."""
    found = ratio_of_means(ones(n), ones(n))
    assert found.value == 1
    assert found.low == pytest.approx(0.05 ** (1 / n))
    assert (found.low >= 0.99) == clears


def test_one_harmless_difference_turns_nothing() -> None:
    """A candidate that ranks one of 300 queries a little better, or worse, shows no more and hardly less."""
    better, worse = ones(300) * 0.9, ones(300) * 0.9
    better[0], worse[0] = 0.95, 0.89
    reference = ones(300) * 0.9
    lossless = ratio_of_means(reference, reference)
    assert ratio_of_means(better, reference).low == lossless.low
    assert ratio_of_means(worse, reference).low == lossless.low


def test_a_loss_on_few_queries_is_not_known_either() -> None:
    """On two queries that lose alike the true loss may be none: the upper end says so."""
    found = ratio_of_means(ones(2) * 0.98, ones(2))
    assert found.high == pytest.approx(0.98 * math.sqrt(0.05) + 1 - math.sqrt(0.05))
    assert found.high > 0.99


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(0.1, 1), st.floats(0.1, 1)), min_size=1, max_size=60))
def test_interval_holds_the_value(values: list[tuple[float, float]]) -> None:
    """The ends are in order about the value, and no lower end is above what n queries can show."""
    candidate, reference = np.array(values).T
    found = ratio_of_means(candidate, reference)
    assert found.low <= found.value + 1e-12
    assert found.value <= found.high + 1e-12
    assert found.low <= 0.05 ** (1 / len(values))


def test_interval_is_the_bootstrap_of_scipy() -> None:
    """Where the sample is large enough the interval is the percentile bootstrap's, as scipy has it."""
    rng = np.random.default_rng(7)
    reference, candidate = rng.uniform(0.3, 1, 400), rng.uniform(0.2, 0.9, 400)

    def ratio(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(a.mean(axis=axis) / b.mean(axis=axis))

    theirs = bootstrap(
        (candidate, reference), ratio, paired=True, method="percentile", n_resamples=9_999, rng=rng
    ).confidence_interval
    ours = ratio_of_means(candidate, reference)
    assert ours.low == pytest.approx(theirs.low, abs=0.002)
    assert ours.high == pytest.approx(theirs.high, abs=0.002)


def test_parts_of_resamples_do_not_matter() -> None:
    """A set too large for its resamples to be held at once has an interval of the usual width.

    Of n values with standard deviation s the mean's 95 % interval is about 3.92 s / sqrt(n) wide.
    """
    values = np.random.default_rng(3).uniform(0, 1, 2_000)
    found = mean_of(values)
    assert found.high - found.low == pytest.approx(3.92 * values.std() / math.sqrt(2_000), rel=0.05)


def test_mean_of_equal_values() -> None:
    """Values that are all equal give that value, and no interval."""
    assert mean_of(np.full(5, 0.5), 2) == Estimate(0.5, 0.5, 0.5, 5, 2)


@pytest.mark.parametrize(
    ("n_hits", "n", "low", "high"),
    [
        (300, 300, 0.05 ** (1 / 300), 1),
        (598, 598, 0.05 ** (1 / 598), 1),
        (0, 10, 0, 1 - 0.05 ** (1 / 10)),
        (1, 2, 1 - math.sqrt(0.95), math.sqrt(0.95)),
    ],
)
def test_share_is_exact(n_hits: int, n: int, low: float, high: float) -> None:
    """Each end is where one would see so many hits, or more, or fewer, in one of twenty samples."""
    found = share_of(n_hits, n)
    assert found.value == n_hits / n
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize(
    "function", [lambda: mean_of(np.array([])), lambda: ratio_of_means(ones(0), ones(0))]
)
def test_no_queries(function: object) -> None:
    """Nothing can be estimated of nothing."""
    assert callable(function)
    with pytest.raises(ValueError, match="needs a query"):
        function()


@pytest.mark.parametrize(
    ("found", "bar", "counts_unseen", "needed"),
    [
        # 0.02 below the estimate and may be 0.01: half as far takes four times the queries.
        (Estimate(0.98, 0.96, 1.0, 50), 0.97, False, 200),
        # The same on the other side.
        (Estimate(0.98, 0.96, 1.0, 50), 0.99, False, 200),
        # Nothing lost so far: ln 0.05 / ln 0.99 = 298.07.
        (Estimate(1.0, 0.05 ** (1 / 50), 1.0, 50), 0.99, True, 299),
        # What was never seen takes more than the width.
        (Estimate(1.0, 0.9, 1.0, 5), 0.9, True, 29),
        # A whole cannot be shown, nor on which side of itself an estimate lies.
        (Estimate(1.0, 0.99, 1.0, 300), 1.0, True, None),
        (Estimate(0.99, 0.98, 1.0, 300), 0.99, True, None),
        (Estimate(0.99000001, 0.98, 1.0, 300), 0.99, False, None),
    ],
)
def test_queries_needed(found: Estimate, bar: float, *, counts_unseen: bool, needed: int | None) -> None:
    """How many queries would tell, or that no number would."""
    assert queries_needed(found, bar, counts_unseen=counts_unseen) == needed


def test_rule_of_three() -> None:
    """None of 3,000 leaves one in a thousand; of two there is nothing one could say."""
    assert share_unseen(3_000) == 0.001
    assert share_unseen(2) == 1
