"""Hand parts to workers until all are done: whatever ends a worker costs time, and no row.

Knows neither processes nor clusters: a `Crew` starts workers and says what became of what they were given.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from exporter.errors import BackendError, ExporterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from exporter.jobs.job import DonePart, Maker, Part

# A part that ends so many workers is to blame; where as many end for each there should be, none can start.
_MAX_ENDS = 3
_POLL_S = 1.0
# A part that runs for so many times the median of those done is given to an idle worker too.
_LATE = 1.5


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has loaded the artifact."""

    maker: Maker


@dataclass(frozen=True, slots=True)
class Rows:
    """A worker has scored so many more rows of its part."""

    n: int


@dataclass(frozen=True, slots=True)
class Done:
    """A worker has finished its part, and is idle."""

    part: DonePart


@dataclass(frozen=True, slots=True)
class Failed:
    """What a worker was given cannot be done, here or anywhere."""

    error: ExporterError


@dataclass(frozen=True, slots=True)
class Ended:
    """A worker is no more; `why` in words."""

    why: str


Event: TypeAlias = Ready | Rows | Done | Failed | Ended


class Worker(Protocol):
    """Somebody who scores a part at a time."""

    name: str

    def give(self, part: Part) -> None:
        """Begin with a part; the worker is idle."""
        ...

    def stop(self) -> None:
        """End it, whatever it does."""
        ...


class Crew(Protocol):
    """Whoever starts workers. `doubles`: a part may be given to two, as they do not share a machine."""

    size: int
    doubles: bool

    def hire(self) -> Worker:
        """Start a worker."""
        ...

    def events(self, timeout_s: float) -> Sequence[tuple[Worker, Event]]:
        """Return what happened, waiting for it at most so long."""
        ...


@dataclass(slots=True, eq=False)
class _Seat:
    """A worker, and what it does."""

    worker: Worker
    ready: bool = False
    part: Part | None = None
    since: float = 0.0
    n_rows: int = 0


@dataclass(slots=True)
class Schedule:
    """The parts that are left, and who does which.

    `accepts` returns why a worker must not be used, or nothing; `tell` is called with the rows done so far
    in this run.
    """

    parts: Sequence[Part]
    crew: Crew
    accepts: Callable[[Maker], str]
    tell: Callable[[int], None]
    note: Callable[[str], None]
    _seats: dict[int, _Seat] = field(default_factory=dict)
    _waiting: deque[Part] = field(default_factory=deque)
    _finished: set[int] = field(default_factory=set)
    _ends: Counter[int] = field(default_factory=Counter)
    _n_early: int = 0
    _n_refused: int = 0
    _n_rows: int = 0
    _took_s: list[float] = field(default_factory=list)

    def run(self) -> Iterator[DonePart]:
        """Yield each part once, as it is done.

        Raises:
            BackendError: workers cannot be started, or a part ends them again and again.
            ExporterError: what a worker could not do.
        """
        self._waiting.extend(self.parts)
        try:
            while len(self._finished) < len(self.parts):
                self._fill()
                self._assign()
                for worker, event in self.crew.events(_POLL_S):
                    yield from self._take(self._seats.get(id(worker)), event)
                self.tell(self._n_rows + self._n_underway())
        finally:
            for seat in self._seats.values():
                seat.worker.stop()

    def _fill(self) -> None:
        n_wanted = min(self.crew.size - self._n_refused, len(self.parts) - len(self._finished))
        while len(self._seats) < n_wanted:
            worker = self.crew.hire()
            self._seats[id(worker)] = _Seat(worker)

    def _assign(self) -> None:
        for seat in self._seats.values():
            if seat.ready and seat.part is None and (part := self._next()) is not None:
                seat.part, seat.since, seat.n_rows = part, time.monotonic(), 0
                seat.worker.give(part)

    def _next(self) -> Part | None:
        if self._waiting:
            return self._waiting.popleft()
        if not self.crew.doubles or not self._took_s:
            return None
        late = time.monotonic() - _LATE * statistics.median(self._took_s)
        running = Counter(seat.part.number for seat in self._seats.values() if seat.part)
        slow = [
            seat
            for seat in self._seats.values()
            if seat.part and seat.since < late and running[seat.part.number] == 1
        ]
        return min(slow, key=lambda seat: seat.since).part if slow else None

    def _take(self, seat: _Seat | None, event: Event) -> Iterator[DonePart]:
        if seat is None:  # stopped meanwhile
            return
        match event:
            case Ready(maker):
                self._welcome(seat, maker)
            case Rows(n):
                seat.n_rows += n
            case Done(done):
                part, seat.part = seat.part, None
                self._took_s.append(time.monotonic() - seat.since)
                assert part is not None
                if part.number not in self._finished:
                    self._finished.add(part.number)
                    self._n_rows += part.n_rows
                    yield done
                self._stop_doubles(part)
            case Failed(error):
                raise error
            case Ended(why):
                self._leave(seat, why)

    def _stop_doubles(self, part: Part) -> None:
        """End whoever still does a part that is done: it hangs, or its machine is gone."""
        for seat in [seat for seat in self._seats.values() if seat.part is part]:
            seat.worker.stop()
            del self._seats[id(seat.worker)]

    def _welcome(self, seat: _Seat, maker: Maker) -> None:
        self._n_early = 0
        problem = self.accepts(maker)
        if not problem:
            seat.ready = True
            return
        seat.worker.stop()
        del self._seats[id(seat.worker)]
        self._n_refused += 1
        if self._n_refused == self.crew.size:
            raise BackendError(problem)
        self.note(f"{seat.worker.name} is left out: {problem}")

    def _leave(self, seat: _Seat, why: str) -> None:
        del self._seats[id(seat.worker)]
        part = seat.part
        if part is None:
            self._n_early += not seat.ready
            if self._n_early == _MAX_ENDS * self.crew.size:  # a node that dies takes many along
                raise BackendError(f"no worker can be started: {why}")
            return
        if part.number in self._finished or any(other.part is part for other in self._seats.values()):
            return
        self._ends[part.number] += 1
        if self._ends[part.number] == _MAX_ENDS:
            raise BackendError(
                f"{part.rows}: ended {_MAX_ENDS} workers ({why}); what was finished is kept; "
                "score its rows apart, with smaller --part-rows"
            )
        self.note(f"{part.name} is scored again: {seat.worker.name} ended, {why}")
        self._waiting.appendleft(part)

    def _n_underway(self) -> int:
        most: dict[int, int] = {}
        for seat in self._seats.values():
            if seat.part and seat.part.number not in self._finished:
                most[seat.part.number] = max(seat.n_rows, most.get(seat.part.number, 0))
        return sum(most.values())
