"""Time passes over pairs inside a worker, and see what else the cores did meanwhile."""

from __future__ import annotations

import hashlib
import math
import os
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from exporter.worker.job import ArtifactSpec, Run, Spec
from exporter.worker.scorers import Scorer, Torch

if TYPE_CHECKING:
    from collections.abc import Sequence

# Small enough for the first cache; a try takes well under a millisecond.
_CLOCK_BLOCK = bytes(1 << 16)
_CLOCK_TRIES = 50


class Timing:
    """Times passes over pairs, and sees what else the cores were doing meanwhile; between passes it does not look."""

    def __init__(self, scorer: Scorer, pairs: Sequence[tuple[str, str]], spec: Spec) -> None:
        self._scorer, self._pairs, self._cores = scorer, pairs, spec.workers * spec.threads
        self._slowdown = spec.slowdown if isinstance(spec, ArtifactSpec) else 0.0
        self._clock = _clock()
        self._device_s = scorer.device_s if isinstance(scorer, Torch) else 0.0
        self._seconds: list[float] = []
        self._own = self._everyone = self._stolen = self._wall = 0.0

    def passes(self, n: int, min_s: float = 0.0) -> None:
        """Pass over the pairs so often at least, and so long."""
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

    def finished(self) -> Timed:
        """Give what was seen."""
        of_machine = os.cpu_count() or self._cores
        return Timed(
            seconds=tuple(self._seconds),
            cpu_share=self._own / self._wall / self._cores,
            cpu_contention=_cpu_contention(
                (self._everyone - self._own) / self._wall, self._cores, of_machine
            ),
            steal=min(1.0, self._stolen / self._wall / self._cores),
            clock=(self._clock + _clock()) / 2,
            device_s=self._scorer.device_s - self._device_s if isinstance(self._scorer, Torch) else 0.0,
        )


def _clock() -> float:
    """Give how often a second one core hashes a block, the best of a few tries: what is left is how fast it is clocked.

    A virtual machine does not say its frequency. No memory is waited for, so that a neighbour on other cores does not show.
    """
    best = math.inf
    for _ in range(_CLOCK_TRIES):
        started = time.perf_counter()
        hashlib.sha256(_CLOCK_BLOCK).digest()
        best = min(best, time.perf_counter() - started)
    return 1 / best


def _everyones_cpu_s() -> tuple[float, float]:
    """Give the seconds of processor time that anybody used since the machine started, the host included, and the host's alone.

    Source: https://docs.kernel.org/filesystems/proc.html#miscellaneous-kernel-statistics-in-proc-stat
    """
    import psutil

    times = psutil.cpu_times()._asdict()
    steal = float(times.get("steal", 0.0))
    return float(
        sum(times.get(what, 0.0) for what in ("user", "nice", "system", "irq", "softirq"))
    ) + steal, steal


def _cpu_contention(others_cores: float, cores: int, cores_of_machine: int) -> float:
    """Give the share of `cores` that others left no room for: on a large machine with cores to spare they do no harm."""
    return min(1.0, max(0.0, others_cores + cores - cores_of_machine) / cores)


class Timed(NamedTuple):
    seconds: tuple[float, ...]
    cpu_share: float
    cpu_contention: float
    steal: float
    clock: float
    device_s: float


def run_of(scorer: Scorer, pairs: Sequence[tuple[str, str]], load_s: float, timed: Timed) -> Run:
    peak = _peak_rss_bytes()  # before the tokens are counted once more
    started = time.perf_counter()
    n_tokens = scorer.count_tokens(pairs)
    tokenize_s = time.perf_counter() - started
    return Run(
        n_pairs=len(pairs),
        n_tokens=sum(n_tokens),
        n_tokens_squared=sum(n * n for n in n_tokens),
        seconds=timed.seconds,
        tokenize_s=tokenize_s,
        load_s=load_s,
        cpu_share=timed.cpu_share,
        cpu_contention=timed.cpu_contention,
        steal=timed.steal,
        clock=timed.clock,
        device_s=timed.device_s,
        peak_rss_bytes=peak,
    )


def _peak_rss_bytes() -> int:
    """Give this process's own peak. `ru_maxrss` would start from that of the parent, which has torch loaded.

    Source: https://man7.org/linux/man-pages/man2/getrusage.2.html (ru_maxrss is kept across execve)
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
