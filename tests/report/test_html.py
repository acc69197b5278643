"""The page: whole, self-contained, and safe to open."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

from exporter.artifact.files import sealed_schema
from exporter.gate import Check
from exporter.measure.lengths import PairScore
from exporter.report.html import html
from exporter.report.junit import junit
from exporter.report.report import Report
from tests.factories import a_fidelity, a_not_judged, a_report, a_variant_report

EVIL = "<script>alert('x')</script>\x07"


class Page(HTMLParser):
    """Collects what a page loads, runs and leaves open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")
        ]


def test_page_needs_nothing_else() -> None:
    """No script, and nothing is loaded but what the page holds."""
    page = Page(html(a_report()))
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert [what for what in page.loads if not what.startswith(("#", "data:"))] == []


def test_page_says_what_counts() -> None:
    """Verdict first, then every check, seven plots, the worst queries and pairs, and how to do it again."""
    page = html(a_report())
    assert (
        page.index('class="verdict pass"')
        < page.index(">Checks<")
        < page.index(">Plots<")
        < page.index(">Worst queries")
    )
    assert len(re.findall("<figure ", page)) == 7
    assert len(re.findall(r"</figcaption><svg", page)) == 7
    for words in (
        "tiny",
        "Some CPU",
        "onnx-int8",
        "min_kendall_tau",
        "a passage",
        "exporter gate tiny",
        "0" * 64,
        "docs/glossary.md",
    ):
        assert words in page


def test_failures_come_first() -> None:
    """A reader sees what failed before what passed."""
    checks = (Check("fine", 1, "≥ 0", "pass"), Check("wrong", 0, "≥ 1", "fail", "in one place"))
    page = html(a_report(variants=(a_variant_report(checks=checks, verdict="fail"),), verdict="fail"))
    assert page.index(">wrong<") < page.index(">fine<")
    assert "in one place" in page


def test_texts_of_strangers_are_text() -> None:
    """Names and passages cannot run in the reader's browser, nor break the XML."""
    pair = PairScore(0, EVIL, EVIL, EVIL, 3, reference=0.0, candidate=None)
    check = Check("wrong", 0, "≥ 1", "fail", f"query {EVIL}")
    row = a_variant_report(
        fidelity=a_fidelity(worst_pairs=(pair,)), checks=(check,), verdict="fail", facts=(EVIL,)
    )
    report = a_report(name="tiny", variants=(row,), verdict="fail")
    page = html(report)
    assert "script" not in Page(page).tags
    assert "not finite" in page
    assert EVIL[:-1] in next(ET.fromstring(junit(report)).iter("failure")).attrib["message"]


def test_page_without_labels() -> None:
    """Where there are no labels there is a page all the same."""
    assert "no labels" in html(a_report(variants=(a_variant_report(fidelity=a_fidelity(quality=None)),)))


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_as_many_panels_as_variants(n: int) -> None:
    """One variant or five, each has its panel under its name."""
    kinds = ["onnx", "onnx-int8", "openvino", "openvino-fp16", "openvino-int8"][:n]
    page = html(a_report(variants=tuple(a_variant_report(kind) for kind in kinds)))
    assert len(re.findall("<figure ", page)) == 7


def test_page_of_what_was_not_judged() -> None:
    """A variant that this CPU cannot run has its line and no panel; a page of nothing else has no plots."""
    page = html(a_report(not_judged=(a_not_judged(),)))
    assert "openvino-bf16: not judged, needs a CPU with avx512_bf16 or amx_bf16" in page
    assert len(re.findall("<figure ", page)) == 7
    page = html(a_report(variants=(), not_judged=(a_not_judged(),), verdict="not judged"))
    assert 'class="verdict not-judged"' in page
    assert "<figure" not in page


def test_junit_of_what_was_not_judged() -> None:
    """A variant that this CPU cannot run is a skipped test with the reason."""
    found = ET.fromstring(junit(a_report(variants=(), not_judged=(a_not_judged(),))))
    (suite,) = found.iter("testsuite")
    assert (suite.attrib["name"], suite.attrib["skipped"], suite.attrib["failures"]) == (
        "tiny openvino-bf16 on Some CPU, avx2, 2 cores",
        "1",
        "0",
    )
    assert next(suite.iter("skipped")).attrib["message"] == "needs a CPU with avx512_bf16 or amx_bf16"


def test_junit_by_hand() -> None:
    """A suite a variant; a failure for what failed, an error for no verdict, a skip where not judged."""
    checks = (
        Check("a", 1, "≥ 0", "pass"),
        Check("b", 0, "≥ 1", "fail"),
        Check("c", 2, "≥ 1", "invalid", "the interval holds the bar", low=0.5, high=3, note="3 rounds"),
        Check("d", 0, "≤ 1", "not judged", "too few pairs to tell: 3 pairs, 8 needed"),
    )
    found = ET.fromstring(junit(a_report(variants=(a_variant_report(checks=checks),))))
    (suite,) = found.iter("testsuite")
    assert {key: suite.attrib[key] for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
    }
    assert [case.attrib["name"] for case in suite.iter("testcase")] == ["a", "b", "c", "d"]
    said = "2 (0.5 to 3), bar ≥ 1, the interval holds the bar; 3 rounds"
    assert next(suite.iter("error")).attrib["message"] == said
    said = "bar ≤ 1, too few pairs to tell: 3 pairs, 8 needed"
    assert next(suite.iter("skipped")).attrib["message"] == said


def test_schema_names_every_field() -> None:
    """The published schema has the report's fields, and its seal."""
    properties = sealed_schema(Report)["properties"]
    assert isinstance(properties, dict)
    assert {"sha256", "schema", "verdict", "variants", "reference"} <= properties.keys()
