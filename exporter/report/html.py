"""The report as one page that needs nothing else: verdict, checks, plots, tables, worst pairs.

The words stand in `report.html.j2` and, as in Markdown, in `text.py`; the plots come from `plots.py`.
Everything from outside (names, texts) is escaped as it is put into the template.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from exporter.escape import one_line
from exporter.packages import missing
from exporter.report.plots import draw_figures
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
    from exporter.report.report import Report


_TEMPLATE = Path(__file__).with_name("report.html.j2")


def html(report: Report) -> str:
    """Return the page.

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

    environment = Environment(autoescape=True, finalize=seen, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        report=report,
        legend=" ".join((LEGEND, *reference_lines(report))),
        summary=table(report),
        figures=figures,
        sections=[(title, parts) for title, parts in sections(report) if title not in ("Checks", WORST)],
        is_table=lambda part: isinstance(part, Table),
        not_judged=not_judged(report),
        observed=observed,
        reason=reason,
        speedup_text=speedup_text,
        left_out=left_out(report),
        terms=TERMS,
    )
