"""The report: written, read, judged again and shown, all from the same numbers."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest

from exporter.artifact.files import read_sealed, to_json, write_sealed
from exporter.errors import BackendError, IntegrityError, RecipeError
from exporter.gate import Check
from exporter.measure.reference import Bf16Difference
from exporter.report.html import html
from exporter.report.read import read_report
from exporter.report.report import REPORT_SCHEMA, rejudge, why_stale
from exporter.report.text import markdown, table
from exporter.report.words import TERMS, reference_lines
from tests.factories import (
    a_fidelity,
    a_not_judged,
    a_parity,
    a_ratio,
    a_report,
    a_run,
    a_throughput,
    a_variant_report,
    an_artifact,
    bars,
    write_report,
)

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.report.report import Report


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An artifact that was not verified."""
    an_artifact(tmp_path / "tiny")
    return tmp_path / "tiny"


# --- files ---


def test_round_trip(folder: Path) -> None:
    """What was written is what is read."""
    manifest = an_artifact(folder)
    report = a_report(manifest_root=manifest.root)
    write_report(report, folder)
    assert read_report(folder, manifest) == report


def test_round_trip_without_labels(folder: Path) -> None:
    """A report without quality comes back so."""
    manifest = an_artifact(folder)
    report = a_report(
        manifest_root=manifest.root, variants=(a_variant_report(fidelity=a_fidelity(quality=None)),)
    )
    write_report(report, folder)
    assert read_report(folder, manifest) == report


def test_same_report_same_bytes(folder: Path, tmp_path: Path) -> None:
    """A report has no clock of its own: written twice it is the same file."""
    (tmp_path / "other").mkdir()
    write_report(a_report(), folder)
    write_report(a_report(), tmp_path / "other")
    for name in ("report.json", "report.md", "report.html", "report.xml"):
        assert (folder / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_markdown_is_written_beside(folder: Path) -> None:
    """The page for people stands beside the data."""
    write_report(a_report(), folder)
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert text.startswith(markdown(a_report()).partition("## Which file")[0])


def test_not_verified_yet(folder: Path) -> None:
    """Without a report, the command that makes one is named."""
    with pytest.raises(RecipeError, match="not verified yet.*exporter verify"):
        read_report(folder, an_artifact(folder))


def test_report_of_other_files(folder: Path) -> None:
    """A report counts only for the files it was made of."""
    write_report(a_report(), folder)
    with pytest.raises(IntegrityError, match="is about other files.*exporter verify"):
        read_report(folder, an_artifact(folder))


def test_verdict_edited_by_hand(folder: Path) -> None:
    """A verdict that was changed afterwards is noticed."""
    manifest = an_artifact(folder)
    write_report(a_report(manifest_root=manifest.root, verdict="fail"), folder)
    path = folder / "report.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"fail"', '"pass"'), encoding="utf-8")
    with pytest.raises(IntegrityError, match="changed since it was written"):
        read_report(folder, manifest)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 1}, f"schema 1, this exporter reads {REPORT_SCHEMA}"),
        ({"schema": None}, "schema None"),
        ({"verdict": "perhaps"}, "verdict"),
        ({"variants": 7}, "variants"),
        ({"machine": None}, "machine"),
    ],
)
def test_report_of_another_shape(folder: Path, changes: dict[str, object], message: str) -> None:
    """A sealed report of another schema or shape is refused, and says where."""
    manifest = an_artifact(folder)
    write_report(a_report(manifest_root=manifest.root), folder)
    write_sealed(folder / "report.json", {**read_sealed(folder / "report.json"), **changes})
    with pytest.raises(IntegrityError, match=message):
        read_report(folder, manifest)


def test_nowhere_to_write(tmp_path: Path) -> None:
    """A disk that refuses is the backend's failure, for either file."""
    manifest = an_artifact(tmp_path)
    (tmp_path / "report.md").mkdir()
    with pytest.raises(BackendError, match=r"report\.md: cannot be written"):
        write_report(a_report(manifest_root=manifest.root), tmp_path)


def test_json_for_machines() -> None:
    """The report as JSON has one key per field and the variants by kind."""
    found = json.loads(to_json(a_report()))
    assert found["verdict"] == "pass"
    assert [row["kind"] for row in found["variants"]] == ["onnx", "onnx-int8"]
    assert found["variants"][0]["fidelity"]["parity"]["kendall_tau"]["value"] == 0.97
    assert found["variants"][0]["speedup_tuned"] == {
        "value": 2.0,
        "low": 1.9,
        "high": 2.1,
        "spread": 0.02,
        "n_rounds": 6,
        "cpu_contention": 0.02,
        "steal": 0.01,
        "drift": 0.01,
        "clock": 0.02,
        "n_left_out": 0,
        "default_faster": 0.0,
    }


# --- judged again ---


def verdicts(report: Report) -> dict[str, str]:
    """Return the verdicts by kind, the report's own under its name."""
    return {report.name: report.verdict, **{row.kind: row.verdict for row in report.variants}}


def test_rejudge_harder() -> None:
    """A higher bar fails its variant and with it the artifact; the other keeps its verdict and checks."""
    before = a_report()
    after = rejudge(before, {"onnx": bars(min_kendall_tau=0.99)})
    assert verdicts(after) == {"tiny": "fail", "onnx": "fail", "onnx-int8": "pass"}
    assert after.variants[1] == before.variants[1]
    assert [check.name for check in after.variants[0].checks if check.outcome == "fail"] == [
        "min_kendall_tau"
    ]


def test_rejudge_easier() -> None:
    """A lower bar passes what failed; measurements stay as they were."""
    failed = a_variant_report(checks=(Check("min_kendall_tau", 0.97, "≥ 0.99", "fail"),), verdict="fail")
    before = a_report(variants=(failed,), verdict="fail")
    after = rejudge(before, {"onnx": bars(min_kendall_tau=0.9), "openvino": bars(min_speedup=9)})
    assert verdicts(after) == {"tiny": "pass", "onnx": "pass"}
    assert after.variants[0].fidelity == failed.fidelity
    assert after.variants[0].throughput == failed.throughput


def test_rejudge_is_over_the_tuned_reference() -> None:
    """The speed bar is held against the speed-up over tuned PyTorch, not over its defaults."""
    row = a_variant_report(speedup_default=a_ratio(value=9.0, low=8.9, high=9.1))
    assert rejudge(a_report(variants=(row,)), {"onnx": bars(min_speedup=2.5)}).verdict == "fail"


def with_bf16(seconds: float, speed_over: Literal["float32", "best"]) -> Report:
    """Return a report in which PyTorch takes 2 seconds in float32, and in bfloat16 what is said."""
    half = a_throughput(
        side="torch bfloat16", pairs_per_s=100 / seconds, runs=(a_run(seconds=(seconds,)),) * 6
    )
    ratio = a_ratio(value=seconds, low=seconds - 0.1, high=seconds + 0.1)
    report = a_report(variants=(a_variant_report(speedup_bf16=ratio),))
    reference = replace(
        report.reference,
        bfloat16=half,
        bf16_difference=Bf16Difference(288, 0.03),
        speed_over=speed_over,
        judged_over="bfloat16" if speed_over == "best" and seconds < 2 else "float32",
    )
    return replace(report, reference=reference)


def test_rejudge_is_over_the_reference_the_recipe_names() -> None:
    """`best` is the faster of float32 and bfloat16; a candidate of 1 second is 1.6 or 2 times as fast."""
    limits = {"onnx": bars(min_speedup=1.8)}
    assert rejudge(with_bf16(1.6, "float32"), limits).verdict == "pass"
    assert rejudge(with_bf16(1.6, "best"), limits).verdict == "fail"
    assert rejudge(with_bf16(2.4, "best"), limits).verdict == "pass"  # bfloat16 is the slower one
    alone = replace(a_report().reference, speed_over="best")
    assert rejudge(replace(a_report(), reference=alone), limits).variants[0].verdict == "pass"
    after = rejudge(with_bf16(1.6, "best"), limits).variants[0]
    assert after.speedup_tuned.value == pytest.approx(2.0)  # stays what its name says


def test_bfloat16_is_a_row_and_a_column() -> None:
    """PyTorch in bfloat16 stands beside the tuned one, with how far it is off, and every ratio over it."""
    titles, rows = table(with_bf16(1.6, "float32"))
    at = titles.index("vs bf16")
    assert [row[0] for row in rows] == ["torch default", "torch tuned", "torch bfloat16", "onnx"]
    assert [row[at] for row in rows] == ["0.64", "0.80", "1.00", "1.60"]
    assert rows[2][titles.index("max diff")] == "0.03"
    page = markdown(with_bf16(1.6, "best"))
    assert "up to 0.03 logits off float32 on 288 pairs" in page
    assert "over the faster of float32 and bfloat16, here bfloat16." in page
    assert "here float32." in markdown(with_bf16(2.4, "best"))
    assert "vs bf16" not in table(a_report()).titles


def test_best_of_one_says_so() -> None:
    """Without bf16 units the best is float32, and the page says why."""
    report = a_report(reference=replace(a_report().reference, speed_over="best"))
    assert "bfloat16 was not measured, this CPU has no units for it." in markdown(report)
    assert reference_lines(a_report()) == []


def test_rejudge_invalid() -> None:
    """One variant without a verdict leaves the artifact without one."""
    rows = (a_variant_report(speedup_tuned=a_ratio(n_rounds=2)), a_variant_report("onnx-int8"))
    after = rejudge(a_report(variants=rows), {"onnx": bars(min_speedup=1.5)})
    assert verdicts(after) == {"tiny": "invalid", "onnx": "invalid", "onnx-int8": "pass"}


def test_rejudge_twice_is_once() -> None:
    """Judging again against the same bars changes nothing."""
    limits = {"onnx": bars(min_kendall_tau=0.99), "onnx-int8": bars(min_speedup=1.5)}
    once = rejudge(a_report(), limits)
    assert rejudge(once, limits) == once


def test_rejudge_nothing_to_judge() -> None:
    """Where no variant could be measured, bars for one change nothing, and the verdict says so."""
    before = a_report(variants=(), not_judged=(a_not_judged(),), verdict="not judged")
    assert rejudge(before, {"openvino-bf16": bars()}) == before


def test_rejudge_bars_for_nobody() -> None:
    """Bars for kinds the report does not have judge nothing, and that is said."""
    with pytest.raises(RecipeError, match="bars for openvino, but the report is of onnx, onnx-int8"):
        rejudge(a_report(), {"openvino": bars()})


# --- shown ---


def test_table() -> None:
    """Both reference rows come first, then each variant; every row has a cell under every title."""
    titles, rows = table(a_report())
    assert [row[0] for row in rows] == ["torch default", "torch tuned", "onnx", "onnx-int8"]
    assert all(len(row) == len(titles) for row in rows)
    by_title = dict(zip(titles, rows[2], strict=True))
    assert by_title["vs tuned"] == "2.00"
    assert by_title["vs default"] == "3.00"
    assert by_title["nDCG kept"] == "100.0%"
    assert by_title["verdict"] == "PASS"


def test_table_of_the_reference() -> None:
    """Tuned at 50 pairs/s is 1.25 times default at 40; default is 0.80 of tuned."""
    titles, rows = table(a_report())
    default, tuned = (dict(zip(titles, row, strict=True)) for row in rows[:2])
    assert (default["vs default"], default["vs tuned"]) == ("1.00", "0.80")
    assert (tuned["vs default"], tuned["vs tuned"]) == ("1.25", "1.00")


def test_table_without_labels() -> None:
    """Where there are no labels the table says so."""
    assert (
        "no labels" in table(a_report(variants=(a_variant_report(fidelity=a_fidelity(quality=None)),)))[1][-1]
    )


def test_what_was_not_judged_is_shown() -> None:
    """A variant that this CPU cannot run has a row without figures, and a line with the reason."""
    report = a_report(not_judged=(a_not_judged(),))
    titles, rows = table(report)
    assert len(rows[-1]) == len(titles)
    assert [cell for cell in rows[-1] if cell] == ["openvino-bf16", "NOT JUDGED"]
    page = markdown(report)
    assert "openvino-bf16: not judged, needs a CPU with avx512_bf16 or amx_bf16" in page
    assert page.startswith("# tiny: pass\n")


def test_markdown_where_nothing_was_judged() -> None:
    """The verdict of an artifact that this CPU cannot run at all is that it was not judged."""
    report = a_report(variants=(), not_judged=(a_not_judged(),), verdict="not judged")
    assert markdown(report).startswith("# tiny: not judged\n")


def test_markdown_names_the_glossary() -> None:
    """The last line says where the terms are explained."""
    assert markdown(a_report()).splitlines()[-1] == TERMS


def test_notes_on_the_model_are_shown() -> None:
    """Where the model is not read as sentence-transformers reads it, the report says so in every form."""
    plain, note = a_report(), "the recipe sets max_length 32"
    noted = dataclasses.replace(plain, reference=dataclasses.replace(plain.reference, notes=(note,)))
    for form in (markdown, html):
        assert note in form(noted)
        assert "Note on the reference" not in form(plain)
    assert json.loads(to_json(noted))["reference"]["notes"] == [note]


def test_markdown_says_what_counts() -> None:
    """The page names artifact, verdict, machine, instruction set, pairs, variants and their source."""
    page = markdown(a_report())
    assert page.startswith("# tiny: pass\n")
    for words in (
        "Some CPU",
        "avx2",
        "2 cores",
        "4 pairs of 2 queries",
        "onnx-int8",
        "built by hand",
        "0" * 64,
        "numpy 2.0.0",
        "2026-01-01T00:00:00Z",
    ):
        assert words in page


def test_markdown_says_why() -> None:
    """A check without a verdict comes with its reason."""
    check = Check("min_speedup", 2.0, "≥ 1.5", "invalid", "3 rounds, 5 needed")
    page = markdown(
        a_report(variants=(a_variant_report(checks=(check,), verdict="invalid"),), verdict="invalid")
    )
    assert page.startswith("# tiny: invalid\n")
    assert "invalid: 3 rounds, 5 needed" in page


def test_markdown_without_labels() -> None:
    """Where there are no labels the page says so."""
    assert "no labels" in markdown(a_report(variants=(a_variant_report(fidelity=a_fidelity(quality=None)),)))


def every_bar() -> Report:
    """Return a report of a variant that is held against every bar, with names chosen to break a table."""
    limits = bars(
        min_ndcg_retained=0.9,
        min_kendall_tau=0.9,
        min_top1_agreement=0.9,
        min_top10_overlap=0.9,
        max_abs_diff=0.5,
        max_batch_delta=0.5,
        min_speedup=1.5,
        max_size_ratio=0.5,
    )
    row = a_variant_report(fidelity=a_fidelity(parity=a_parity(worst_query="a|b\nc")))
    return rejudge(a_report(variants=(row,)), {"onnx": limits})


def test_markdown_tables_are_tables() -> None:
    """Every row of a table has as many cells as its titles; a bar inside a cell is escaped.

    Source: https://github.github.com/gfm/#example-200
    """
    n_tables, wanted = 0, 0
    for line in markdown(every_bar()).splitlines():
        if not line.startswith("|"):
            wanted = 0
            continue
        n_cells = len(re.findall(r"(?<!\\)\|", line)) - 1
        if not wanted:
            n_tables, wanted = n_tables + 1, n_cells
        assert n_cells == wanted, line
    assert n_tables == 13


def test_stored_report_stands_where_it_was_measured() -> None:
    """On the same machine it is taken as it is; a report without a verdict, or from elsewhere, is not."""
    report = a_report()
    assert why_stale(report, report.machine) is None
    assert why_stale(dataclasses.replace(report, verdict="fail"), report.machine) is None
    noisy = dataclasses.replace(report, verdict="invalid")
    assert why_stale(noisy, report.machine) == f"the report of {report.started_at} is invalid"
    elsewhere = why_stale(report, dataclasses.replace(report.machine, isa="arm64"))
    assert elsewhere == "the report is of another machine or other packages (isa)"
