"""What a sample of queries says about all queries: an estimate, its interval, and how many more would tell.

The intervals are computed where something is measured and kept in the report, so that judging a report needs
no statistics library.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

# Resamples of a bootstrap: the interval's ends then move by less than 0.0005 from seed to seed.
_N_RESAMPLES = 9_999
_SEED = 20_240
# Weights of resampled queries held at once: 64 MB; 300 queries take 24.
_MAX_WEIGHTS = 1 << 23
# What was never seen in n draws has, with 95 %, a share below 1 - 0.05^(1/n); about 3/n.
# Source: https://en.wikipedia.org/wiki/Rule_of_three_(statistics)
_DOUBT = 0.05
# Beyond this many queries, a bar lies so near the estimate that no set one could gather would tell.
_MOST_QUERIES = 1_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measure over queries: its value on these, and the interval in which that of all queries lies.

    Attributes:
        value: of the queries that can tell.
        low: the interval's lower end.
        high: the interval's upper end.
        n_queries: queries that can tell.
        n_silent: queries left out, because any candidate would have the same value on them.
    """

    value: float
    low: float
    high: float
    n_queries: int
    n_silent: int = 0


def ratio_of_means(
    candidate: NDArray[np.float64], reference: NDArray[np.float64], n_silent: int = 0
) -> Estimate:
    """Estimate the ratio of two means over the same queries, each value a share of the best possible one.

    The interval is a paired percentile bootstrap's, 95 %, opened for what n queries cannot have shown: a
    share of up to 1 - 0.05^(1/n) of all queries may differ from every one of these. Below, such queries
    count as lost: a set without a single loss shows 0.05^(1/n). Above, as ranked perfectly.
    Source: https://docs.scipy.org/doc/scipy/reference/generated/scipy.stats.bootstrap.html (percentile)

    Args:
        candidate: float64[n_queries], 0...1, a measure of the candidate's rankings.
        reference: float64[n_queries], of the reference's; not all 0.
        n_silent: queries left out.

    Raises:
        ValueError: there are no queries, or the reference's values are all 0.
    """
    if not len(candidate) or not reference.any():
        raise ValueError("a ratio of means needs a query on which the reference ranks something")
    n = len(candidate)
    value, low, high = ratio_interval(candidate, reference)
    seen = shown_at_most(n)
    best = 1 / float(reference.mean())
    return Estimate(value, min(low, seen), max(high, seen * value + (1 - seen) * best), n, n_silent)


def mean_of(values: NDArray[np.float64], n_silent: int = 0) -> Estimate:
    """Estimate a mean over queries with its percentile bootstrap interval, 95 %; of equal values, that value.

    Args:
        values: float64[n_queries].
        n_silent: queries left out.

    Raises:
        ValueError: there are no queries.
    """
    if not len(values):
        raise ValueError("a mean needs a query")
    return Estimate(*mean_interval(values), len(values), n_silent)


def ratio_interval(
    candidate: NDArray[np.float64], reference: NDArray[np.float64], confidence: float = 0.95
) -> tuple[float, float, float]:
    """Return the ratio of two means over the same queries, and its paired percentile bootstrap interval."""
    value = float(candidate.mean() / reference.mean())
    if not np.any(candidate != reference):
        return value, value, value
    both = np.stack([candidate, reference], axis=1)
    sums = np.concatenate([weights @ both for weights in _resamples(len(candidate))])
    low, high = np.quantile(sums[:, 0] / np.maximum(sums[:, 1], 1e-12), _ends(confidence))
    return value, float(low), float(high)


def mean_interval(values: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float, float]:
    """Return a mean over queries and its percentile bootstrap interval; of equal values, that value."""
    value = float(values.mean())
    if not np.ptp(values) > 0:
        return value, value, value
    found = np.concatenate([weights @ values / len(values) for weights in _resamples(len(values))])
    low, high = np.quantile(found, _ends(confidence))
    return value, float(low), float(high)


def _ends(confidence: float) -> tuple[float, float]:
    return (1 - confidence) / 2, (1 + confidence) / 2


def share_of(n_hits: int, n: int, n_silent: int = 0) -> Estimate:
    """Estimate a share of queries with its exact binomial bounds, each one-sided at 95 %.

    Source: Clopper and Pearson (1934), https://doi.org/10.1093/biomet/26.4.404

    Args:
        n_hits: queries that have what is counted.
        n: queries that can tell, at least one.
        n_silent: queries left out.
    """
    from scipy.stats import binomtest

    found = binomtest(n_hits, n).proportion_ci(1 - 2 * _DOUBT, "exact")
    return Estimate(n_hits / n, float(found.low), float(found.high), n, n_silent)


def queries_needed(estimate: Estimate, bar: float, *, counts_unseen: bool) -> int | None:
    """Return about how many queries would tell on which side of the bar the measure lies; None if none would.

    An interval narrows with the square root of the number of queries; the doubt about what was never seen
    with the number itself.

    Args:
        estimate: what is known so far; its interval holds the bar.
        bar: the limit.
        counts_unseen: whether the lower end never lies above 0.05^(1/n), see `ratio_of_means`.
    """
    unseen = 0.0
    if counts_unseen and estimate.value > bar:
        if estimate.low >= shown_at_most(estimate.n_queries) * (1 - 1e-9):  # nothing else widens it
            return queries_to_show(bar)
        unseen = queries_to_show(bar) or math.inf
    end = estimate.low if estimate.value > bar else estimate.high
    distance = abs(estimate.value - bar)
    if not distance > 0:
        return None
    wanted = max(unseen, estimate.n_queries * ((estimate.value - end) / distance) ** 2)
    return math.ceil(wanted) if wanted <= _MOST_QUERIES else None


def shown_at_most(n: int) -> float:
    """Return the share that n queries without a single loss show, 0.05^(1/n)."""
    return float(_DOUBT ** (1 / n))


def queries_to_show(bar: float) -> int | None:
    """Return how many queries without a single loss show a share; None if no number that one could gather."""
    needed = math.log(_DOUBT) / math.log(bar) if bar < 1 else math.inf
    return math.ceil(needed) if needed <= _MOST_QUERIES else None


def share_unseen(n: int) -> float:
    """Return the share of unseen draws that may differ from n seen ones, 3/n, at most 1.

    Source: https://en.wikipedia.org/wiki/Rule_of_three_(statistics)
    """
    return min(1.0, 3 / n)


def _resamples(n: int) -> Iterable[NDArray[np.float64]]:
    """Return how often each of n queries is drawn in each resample: float64[n_resamples, n], in parts."""
    return _few_resamples(n) if n * _N_RESAMPLES <= _MAX_WEIGHTS else _drawn(n)


@functools.lru_cache(maxsize=4)
def _few_resamples(n: int) -> tuple[NDArray[np.float64], ...]:
    return tuple(_drawn(n))


def _drawn(n: int) -> Iterator[NDArray[np.float64]]:
    rng = np.random.default_rng(_SEED)
    at_once = max(1, _MAX_WEIGHTS // n)
    for start in range(0, _N_RESAMPLES, at_once):
        size = min(at_once, _N_RESAMPLES - start)
        yield rng.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float64)
