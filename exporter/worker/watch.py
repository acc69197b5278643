"""Watch a worker that is waited for: stop one that hangs, or that takes more than it may."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    import psutil

    from exporter.worker.forkserver import Forked
    from exporter.worker.limits import Limits

    Worker: TypeAlias = subprocess.Popen[str] | Forked

Reason = Literal["hung", "memory", "seconds"]
# How often memory is looked at, in seconds, where there is a limit. The kernel refuses one process more than
# the limit; this is for what a worker starts, and for other systems.
_LOOK_S = 0.25


class Watch:
    """Watches a worker; `stopped` says why it was killed, and is None for one that was not."""

    def __init__(self, worker: Worker, hung_s: float, limits: Limits) -> None:
        """Hold the worker to its limits.

        Args:
            worker: just started.
            hung_s: seconds without a second of processor time after which it is killed.
            limits: what it may take.
        """
        self._worker, self._hung_s, self._limits = worker, hung_s, limits
        self.stopped: Reason | None = None
        limits.hold(worker.pid)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the block waits for the worker."""
        import psutil  # noqa: F401 # missing is said here, and not in a thread

        ended = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(ended,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def _watch(self, ended: threading.Event) -> None:
        import psutil

        used, look_again = -math.inf, time.monotonic() + self._hung_s
        while not ended.wait(self._pause(look_again)):
            if self._limits.left_s == 0:
                self._stop("seconds")
                return
            try:
                if (
                    self._limits.max_bytes is not None
                    and _family_bytes(self._worker.pid) > self._limits.max_bytes
                ):
                    self._stop("memory")
                    return
                if time.monotonic() < look_again:
                    continue
                before, used = used, _family_cpu_s(self._worker.pid)
            except psutil.NoSuchProcess:
                if self._worker.poll() is not None:
                    return
                continue
            look_again = time.monotonic() + self._hung_s
            if used - before < 1.0:
                self._stop("hung")
                return

    def _pause(self, look_again: float) -> float:
        """Return how many seconds to wait before something has to be looked at."""
        pauses = [max(0.01, look_again - time.monotonic())]
        if self._limits.max_bytes is not None:
            pauses.append(_LOOK_S)
        if (left_s := self._limits.left_s) is not None:
            pauses.append(left_s)
        return min(pauses)

    def _stop(self, reason: Reason) -> None:
        self.stopped = reason
        kill(self._worker)


def _family_bytes(pid: int) -> int:
    """Return the memory that a process and what it started have in use."""
    import psutil

    total = 0
    for one in _family(pid):
        with suppress(psutil.NoSuchProcess):
            total += int(one.memory_info().rss)
    return total


def _family_cpu_s(pid: int) -> float:
    return float(sum(sum(one.cpu_times()[:2]) for one in _family(pid)))


def _family(pid: int) -> list[psutil.Process]:
    """Return a process and those that it started: a worker may wait for a program of its own."""
    import psutil

    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def wait(worker: Worker) -> int | None:
    """Wait for a worker to end; return the most memory it had, in bytes, None where nobody tells."""
    if sys.platform == "win32" or worker.returncode is not None:
        worker.wait()
        return None
    try:
        _, status, usage = os.wait4(worker.pid, 0)
    except ChildProcessError:  # waited for already
        worker.wait()
        return None
    worker.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def kill(worker: Worker) -> None:
    """End a worker and what it started."""
    if worker.poll() is not None:
        return
    if sys.platform == "win32":
        worker.kill()
    else:
        with suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
