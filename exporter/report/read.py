"""Read a report, an artifact's or one that lies anywhere, and refuse what no measurement gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from exporter.artifact.files import PLANS, REPORT, from_python, read_sealed
from exporter.artifact.plans import plans_sha256
from exporter.errors import IntegrityError, RecipeError
from exporter.report.plausible import implausible
from exporter.report.report import REPORT_SCHEMA, Report

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.artifact.manifest import Manifest


def read_report(folder: Path, manifest: Manifest) -> Report:
    """Read an artifact's report and check that it is about these files.

    Raises:
        RecipeError: there is none yet.
        IntegrityError: it was changed, is of another schema, or of other files than the manifest's.
    """
    if not (folder / REPORT).is_file():
        raise RecipeError(
            f"{folder} was not verified yet, it has no {REPORT}; run `exporter verify {folder}`"
        )
    report = read_report_file(folder / REPORT)
    if report.manifest_root != manifest.root:
        raise IntegrityError(
            f"{folder / REPORT} is about other files (root {report.manifest_root[:12]}, the manifest's is "
            f"{manifest.root[:12]}); run `exporter verify {folder}`"
        )
    if report.plans_sha256 != plans_sha256(folder):
        raise IntegrityError(
            f"{folder / REPORT} was measured with other plans than {folder / PLANS} has, and a plan moves "
            f"the scores of dynamic int8; run `exporter verify {folder}`"
        )
    return report


def read_report_file(path: Path) -> Report:
    """Read a report wherever it lies, without the artifact it is about.

    Raises:
        RecipeError: there is no such file.
        IntegrityError: it was changed since it was written, is of another schema, or says what no measurement
            gives.
    """
    if not path.is_file():
        raise RecipeError(f"{path}: no such report")
    content = read_sealed(path)
    if content.get("schema") != REPORT_SCHEMA:
        raise IntegrityError(f"{path}: schema {content.get('schema')}, this exporter reads {REPORT_SCHEMA}")
    try:
        report = from_python(Report, content)
    except ValidationError as error:
        raise IntegrityError(f"{path}: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from None
    if (found := implausible(report)) is not None:
        raise IntegrityError(f"{path}: {found}")
    return report
