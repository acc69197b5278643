"""Two reports against each other: what is beyond noise, what is not, and what cannot be told."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from exporter.report.compare import compare_reports
from tests.factories import (
    a_fidelity,
    a_machine,
    a_not_judged,
    a_parity,
    a_ratio,
    a_report,
    a_run,
    a_throughput,
    a_variant_report,
)

if TYPE_CHECKING:
    from exporter.report.report import Report


def one(**changes: object) -> Report:
    """Return a report of one fp32 variant with something changed."""
    return a_report(variants=(a_variant_report(**changes),))


def changes(old: Report, new: Report) -> dict[str, str]:
    """Return the changes by what they are of."""
    return {finding.what: finding.change for finding in compare_reports(old, new)}


ALL = ("verdict", "nDCG@10", "Kendall tau-b", "speed-up over tuned torch", "peak RSS, MB", "size, MB")


def test_same_is_same() -> None:
    """A report against itself has nothing better and nothing worse."""
    assert changes(a_report(), a_report()) == dict.fromkeys(ALL, "same")


@pytest.mark.parametrize(
    ("low", "value", "high", "change"),
    [
        (2.2, 2.3, 2.4, "better"),
        (1.6, 1.7, 1.8, "worse"),
        (1.8, 1.85, 1.95, "same"),
        (2.05, 2.2, 2.3, "same"),
    ],
)
def test_speed_by_hand(low: float, value: float, high: float, change: str) -> None:
    """From 1.9 to 2.1: faster or slower only where the intervals do not meet, either way round."""
    old, new = one(), one(speedup_tuned=a_ratio(low=low, value=value, high=high))
    assert changes(old, new)["speed-up over tuned torch"] == change
    turned = {"better": "worse", "worse": "better", "same": "same"}[change]
    assert changes(new, old)["speed-up over tuned torch"] == turned


def test_ranking_that_fell_is_worse() -> None:
    """Every query's agreement fell by a tenth: beyond any noise."""
    new = one(fidelity=a_fidelity(parity=a_parity(query_taus=(0.7, *(0.89,) * 9))))
    assert changes(one(), new)["Kendall tau-b"] == "worse"


def test_ranking_that_wavers_is_the_same() -> None:
    """Half the queries up by a tenth and half down is noise."""
    old = one(fidelity=a_fidelity(parity=a_parity(query_taus=(0.8,) * 10)))
    new = one(fidelity=a_fidelity(parity=a_parity(query_taus=(0.7, 0.9) * 5)))
    assert changes(old, new)["Kendall tau-b"] == "same"


def test_size_and_memory() -> None:
    """Half the size is better; memory counts where the runs' ranges lie apart."""
    new = one(
        fidelity=a_fidelity(size_bytes=50),
        throughput=a_throughput(runs=(a_run(peak_rss_bytes=300_000_000),) * 6),
    )
    found = changes(one(), new)
    assert (found["size, MB"], found["peak RSS, MB"]) == ("better", "worse")


def test_verdict_lost_is_worse() -> None:
    """A variant that passed and does not is worse, and its name says from what to what."""
    old, new = one(), one(verdict="invalid")
    assert changes(old, new)["verdict"] == "worse"
    assert changes(new, old)["verdict"] == "better"
    assert any(finding.detail == "pass → invalid" for finding in compare_reports(old, new))


def test_gone_and_new() -> None:
    """A kind that is gone is worse, a new one is only named."""
    both, single = a_report(), one()
    assert [(f.kind, f.change, f.detail) for f in compare_reports(both, single) if f.what == "variant"] == [
        ("onnx-int8", "worse", "gone")
    ]
    assert [(f.kind, f.change, f.detail) for f in compare_reports(single, both) if f.what == "variant"] == [
        ("onnx-int8", "same", "new")
    ]


def test_judged_in_one_of_the_two() -> None:
    """A kind that one machine could not run is neither better nor worse, and the reason is given."""
    without = a_report(variants=(), not_judged=(a_not_judged("onnx"),))
    (lost,) = compare_reports(one(), without)
    assert (lost.change, lost.detail) == (
        "unknown",
        "pass → not judged: needs a CPU with avx512_bf16 or amx_bf16",
    )
    (gained,) = compare_reports(without, one())
    assert (gained.change, gained.detail) == (
        "unknown",
        "not judged before: needs a CPU with avx512_bf16 or amx_bf16 → pass",
    )
    assert [(f.change, f.detail) for f in compare_reports(without, without)] == [
        ("same", "judged in neither")
    ]
    assert [f.detail for f in compare_reports(without, a_report(variants=(), not_judged=()))] == ["gone"]


def test_what_cannot_be_compared() -> None:
    """Speed of another machine and rankings of other pairs are not guessed at."""
    new = replace(one(), machine=a_machine(isa="avx512_vnni"))
    found = {finding.what: finding for finding in compare_reports(one(), new)}
    assert found["speed-up over tuned torch"].change == "unknown"
    assert "another machine (isa)" in found["speed-up over tuned torch"].detail
    other = replace(one(), pairs=replace(one().pairs, digest="9" * 64))
    assert changes(one(), other)["nDCG@10"] == "unknown"
