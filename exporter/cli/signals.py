"""Stop as Ctrl-C does when a terminal goes away or a scheduler ends the job: SIGINT, SIGHUP, SIGTERM.

Python ends at once on the last two, with no clean-up: workers and half-built folders would stay.
"""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

# What a signal raises is lost where Python cannot raise, as in a destructor or a callback of a library: where
# the block goes on after this time, in seconds, it is raised again.
_AGAIN_S = 5.0
_NAMES = ("SIGINT", "SIGHUP", "SIGTERM")
# `timeout` and terminals send a signal twice, to the process and to its group: within this time, in
# seconds, the second one is the first one's, and does not cut off the cleaning up.
_TOGETHER_S = 2.0


class Stopped(BaseException):
    """A signal asked the process to end; `number` is the signal's.

    No KeyboardInterrupt: typer and other libraries catch those, and end or go on without a word.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` in the block when a signal asks to end; an ignored one, as under nohup, stays so."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python gives signals to the main thread only
        return
    last, asked = -_TOGETHER_S, 0

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal last, asked
        if (now := time.monotonic()) - last > _TOGETHER_S:
            last, asked = now, number
            if hasattr(signal, "setitimer"):
                signal.signal(signal.SIGALRM, lambda _number, frame: stop(asked, frame))
                signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
            raise Stopped(number)

    known = [number for name in _NAMES if (number := getattr(signal, name, None)) is not None]
    ours = (signal.SIG_DFL, signal.default_int_handler)
    taken = {number: old for number in known if (old := signal.getsignal(number)) in ours}
    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    finally:
        if asked and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
        for number, old in taken.items():
            signal.signal(number, old)
