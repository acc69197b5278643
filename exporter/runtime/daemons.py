"""Daemon threads at the end of the interpreter: kept out of native code, where they must not be cut off.

Once the main thread has ended, Python cuts a daemon thread off where it asks for the interpreter's lock. In
an engine's or a tokenizer's frames of C++ and Rust that ends the process with SIGABRT, whatever its exit code
would have been. So before the interpreter ends, daemon threads in native code are waited for, a batch at
most, and the others pause in front of it, which few processes outlive.
Source: https://github.com/python/cpython/issues/87135 (from Python 3.14 on such threads just stop)
"""

from __future__ import annotations

import atexit
import threading
import time
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, TypeAlias

from exporter.runtime.forked import PerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Entry: TypeAlias = "Callable[[], AbstractContextManager[None]]"

# From the end of our `atexit` function to that of the interpreter only those run that were registered before
# it. Where they take longer they may wait for scores: then threads go on, and may be cut off after all.
_PAUSE_S = 1.0
_LONGEST_S = 30.0  # an engine that hangs must not keep the process


class _Inside:
    """The calls of daemon threads that are in native code."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._n_inside = 0
        self._pauses = False

    @contextmanager
    def entered(self) -> Iterator[None]:
        with self._changed:
            pauses = self._pauses
            self._n_inside += not pauses
        if pauses:
            time.sleep(_PAUSE_S)
            with self._changed:
                self._pauses = False
                self._n_inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._n_inside -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Wait until all have left; whoever comes from now on pauses."""
        with self._changed:
            self._pauses = True
            self._changed.wait_for(lambda: self._n_inside == 0, _LONGEST_S)


_inside = PerProcess(_Inside)
atexit.register(lambda: _inside.get().close())


def entry() -> Entry:
    """Return what native code is entered by on behalf of this thread, in whichever thread it then runs."""
    thread = threading.current_thread()
    # A forked process's main thread is the one that forked, and may have been a daemon there.
    if thread.daemon and thread is not threading.main_thread():
        return _inside.get().entered
    return nullcontext
