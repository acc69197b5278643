"""A tip, and what tips are taken from: a report as far as advice asks."""

from __future__ import annotations

import shlex
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


@dataclass(frozen=True, slots=True)
class Commands:
    """What to type next about an artifact.

    By themselves they name no file of this machine, as a page that is sent to others wants it.

    Attributes:
        artifact: its folder.
        recipe: the file it was built from; `RECIPE` where nobody named it.
        out: the folder of artifacts, where it is not the one that is taken without being named.
        changes: the `--model` and `--set` that the recipe was read with.
        bars: a file of other bars that it was judged by.
        program: how the program is called.
    """

    artifact: str = "ARTIFACT"
    recipe: str = "RECIPE"
    out: str | None = None
    changes: tuple[str, ...] = ()
    bars: str | None = None
    program: tuple[str, ...] = ("exporter",)

    @property
    def rebuild(self) -> str:
        """After a change of what is built: of the recipe, or its pairs."""
        return self._typed("export", self.recipe, *self.changes, *self._out, "--replace")

    @property
    def measure(self) -> str:
        """After a change of how it is measured."""
        return self._again("verify")

    @property
    def judge(self) -> str:
        """After a change of bars alone."""
        return self.of("gate", "--bars", self.bars) if self.bars else self._again("gate")

    def of(self, name: str, *words: str) -> str:
        """Return a command on the artifact as it is."""
        return self._typed(name, self.artifact, *words)

    def _again(self, name: str) -> str:
        """Return a command on the recipe; one that was changed in words only `export` reads, and reuses."""
        name = "export" if self.changes else name
        return self._typed(name, self.recipe, *self.changes, *self._out)

    def _typed(self, *words: str) -> str:
        return shlex.join((*self.program, *words))

    @property
    def _out(self) -> tuple[str, ...]:
        return () if self.out is None else ("--out", self.out)


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
    `commands` are what to type; `judged_by` are bars by id or kind, where it was judged by others than the
    recipe's.
    """

    report: Measured
    recipe: Recipe | None = None
    products: Mapping[str, Sequence[ProductError]] = field(default_factory=dict)
    commands: Commands = field(default_factory=Commands)
    judged_by: Mapping[str, Bars] = field(default_factory=dict)

    def variant(self, row: Row) -> AnyVariant | None:
        """Return what the recipe says of a variant."""
        return self.recipe.by_id.get(row.kind) if self.recipe else None

    def bars(self, row: Row) -> Bars | None:
        """Return the bars that a variant was judged by; None where they are not at hand."""
        other = self.judged_by.get(row.kind) or self.judged_by.get(kind_of(row.kind))
        variant = self.variant(row)
        return other or (variant.bars if variant else None)

    def bars_line(self, row: Row, **changes: float | None) -> str:
        """Return the bars of a variant for where they stand, some of them changed, or left out where None."""
        line = bars_line(self.bars(row), **changes)
        return f"{row.kind}: {line.removeprefix('bars: ')}" if self.commands.bars else line

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
