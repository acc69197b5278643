"""What came of loading a published folder in other libraries, as data and as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from exporter.consumers.probe import LONG
from exporter.escape import markdown as escaped
from exporter.machine import Machine
from exporter.report.table import Table, md_table

# `loses`: it differs as it does with any folder, and is known to. `keeps its rules`: judged from its sources,
# not scored.
ConsumerOutcome = Literal["agrees", "loses", "differs", "fails", "keeps its rules", "not run"]

CONSUMERS_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class ConsumerRow:
    """What one consumer made of one file.

    Attributes:
        consumer: its name.
        version: the installed one; None for what is not installed, or not run.
        kind: the variant's kind.
        file: the file's path in the folder.
        outcome: what came of it.
        bound: how far its scores may be from ours, in logits.
        bound_why: why so far.
        max_abs_diff: in logits, over the pairs that can be compared.
        pearson: Pearson's r of its logits and ours, over the same pairs.
        activation: what the consumer applied to the logits.
        n_incomparable: pairs whose score came through a sigmoid so near to 1 that float32 does not hold the
            logit to within the bound.
        loses: what its scores show to be missing.
        why: why it was not run, or what is wrong.
    """

    consumer: str
    version: str | None
    kind: str
    file: str
    outcome: ConsumerOutcome
    bound: float | None
    bound_why: str
    max_abs_diff: float | None
    pearson: float | None
    activation: str
    n_incomparable: int
    loses: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class ConsumerReport:
    """Every consumer's rows.

    `rule` says how the pairs were picked; `n_long` of them have over 128 tokens, `n_truncated` more than the
    model reads.
    """

    schema: int
    name: str
    started_at: str
    machine: Machine
    rule: str
    n_pairs: int
    n_long: int
    n_truncated: int
    rows: tuple[ConsumerRow, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """A line for each consumer that scores wrongly or cannot load; none for those not installed."""
        wrong = [row for row in self.rows if row.outcome in ("differs", "fails")]
        return tuple(f"{row.consumer}, {row.file}: {row.outcome}: {row.why}" for row in wrong)


def table(found: ConsumerReport) -> Table:
    """Return the rows for people."""
    titles = ("consumer", "version", "file", "max diff", "bound", "r", "applies", "loses", "outcome")
    return Table(titles, [_cells(row) for row in found.rows])


def _cells(row: ConsumerRow) -> tuple[str, ...]:
    near_1 = f", {row.n_incomparable} too near 1 to compare" if row.n_incomparable else ""
    return (
        row.consumer,
        row.version or "",
        row.file,
        "" if row.max_abs_diff is None else f"{row.max_abs_diff:.2g}",
        "" if row.bound is None else f"{row.bound:.2g}",
        "" if row.pearson is None else f"{row.pearson:.6f}",
        f"{row.activation}{near_1}",
        ", ".join(row.loses),
        f"{row.outcome}: {row.why}" if row.why else row.outcome,
    )


def markdown(found: ConsumerReport) -> str:
    """Return the table, the machine, the pairs' rule and each bound with its reason, as Markdown."""
    bounds = dict.fromkeys(f"{row.bound:.2g}: {row.bound_why}" for row in found.rows if row.bound is not None)
    return "\n".join(
        [
            f"# {escaped(found.name)} in the libraries that load it",
            "",
            escaped(
                f"{found.started_at}, {found.machine.cpu}, {found.machine.isa}. "
                f"{found.n_pairs} pairs, {found.n_long} of them over {LONG} tokens and {found.n_truncated} "
                "truncated, scored one by one; differences from our own scores of the same file, at the "
                "engine's own defaults, are in logits."
            ),
            "",
            *md_table(*table(found)),
            "",
            escaped(f"Pairs: {found.rule}."),
            "",
            *(f"Bound {escaped(bound)}.  " for bound in bounds),
        ]
    )
