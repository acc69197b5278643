"""Threads that score batches, which unlike the standard library's work until the interpreter has ended.

`concurrent.futures` refuses work once the main thread has ended: scores in an `atexit` function, or in a
thread that outlives the main one, were lost.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_Task: TypeAlias = "Callable[[], None] | None"


class Pool:
    """Threads that run tasks; as many as are needed, at most `n_threads`. May be shared between threads."""

    def __init__(self, n_threads: int) -> None:
        """Start no thread yet: they start with the first tasks, and end with the pool."""
        self._n_threads = n_threads
        self._lock = threading.Lock()
        self._tasks: SimpleQueue[_Task] = SimpleQueue()
        self._started: list[None] = []
        # At exit the threads just stop: `atexit` functions that come later may still score.
        weakref.finalize(self, _end, self._tasks, self._started).atexit = False

    def run(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Run tasks side by side and wait for all of them; raise what the first of them raised."""
        job = _Job(len(tasks))
        if not self._grown(len(tasks)):
            # No thread can be started any more: the interpreter is ending, or the system has no more.
            for task in tasks:
                task()
            return
        for task in tasks:
            self._tasks.put(job.watched(task))
        try:
            job.done.wait()
        except BaseException as error:  # Ctrl-C: no thread may be in an engine when the process then ends
            job.errors.append(error)  # what was not begun is skipped
            job.done.wait()
            raise
        if job.errors:
            raise job.errors[0]

    def _grown(self, n_tasks: int) -> bool:
        """Start threads as far as the tasks need them; return whether there is one."""
        with self._lock:
            while len(self._started) < min(self._n_threads, n_tasks):
                try:
                    threading.Thread(target=_work, args=(self._tasks,), daemon=True).start()
                except RuntimeError:
                    break
                self._started.append(None)
            return bool(self._started)


@dataclass(slots=True)
class _Job:
    """Tasks that are waited for together."""

    n_left: int
    errors: list[BaseException] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def watched(self, task: Callable[[], None]) -> Callable[[], None]:
        """Return a task that counts itself as done and keeps what it raised; after an error it is skipped."""

        def run() -> None:
            try:
                if not self.errors:
                    task()
            except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
                self.errors.append(error)
            with self.lock:
                self.n_left -= 1
                if self.n_left == 0:
                    self.done.set()

        return run


def _work(tasks: SimpleQueue[_Task]) -> None:
    while (task := tasks.get()) is not None:
        task()
        del task


def _end(tasks: SimpleQueue[_Task], started: list[None]) -> None:
    for _ in started:
        tasks.put(None)
