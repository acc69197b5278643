"""The checks as JUnit XML, for CI systems."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from exporter.report.words import observed, reason

if TYPE_CHECKING:
    from exporter.report.report import Report

_ELEMENTS = {"fail": "failure", "invalid": "error", "not judged": "skipped"}


def junit(report: Report) -> str:
    """Return the checks as JUnit XML, a suite per variant.

    A missed bar is a failure, a check without a verdict an error; a check or a variant that was not judged
    is skipped.

    Source: https://github.com/testmoapp/junitxml
    """
    suites = ET.Element("testsuites", name=report.name)
    for row in report.variants:
        suite = ET.SubElement(
            suites, "testsuite", name=f"{report.name} {row.kind}", timestamp=report.started_at
        )
        for check in row.checks:
            case = ET.SubElement(
                suite, "testcase", classname=f"{report.name}.{row.kind}", name=check.name, time="0"
            )
            text = ", ".join(part for part in (observed(check), f"bar {check.bar}", reason(check)) if part)
            if check.outcome == "pass":
                ET.SubElement(case, "system-out").text = _printable(text)
            else:
                ET.SubElement(case, _ELEMENTS[check.outcome], message=_printable(text))
        found = [check.outcome for check in row.checks]
        suite.attrib |= {
            "tests": str(len(found)),
            "failures": str(found.count("fail")),
            "errors": str(found.count("invalid")),
            "skipped": str(found.count("not judged")),
        }

    for skipped in report.not_judged:
        suite = ET.SubElement(
            suites,
            "testsuite",
            name=f"{report.name} {skipped.kind}",
            timestamp=report.started_at,
            tests="1",
            failures="0",
            errors="0",
            skipped="1",
        )
        case = ET.SubElement(
            suite, "testcase", classname=f"{report.name}.{skipped.kind}", name="verdict", time="0"
        )
        ET.SubElement(case, "skipped", message=_printable(skipped.why))
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _printable(text: str) -> str:
    # XML has no control characters, not even escaped.
    return "".join(char if char.isprintable() else "?" for char in text)
