"""What a person sees: results as tables or JSON, progress, and errors as one line with an exit code.

Nothing else of this package writes to stdout or stderr: names, paths and what libraries raise come from
others, and are escaped here, see `exporter.escape`.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

import typer
from pydantic_core import PydanticSerializationError

from exporter.artifact.files import to_json, to_python
from exporter.cache import Cache
from exporter.context import Context
from exporter.errors import BackendError, GateRefused, NoVerdict
from exporter.escape import no_command, one_line, terminal, terminal_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import RenderableType

    from exporter.measure.profile import Profile
    from exporter.report.compare import Finding
    from exporter.report.report import Report

# A log or a pipe has no width; a narrow terminal wraps, which beats losing digits.
_MIN_WIDTH, _MAX_WIDTH = 100, 400
_VERDICTS = {"PASS": "green", "FAIL": "red", "INVALID": "yellow", "NOT JUDGED": "dim"}
_CHANGES = {"better": "green", "worse": "red", "unknown": "yellow"}
_EXIT_CODES = {
    "pass": 0,
    "fail": GateRefused.exit_code,
    "invalid": NoVerdict.exit_code,
    "not judged": NoVerdict.exit_code,
}


class Rendered(str):
    """Text whose parts were escaped before they were laid out and coloured."""

    __slots__ = ()


def show(value: object, *texts: str, as_json: bool) -> None:
    """Print a command's result on stdout: as text for people, or as JSON for machines.

    Args:
        value: dataclasses, or dicts and tuples of them.
        texts: the same for people, one below the other.
        as_json: what the user asked for.
    """
    if as_json:
        typer.echo(terminal_json(_json(value)))
    else:
        tell(Rendered("\n".join(map(_safe, texts))))


def _json(value: object) -> str:
    try:
        return to_json(value, indent=1).decode()
    except PydanticSerializationError:  # a path whose bytes are no UTF-8
        return json.dumps(to_python(value), indent=1)


def tell(text: str) -> None:
    """Print text on stdout."""
    typer.echo(_safe(text))


def say(text: str) -> None:
    """Print a line on stderr."""
    typer.echo(_safe(text), err=True)


def say_error(text: str, *, prefix: str = "error: ") -> None:
    """Print on stderr what went wrong."""
    typer.secho(f"{prefix}{_safe(text)}", err=True, fg="red")


def _safe(text: str) -> str:
    return text if isinstance(text, Rendered) else terminal(text)


def write_text(path: Path, text: str) -> None:
    """Write a file.

    Raises:
        BackendError: the disk refuses.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BackendError(f"{path}: cannot be written: {error.strerror}") from error


def show_verdict(report: Report, folder: Path, *, as_json: bool) -> None:
    """Print a report and where it lies, and end with the exit code of its verdict."""
    from exporter.cli.after import lines_after
    from exporter.report.words import TERMS

    show(report, report_text(report), as_json=as_json)
    if not as_json:
        for line in lines_after(report, folder):
            say(line)
        say(TERMS)
        say(f"artifact {folder}, report {folder}/report.html, report.md, report.xml (JUnit)")
    if code := _EXIT_CODES[report.verdict]:
        raise typer.Exit(code)


def report_text(report: Report) -> Rendered:
    """Return the summary as a table, and below it the checks of every variant."""
    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    from exporter.report.text import table
    from exporter.report.words import observed, reason, reference_lines

    titles, rows = table(report)
    machine = report.machine
    title = f"{report.name} on {machine.cpu}, {machine.isa}, {machine.n_cores} cores"
    summary = Table(title=escape(one_line(title)), box=SIMPLE, pad_edge=False)
    for i, column in enumerate(titles):
        summary.add_column(column, justify="left" if i == 0 else "right", no_wrap=True)
    for cells in rows:
        summary.add_row(*(escape(one_line(cell)) for cell in cells), style=_VERDICTS.get(cells[-1]))

    lines = [Text(one_line(line)) for line in reference_lines(report)]
    for row in report.variants:
        for check in row.checks:
            word, why = check.outcome.upper(), f" ({reason(check)})" if reason(check) else ""
            found = f" {observed(check)}" if observed(check) else ""
            text = f"  {row.kind}: {word:7s} {check.name}{found}, bar {check.bar}{why}"
            lines.append(Text(one_line(text), style=_VERDICTS[word]))
    for skipped in report.not_judged:
        word = "NOT JUDGED"
        lines.append(Text(one_line(f"  {skipped.kind}: {word} {skipped.why}"), style=_VERDICTS[word]))
    return _rendered(summary, *lines)


def findings_text(findings: Sequence[Finding]) -> Rendered:
    """Return what a comparison of two reports found, as a table."""
    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False)
    for title in ("variant", "what", "old", "new", "", "detail"):
        table.add_column(title, justify="right" if title in ("old", "new") else "left")
    for row in findings:
        old, new = ("" if value is None else f"{value:.4g}" for value in (row.old, row.new))
        cells = (row.kind, row.what, old, new, row.change, row.detail)
        table.add_row(*(escape(one_line(cell)) for cell in cells), style=_CHANGES.get(row.change))
    return _rendered(table)


def profile_text(profile: Profile) -> Rendered:
    """Return where a variant's time goes, as a table."""
    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    n_tokens, rate = profile.n_tokens / profile.n_pairs, profile.n_pairs / profile.wall_s
    what = f"{profile.kind}, {profile.plan}: {profile.n_pairs} pairs of {n_tokens:.0f} tokens"
    title = f"{what}, {rate:.1f} pairs/s"
    table = Table(title=escape(one_line(title)), box=SIMPLE, pad_edge=False)
    table.add_column("operator")
    for name in ("runs", "ms", "share", "GFLOP/s"):
        table.add_column(name, justify="right")
    for row in profile.operators:
        speed = f"{row.flops / row.seconds / 1e9:.1f}" if row.flops else ""
        op = escape(one_line(row.op))
        table.add_row(op, str(row.n_runs), f"{row.seconds * 1e3:.1f}", f"{row.share:.1%}", speed)
    return _rendered(table)


def _rendered(*parts: RenderableType) -> Rendered:
    """Return what rich makes of tables and lines; in colour where stdout is a terminal."""
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    console = Console(highlight=False)
    unbounded = console.options.update(width=_MAX_WIDTH)
    widths = [Measurement.get(console, unbounded, part).maximum for part in parts if isinstance(part, Table)]
    console.width = max(console.width, _MIN_WIDTH, *widths)
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    return Rendered(no_command(capture.get().rstrip("\n")))


class Terminal:
    """Draws progress on stderr while its block runs: a bar a stage on a terminal, a line a stage in a log."""

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
            TextColumn("{task.description}", markup=False),
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
        """Show a stage while the block runs, and yield a function that is called with how much is done."""
        started = datetime.now(UTC)
        task = self._bars.add_task(one_line(name), total=total)
        try:
            yield lambda done: self._bars.update(task, completed=done)
        finally:
            self._bars.remove_task(task)
        seconds = (datetime.now(UTC) - started).total_seconds()
        if seconds >= 1:
            self.note(f"{name}: {seconds:.0f} s")

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        self._console.print(terminal(text), highlight=False, markup=False, emoji=False, soft_wrap=True)


@contextmanager
def watched() -> Iterator[Context]:
    """Yield the surroundings of a watched command: progress on stderr, the user's cache, the time."""
    with Terminal() as progress:
        yield Context(progress=progress, cache=Cache.of_user(progress.note))
