"""Pair sets: (query, passage[, label]) rows grouped by query, read from a file, and samples of them."""

from exporter.pairs.pair_set import (
    N_TIMED_PAIRS,
    Pair,
    PairSet,
    load_pair_sets,
    load_pairs,
    spread_out,
    spread_out_positions,
    whole_queries,
)

__all__ = [
    "N_TIMED_PAIRS",
    "Pair",
    "PairSet",
    "load_pair_sets",
    "load_pairs",
    "spread_out",
    "spread_out_positions",
    "whole_queries",
]
