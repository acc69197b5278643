"""Time passes over pairs inside a worker, and observe what else the cores do meanwhile."""

from __future__ import annotations

import hashlib
import math
import os
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.worker.job import ArtifactSpec, Run, Spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.pairs import Pair
    from exporter.worker.scorers import Scorer

# Small enough for the first cache; a try takes well under a millisecond.
_CLOCK_BLOCK = bytes(1 << 16)
_CLOCK_TRIES = 50


class Timing:
    """Times passes over pairs, and what else the cores did during them; pauses are not counted."""

    def __init__(self, scorer: Scorer, pairs: Sequence[Pair], spec: Spec) -> None:
        """Note the clock before; nothing is scored yet."""
        self._scorer, self._pairs, self._cores = scorer, pairs, spec.workers * spec.threads
        self._slowdown = spec.slowdown if isinstance(spec, ArtifactSpec) else 0.0
        self._clock_before = _clock()
        self._seconds: list[float] = []
        self._own = self._everyone = self._stolen = self._wall = 0.0

    def passes(self, n: int, min_s: float = 0.0) -> None:
        """Time passes until both `n` passes and `min_s` seconds are reached."""
        seconds: list[float] = []
        own, (everyone, stolen), started_all = time.process_time(), _everyones_cpu_s(), time.perf_counter()
        while len(seconds) < n or sum(seconds) < min_s:
            started = time.perf_counter()
            self._scorer.score(self._pairs)
            if self._slowdown:
                time.sleep((time.perf_counter() - started) * self._slowdown)
            seconds.append(time.perf_counter() - started)

        self._wall += time.perf_counter() - started_all
        self._own += time.process_time() - own
        everyone_after, stolen_after = _everyones_cpu_s()
        self._everyone += everyone_after - everyone
        self._stolen += stolen_after - stolen
        self._seconds += seconds

    def run(self, load_s: float) -> Run:
        """Return what all passes so far come to.

        Args:
            load_s: seconds that loading the side took.
        """
        peak = _peak_rss_bytes()  # before the tokens are counted once more
        clock = (self._clock_before + _clock()) / 2
        started = time.perf_counter()
        n_tokens = self._scorer.count_tokens(self._pairs)
        tokenize_s = time.perf_counter() - started

        cores_of_machine = os.cpu_count() or self._cores
        others_cores = (self._everyone - self._own) / self._wall
        return Run(
            n_pairs=len(self._pairs),
            n_tokens=sum(n_tokens),
            n_tokens_squared=sum(n * n for n in n_tokens),
            seconds=tuple(self._seconds),
            tokenize_s=tokenize_s,
            load_s=load_s,
            cpu_share=self._own / self._wall / self._cores,
            cpu_contention=cpu_contention(others_cores, self._cores, cores_of_machine),
            steal=min(1.0, self._stolen / self._wall / self._cores),
            clock=clock,
            peak_rss_bytes=peak,
        )


def cpu_contention(others_cores: float, cores: int, cores_of_machine: int) -> float:
    """Return the share of `cores` that others left no room for: on a large machine with cores to spare, none.

    Args:
        others_cores: cores that others kept busy, on average.
        cores: cores that a side was to use.
        cores_of_machine: all there are.
    """
    return min(1.0, max(0.0, others_cores + cores - cores_of_machine) / cores)


def _clock() -> float:
    """Return how often a second one core hashes a block, at best: a stand-in for its frequency.

    A virtual machine does not say its frequency. No memory is waited for, so that a neighbour on other cores
    does not show.
    """
    best = math.inf
    for _ in range(_CLOCK_TRIES):
        started = time.perf_counter()
        hashlib.sha256(_CLOCK_BLOCK).digest()
        best = min(best, time.perf_counter() - started)
    return 1 / best


def _everyones_cpu_s() -> tuple[float, float]:
    """Return the processor seconds used since the machine started, the host's included, and the host's alone.

    Source: https://docs.kernel.org/filesystems/proc.html#miscellaneous-kernel-statistics-in-proc-stat
    """
    import psutil

    times = psutil.cpu_times()._asdict()
    steal = float(times.get("steal", 0.0))
    return float(
        sum(times.get(what, 0.0) for what in ("user", "nice", "system", "irq", "softirq"))
    ) + steal, steal


def _peak_rss_bytes() -> int:
    """Return this process's own peak; `ru_maxrss` would start from that of the parent, which loads torch.

    Source: https://man7.org/linux/man-pages/man2/getrusage.2.html (ru_maxrss is kept across execve)
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
