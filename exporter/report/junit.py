"""The checks as JUnit XML, for CI systems."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from exporter.escape import one_line
from exporter.report.machines import report_path
from exporter.report.words import observed, reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.report.report import Report

_ELEMENTS = {"fail": "failure", "invalid": "error", "not judged": "skipped"}


def junit(newest: Report, others: Sequence[Report] = ()) -> str:
    """Return the checks as JUnit XML, a suite per machine and variant, whose names hold both.

    A missed bar is a failure, a check without a verdict an error; a check or a variant that was not judged
    is skipped.

    Source: https://github.com/testmoapp/junitxml
    """
    suites = ET.Element("testsuites", name=one_line(newest.name))
    for report in (newest, *others):
        _add(suites, report)
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _add(suites: ET.Element, report: Report) -> None:
    machine, slug = report.machine, PurePosixPath(report_path(report.machine)).stem
    for row in report.variants:
        found = [check.outcome for check in row.checks]
        suite = _below(
            suites,
            "testsuite",
            name=f"{report.name} {row.kind} on {machine}",
            timestamp=report.started_at,
            tests=str(len(found)),
            failures=str(found.count("fail")),
            errors=str(found.count("invalid")),
            skipped=str(found.count("not judged")),
        )
        for check in row.checks:
            of = f"{report.name}.{row.kind}.{slug}"
            case = _below(suite, "testcase", classname=of, name=check.name, time="0")
            text = ", ".join(part for part in (observed(check), f"bar {check.bar}", reason(check)) if part)
            if check.outcome == "pass":
                _below(case, "system-out").text = one_line(text)
            else:
                _below(case, _ELEMENTS[check.outcome], message=text)

    for skipped in report.not_judged:
        suite = _below(
            suites,
            "testsuite",
            name=f"{report.name} {skipped.kind} on {machine}",
            timestamp=report.started_at,
            tests="1",
            failures="0",
            errors="0",
            skipped="1",
        )
        of = f"{report.name}.{skipped.kind}.{slug}"
        case = _below(suite, "testcase", classname=of, name="verdict", time="0")
        _below(case, "skipped", message=skipped.why)


def _below(parent: ET.Element, tag: str, **attributes: str) -> ET.Element:
    """Add an element; what XML cannot hold in its attributes is shown as an escape."""
    return ET.SubElement(parent, tag, {name: one_line(text) for name, text in attributes.items()})
