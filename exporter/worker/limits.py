"""How much memory and time workers may take, for whoever runs what strangers made.

A graph or a tokenizer can pass every check and still ask for all memory, or never come to an end: nobody can
tell by looking at it. So a limit holds for the process that runs it. It is set for a block of code and all
workers started in it, not handed down: nothing between the command line and a worker does anything else
because of it.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.errors import LimitReached
from exporter.memory import says_short, size_text

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Limits:
    """What each worker may take.

    Attributes:
        max_bytes: memory of each worker together with what it starts; None for no limit.
        max_s: seconds of all workers together, from when the limit was set; None for no limit.
        started: when it was set, by `time.monotonic`.
    """

    max_bytes: int | None = None
    max_s: float | None = None
    started: float = 0.0

    @property
    def left_s(self) -> float | None:
        """How many seconds are left, not below 0; None for no limit."""
        return None if self.max_s is None else max(0.0, self.started + self.max_s - time.monotonic())

    def hold(self, pid: int) -> None:
        """Let the kernel refuse a process, and what it starts, memory beyond the limit; Linux only.

        Counted is what a process may write to and does not share, not what it reserves or maps from files.
        Source: https://man7.org/linux/man-pages/man2/getrlimit.2.html (RLIMIT_DATA)
        """
        if self.max_bytes is None or sys.platform != "linux":
            return
        import resource

        with suppress(ProcessLookupError, PermissionError):
            hard = resource.prlimit(pid, resource.RLIMIT_DATA)[1]
            most = self.max_bytes if hard == resource.RLIM_INFINITY else min(hard, self.max_bytes)
            resource.prlimit(pid, resource.RLIMIT_DATA, (most, most))

    def refused(self, said: str, used_bytes: int | None) -> bool:
        """Return whether a process that failed did so for the limit on memory.

        Args:
            said: what it said last.
            used_bytes: the most that it had; None where nobody knows.
        """
        if self.max_bytes is None:
            return False
        return says_short(said) is not None or 2 * (used_bytes or 0) > self.max_bytes

    def out_of_memory(self, what: str) -> LimitReached:
        """Return the error for a worker that took more memory."""
        allowed = size_text(self.max_bytes or 0)
        return LimitReached(
            f"a worker {what} wanted more than the {allowed} of --max-memory and was stopped; "
            "do not use what it ran, or allow more"
        )

    def out_of_time(self, what: str) -> LimitReached:
        """Return the error for a worker that took more time."""
        return LimitReached(
            f"a worker {what} was stopped after the {self.max_s:g} seconds of --max-seconds; "
            "do not use what it ran, or allow more"
        )


_UNLIMITED = Limits()
_current: ContextVar[Limits] = ContextVar("limits", default=_UNLIMITED)


def current_limits() -> Limits:
    """Return the limits that hold here."""
    return _current.get()


@contextmanager
def limited(max_bytes: int | None = None, max_s: float | None = None) -> Iterator[None]:
    """Hold all workers that are started in the block to limits.

    Args:
        max_bytes: memory of each worker; None for no limit.
        max_s: seconds from now for all of them; None for no limit.
    """
    token = _current.set(Limits(max_bytes, max_s, time.monotonic()))
    try:
        yield
    finally:
        _current.reset(token)
