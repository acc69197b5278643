"""Workers here: processes that share out the cores, and end with the process that started them.

A process has up to sixteen cores, whose threads share one copy of the weights: with a copy a core, two cores
scored anything from as much as that to a quarter less (138 to 193 pairs/s, where one process did 167 to 195;
onnx-int8 of the sample, Intel Xeon 6/207). The engine runs a batch on one thread.

They are told what to do on stdin and answer on stdout, a line of JSON each; what libraries print there goes
to stderr.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from exporter.artifact.files import from_json, to_json
from exporter.errors import ExporterError, Unplanned
from exporter.failures import planned
from exporter.jobs.job import DonePart, Maker, Part
from exporter.jobs.schedule import Done, Ended, Failed, Ready, Rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.jobs.body import Order
    from exporter.jobs.schedule import Event

# A process of each so many cores: one that dies takes no more than a part along.
_CORES_OF_A_PROCESS = 16
# What runs a worker's cores is its own pool: no library of it may start a thread a core.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_LAST_CHARACTERS = 300
_STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class Failure:
    """An error on its way from a worker: its class by name, its text, and where it was raised."""

    kind: str
    text: str
    trace: str = ""

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Return what was raised, worded as the command line does."""
        found = planned(error)
        return cls(type(found).__name__, str(found), getattr(found, "trace", ""))

    def error(self) -> ExporterError:
        """Return the error again."""
        if self.kind == Unplanned.__name__:
            return Unplanned(self.text, self.trace)
        kinds: list[type[ExporterError]] = [ExporterError]
        for kind in kinds:
            kinds += kind.__subclasses__()
        return next((kind for kind in kinds if kind.__name__ == self.kind), ExporterError)(self.text)


@dataclass(frozen=True, slots=True)
class Answer:
    """A line of a worker: what happened, and that of the values which belongs to it."""

    what: Literal["ready", "rows", "done", "failed"]
    maker: Maker | None = None
    n: int = 0
    done: DonePart | None = None
    failure: Failure | None = None


class _Process:
    """A worker's process."""

    def __init__(self, number: int, order: Order, events: queue.SimpleQueue[tuple[_Process, Event]]) -> None:
        self.name = f"worker {number}"
        self._events = events
        self._process = subprocess.Popen(
            [sys.executable, "-m", "exporter.jobs"],
            env={**os.environ, **ONE_THREAD, **_tokenizing(order.n_cores)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A Ctrl-C is answered once, by whoever started it.
            process_group=None if sys.platform == "win32" else 0,
        )
        self._said = b""
        self._errors = threading.Thread(target=self._listen, daemon=True)
        self._errors.start()
        threading.Thread(target=self._read, daemon=True).start()
        self._send(to_json(order))

    def give(self, part: Part) -> None:
        """See `Worker`."""
        self._send(to_json(part))

    def stop(self) -> None:
        """See `Worker`."""
        self._process.kill()
        self._process.wait(_STOP_S)

    def _send(self, line: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it has ended, which its output tells

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._events.put((self, event_of(line)))
        self._errors.join(_STOP_S)
        self._events.put((self, Ended(self._why(self._process.wait()))))

    def _listen(self) -> None:
        """Keep the last of what it says on stderr."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said = line.strip()[-_LAST_CHARACTERS:] or self._said

    def _why(self, code: int) -> str:
        if code == -getattr(signal, "SIGKILL", 9):
            return "killed by SIGKILL, as where memory runs out"
        by = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        said = self._said.decode(errors="replace")
        return f"{by}: {said}" if said else by


def _tokenizing(n_cores: int) -> dict[str, str]:
    """Return what has texts tokenized on all cores of a process: they are the next batches' wait."""
    return {"RAYON_NUM_THREADS": str(n_cores), "TOKENIZERS_PARALLELISM": "true" if n_cores > 1 else "false"}


def event_of(line: bytes) -> Event:
    """Return what a line of a worker says."""
    answer = from_json(Answer, line)
    match answer.what:
        case "ready":
            assert answer.maker is not None
            return Ready(answer.maker)
        case "rows":
            return Rows(answer.n)
        case "done":
            assert answer.done is not None
            return Done(answer.done)
        case "failed":
            assert answer.failure is not None
            return Failed(answer.failure.error())


class Processes:
    """Processes of this machine."""

    doubles = False

    def __init__(self, order: Order, n_cores: int) -> None:
        """Start none yet.

        Args:
            order: what each is told first.
            n_cores: the cores to use.
        """
        self.size = -(-n_cores // _CORES_OF_A_PROCESS)
        self._orders = [
            replace(order, n_cores=n_cores // self.size + (i < n_cores % self.size)) for i in range(self.size)
        ]
        self._events: queue.SimpleQueue[tuple[_Process, Event]] = queue.SimpleQueue()
        self._n_hired = 0

    def hire(self) -> _Process:
        """See `Crew`."""
        self._n_hired += 1
        return _Process(self._n_hired, self._orders[self._n_hired % self.size], self._events)

    def events(self, timeout_s: float) -> Sequence[tuple[_Process, Event]]:
        """See `Crew`."""
        found = []
        try:
            found.append(self._events.get(timeout=timeout_s))
            while True:
                found.append(self._events.get_nowait())
        except queue.Empty:
            return found
