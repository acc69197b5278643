"""What a person sees: tables, progress, and errors as one line with an exit code."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

import typer

from exporter.context import Context
from exporter.errors import BackendError, ExporterError, GateRefused, NoVerdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from exporter.measure.profile import Profile
    from exporter.report.compare import Finding
    from exporter.report.report import Report


def write_text(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BackendError(f"{path}: cannot be written: {error.strerror}") from error


def say(text: str) -> None:
    typer.echo(text, err=True)


def _shown(text: str) -> str:
    """Write characters that move a terminal's cursor, or change what it shows, as escapes: names and reports come from others."""
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)


@contextmanager
def exit_codes() -> Iterator[None]:
    """Errors raised on purpose become a line and their own exit code; others keep their traceback, they are our bugs."""
    try:
        yield
    except ExporterError as error:
        typer.secho(f"error: {_shown(str(error))}", err=True, fg="red")
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        typer.secho("stopped; what was finished is kept, nothing is half-written", err=True, fg="red")
        raise typer.Exit(130) from None


def print_report(report: Report, folder: Path, *, as_json: bool) -> None:
    """Print a verdict and end with its exit code."""
    from exporter.artifact.files import to_json

    if as_json:
        typer.echo(to_json(report, indent=1))
    else:
        print_table(report)
        say(f"artifact {folder}, report {folder}/report.html, report.md, report.xml (JUnit)")
    code = {"pass": 0, "fail": GateRefused.exit_code, "invalid": NoVerdict.exit_code}[report.verdict]
    if code:
        raise typer.Exit(code)


def print_table(report: Report) -> None:
    """Print the summary, and the checks of every variant."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from exporter.report.text import table

    titles, rows = table(report)
    machine = report.machine
    title = f"{report.name} on {machine.cpu}, {machine.isa}, {machine.n_cores} cores"
    summary = Table(title=escape(_shown(title)), box=SIMPLE, pad_edge=False)
    for i, title in enumerate(titles):
        summary.add_column(title, justify="left" if i == 0 else "right", no_wrap=True)
    colours = {"PASS": "green", "FAIL": "red", "INVALID": "yellow"}
    for cells in rows:
        summary.add_row(*(escape(_shown(cell)) for cell in cells), style=colours.get(cells[-1]))
    console = Console()
    console.width = max(
        console.width, 100
    )  # a log or a pipe has no width; a narrow terminal wraps, which beats losing digits
    console.print(summary)
    for row in report.variants:
        for check in row.checks:
            why = f" ({check.why})" if check.why else ""
            console.print(
                _shown(
                    f"  {row.kind}: {check.outcome.upper():7s} {check.name} {check.observed:.4g}, bar {check.bar}{why}"
                ),
                style=colours[check.outcome.upper()],
                markup=False,
                highlight=False,
            )


def print_findings(found: Sequence[Finding]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False)
    for title in ("variant", "what", "old", "new", "", "how far"):
        table.add_column(title, justify="right" if title in ("old", "new") else "left")
    colours = {"better": "green", "worse": "red", "unknown": "yellow"}
    for row in found:
        old, new = ("" if value is None else f"{value:.4g}" for value in (row.old, row.new))
        cells = (row.kind, row.what, old, new, row.change, row.detail)
        table.add_row(*(escape(_shown(cell)) for cell in cells), style=colours.get(row.change))
    console = Console()
    console.width = max(console.width, 100)
    console.print(table)


def print_profile(found: Profile) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    rate = found.n_pairs / found.wall_s
    title = f"{found.kind}, {found.plan}: {found.n_pairs} pairs of {found.n_tokens / found.n_pairs:.0f} tokens, {rate:.1f} pairs/s"
    table = Table(title=title, box=SIMPLE, pad_edge=False)
    table.add_column("operator")
    for name in ("runs", "ms", "share", "GFLOP/s"):
        table.add_column(name, justify="right")
    for row in found.operators:
        speed = f"{row.flops / row.seconds / 1e9:.1f}" if row.flops else ""
        table.add_row(row.op, str(row.n_runs), f"{row.seconds * 1e3:.1f}", f"{row.share:.1%}", speed)
    Console().print(table)


class Terminal:
    """Draws progress on stderr: a bar per stage on a terminal, a line per stage in a log."""

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )

        self._console = Console(stderr=True)
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            # A busy parent spoils a measurement: redraw once a second.
            refresh_per_second=1,
            disable=not self._console.is_terminal,
        )
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        started = datetime.now(UTC)
        task = self._bars.add_task(name, total=total)
        try:
            yield lambda done: self._bars.update(task, completed=done)
        finally:
            self._bars.remove_task(task)
        seconds = (datetime.now(UTC) - started).total_seconds()
        if seconds >= 1:
            self.note(f"{name}: {seconds:.0f} s")

    def note(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)


@contextmanager
def watched() -> Iterator[Context]:
    """Return the surroundings of a command that somebody watches: progress on stderr, the user's cache, the time now."""
    with Terminal() as progress:
        yield Context(progress=progress)
