"""What a person sees: results as tables or JSON, progress, and errors as one line with an exit code.

Nothing else of this package writes to stdout or stderr: names, paths and what libraries raise come from
others, and are escaped here, see `exporter.escape`.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

import typer
from pydantic_core import PydanticSerializationError

from exporter.artifact.files import to_json, to_python
from exporter.cache import Cache
from exporter.cli.tables import Rendered, reports_text
from exporter.context import Context
from exporter.duration import Expected, busy, in_words
from exporter.errors import BackendError, GateRefused, NoVerdict
from exporter.escape import one_line, terminal, terminal_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from exporter.advice import Commands
    from exporter.recipe.schema import Bars
    from exporter.report.machines import Reports
    from exporter.report.verdict import VerdictDocument

_EXIT_CODES = {
    "pass": 0,
    "fail": GateRefused.exit_code,
    "invalid": NoVerdict.exit_code,
    "not judged": NoVerdict.exit_code,
}


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


def tell_row(line: str) -> None:
    """Print one of many lines of JSON on stdout; when it goes out is left to the stream."""
    sys.stdout.write(f"{terminal_json(line)}\n")


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


def short_verdict(reports: Reports | None, name: str, folder: Path) -> VerdictDocument:
    """Return the verdict of an artifact, perhaps not verified yet, as a short document."""
    from exporter.report.verdict import not_verified, verdict_document

    if reports is None:
        return not_verified(name, folder)
    return verdict_document(reports, folder, _EXIT_CODES[reports.verdict])


def show_verdict(
    reports: Reports,
    folder: Path,
    commands: Commands,
    *,
    as_json: bool,
    full: bool = False,
    wide: bool = False,
    judged_by: Mapping[str, Bars] | None = None,
) -> None:
    """Print the reports of machines and where they lie, and end with the exit code of their verdict.

    Args:
        reports: of the machines that are judged.
        folder: the artifact.
        commands: what to type next.
        as_json: print the verdict as a short document for machines.
        full: with `as_json`, the whole reports.
        wide: every column and all checks.
        judged_by: the bars that it was judged by, where they are not recorded in the artifact.
    """
    from exporter.cli.after import lines_after
    from exporter.report.words import TERMS

    code = _EXIT_CODES[reports.verdict]
    if as_json:
        short = short_verdict(reports, reports.newest.name, folder)
        whole = {"verdict": reports.verdict, "exit_code": code, "reports": tuple(reports)}
        show(whole if full else short, as_json=True)
    else:
        tell(reports_text(reports, wide=wide))
        for line in lines_after(reports, folder, commands, judged_by):
            say(line)
        say(TERMS if wide else f"--wide shows every column and check. {TERMS}")
        by = " are of the recorded bars, not of those judged here" if judged_by else ""
        say(f"artifact {folder}: report.html, report.md, report.xml (JUnit){by}")
    if code:
        raise typer.Exit(code)


class Terminal:
    """Draws progress on stderr while its block runs: a bar a stage on a terminal, a line a stage in a log.

    `took` are the seconds of the stages that ended, by name.
    """

    def __init__(self) -> None:
        """Expect nothing yet."""
        self.took: dict[str, float] = {}
        self._left: dict[str, float] = {}

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
            TextColumn("{task.fields[left]}", markup=False),
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
        of_stage = self._left.pop(name, 0.0)
        task = self._bars.add_task(one_line(name), total=total, left=self._time_left(of_stage))

        def step(done: int) -> None:
            gone = (datetime.now(UTC) - started).total_seconds()
            self._bars.update(task, completed=done, left=self._time_left(of_stage - gone))

        try:
            yield step
        finally:
            self._bars.remove_task(task)
        seconds = (datetime.now(UTC) - started).total_seconds()
        if seconds >= 1:
            self.took[name] = seconds
            self.note(f"{name}: {seconds:.0f} s")

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Take note of the stages that are to come, and of about how many seconds each takes."""
        self._left = dict(seconds)

    def _time_left(self, of_stage: float) -> str:
        seconds = max(of_stage, 0.0) + sum(self._left.values())
        return f"about {in_words(seconds)} left" if seconds else ""

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        self._console.print(terminal(text), highlight=False, markup=False, emoji=False, soft_wrap=True)


@contextmanager
def watched() -> Iterator[Context]:
    """Yield the surroundings of a watched command: progress on stderr, the user's cache, the time."""
    with Terminal() as progress:
        cache, told = Cache.of_user(progress.note), list[Expected]()

        def expect(expected: Expected) -> None:
            seconds = expected.seconds(cache)
            if not told:
                slower = busy(os.getloadavg()[0], os.cpu_count() or 1)
                progress.note(f"about {in_words(sum(seconds.values()))}: {expected.what}{slower}")
            told.append(expected)
            progress.expect(seconds)

        yield Context(progress=progress, cache=cache, expect=expect)
        for expected in told:
            expected.keep(cache, progress.took)
