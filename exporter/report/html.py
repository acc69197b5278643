"""The report as one page that needs nothing else: verdict, why, checks, plots, rankings, tables, worst pairs.

The words stand in `report.html.j2`, `explained.py` and, as in Markdown, in `text.py`; the plots come from
`plots.py`. Everything from outside (names, texts) is escaped as it is put into the template.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from exporter.escape import one_line
from exporter.gate import outcome
from exporter.packages import missing
from exporter.report.columns import RANKING, explained
from exporter.report.explained import ABOUT, TABLES, WORST_PAIRS, WORST_QUERIES, interval_picture, why
from exporter.report.machines import WHICH_FILE, not_passed, which_file
from exporter.report.plots import draw_figures
from exporter.report.rankings import RankedQuery, worst_queries
from exporter.report.sections import WORST, sections
from exporter.report.table import Table
from exporter.report.text import table
from exporter.report.words import (
    LEGEND,
    TERMS,
    left_out,
    not_judged,
    observed,
    reason,
    reference_lines,
    speedup_text,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from exporter.gate import Check
    from exporter.measure.lengths import PairScore
    from exporter.report.report import Report, VariantReport


_TEMPLATE = Path(__file__).with_name("report.html.j2")


class _CheckRow(NamedTuple):
    """A check as the page shows it; `links` are labels and anchors on the page."""

    kind: str
    check: Check
    why: str
    reason: str
    observed: str
    picture: str
    links: list[tuple[str, str]]


class _Worst(NamedTuple):
    """The worst queries and pairs of one variant; `is_open` where it did not pass."""

    anchor: str
    kind: str
    agrees_least: str
    queries: list[RankedQuery]
    pairs: Sequence[PairScore]
    is_open: bool


def html(
    report: Report,
    what_to_try: Sequence[str] = (),
    others: Sequence[Report] = (),
    loaded: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return the page.

    Args:
        report: what is shown, the newest of the artifact.
        what_to_try: advice, each a sentence; lines after its first are shown as what to type or to paste.
        others: those of other machines: their figures are shown, and their checks that did not pass.
        loaded: which variant is loaded where, see `exporter.report.machines.chosen`.

    Raises:
        BackendMissing: matplotlib or jinja2 is not installed.
    """
    try:
        from jinja2 import Environment
        from markupsafe import Markup

        # Markup: the SVG is drawn here, texts in it are escaped by matplotlib.
        figures = [(title, Markup(svg), caption) for title, svg, caption in draw_figures(report)]  # noqa: S704
    except ImportError as error:
        raise missing(error, what="report.html") from error

    def seen(value: object) -> object:
        """Return a value without characters that cannot be seen; Jinja then escapes it for HTML."""
        return one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    worst = [_worst(report, row, i) for i, row in enumerate(report.variants, 1)]
    parts = [(title, parts) for title, parts in sections(report) if title not in ("Checks", WORST)]
    shown = {title for title, _, _ in figures} | {title for title, _ in parts}
    checks = [
        _check_row(row, check, found, shown)
        for wanted in ("fail", "invalid", "pass", "not judged")
        for row, found in zip(report.variants, worst, strict=True)
        for check in row.checks
        if check.outcome == wanted
    ]
    environment = Environment(autoescape=True, finalize=seen, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        report=report,
        verdict=outcome((report, *others)),
        which_file=which_file((report, *others), loaded),
        which_file_title=WHICH_FILE,
        elsewhere=not_passed(others),
        legend=" ".join((LEGEND, *reference_lines(report))),
        summary=_verdict_first(table(report)),
        checks=checks,
        missed=[row for one in report.variants for row in checks if row.why and row.kind == one.kind],
        # Escaped line by line: `seen` would make one line of what is typed in several.
        what_to_try=[
            (said, Markup("\n").join(map(one_line, lines))) for said, *lines in _advice(what_to_try)
        ],
        figures=figures,
        sections=parts,
        worst=[found for found in worst if found.queries or found.pairs],
        ranking=RANKING,
        explained=explained,
        anchor=_anchor,
        picture=Markup,  # of numbers only, see interval_picture
        is_table=lambda part: isinstance(part, Table),
        not_judged=not_judged(report),
        speedup_text=speedup_text,
        left_out=left_out(report),
        number=lambda label: "" if label is None else f"{label:g}",
        terms=TERMS,
    )


def _anchor(title: str) -> str:
    """Return the id of a part of the page, made of a title of ours."""
    return re.sub("[^a-z0-9]+", "-", title.lower()).strip("-")


def _verdict_first(summary: Table) -> Table:
    """Return the summary with its verdicts in front, where a phone shows them without scrolling."""
    from_end = len(summary.titles) - list(summary.titles).index("verdict")
    titles, *rows = map(list, (summary.titles, *summary.rows))
    for row in (titles, *rows):
        row.insert(0, row.pop(-from_end))
    return Table(titles, [[row[0] or "reference", *row[1:]] for row in rows])


def _advice(what_to_try: Sequence[str]) -> list[list[str]]:
    """Return each piece of advice as its sentence, followed by the lines to type or to paste."""
    return [text.strip("\n").split("\n") for text in what_to_try]


def _worst(report: Report, row: VariantReport, number: int) -> _Worst:
    parity = row.fidelity.parity
    name = f"Query {parity.worst_query}" if parity.worst_query else "The worst query"
    return _Worst(
        anchor=str(number),
        kind=row.kind,
        agrees_least=f"{name} agrees least, tau-b {parity.worst_query_tau:.3f}",
        queries=worst_queries(report, row),
        pairs=row.fidelity.worst_pairs,
        is_open=row.verdict != "pass",
    )


def _check_row(row: VariantReport, check: Check, worst: _Worst, shown: Collection[str]) -> _CheckRow:
    return _CheckRow(
        row.kind,
        check,
        why(check),
        reason(check),
        observed(check),
        interval_picture(check),
        _links(check, worst, shown),
    )


def _links(check: Check, worst: _Worst, shown: Collection[str]) -> list[tuple[str, str]]:
    """Return where the page shows what a check is of: its plots, worst queries and pairs, and tables."""
    links = []
    for title in ABOUT[check.name].shown_in if check.name in ABOUT else ():
        if title == WORST_QUERIES:
            links += [
                (f"Query {query.name}", f"query-{worst.anchor}-{i}")
                for i, query in enumerate(worst.queries, 1)
                if check.name in query.checks
            ]
        elif title == WORST_PAIRS:
            links += [(WORST_PAIRS, f"pairs-{worst.anchor}")] if worst.pairs else []
        elif title in shown:
            what = "Table" if title in TABLES else "Plot"
            links.append((f"{what}: {title}", _anchor(title)))
    return links
