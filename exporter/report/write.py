"""Write a report into an artifact in all its forms, and tell whether all forms there are of one report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.artifact.files import (
    REPORT,
    REPORT_HTML,
    REPORT_MD,
    REPORT_XML,
    seal_of,
    sealed,
    to_python,
    write_together,
)
from exporter.report.junit import junit
from exporter.report.text import markdown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from exporter.report.report import Report


def write_report(report: Report, folder: Path) -> None:
    """Write a report into an artifact: report.json, sealed, and as people and CI systems read it.

    Raises:
        BackendError: the disk refuses; no file is changed then.
        BackendMissing: matplotlib or jinja2 is not installed.
    """
    write_together(folder, report_files(report))


def report_files(report: Report, what_to_try: Sequence[str] = ()) -> dict[str, bytes]:
    """Return a report in all its forms, by file name, for `write_together`.

    report.json comes first: whoever is killed while the files take their names has lost nothing, and the next
    run finds by `is_complete` that the rest is to be made.

    Args:
        report: what was measured, and how it was judged.
        what_to_try: advice for the page, see `exporter.report.html.html`.

    Raises:
        BackendMissing: matplotlib or jinja2 is not installed.
    """
    from exporter.report.html import html

    content = to_python(report)
    seal = _made_of(seal_of(content))
    texts = {REPORT_MD: markdown(report), REPORT_XML: junit(report), REPORT_HTML: html(report, what_to_try)}
    forms = {name: f"{text.rstrip()}\n{seal}\n".encode() for name, text in texts.items()}
    return {REPORT: sealed(content), **forms}


def is_complete(report: Report, folder: Path) -> bool:
    """Return whether each form of a report is there, whole, and made of just this report."""
    seal = f"\n{_made_of(seal_of(to_python(report)))}\n".encode()
    return all(_ends_with(folder / name, seal) for name in (REPORT_MD, REPORT_XML, REPORT_HTML))


def _made_of(seal: str) -> str:
    """Return a form's last line, a comment in Markdown, XML and HTML alike; what was cut off lacks it."""
    return f"<!-- made of {REPORT} {seal} -->"


def _ends_with(path: Path, line: bytes) -> bool:
    try:
        return path.read_bytes().endswith(line)
    except OSError:
        return False
