"""How much a benchmark measures: one value that is handed down, so that nothing else decides it."""

from __future__ import annotations

from dataclasses import dataclass, field

from exporter.measure.settings import MeasureSettings


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """The circumstances of a benchmark; the defaults are what published tables are made with.

    Attributes:
        rounds: how long a round is, and how many there are.
        batches: batch sizes that are tried for a peer.
        n_queries: whole queries that are timed: peers that take a query with its candidates are not handed
            one pair at a time.
        n_quality_queries: whole queries that quality is measured on.
        n_latency_calls: calls of one query with its candidates; twenty tell a 95th percentile.
        min_run_s: seconds that a job of the scaling is timed in all; a call by length half of that.
        n_mix_pairs: pairs of one mix of lengths.
        n_mix_rounds: rounds over all mixes.
        mixes: tokens of a pair, special tokens counted: least and most.
        token_counts: tokens of a pair, for the scaling.
        job_sizes: pairs of a job, for the scaling.
    """

    rounds: MeasureSettings = field(default_factory=MeasureSettings)
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    n_queries: int = 4
    n_quality_queries: int = 30
    n_latency_calls: int = 20
    min_run_s: float = 2.0
    n_mix_pairs: int = 8
    n_mix_rounds: int = 2
    mixes: tuple[tuple[str, int, int], ...] = (("short", 32, 64), ("medium", 128, 256), ("long", 512, 512))
    token_counts: tuple[int, ...] = (32, 64, 128, 256, 512)
    job_sizes: tuple[int, ...] = (100, 1_000, 10_000, 100_000)
