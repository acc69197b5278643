"""A tip, and what tips are taken from: a report as far as advice asks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from exporter.artifact.names import kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exporter.export.product_error import ProductError
    from exporter.gate import Check, Outcome
    from exporter.machine import Machine
    from exporter.measure.fidelity import Fidelity
    from exporter.measure.speed import Ratio, Throughput
    from exporter.recipe.schema import AnyVariant, Bars, Recipe
    from exporter.worker.job import TorchDtype

# After a change of what is built, of how long is measured, and of bars alone.
REBUILD = "exporter export RECIPE --replace"
MEASURE = "exporter verify RECIPE"
JUDGE = "exporter gate RECIPE"


@dataclass(frozen=True, slots=True)
class Tip:
    """Something to try.

    Attributes:
        kind: the variant it is about.
        text: one sentence: what, and from which figures.
        yaml: lines to paste into the recipe, as the text says where; empty where there are none.
        command: what to type then; empty where there is nothing to type.
    """

    kind: str
    text: str
    yaml: str = ""
    command: str = ""


class Row(Protocol):
    """A variant of a report, as far as advice asks."""

    @property
    def kind(self) -> str:
        """The variant's kind."""
        ...

    @property
    def fidelity(self) -> Fidelity:
        """Everything but speed."""
        ...

    @property
    def throughput(self) -> Throughput:
        """Its speed."""
        ...

    @property
    def speedup_tuned(self) -> Ratio:
        """Over PyTorch in float32 at its best plan."""
        ...

    @property
    def speedup_bf16(self) -> Ratio | None:
        """Over PyTorch in bfloat16 at its best plan, where that was measured."""
        ...

    @property
    def checks(self) -> tuple[Check, ...]:
        """All that it was judged by."""
        ...

    @property
    def verdict(self) -> Outcome:
        """What came of it."""
        ...


class Torch(Protocol):
    """The reference of a report, as far as advice asks."""

    @property
    def judged_over(self) -> TorchDtype:
        """What speed bars are held against."""
        ...


class Measured(Protocol):
    """A report, as far as advice asks."""

    @property
    def machine(self) -> Machine:
        """Where it was measured."""
        ...

    @property
    def reference(self) -> Torch:
        """PyTorch's side."""
        ...

    @property
    def variants(self) -> Sequence[Row]:
        """What was judged."""
        ...


@dataclass(frozen=True, slots=True)
class Case:
    """A report with all that advice on it may rest on.

    `recipe` is None where it is not at hand; `products` are measured errors by id, the largest first;
    `artifact` is how commands name the folder.
    """

    report: Measured
    recipe: Recipe | None = None
    products: Mapping[str, Sequence[ProductError]] = field(default_factory=dict)
    artifact: str = "ARTIFACT"

    def variant(self, row: Row) -> AnyVariant | None:
        """Return what the recipe says of a variant."""
        return self.recipe.by_id.get(row.kind) if self.recipe else None

    def row(self, kind: str) -> Row | None:
        """Return the variant of a kind, if the report has it; of several one that passed."""
        found = sorted(self.report.variants, key=lambda row: row.verdict != "pass")
        return next((row for row in found if kind_of(row.kind) == kind), None)

    def ratio(self, row: Row) -> Ratio:
        """Return the speed-up that a speed bar is held against."""
        over_bf16 = self.report.reference.judged_over == "bfloat16"
        return row.speedup_bf16 if over_bf16 and row.speedup_bf16 else row.speedup_tuned


def bar_of(check: Check) -> float:
    """Return the limit that a check was held against."""
    return float(check.bar.lstrip("≥≤ "))


def bars_line(bars: Bars | None, **changes: float | None) -> str:
    """Return a variant's bars as YAML, some of them changed, or left out where None."""
    limits = {**(bars.model_dump(exclude_none=True) if bars else {}), **changes}
    inside = ", ".join(f"{name}: {value:g}" for name, value in limits.items() if value is not None)
    return f"bars: {{{inside}}}"
