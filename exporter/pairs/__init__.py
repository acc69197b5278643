"""Pair sets: (query, passage[, label]) rows grouped by query, read from a file, and samples of them."""

from exporter.pairs.load import load_pair_sets, load_pairs
from exporter.pairs.pair_set import (
    N_TIMED_PAIRS,
    N_TOP,
    Pair,
    PairSet,
    spread_out,
    spread_out_positions,
    whole_if_possible,
    whole_queries,
)

__all__ = [
    "N_TIMED_PAIRS",
    "N_TOP",
    "Pair",
    "PairSet",
    "load_pair_sets",
    "load_pairs",
    "spread_out",
    "spread_out_positions",
    "whole_if_possible",
    "whole_queries",
]
