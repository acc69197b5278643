"""Write a report into an artifact in all its forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.artifact.files import REPORT, REPORT_HTML, REPORT_MD, REPORT_XML, to_python, write_sealed
from exporter.errors import BackendError
from exporter.report.junit import junit
from exporter.report.text import markdown

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.report.report import Report


def write_report(report: Report, folder: Path) -> None:
    """Write a report into an artifact: report.json, sealed, and as people and CI systems read it.

    Raises:
        BackendError: the disk refuses.
    """
    from exporter.report.html import html

    write_sealed(folder / REPORT, to_python(report))
    for name, text in (
        (REPORT_MD, markdown(report)),
        (REPORT_XML, junit(report)),
        (REPORT_HTML, html(report)),
    ):
        try:
            (folder / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise BackendError(f"{folder / name}: cannot be written: {error.strerror}") from error
