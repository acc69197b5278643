"""Values that a forked process must make anew: engines, whose threads and locks stay behind in the parent.

A forked process has a copy of the parent's memory and none of its threads. What the parent's engine left
there can neither be used nor taken down: taking it down waits for threads that are not there, or ends the
process.
Source: https://github.com/microsoft/onnxruntime/pull/31961 (a session taken down in a forked process)
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_TOKENIZERS_PARALLELISM = "TOKENIZERS_PARALLELISM"
# Stands in the variable while a process is forked; to the library it is a yes, as is no variable at all.
_FORKING = "forking"
_all: weakref.WeakSet[PerProcess[Any]] = weakref.WeakSet()


class PerProcess(Generic[T]):
    """A value of this process; may be shared between threads."""

    def __init__(self, make: Callable[[], T]) -> None:
        """Remember how to make the value; it is made when it is first asked for in a process.

        Args:
            make: returns the value. What it raises, `get` raises, each time anew.
        """
        self._make, self._lock = make, threading.Lock()
        self._value: T | None = None
        _all.add(self)

    def get(self) -> T:
        """Return this process's value."""
        if self._value is None:
            with self._lock:
                if self._value is None:
                    self._value = self._make()
        return self._value

    def forget(self) -> None:
        """Let go of the parent's value without taking it down; for the process that has just been forked."""
        if self._value is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._value))
        self._value, self._lock = None, threading.Lock()


def _before() -> None:
    # Else the tokenizers' library prints a warning in the forked process, whatever it does there.
    if _TOKENIZERS_PARALLELISM not in os.environ:
        os.environ[_TOKENIZERS_PARALLELISM] = _FORKING


def _after_in_parent() -> None:
    if os.environ.get(_TOKENIZERS_PARALLELISM) == _FORKING:
        del os.environ[_TOKENIZERS_PARALLELISM]


def _after_in_child() -> None:
    # The library's threads stayed in the parent, and it would wait for them.
    # Source: https://github.com/huggingface/tokenizers/blob/main/tokenizers/src/utils/parallelism.rs
    os.environ[_TOKENIZERS_PARALLELISM] = "false"
    for value in _all:
        value.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
