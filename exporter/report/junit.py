"""The checks as JUnit XML, for CI systems."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from exporter.report.report import Report


def junit(report: Report) -> str:
    """Give the checks as JUnit XML: a suite per variant, a failure for each missed bar, an error for each without a verdict.

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
            why = "".join(
                c if c.isprintable() else "?" for c in check.why
            )  # XML has no control characters, not even escaped
            said = f"{check.observed:.6g}, bar {check.bar}{f': {why}' if why else ''}"
            if check.outcome == "pass":
                ET.SubElement(case, "system-out").text = said
            else:
                ET.SubElement(case, {"fail": "failure", "invalid": "error"}[check.outcome], message=said)
        found = [check.outcome for check in row.checks]
        suite.attrib |= {
            "tests": str(len(found)),
            "failures": str(found.count("fail")),
            "errors": str(found.count("invalid")),
        }
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"
