"""What the page tells of a check: why it failed, where it is shown, and how both sides rank its queries."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from exporter.gate import Check, judge
from exporter.measure.fidelity import EngineDefault
from exporter.report.columns import COLUMNS, RANKING
from exporter.report.explained import ABOUT, interval_picture, why
from exporter.report.html import html
from exporter.report.rankings import worst_queries
from exporter.report.report import PairSetInfo
from tests.factories import (
    a_fidelity,
    a_parity,
    a_ratio,
    a_report,
    a_throughput,
    a_variant_report,
    an_int8_fidelity,
    bars,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.report.report import Report

TAU = Check("min_kendall_tau", 0.7, "≥ 0.9", "fail", low=0.6, high=0.8, note="2 queries")
UNSURE = Check("min_top1_agreement", 0.9, "≥ 0.9", "invalid", "the interval holds the bar", 0.8, 0.95)
EXACT = Check("max_abs_diff", 0.75, "≤ 0.5", "fail", note="of 4 pairs")


class Page(HTMLParser):
    """The ids of a page, its links on itself, and its text: whole, by element that has an id, by cell."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.headers: set[str] = set()
        self.terms: set[str] = set()
        self.rows: list[list[str]] = []
        self._at = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found: Mapping[str, str | None] = dict(attrs)
        self.ids += [str(found["id"])] if "id" in found else []
        if tag == "a":
            self.links.append(str(found["href"]))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag in ("td", "th", "dt"):
            self._at = tag

    def handle_endtag(self, tag: str) -> None:
        self._at = "" if tag == self._at else self._at

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._at == "th":
            self.headers.add(data)
        if self._at == "dt":
            self.terms.add(data)
        if self._at in ("td", "th"):
            self.rows[-1][-1] += data


def of_two_queries(candidate: tuple[float | None, ...], *checks: Check) -> Report:
    """Return a report of queries `a` and `b` of three passages each; the reference ranks them as they are."""
    fidelity = a_fidelity(
        scores=candidate,
        parity=a_parity(query_taus=(1.0, 1 / 3), worst_query="b", worst_query_tau=1 / 3, farthest_query="b"),
    )
    row = a_variant_report(fidelity=fidelity, checks=checks, verdict=checks[0].outcome if checks else "pass")
    report = a_report(variants=(row,), verdict=row.verdict)
    return replace(
        report,
        reference=replace(report.reference, scores=(3.0, 2.0, 1.0, 3.0, 2.0, 1.0)),
        pairs=PairSetInfo(
            "made up", "2" * 64, 6, 2, ("a", "b"), query_of=(0, 0, 0, 1, 1, 1), labels=(1, 0, 0, 2, 1, 0)
        ),
    )


SWAPPED = (3.0, 2.0, 1.0, 2.25, 2.5, 1.0)


def test_a_failed_check_has_its_reason_interval_and_links() -> None:
    """Each is said in words, and every link leads to something on the page."""
    page = Page(html(of_two_queries(SWAPPED, TAU, UNSURE, EXACT)))
    assert "Why it failed" in page.text
    for said in (
        "Observed 0.7; the whole 95 % interval, 0.6 to 0.8, is on the wrong side of the bar, ≥ 0.9; its "
        "upper end is 0.1 short. 2 queries.",
        "No verdict: the interval holds the bar. Observed 0.9, 95 % interval 0.8 to 0.95; all of it has to "
        "be ≥ 0.9.",
        "Observed 0.75, wanted ≤ 0.5; 0.25 too much; exact, no interval. Of 4 pairs.",
    ):
        assert said in page.text
    assert {"#rank-agreement-by-query", "#query-1-1", "#differences", "#pairs-1"} <= set(page.links)
    assert all(page.ids.count(link[1:]) == 1 for link in page.links)


def test_nothing_failed() -> None:
    """A page of a pass explains no failure and gives no advice; its checks have links all the same."""
    page = Page(html(a_report()))
    assert "Why" not in page.text
    assert "What to try" not in page.text
    assert "#rank-agreement-by-query" in page.links


def test_no_verdict() -> None:
    """A page of an invalid report says why there is no verdict."""
    page = Page(html(of_two_queries(SWAPPED, UNSURE)))
    assert "Why there is no verdict" in page.text
    assert "Why it failed" not in page.text


def test_both_orders_side_by_side() -> None:
    """By hand: b's first two passages change places; a, ranked alike, is not shown."""
    page = Page(html(of_two_queries(SWAPPED, TAU)))
    at = page.rows.index(["rank", "pair", "label", "score", "▲▼", "pair", "label", "score", "diff"])
    assert page.rows[at + 1 : at + 4] == [
        ["1", "4", "2", "3.00", "▲1", "5", "1", "2.50", "+0.50"],
        ["2", "5", "1", "2.00", "▼1", "4", "2", "2.25", "-0.75"],
        ["3", "6", "0", "1.00", "", "6", "0", "1.00", "+0.00"],
    ]
    assert "Query b: tau-b 0.333" in page.text
    assert "another first, 1.00 lower by the reference" in page.text
    assert "Query a" not in page.text


def test_ndcg_lost_by_hand() -> None:
    """Labels 2, 1, 0 as 1, 2, 0: (1 + 2 / log2(3)) / (2 + 1 / log2(3)) = 0.860."""
    report = of_two_queries(SWAPPED, TAU)
    (query,) = worst_queries(report, report.variants[0])
    assert "nDCG@10 1.000 → 0.860" in query.reasons
    assert query.checks >= {"min_kendall_tau", "min_ndcg_retained", "min_top1_agreement"}


def test_a_score_that_is_not_finite_ranks_last() -> None:
    """It is named, and has no difference."""
    page = Page(html(of_two_queries((3.0, 2.0, 1.0, None, 2.0, 1.0), TAU)))
    assert ["3", "6", "0", "1.00", "▼2", "4", "2", "not finite", ""] in page.rows


def test_ranked_alike() -> None:
    """No ranking is shown where the candidate has the reference's order everywhere."""
    report = of_two_queries((3.0, 2.0, 1.0, 2.9, 1.9, 0.9), EXACT)
    row = report.variants[0]
    parity = replace(row.fidelity.parity, query_taus=(1.0, 1.0))
    row = replace(row, fidelity=replace(row.fidelity, parity=parity))
    assert worst_queries(report, row) == []
    assert "No query's order differs" in html(replace(report, variants=(row,)))


@pytest.mark.parametrize(
    "changes",
    [
        {"query_of": (), "query_ids": (), "labels": None},
        {"query_of": (0, 0, 0, 1, 1, 7)},
        {"query_of": (0, 0, 0, 1, 1, -1)},
        {"query_of": (0, 0, 0)},
        {"labels": (1,)},
    ],
    ids=["left out", "no such query", "below none", "of other pairs", "labels of others"],
)
def test_rankings_of_pairs_that_are_not_there(changes: dict[str, object]) -> None:
    """Where they were left out, or are a stranger's and of other pairs, there are none."""
    report = of_two_queries(SWAPPED, TAU)
    report = replace(report, pairs=replace(report.pairs, **changes))  # type: ignore[arg-type] # values of any field, by name
    assert worst_queries(report, report.variants[0]) == []
    assert Page(html(report)).links


def test_published_without_texts_and_scores() -> None:
    """Sections that are built on what was left out vanish, and no link leads to them."""
    report = of_two_queries(SWAPPED, TAU, EXACT)
    row = report.variants[0]
    bare = replace(row.fidelity, scores=(), worst_pairs=(), worst_query="")
    report = replace(
        report,
        variants=(replace(row, fidelity=bare),),
        reference=replace(report.reference, scores=()),
        pairs=replace(report.pairs, query_ids=(), query_of=(), labels=None),
    )
    page = Page(html(report))
    assert "Worst" not in page.text
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert "0.6 to 0.8" in page.text


def test_what_to_try() -> None:
    """Advice is a sentence, and below it what to type, as text; the same report gives the same page."""
    advice = ("Static int8 keeps <more>.\nkind: onnx-int8-static\nisa: avx2", "Ask 300 queries.")
    report = of_two_queries(SWAPPED, TAU)
    page = html(report, advice)
    assert page == html(report, advice)
    assert "<pre>kind: onnx-int8-static\nisa: avx2</pre>" in page
    assert "Static int8 keeps &lt;more&gt;." in page
    assert page.index("Why it failed") < page.index("What to try") < page.index('id="checks"')


def test_outcomes_come_first() -> None:
    """What came of it stands in the first column, which a phone shows."""
    page = Page(html(of_two_queries(SWAPPED, TAU)))
    rows = [row[:2] for row in page.rows]
    assert ["FAIL", "onnx"] in rows
    assert ["reference", "torch tuned"] in rows
    assert ["fail", "min_kendall_tau"] in rows


def test_every_column_is_explained() -> None:
    """Of a report with all there can be, no column is without its line in a list below a table."""
    half = a_throughput(side="torch bfloat16")
    default = EngineDefault(0.01, 0.99, 100.0, 90.0)
    row = a_variant_report("onnx-int8", fidelity=an_int8_fidelity(), engine_default=default)
    report = of_two_queries(SWAPPED, TAU)
    reference = replace(report.reference, bfloat16=half)
    rows = tuple(replace(row, speedup_bf16=a_ratio()) for row in (*report.variants, row))
    report = replace(report, variants=rows, reference=reference)
    page = Page(html(report))
    assert page.headers - {"reference", "candidate"} <= page.terms
    assert page.headers <= {*COLUMNS, *RANKING, "reference", "candidate"}


def test_every_check_is_explained() -> None:
    """Each that the gate makes says what it measures, and where it is shown."""
    wanted = bars(
        min_ndcg_retained=0.9,
        min_kendall_tau=0.9,
        min_top1_agreement=0.9,
        min_top10_overlap=0.9,
        max_abs_diff=1.0,
        max_batch_delta=1.0,
        max_size_ratio=1.0,
        min_speedup=1.0,
    )
    checks = [
        check for found in (a_fidelity(), an_int8_fidelity()) for check in judge(wanted, found, a_ratio())
    ]
    assert {check.name for check in checks} == set(ABOUT)


@pytest.mark.parametrize(
    "check",
    [
        Check("x", 0.5, "", "fail", low=0.4, high=0.6),
        Check("x", 0.5, "≥ much", "fail", low=0.4, high=0.6),
        Check("x", float("nan"), "≥ 0.9", "fail", low=0.4, high=0.6),
        Check("x", 0.5, "≥ 0.5", "fail", low=0.5, high=0.5),
        Check("x", 0.5, "≥ 0.9", "fail"),
    ],
)
def test_no_picture_of_what_is_no_interval(check: Check) -> None:
    """A bar without a number, what is not finite, or an interval without a width are told in words only."""
    assert interval_picture(check) == ""
    assert why(check)


def test_picture_by_hand() -> None:
    """From 0.6 to the bar at 0.9: the interval's middle is a third along, its end two thirds."""
    picture = interval_picture(TAU)
    assert 'x1="8.0" x2="104.0"' in picture
    assert 'cx="56.0"' in picture
    assert 'x1="152.0" x2="152.0"' in picture


def test_a_pass_has_nothing_to_explain() -> None:
    """Its numbers stand in the table."""
    assert why(replace(TAU, outcome="pass")) == ""
