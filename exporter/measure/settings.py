"""How much is measured, and for how long: one value that is handed down, so that nothing else decides it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MeasureSettings:
    """The circumstances of a measurement; the defaults are what verdicts are made with.

    Attributes:
        min_rounds: rounds in any case. Six is the fewest values whose extremes hold their median with 95 %
            (1 - 2 / 2^6 = 97 %; with five 94 %); a speed-up from fewer has no verdict.
        n_baseline_rounds: rounds of sides that no speed bar is held against.
        min_run_s: about how many seconds a side is timed in a round.
        rest_s: seconds between turns; threads of the last engine may spin a little before they sleep.
        n_timed_pairs: pairs of a pass: real lengths, few enough that a run takes seconds; see `n_on`. Plans
            are tried on the same pairs: how evenly a plan's batches fall to its workers depends on their
            number (PyTorch in bf16 with 2,048 tokens a batch was chosen on 32 pairs, two batches a worker,
            and was 24 % slower than the best on 48, three for two).
        sweep_s: about how many seconds the leaders of a sweep take turns, after a first pass of every plan.
        sweep_pass_s: seconds of a sweep's pass, beyond which fewer pairs are taken.
        n_warmup_pairs: pairs scored before anything is timed.
        n_length_pairs: pairs of one length bucket that speed by length is taken from.
        latencies: (candidates of one query, calls at most): twenty tell a 95th percentile, five a median.
        latency_s: about how many seconds the calls of one number of candidates may take: of a model that is
            slower there are fewer calls, and no percentile.
        torch_batch_sizes: batch sizes tried for PyTorch on a CPU: small ones win on some, and a reference
            that is not at its best flatters us.
        torch_token_budgets: and padded tokens a batch, as a variant has them.
        gpu_batch_sizes: batch sizes tried on a GPU.
        token_budgets: padded tokens a batch that are tried for a variant.
        n_invariance_queries: whole queries whose pairs are also scored alone and in mixed batches.
        n_mixed_batch: pairs of such a batch: padded to 512 tokens it takes tens of megabytes.
    """

    min_rounds: int = 6
    n_baseline_rounds: int = 3
    min_run_s: float = 3.0
    rest_s: float = 0.02
    n_timed_pairs: int = 48
    sweep_s: float = 8.0
    sweep_pass_s: float = 4.0
    n_warmup_pairs: int = 10
    n_length_pairs: int = 8
    latencies: tuple[tuple[int, int], ...] = ((10, 20), (100, 5))
    latency_s: float = 30.0
    torch_batch_sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    torch_token_budgets: tuple[int, ...] = (256, 512, 1024, 2048)
    gpu_batch_sizes: tuple[int, ...] = (32, 64, 128, 256)
    token_budgets: tuple[int, ...] = (128, 256, 512, 1024, 2048)
    n_invariance_queries: int = 12
    n_mixed_batch: int = 16

    def n_on(self, n_cores: int, n_pairs: int) -> int:
        """Return how many pairs a pass has on so many cores: with more than four, each core keeps its share.

        Args:
            n_cores: the cores to use.
            n_pairs: pairs of a pass on few cores.
        """
        return n_pairs * max(1, n_cores // 4)
