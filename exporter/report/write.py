"""Write a report into an artifact in all its forms, and tell whether all forms there are of one report."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.advice import advice
from exporter.artifact.files import (
    PLANS,
    REPORT,
    REPORT_HTML,
    REPORT_MD,
    REPORT_XML,
    seal_of,
    sealed,
    to_python,
    write_together,
)
from exporter.artifact.plans import VerdictEntry, plans_bytes, sha256_of
from exporter.report.junit import junit
from exporter.report.text import markdown

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.advice import Tip
    from exporter.artifact.plans import Plans
    from exporter.recipe.schema import Recipe
    from exporter.report.report import Report


def write_report(report: Report, folder: Path) -> None:
    """Write a report into an artifact: report.json, sealed, and as people and CI systems read it.

    Raises:
        BackendError: the disk refuses; no file is changed then.
        BackendMissing: matplotlib or jinja2 is not installed.
    """
    write_together(folder, report_files(report))


def proven(report: Report, plans: Plans, recipe: Recipe) -> tuple[Report, dict[str, bytes]]:
    """Return a report that names the plans with its own verdicts in them, and the files of both.

    A reader that knows nothing of reports chooses by the verdicts beside the plans.

    Args:
        report: what was measured, and how it was judged.
        plans: the artifact's.
        recipe: what it is judged by, for advice on the page.

    Raises:
        BackendMissing: matplotlib or jinja2 is not installed.
    """
    judged = with_verdicts(report, plans)
    report = replace(report, plans_sha256=sha256_of(judged))
    return report, {PLANS: plans_bytes(judged), **report_files(report, recipe)}


def with_verdicts(report: Report, plans: Plans) -> Plans:
    """Return plans with the verdicts of a report."""
    isa, n_cores = report.machine.isa, report.machine.n_cores
    for row in report.variants:
        plans = plans.judged(row.kind, VerdictEntry(isa, n_cores, row.verdict, row.throughput.pairs_per_s))
    return plans


def report_files(report: Report, recipe: Recipe | None = None) -> dict[str, bytes]:
    """Return a report in all its forms, by file name, for `write_together`.

    report.json comes first: whoever is killed while the files take their names has lost nothing, and the next
    run finds by `is_complete` that the rest is to be made.

    Args:
        report: what was measured, and how it was judged.
        recipe: what it is judged by, for advice on the page; none is given without it.

    Raises:
        BackendMissing: matplotlib or jinja2 is not installed.
    """
    from exporter.report.html import html

    what_to_try = [_as_text(tip) for tip in advice(report, recipe)] if recipe else []
    content = to_python(report)
    seal = _made_of(seal_of(content))
    texts = {REPORT_MD: markdown(report), REPORT_XML: junit(report), REPORT_HTML: html(report, what_to_try)}
    forms = {name: f"{text.rstrip()}\n{seal}\n".encode() for name, text in texts.items()}
    return {REPORT: sealed(content), **forms}


def _as_text(tip: Tip) -> str:
    return "\n".join(part for part in (f"{tip.kind}: {tip.text}", tip.yaml.rstrip(), tip.command) if part)


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
