"""A report that no measurement gives is refused; whatever a measurement gives is not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from exporter.artifact.files import REPORT, to_python, write_sealed
from exporter.errors import IntegrityError
from exporter.gate import Check
from exporter.report.html import html
from exporter.report.plausible import implausible
from exporter.report.read import read_report_file
from exporter.report.report import Report
from tests.factories import a_fidelity, a_ratio, a_report, a_run, a_throughput, a_variant_report


def with_row(**changes: object) -> Report:
    """Return a report of one variant, some of its parts changed."""
    return a_report(variants=(a_variant_report(**changes),))


def test_what_is_measured_is_plausible() -> None:
    """A usual report, one without scores, and one of a bad candidate with negative figures."""
    report = a_report()
    assert implausible(report) is None
    reduced = dataclasses.replace(report.reference, scores=())
    rows = tuple(
        dataclasses.replace(row, fidelity=dataclasses.replace(row.fidelity, scores=()))
        for row in report.variants
    )
    assert implausible(a_report(reference=reduced, variants=rows)) is None
    assert implausible(with_row(speedup_tuned=a_ratio(value=0.5, low=0.4, high=0.6, drift=-0.2))) is None
    assert implausible(with_row(fidelity=a_fidelity(scores=(-5.0, None, 1e30 * 0, -1.0)))) is None


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (
            with_row(throughput=a_throughput(pairs_per_s=0.0)),
            "throughput.pairs_per_s is 0, which no measurement",
        ),
        (with_row(throughput=a_throughput(runs=(a_run(peak_rss_bytes=0),))), "runs.0.peak_rss_bytes is 0"),
        (with_row(throughput=a_throughput(runs=())), "onnx was not run"),
        (with_row(throughput=a_throughput(runs=(a_run(seconds=()),))), "onnx was not run"),
        (with_row(throughput=a_throughput(runs=(a_run(seconds=(0.0,)),))), "seconds.0 is 0"),
        (with_row(fidelity=a_fidelity(size_bytes=-1)), "fidelity.size_bytes is -1"),
        (with_row(fidelity=a_fidelity(size_ratio=1e300)), "fidelity.size_ratio is 1e+300"),
        (with_row(fidelity=a_fidelity(scores=(1.0,))), "do not score the same pairs"),
        (with_row(checks=(Check("min_speedup", 2.0, "≥ 1.5", "pass", low=1.9),)), "one end of an interval"),
        (a_report(variants=(a_variant_report(), a_variant_report())), "a kind is there twice"),
        (
            a_report(pairs=dataclasses.replace(a_report().pairs, labels=(1,))),
            "1 labels of 4 pairs",
        ),
    ],
)
def test_what_no_measurement_gives(tmp_path: Path, report: Report, words: str) -> None:
    """Refused with 4 and where it stands, before a ratio is taken of it."""
    write_sealed(tmp_path / REPORT, to_python(report))
    with pytest.raises(IntegrityError) as caught:
        read_report_file(tmp_path / REPORT)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


def test_plot_that_cannot_be_drawn() -> None:
    """Scores of 10^30, as a broken candidate gives them, leave plots out, and the page is whole."""
    page = html(with_row(fidelity=a_fidelity(scores=(1e30, 1e30, -1e300, 5.0))))
    assert page.rstrip().endswith("</html>")
    assert "Plans tried" in page
