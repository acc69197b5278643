"""Results as tables and lines: as wide as a terminal where a person looks, unwrapped in a pipe or a log.

In a pipe a check is a line, to be searched for; on a terminal what is longer goes on below, indented. Names
and what libraries raise come from others, and are escaped here, see `exporter.escape`.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

from exporter.errors import GateRefused, NoVerdict
from exporter.escape import no_command, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from exporter.measure.profile import Profile
    from exporter.report.compare import Comparison, Finding
    from exporter.report.machines import Reports
    from exporter.report.report import Report, VariantReport

    _Part: TypeAlias = Table | Text

# Wider than any line: a log or a pipe has no width.
_UNBOUNDED = 1 << 16
_VERDICTS = {"PASS": "green", "FAIL": "red", "INVALID": "yellow", "NOT JUDGED": "dim"}
_CHANGES = {"better": "green", "worse": "red", "unknown": "yellow"}
# How far what goes on below is indented beyond its first line.
_HANG = 4


class Rendered(str):
    """Text whose parts were escaped before they were laid out and coloured."""

    __slots__ = ()


def report_text(report: Report, *, wide: bool = False) -> Rendered:
    """Return the summary as a table, and below it the checks that did not pass and a count of those that did.

    Args:
        report: the report.
        wide: every column, memory and latency, and all checks.
    """
    from exporter.report.text import memory_table, short_table, table
    from exporter.report.words import DOUBT, reference_lines

    title = f"{report.name} on {report.machine}"
    titles, rows = table(report) if wide else short_table(report)
    parts: list[_Part] = [_line(title), _summary(titles, rows)]
    if wide:
        parts.append(_table(*memory_table(report)))
    elif any(DOUBT in cell for cells in rows for cell in cells[1:]):
        parts.append(_line(f"{DOUBT} the machine was too restless meanwhile to believe this speed-up"))
    parts += [_line(line) for line in reference_lines(report)]
    for row in report.variants:
        parts += _checks(row, wide=wide)
    for skipped in report.not_judged:
        parts.append(_line(f"  {skipped.kind}: NOT JUDGED {skipped.why}", _VERDICTS["NOT JUDGED"]))
    return _rendered(*parts)


def reports_text(reports: Reports, *, wide: bool = False) -> Rendered:
    """Return the reports of machines one below the other, and the verdict on each."""
    parts = [report_text(report, wide=wide) for report in reports]
    verdicts = [
        _line(f"{report.verdict.upper()} on {report.machine}", _VERDICTS[report.verdict.upper()])
        for report in reports
    ]
    return Rendered("\n\n".join([*parts, _rendered(*verdicts)]))


def comparison_line(found: Comparison) -> str:
    """Return how a comparison of two reports ends: its outcome, what that rests on, and the exit code."""
    n = Counter(row.change for row in found.findings)
    code = {"worse": GateRefused.exit_code, "no verdict": NoVerdict.exit_code, "no worse": 0}[found.outcome]
    counts = f"{n['worse']} worse, {n['better']} better, {n['same']} the same, {n['unknown']} not comparable"
    return f"{found.outcome}: {counts}; exit code {code}"


def findings_text(findings: Sequence[Finding], *, wide: bool = False) -> Rendered:
    """Return what a comparison of two reports found, as a table, or in lines where that does not fit.

    Args:
        findings: of the comparison.
        wide: the interval of every change, or why there is none, in the table, as always in a pipe, where a
            finding is a line; else only of those that are not the same, below it.
    """
    titles = ("variant", "what", "old", "new", "", "detail")
    rows = []
    for row in findings:
        old, new = ("" if value is None else f"{value:.4g}" for value in (row.old, row.new))
        rows.append((row.kind, row.what, old, new, row.change, row.explained))
    width = _terminal_width()
    wide = wide or width is None
    n = len(titles) if wide else len(titles) - 1
    cells = [row[:n] for row in rows]
    styles = [_CHANGES.get(row.change) for row in findings]
    table = _table(titles[:n], cells, styles=styles, left=(0, 1, 4, 5))
    if width is None or _width(table) <= width:
        told = () if wide else [row for row in findings if row.explained and row.change != "same"]
        return _rendered(table, *(_line(f"  {row.kind} {row.what}: {row.explained}") for row in told))
    lines = []
    for kind, what, old, new, change, detail in rows:
        values = f" {old} → {new}" if old or new else ""
        style = _CHANGES.get(change)
        lines.append(_line(f"{kind}: {what}{values}, {change}{f' ({detail})' if detail else ''}", style))
    return _rendered(*lines)


def profile_text(profile: Profile) -> Rendered:
    """Return where a variant's time goes, as a table."""
    n_tokens, rate = profile.n_tokens / profile.n_pairs, profile.n_pairs / profile.wall_s
    what = f"{profile.kind}, {profile.plan}: {profile.n_pairs} pairs of {n_tokens:.0f} tokens"
    rows = []
    for row in profile.operators:
        speed = f"{row.flops / row.seconds / 1e9:.1f}" if row.flops else ""
        rows.append((row.op, str(row.n_runs), f"{row.seconds * 1e3:.1f}", f"{row.share:.1%}", speed))
    return _rendered(
        _line(f"{what}, {rate:.1f} pairs/s"), _table(("operator", "runs", "ms", "share", "GFLOP/s"), rows)
    )


def prose(text: str) -> Rendered:
    """Return lines that are wrapped on a terminal, each going on indented, and nowhere else."""
    return _rendered(*map(_line, text.split("\n")))


def _summary(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return the table of variants; where it is too wide for a terminal, a CPU's name goes below its kind."""
    styles = [_VERDICTS.get(cells[-1]) for cells in rows]
    table, width = _table(titles, rows, styles=styles), _terminal_width()
    if width is None or _width(table) <= width:
        return table
    broken = [(name.replace("@", "\n  @"), *cells) for name, *cells in rows]
    return _table(titles, broken, styles=styles)


def _checks(row: VariantReport, *, wide: bool) -> Iterator[Text]:
    """Yield how many of a variant's checks passed, and those to be looked at."""
    from exporter.report.words import observed, reason

    found = Counter(check.outcome for check in row.checks)
    yield _line(f"  {row.kind}: {found['pass']} of {len(row.checks)} checks passed")
    for check in row.checks:
        if check.outcome == "pass" and not wide:
            continue
        word, why = check.outcome.upper(), f" ({reason(check)})" if reason(check) else ""
        value = f" {observed(check)}" if observed(check) else ""
        yield _line(f"  {row.kind}: {word:7s} {check.name}{value}, bar {check.bar}{why}", _VERDICTS[word])


def _line(text: str, style: str | None = None) -> Text:
    from rich.text import Text

    return Text(one_line(text), style=style or "")


def _table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    styles: Sequence[str | None] = (),
    left: Sequence[int] = (0,),
) -> Table:
    """Return a table of text, whatever stands in it; columns are to the right but for those in `left`."""
    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False)
    for i, title in enumerate(titles):
        table.add_column(title, justify="left" if i in left else "right", no_wrap=True)
    for i, cells in enumerate(rows):
        lines = ("\n".join(map(one_line, cell.split("\n"))) for cell in cells)
        table.add_row(*map(escape, lines), style=styles[i] if styles else None)
    return table


def _terminal_width() -> int | None:
    """Return the columns of the terminal that stdout is; None where it is none."""
    from rich.console import Console

    return Console().width if sys.stdout.isatty() else None


def _width(table: Table) -> int:
    from rich.console import Console
    from rich.measure import Measurement

    console = Console(width=_UNBOUNDED)
    return Measurement.get(console, console.options, table).maximum


def _rendered(*parts: _Part) -> Rendered:
    """Return what rich makes of tables and lines; in colour where stdout is a terminal."""
    from rich.console import Console
    from rich.text import Text

    width = _terminal_width()
    console = Console(highlight=False, width=_UNBOUNDED)
    with console.capture() as capture:
        for part in parts:
            if isinstance(part, Text):
                for line in _hanging(console, part, width) if width else (part,):
                    console.print(line, soft_wrap=True)
            else:
                console.print(part)
    return Rendered(no_command(capture.get().rstrip("\n")))


def _hanging(console: Console, text: Text, width: int) -> Iterator[Text]:
    """Yield a line as lines of so many columns, the second and further ones indented."""
    from rich.text import Text

    if text.cell_len <= width:
        yield text
        return
    indent = len(text.plain) - len(text.plain.lstrip(" ")) + _HANG
    for i, line in enumerate(text.wrap(console, max(width - indent, 20))):
        line.rstrip()
        yield line if i == 0 else Text(" " * indent).append_text(line)
