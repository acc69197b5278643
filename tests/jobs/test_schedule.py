"""The schedule, with workers whose days are written down beforehand."""

from __future__ import annotations

import time

import pytest

from exporter.errors import BackendError
from exporter.jobs.job import DonePart, Footer, Form, InputFile, Maker, Part, Start
from exporter.jobs.schedule import Done, Ended, Ready, Schedule

MAKER = Maker("avx2", "onnxruntime 1")
FILE = InputFile("a.jsonl", "a.jsonl", 1, "sha256:0", Form("jsonl"), 100)


def some_parts(n: int) -> list[Part]:
    return [Part(i, FILE, Start(10 * i), 10) for i in range(n)]


def done(part: Part) -> Done:
    zero = "0" * 64
    footer = Footer(1, "0", zero, {}, zero, MAKER, part.number, "a", "b", part.start.row, 10, 0, 0, ())
    return Done(DonePart(footer, zero))


class Scripted:
    """A worker: `deadly` parts end it, `hanging` ones never end."""

    def __init__(self, crew: ScriptedCrew, name: str) -> None:
        self.name, self.crew, self.is_stopped = name, crew, False

    def give(self, part: Part) -> None:
        self.crew.given.append((self.name, part.number))
        if part.number in self.crew.deadly or (self.name, part.number) in self.crew.deadly:
            self.crew.happens.append((self, Ended("killed")))
        elif (self.name, part.number) not in self.crew.hanging:
            self.crew.happens.append((self, done(part)))

    def stop(self) -> None:
        self.is_stopped = True


class ScriptedCrew:
    def __init__(self, size, *, doubles=False, deadly=(), hanging=(), makers=(), stillborn=False):
        self.size, self.doubles, self.deadly, self.hanging = size, doubles, deadly, hanging
        self.makers, self.stillborn = list(makers), stillborn
        self.given, self.happens, self.workers = [], [], []

    def hire(self):
        worker = Scripted(self, f"w{len(self.workers) + 1}")
        self.workers.append(worker)
        maker = self.makers.pop(0) if self.makers else MAKER
        self.happens.append((worker, Ended("no memory") if self.stillborn else Ready(maker)))
        return worker

    def events(self, timeout_s):
        time.sleep(0.001)
        found, self.happens = self.happens, []
        return found


def numbers(crew: ScriptedCrew, n: int, accepts=lambda _maker: "", notes=None) -> list[int]:
    told: list[int] = []
    schedule = Schedule(
        some_parts(n), crew, accepts, told.append, (notes if notes is not None else []).append
    )
    found = [part.footer.number for part in schedule.run()]
    assert told[-1] == 10 * n
    assert all(worker.is_stopped or worker.name for worker in crew.workers)
    return found


def test_every_part_once():
    """Two workers do five parts."""
    assert sorted(numbers(ScriptedCrew(2), 5)) == [0, 1, 2, 3, 4]


def test_a_worker_that_ends_costs_no_row():
    """Its part is given to another, who is hired in its place."""
    notes: list[str] = []
    crew = ScriptedCrew(2, deadly={("w1", 0), ("w3", 2)})
    assert sorted(numbers(crew, 6, notes=notes)) == [0, 1, 2, 3, 4, 5]
    assert notes[0] == "part-000000.parquet is scored again: w1 ended, killed"


def test_a_part_that_ends_every_worker_is_named():
    """Three are enough to tell."""
    with pytest.raises(BackendError, match=r"a.jsonl, rows 11 to 20: ended 3 workers \(killed\)"):
        numbers(ScriptedCrew(2, deadly={1}), 4)


def test_workers_that_cannot_start():
    """Three for each there should be, that end before they are ready, are enough to tell."""
    with pytest.raises(BackendError, match="no worker can be started: no memory"):
        numbers(ScriptedCrew(2, stillborn=True), 4)


def test_a_late_part_is_given_to_an_idle_worker():
    """Who does it first counts, and the other one is ended."""
    crew = ScriptedCrew(2, doubles=True, hanging={("w1", 0)})
    assert sorted(numbers(crew, 4)) == [0, 1, 2, 3]
    assert {("w1", 0), ("w2", 0)} <= set(crew.given)
    assert crew.workers[0].is_stopped


def test_a_worker_on_another_cpu_is_left_out():
    """The others do its work; where all are left out, that is the error."""
    other = Maker("avx512_vnni", "onnxruntime 1")

    def accepts(maker: Maker) -> str:
        return "" if maker == MAKER else "scores differ"

    notes: list[str] = []
    assert sorted(numbers(ScriptedCrew(2, makers=[other, MAKER]), 3, accepts, notes)) == [0, 1, 2]
    assert notes == ["w1 is left out: scores differ"]
    with pytest.raises(BackendError, match="scores differ"):
        numbers(ScriptedCrew(2, makers=[other, other]), 3, accepts)
