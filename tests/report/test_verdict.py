"""The verdict in short: what `--json` prints, for pipelines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from exporter.artifact.files import to_json
from exporter.cli.app import app
from exporter.gate import Check
from exporter.report.machines import Reports
from exporter.report.verdict import VERDICT_SCHEMA, not_verified, verdict_document
from tests.factories import a_not_judged, a_ratio, a_report, a_variant_report

FOLDER = Path("artifacts/tiny")
FAILED = Check("min_top1_agreement", 0.9, "≥ 0.95", "fail", "", 0.88, 0.92, "300 queries")


def test_failed_checks_are_in_it() -> None:
    """A variant has its verdict, its count of checks, and those that failed with bar, interval and reason."""
    passed, unknown = Check("repeat_diff", 0.0, "≤ 1e-06", "pass"), replace(FAILED, outcome="not judged")
    row = replace(a_variant_report("onnx-int8"), checks=(passed, FAILED, unknown), verdict="fail")
    report = replace(a_report(variants=(row,), not_judged=(a_not_judged(),)), verdict="fail")
    found = json.loads(to_json(verdict_document(Reports(report), FOLDER, 1)))
    assert (found["schema"], found["verdict"], found["exit_code"]) == (VERDICT_SCHEMA, "fail", 1)
    assert found["report"] == "artifacts/tiny/report.html"
    (variant,) = found["variants"]
    assert variant["n_checks"] == {"pass": 1, "fail": 1, "not judged": 1}
    (check,) = variant["failed"]
    assert (check["check"], check["bar"], check["why"]) == ("min_top1_agreement", "≥ 0.95", "300 queries")
    assert (check["observed"], check["low"], check["high"]) == (0.9, 0.88, 0.92)
    assert found["not_judged"][0]["id"] == "openvino-bf16"
    assert found["machine"]["n_cores"] == report.machine.n_cores


def test_speed_up_is_the_one_that_is_judged() -> None:
    """Where bars are held against bfloat16, so is the document's speed-up; noise is named."""
    half = a_ratio(value=1.7, cpu_contention=0.5)
    row = a_variant_report("onnx", speedup_bf16=half, speedup_tuned=a_ratio(value=3.0))
    report = a_report(variants=(row,))
    assert verdict_document(Reports(report), FOLDER, 0).variants[0].speedup.value == 3.0
    reference = replace(report.reference, judged_over="bfloat16")
    found = verdict_document(Reports(replace(report, reference=reference)), FOLDER, 0).variants[0].speedup
    assert (found.value, found.over) == (1.7, "torch bfloat16 at its best plan")
    assert "others had 50.0% of the cores" in found.problems[0]


def test_an_artifact_that_was_not_verified() -> None:
    """Without a report the verdict says so, and nothing else is claimed."""
    found = not_verified("tiny", FOLDER)
    assert (found.verdict, found.exit_code, found.variants) == ("not verified", None, ())


@pytest.mark.parametrize("command", ["gate", "show"])
def test_json_is_short_and_full_is_whole(verified: Path, command: str) -> None:
    """`--json` is the verdict, of each command alike; `--full` has every measurement, and needs --json."""
    short = json.loads(CliRunner().invoke(app, [command, str(verified), "--json"]).stdout)
    assert short["schema"] == VERDICT_SCHEMA
    assert {row["id"] for row in short["variants"]} == {"onnx", "onnx-int8"}
    full = json.loads(CliRunner().invoke(app, [command, str(verified), "--json", "--full"]).stdout)
    assert [report["reference"]["scores"] for report in full["reports"]] != [[]]
    done = CliRunner().invoke(app, [command, str(verified), "--full"])
    assert (done.exit_code, "--full belongs to --json" in done.stderr) == (2, True)
