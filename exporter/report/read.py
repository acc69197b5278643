"""Read the reports of an artifact, or one that lies anywhere, and refuse what no measurement gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from exporter.artifact.files import PLANS, REPORT, from_python, machine_reports, read_sealed
from exporter.artifact.plans import read_plans
from exporter.errors import IntegrityError, RecipeError
from exporter.invocation import command
from exporter.report.machines import Reports, other_plan, other_verdict, report_path
from exporter.report.plausible import implausible
from exporter.report.report import READ_SCHEMAS, REPORT_SCHEMA, Report

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.artifact.manifest import Manifest
    from exporter.machine import Machine

_OTHER_PLANS = f"was measured with other plans than {PLANS} has, and a plan moves the scores of dynamic int8"


def read_report(folder: Path, manifest: Manifest) -> Report:
    """Read an artifact's newest report; see `read_reports`."""
    return read_reports(folder, manifest).newest


def read_reports(folder: Path, manifest: Manifest) -> Reports:
    """Read an artifact's reports and check that they are about these files, and agree with its plans.

    Those of other files in `reports/`, which somebody left or put there, are passed over.

    Raises:
        RecipeError: there is none yet.
        IntegrityError: one was changed, is of another schema, of another machine than its name says, or of
            other plans or verdicts than plans.json; or report.json is of other files than the manifest's, or
            is none of those in `reports/`.
    """
    if not (folder / REPORT).is_file():
        raise RecipeError(
            f"{folder} was not verified yet, it has no {REPORT}; run `{command('verify', folder)}`"
        )
    newest = read_report_file(folder / REPORT)
    if newest.manifest_root != manifest.root:
        raise IntegrityError(
            f"{folder / REPORT} is about other files (root {newest.manifest_root[:12]}, the manifest's is "
            f"{manifest.root[:12]}); run `{command('verify', folder)}`"
        )
    others = other_reports(folder, manifest, newest.machine)
    path = report_path(newest.machine)
    # Before there were reports by machine, there was no such folder.
    if (others or (folder / path).exists()) and not _same_bytes(folder, path):
        raise IntegrityError(
            f"{folder / REPORT} is not the same as {path}, its own machine's; "
            f"run `{command('verify', folder)}`"
        )
    reports, plans = Reports(newest, others), read_plans(folder, manifest)
    if other_plan(newest, plans):
        raise IntegrityError(f"{folder / REPORT} {_OTHER_PLANS}; run `{command('verify', folder)}`")
    if kind := other_verdict(reports, plans):
        raise IntegrityError(
            f"{folder / PLANS} has another verdict of {kind} than the reports; "
            f"run `{command('verify', folder)}`"
        )
    return reports


def other_reports(folder: Path, manifest: Manifest, machine: Machine) -> tuple[Report, ...]:
    """Read the reports of all other machine types than one, the newest first.

    Raises:
        IntegrityError: one was changed, is of another schema, of another machine than its name says, or of
            other plans than plans.json has.
    """
    found, plans = [], read_plans(folder, manifest)
    for path in machine_reports(folder):
        if path == report_path(machine):
            continue
        way_on = f"verify it again on that machine, or delete {path}"
        try:
            report = read_report_file(folder / path)
        except IntegrityError as error:
            raise IntegrityError(f"{error}; {way_on}") from None
        if report_path(report.machine) != path:
            raise IntegrityError(f"{folder / path} is of another machine, {report.machine}; {way_on}")
        if report.manifest_root != manifest.root:
            continue
        if other_plan(report, plans):
            raise IntegrityError(f"{folder / path} {_OTHER_PLANS}; {way_on}")
        found.append(report)
    return tuple(sorted(found, key=lambda one: (one.started_at, report_path(one.machine)), reverse=True))


def _same_bytes(folder: Path, path: str) -> bool:
    try:
        return (folder / path).read_bytes() == (folder / REPORT).read_bytes()
    except OSError:
        return False


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
    if content.get("schema") not in READ_SCHEMAS:
        raise IntegrityError(f"{path}: schema {content.get('schema')}, this exporter reads {REPORT_SCHEMA}")
    try:
        report = from_python(Report, {**content, "schema": REPORT_SCHEMA})
    except ValidationError as error:
        raise IntegrityError(f"{path}: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from None
    if (found := implausible(report)) is not None:
        raise IntegrityError(f"{path}: {found}")
    return report
