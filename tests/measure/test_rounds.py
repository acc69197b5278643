"""Who runs when, and for how long, on workers that only note their turns: nothing here is timed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from exporter.measure.rounds import measure_rounds
from exporter.measure.settings import MeasureSettings
from exporter.progress import Silent
from exporter.worker.job import ArtifactSpec, TorchSpec
from tests.factories import a_pair_set, a_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.worker.job import Run, Spec

TORCH = TorchSpec("model", 512, "cpu", batch_size=8, workers=2, threads=1)
ONNX = ArtifactSpec("artifact", "onnx", workers=2, threads=1, token_budget=512)
BOTH: dict[str, Spec] = {"torch": TORCH, "onnx": ONNX}
SETTINGS = MeasureSettings(min_run_s=1.0, rest_s=0.0)


@dataclass
class Notebook:
    """Starts workers that note whose turn it is and how many passes.

    A pass takes a second, or what `pass_s` says.
    """

    pass_s: dict[str, float] = field(default_factory=dict)
    turns: list[str] = field(default_factory=list)

    def start(self, spec: Spec, _pairs: object) -> NotedWorker:
        """Return a worker for a side."""
        name = spec.kind if isinstance(spec, ArtifactSpec) else "torch"
        return NotedWorker(self, name, self.pass_s.get(name, 1.0))


@dataclass
class NotedWorker:
    """A worker that does nothing but note."""

    notebook: Notebook
    name: str
    warm_s: float

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing."""

    def wait_imported(self) -> None:
        """Import nothing."""

    def load(self) -> None:
        """Load nothing."""

    def passes(self, n: int) -> None:
        """Note the turn."""
        self.notebook.turns.append(f"{self.name} {n}" if n > 1 else self.name)

    def end(self) -> Run:
        """Return a run."""
        return a_run()


def nothing(_runs: object) -> frozenset[str]:
    """Be content with everything."""
    return frozenset()


def measured(
    notebook: Notebook,
    unsettled: Callable[[dict[str, list[Run]]], frozenset[str]] = nothing,
    *,
    settings: MeasureSettings = SETTINGS,
    baselines: frozenset[str] = frozenset(),
    budget_s: float = 100.0,
) -> dict[str, int]:
    """Measure both sides on three pairs, and count the rounds of each."""
    found = measure_rounds(
        BOTH,
        a_pair_set((3,)).pairs,
        settings,
        Silent(),
        baselines=baselines,
        budget_s=budget_s,
        unsettled=unsettled,
        start=notebook.start,  # type: ignore[arg-type] # looks like a worker, is none
    )
    return {side: len(runs) for side, runs in found.items()}


def test_sides_take_turns() -> None:
    """Every side has its turn in every round, there and back, for as many rounds as are run in any case."""
    notebook = Notebook()
    assert measured(notebook) == {"torch": 6, "onnx": 6}
    assert notebook.turns == ["torch", "onnx", "onnx", "torch"] * 3


def test_turns_are_as_long_as_the_slowest_pass() -> None:
    """Six seconds in turns of two: there, back, there; the side four times as fast passes four times."""
    notebook = Notebook(pass_s={"torch": 2.0, "onnx": 0.5})
    measured(notebook, settings=replace(SETTINGS, min_run_s=6.0, min_rounds=1))
    assert notebook.turns == ["torch", "onnx 4", "onnx 4", "torch", "torch", "onnx 4"]


def test_slow_baseline_has_one_turn() -> None:
    """A side without a speed bar does not make the turns of the others longer."""
    notebook = Notebook(pass_s={"torch": 9.0, "onnx": 0.5})
    settings = replace(SETTINGS, min_rounds=1)
    measured(notebook, settings=settings, baselines=frozenset({"torch"}))
    assert notebook.turns == ["torch", "onnx", "onnx"]


def test_baseline_has_two_turns() -> None:
    """A side without a speed bar has a turn there and one back, however many the others have."""
    notebook = Notebook(pass_s={"torch": 1.0, "onnx": 1.0})
    settings = replace(SETTINGS, min_run_s=4.0, min_rounds=1)
    measured(notebook, settings=settings, baselines=frozenset({"torch"}))
    assert notebook.turns == ["torch", "onnx", "onnx", "torch", "onnx", "onnx"]


def test_baselines_are_run_in_the_first_rounds_only() -> None:
    """A side without a speed bar does not cost every round."""
    assert measured(Notebook(), baselines=frozenset({"torch"})) == {"torch": 3, "onnx": 6}


def test_rounds_end() -> None:
    """Numbers that never settle are given up when time is up, but not before the fewest rounds."""
    assert measured(Notebook(), frozenset, budget_s=0.0) == {"torch": 6, "onnx": 6}


def test_only_what_has_not_settled_is_measured_on() -> None:
    """A side that is known well enough does not pay for one that is not."""

    def unsettled(runs: dict[str, list[Run]]) -> frozenset[str]:
        return frozenset({"torch"}) if len(runs["torch"]) <= 6 else frozenset()

    assert measured(Notebook(), unsettled) == {"torch": 7, "onnx": 6}
