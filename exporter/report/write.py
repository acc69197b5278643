"""Write an artifact's reports in all their forms, and tell whether all forms there are of just these."""

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
)
from exporter.artifact.plans import plans_bytes, read_plans
from exporter.report.junit import junit
from exporter.report.machines import chosen, report_path, verdicts_of
from exporter.report.text import markdown

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.advice import Tip
    from exporter.artifact.manifest import Manifest
    from exporter.artifact.plans import Plans
    from exporter.recipe.schema import Recipe
    from exporter.report.machines import Reports


def report_files(
    reports: Reports, manifest: Manifest, plans: Plans, recipe: Recipe | None = None
) -> dict[str, bytes]:
    """Return an artifact's reports in all their forms, by file name, for `write_together`.

    The data come first, see `data_files`: whoever is killed while the files take their names has lost
    nothing, and the next run finds by `is_complete` that the rest is to be made.

    Args:
        reports: what was measured, and how it was judged.
        manifest: the artifact's.
        plans: the artifact's; its verdicts are replaced by those of the reports.
        recipe: what is judged by, for advice on the page; none is given without it.

    Raises:
        BackendMissing: matplotlib or jinja2 is not installed.
    """
    from exporter.report.html import html

    plans = with_verdicts(reports, plans)
    newest, others = reports.newest, reports.others
    loaded = chosen(reports, manifest, plans)
    what_to_try = [_as_text(tip) for tip in advice(newest, recipe)] if recipe else []
    texts = {
        REPORT_MD: markdown(newest, others, loaded),
        REPORT_XML: junit(newest, others),
        REPORT_HTML: html(newest, what_to_try, others, loaded),
    }
    seal = _made_of(reports)
    forms = {name: f"{text.rstrip()}\n{seal}\n".encode() for name, text in texts.items()}
    return {**data_files(reports, plans), **forms}


def data_files(reports: Reports, plans: Plans) -> dict[str, bytes]:
    """Return each machine's report, report.json, and plans.json with the verdicts of all reports.

    A reader that knows nothing of reports chooses by the verdicts beside the plans.
    """
    by_machine = {report_path(one.machine): sealed(to_python(one)) for one in reports}
    newest = by_machine[report_path(reports.newest.machine)]
    return {**by_machine, REPORT: newest, PLANS: plans_bytes(with_verdicts(reports, plans))}


def with_verdicts(reports: Reports, plans: Plans) -> Plans:
    """Return plans with the verdicts of an artifact's reports, and no others."""
    return replace(plans, verdicts=verdicts_of(reports))


def _as_text(tip: Tip) -> str:
    return "\n".join(part for part in (f"{tip.kind}: {tip.text}", tip.yaml.rstrip(), tip.command) if part)


def is_complete(reports: Reports, manifest: Manifest, folder: Path) -> bool:
    """Return whether each form of an artifact's reports is there, whole, and made of just these reports."""
    seal = f"\n{_made_of(reports)}\n".encode()
    has_forms = all(_ends_with(folder / name, seal) for name in (REPORT_MD, REPORT_XML, REPORT_HTML))
    has_data = all((folder / report_path(one.machine)).is_file() for one in reports)
    return has_forms and has_data and read_plans(folder, manifest).verdicts == verdicts_of(reports)


def _made_of(reports: Reports) -> str:
    """Return a form's last line, a comment in Markdown, XML and HTML alike; what was cut off lacks it."""
    return f"<!-- made of {REPORT} {', '.join(seal_of(to_python(one)) for one in reports)} -->"


def _ends_with(path: Path, line: bytes) -> bool:
    try:
        return path.read_bytes().endswith(line)
    except OSError:
        return False
