"""What makes one doubt that the reference ranks these pairs at all; its notes stand in the report. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from exporter.measure.quality import per_query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from exporter.pairs import PairSet

# Of a number near x, bfloat16 knows steps of x times this, 8 binary digits; int8 has as many.
# Source: https://cloud.google.com/blog/products/ai-machine-learning/bfloat16-the-secret-to-high-performance-on-cloud-tpus
_BF16_STEP = 2.0**-8
# Random orders of the passages whose mean quality stands for chance.
_N_ORDERS = 5
# Two-sided 95 % of a normal distribution.
_Z = 1.96


def doubts(scores: NDArray[np.float32], pair_set: PairSet) -> tuple[str, ...]:
    """Return why the reference may rank nothing here, a sentence each without its full stop; mostly none.

    What is kept of a ranking that is hardly there is chance: bars are then missed, or met, for no reason.

    Args:
        scores: float32[n_pairs], the reference's raw logits, finite.
        pair_set: the pairs they are of.
    """
    return (*_narrow(scores, pair_set), *_no_better_than_chance(scores, pair_set))


def _narrow(scores: NDArray[np.float32], pair_set: PairSet) -> Iterator[str]:
    """Yield whether a query's scores differ by less than the digits of a short type tell."""
    exact, query_of = scores.astype(np.float64), pair_set.query_of
    sizes = np.bincount(query_of)
    off = exact - (np.bincount(query_of, exact) / sizes)[query_of]
    spreads = np.sqrt(np.bincount(query_of, off**2) / sizes)[sizes > 1]
    size = float(np.abs(exact).mean())
    spread = float(np.median(spreads)) if len(spreads) else math.inf
    if spread < _BF16_STEP * size:
        yield (
            "the reference hardly tells a query's passages apart: its scores are about "
            f"{size:.3g} and differ within a query by a standard deviation of {spread:.2g}, less than a type "
            "of 8 binary digits tells, so any kind but float32 may order them anew"
        )


def _no_better_than_chance(scores: NDArray[np.float32], pair_set: PairSet) -> Iterator[str]:
    """Yield whether labels do not show that the reference ranks better than a random order."""
    if pair_set.labels is None or np.count_nonzero(pair_set.tellable) < 2:
        return
    ranked = per_query(scores, pair_set)[:, 0]
    draws = np.random.default_rng(0)
    random = np.mean(
        [per_query(draws.random(len(scores), np.float32), pair_set)[:, 0] for _ in range(_N_ORDERS)], axis=0
    )
    gain = ranked - random
    if gain.mean() - _Z * gain.std(ddof=1) / math.sqrt(len(gain)) <= 0:
        yield (
            "these labels do not show that the reference ranks better than chance: nDCG@10 "
            f"{ranked.mean():.3f}, a random order {random.mean():.3f}, {len(gain)} queries; are they labels "
            "of this model's task?"
        )
