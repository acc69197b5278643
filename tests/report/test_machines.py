"""An artifact verified on several types of machine: each has its report, and all of them are judged."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from exporter import pipeline
from exporter.artifact.choice import choose_variant
from exporter.artifact.files import (
    MAX_REPORTS,
    PLANS,
    REPORT,
    is_of_a_machine,
    machine_reports,
    read_sealed,
    to_python,
    write_sealed,
)
from exporter.artifact.manifest import check_files, read_manifest
from exporter.artifact.plans import VerdictEntry, read_plans
from exporter.cli.app import app
from exporter.context import Context
from exporter.errors import IntegrityError
from exporter.gate import Outcome
from exporter.machine import Cpu, this_machine
from exporter.measure.estimate import Estimate
from exporter.recipe.load import load_recipe
from exporter.report.compare import compare_machines
from exporter.report.junit import junit
from exporter.report.machines import Reports, chosen, report_path, verdicts_of, which_file
from exporter.report.read import read_reports
from exporter.report.text import markdown
from tests.conftest import SHORT, write_recipe_beside
from tests.factories import a_machine, a_report, a_variant_report, an_artifact, measured_on, write_report_data
from tests.support import LOOSE_BARS

if TYPE_CHECKING:
    from exporter.report.report import Report

OTHER = "Other CPU (family/model 6/85)"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def ended(report: Report, verdict: Outcome) -> Report:
    """Return a verified report with measurements of its first variant that come to a verdict."""
    row = report.variants[0]
    if verdict == "fail":
        row = replace(row, fidelity=replace(row.fidelity, repeat_diff=1.0), verdict="fail")
    elif verdict == "invalid":
        unsure = Estimate(0.3, 0.2, 0.4, 10, 0)  # the recipe's bar is 0.3
        parity = replace(row.fidelity.parity, kendall_tau=unsure)
        row = replace(row, fidelity=replace(row.fidelity, parity=parity), verdict="invalid")
    return replace(report, variants=(row, *report.variants[1:]), verdict=verdict)


def add(folder: Path, *verdicts: Outcome) -> tuple[Report, ...]:
    """Add reports of other machines to a verified artifact, as older than its own."""
    own = read_reports(folder, read_manifest(folder)).newest
    others = tuple(
        replace(ended(measured_on(own, cpu=OTHER, n_cores=4 + i), verdict), started_at=f"20{19 - i}-01-01")
        for i, verdict in enumerate(verdicts)
    )
    write_report_data(own, folder, *others)
    return others


@pytest.fixture
def folder(verified: Path, tmp_path: Path) -> Path:
    """A verified artifact, to be changed at will."""
    return Path(shutil.copytree(verified, tmp_path / "tiny"))


# --- names ---


@given(st.text(), st.text(), st.integers(1, 4096))
def test_every_machine_has_a_safe_name(cpu: str, isa: str, n_cores: int) -> None:
    """Whatever a report calls its CPU, its file has a plain name in its folder, and always the same one."""
    machine = a_machine(cpu=cpu, isa=isa, n_cores=n_cores)
    assert is_of_a_machine(report_path(machine))
    assert report_path(machine) == report_path(replace(machine, memory_gb=1, python="3.14.0", packages=()))


def test_two_types_of_machine_have_two_names() -> None:
    """CPUs whose names come to the same words are told apart, and so are features and cores."""
    machines = [
        *(
            a_machine(cpu=cpu)
            for cpu in ("Some CPU", "some cpu", "Some-CPU", "Some (R) CPU", "x" * 70, "x" * 71)
        ),
        *(a_machine(n_cores=4), a_machine(isa="avx512"), a_machine(cpu_features=("amx_bf16",))),
    ]
    assert len({report_path(machine) for machine in machines}) == len(machines)
    assert report_path(a_machine(cpu="Intel(R) Xeon(R) @ 2.9GHz")).startswith("reports/intel-xeon-2-9ghz-")


# --- gate ---


@pytest.mark.parametrize(
    ("others", "code"),
    [
        ((), 0),
        (("pass",), 0),
        (("fail",), 1),
        (("invalid",), 5),
        (("invalid", "fail"), 1),
        (("pass", "invalid"), 5),
    ],
)
def test_gate_judges_every_machine(folder: Path, others: tuple[Outcome, ...], code: int) -> None:
    """Fail on one machine is fail, else invalid on one is invalid; the terminal says which on which."""
    add(folder, *others)
    done = run("gate", folder)
    assert done.exit_code == code, done.output
    said = [line for line in done.stdout.splitlines() if line.split(" ")[0] in ("PASS", "FAIL", "INVALID")]
    assert said == [
        f"PASS on {this_machine()}",
        *(
            f"{verdict.upper()} on {replace(this_machine(), cpu=OTHER, n_cores=4 + i)}"
            for i, verdict in enumerate(others)
        ),
    ]
    found = json.loads(run("gate", folder, "--json").stdout)
    assert found["exit_code"] == code
    assert [one["verdict"] for one in found["machines"]] == ["pass", *others]
    assert all(Path(one["report"]).is_file() for one in found["machines"])
    suites = ET.parse(folder / "report.xml").getroot()
    classes = {case.attrib["classname"] for case in suites.iter("testcase")}
    assert len(classes) == 2 * (1 + len(others))


def test_here_is_this_machine_alone(folder: Path) -> None:
    """`--here` passes where another machine failed; where this one has no report it says what to type."""
    (other,) = add(folder, "fail")
    assert run("gate", folder, "--here").exit_code == 0
    own = measured_on(read_reports(folder, read_manifest(folder)).newest, cpu="Third CPU")
    shutil.rmtree(folder / "reports")
    write_report_data(own, folder, other)
    done = run("gate", folder, "--here")
    assert done.exit_code == 2
    said = done.stderr.strip().splitlines()[-1]
    assert f"was not verified on a machine like this one ({this_machine()})" in said
    assert f"run `exporter verify {folder}` here" in said
    assert "Third CPU" in said
    assert OTHER in said


def test_new_bars_judge_every_machine(verified: Path, tiny: Path, tmp_path: Path) -> None:
    """A recipe's new bar is held against each machine's measurements, in the files too; --bars as well."""
    folder = Path(shutil.copytree(verified, tmp_path / "tiny"))
    recipe = write_recipe_beside(tiny, tmp_path)
    add(folder, "pass")
    bars = tmp_path / "bars.yaml"
    bars.write_text("onnx: {max_abs_diff: 1.0e-12}\n", encoding="utf-8")
    assert run("gate", folder, "--bars", bars).stdout.count("FAIL on ") == 2
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace(LOOSE_BARS, "{max_abs_diff: 1.0e-12}"), encoding="utf-8")
    assert run("gate", recipe, "--out", tmp_path).exit_code == 1
    manifest = read_manifest(folder)
    reports = read_reports(folder, manifest)
    assert [report.verdict for report in reports] == ["fail", "fail"]
    assert {report.recipe_digest for report in reports} == {manifest.recipe_digest}
    assert read_plans(folder, manifest).verdicts == verdicts_of(reports)


def test_a_machine_that_measured_otherwise_has_to_measure_again(folder: Path) -> None:
    """Where the recipe asks for another reference by now, only reports that have it are judged."""
    own = read_reports(folder, read_manifest(folder)).newest
    write_report_data(own, folder, replace(measured_on(own, cpu=OTHER), recipe_digest="0" * 64))
    done = run("gate", folder)
    assert done.exit_code == 2
    assert f"another measurement than {folder} has of {OTHER}" in done.stderr
    assert run("gate", folder, "--here").exit_code == 0


# --- verify and export ---


def test_verify_keeps_other_machines_and_replaces_its_own(folder: Path) -> None:
    """What another machine found stays byte for byte; this one's report is the new one, and report.json."""
    (other,) = add(folder, "pass")
    kept = (folder / report_path(other.machine)).read_bytes()
    report = pipeline.verify(folder, Context(started_at="2030-01-01T00:00:00Z"), SHORT)
    assert (folder / report_path(other.machine)).read_bytes() == kept
    assert (folder / report_path(this_machine())).read_bytes() == (folder / REPORT).read_bytes()
    assert len(machine_reports(folder)) == 2
    manifest = read_manifest(folder)
    check_files(manifest, folder)
    reports = read_reports(folder, manifest)
    assert (reports.newest.started_at, reports.others) == (report.started_at, (other,))
    for name in ("report.md", "report.html", "report.xml"):
        assert OTHER in (folder / name).read_text(encoding="utf-8")


def test_another_build_brings_no_reports_along(verified: Path, tiny: Path, tmp_path: Path) -> None:
    """A changed recipe's build replaces the artifact with the reports of all machines."""
    folder = Path(shutil.copytree(verified, tmp_path / "tiny"))
    add(folder, "fail")
    recipe = write_recipe_beside(tiny, tmp_path)
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("kind: onnx,", "kind: onnx, opset: 17,"), encoding="utf-8")
    pipeline.build(load_recipe(recipe), tmp_path, Context(), SHORT, replace_old=True)
    assert machine_reports(folder) == ()


def test_reports_of_other_files_are_passed_over(folder: Path) -> None:
    """What somebody copied from another build is not judged, not shown and no obstacle."""
    own = read_reports(folder, read_manifest(folder)).newest
    stale = replace(ended(measured_on(own, cpu=OTHER), "fail"), manifest_root="0" * 64)
    write_sealed(folder / report_path(stale.machine), to_python(stale))
    check_files(read_manifest(folder), folder)
    assert read_reports(folder, read_manifest(folder)).others == ()
    for command in ("gate", "show"):
        done = run(command, folder)
        assert (done.exit_code, OTHER in done.output) == (0, False)


# --- what lies among the reports ---


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """An artifact of dummy files with reports of two machines."""
    folder = tmp_path / "two"
    report = a_report(manifest_root=an_artifact(folder).root)
    write_report_data(report, folder, measured_on(report, cpu=OTHER, n_cores=4))
    assert len(read(folder).others) == 1
    return folder


def read(folder: Path) -> Reports:
    return read_reports(folder, read_manifest(folder))


def other_path(folder: Path) -> Path:
    return folder / report_path(a_machine(cpu=OTHER, n_cores=4))


def test_changed_or_renamed_report(two: Path) -> None:
    """A report that was changed, or lies under another machine's name, is named, with what to do."""
    path = other_path(two)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"pass"', b'"fail"'))
    way_on = "verify it again on that machine, or delete reports/other-cpu"
    with pytest.raises(IntegrityError, match=f"changed since it was written; {way_on}"):
        read(two)
    path.rename(two / "reports/third-cpu-0123abcd-avx2-2.json").write_bytes(whole)
    with pytest.raises(IntegrityError, match="third-cpu.*is of another machine, Other CPU"):
        read(two)


def test_report_that_is_gone_or_not_the_same(two: Path) -> None:
    """A failing machine's report cannot be left out, nor replaced by another's, while plans.json knows it."""
    path = other_path(two)
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(IntegrityError, match="plans.json has another verdict of onnx than the reports"):
        read(two)
    path.write_bytes(whole)
    own = (two / REPORT).read_bytes()
    write_sealed(two / REPORT, {**read_sealed(two / REPORT), "started_at": "2030-01-01T00:00:00Z"})
    with pytest.raises(IntegrityError, match="report.json is not the same as reports/some-cpu"):
        read(two)
    (two / REPORT).write_bytes(own)
    (two / report_path(a_machine())).unlink()
    with pytest.raises(IntegrityError, match="report.json is not the same as reports/some-cpu"):
        read(two)
    (two / REPORT).write_bytes(whole)
    (two / report_path(a_machine())).write_bytes(whole)
    with pytest.raises(IntegrityError, match="is of another machine"):
        read(two)


def test_verdicts_and_plans_are_those_of_the_reports(two: Path) -> None:
    """A verdict or a plan that no report gives is refused, for each machine of its class."""
    content = read_sealed(two / PLANS)
    better = {kind: [{**rows[0], "pairs_per_s": 1e6}] for kind, rows in content["verdicts"].items()}
    write_sealed(two / PLANS, {**content, "verdicts": better})
    with pytest.raises(IntegrityError, match="another verdict of onnx"):
        read(two)
    write_sealed(two / PLANS, {**content, "plans": {}})
    with pytest.raises(IntegrityError, match="was measured with other plans"):
        read(two)


@pytest.mark.parametrize("kind", ["link", "folder link", "folder", "pipe", "foreign", "upper case", "file"])
def test_nothing_else_lies_among_reports(two: Path, kind: str) -> None:
    """Links, folders, pipes and files of other names are refused, and none is opened."""
    reports, name = two / "reports", other_path(two).name
    if kind in ("folder link", "file"):
        reports.rename(two.parent / "elsewhere")
        reports.symlink_to(two.parent / "elsewhere") if kind == "folder link" else reports.touch()
    elif kind in ("foreign", "upper case"):
        (reports / ("notes.txt" if kind == "foreign" else name.upper())).write_text("{}", encoding="utf-8")
    else:
        (reports / name).rename(two.parent / "report.json")
        make = {
            "link": lambda path: path.symlink_to(two.parent / "report.json"),
            "folder": Path.mkdir,
            "pipe": os.mkfifo,
        }
        make[kind](reports / name)
    with pytest.raises(IntegrityError, match="reports"):
        read(two)


def test_too_many_or_too_large(two: Path) -> None:
    """More reports than any artifact has are refused before one is read, and so are larger ones."""
    for i in range(MAX_REPORTS):
        (two / f"reports/cpu-0123abcd-avx2-{i}.json").touch()
    with pytest.raises(IntegrityError, match=f"no artifact has more than {MAX_REPORTS}"):
        read(two)
    for i in range(MAX_REPORTS):
        (two / f"reports/cpu-0123abcd-avx2-{i}.json").unlink()
    with other_path(two).open("r+b") as file:
        file.truncate(1 << 30)
    with pytest.raises(IntegrityError, match="no artifact has more than"):
        read(two)


# --- what they say together ---


def test_of_two_cpus_of_a_class_the_worst_verdict_and_the_lowest_speed_count() -> None:
    """plans.json has a row for each instruction set and number of cores, whatever the CPU is called."""
    fast, slow = (a_report(variants=(a_variant_report("onnx", verdict=v),)) for v in ("pass", "invalid"))
    slow = measured_on(slow, cpu=OTHER)
    row = slow.variants[0]
    slow = replace(slow, variants=(replace(row, throughput=replace(row.throughput, pairs_per_s=7.0)),))
    elsewhere = measured_on(fast, n_cores=8)
    assert verdicts_of((fast, slow, elsewhere)) == {
        "onnx": (VerdictEntry("avx2", 2, "invalid", 7.0), VerdictEntry("avx2", 8, "pass", 100.0))
    }


def test_the_table_marks_what_is_loaded(two: Path) -> None:
    """On each machine the variant marked is the one that is chosen by plans.json for its CPU."""
    manifest, reports = read_manifest(two), read(two)
    own, (other,) = reports.newest, reports.others
    rows = tuple(replace(row, verdict="fail" if row.kind == "onnx" else "pass") for row in other.variants)
    other = measured_on(replace(other, variants=rows, verdict="fail"), isa="avx512_vnni")
    (two / "reports" / other_path(two).name).unlink()
    write_report_data(own, two, other)
    plans, reports = read_plans(two, manifest), read(two)
    loaded = chosen(reports, manifest, plans)
    for report in reports:
        machine = report.machine
        cpu = Cpu(machine.isa, machine.cpu_features, machine.n_cores)
        assert loaded[report_path(machine)] == choose_variant(manifest, plans, cpu).entry.kind
    table = which_file(reports, loaded)
    marked = [(cells[0], cells[1]) for cells in table.rows if cells[-1] == "yes"]
    assert marked == [(str(own.machine), loaded[report_path(own.machine)]), (str(other.machine), "onnx-int8")]


def test_pages_show_every_machine() -> None:
    """The page of a pull request and the JUnit file name each machine, and why one failed."""
    own = a_report()
    other = ended(measured_on(own, cpu=OTHER), "fail")
    row = other.variants[0]
    missed = replace(row.checks[0], outcome="fail", observed=0.1)
    other = replace(other, variants=(replace(row, checks=(missed,)), *other.variants[1:]))
    page = markdown(own, (other,))
    assert page.startswith("# tiny: fail\n")
    assert "onnx on Other CPU" in page
    assert "FAIL min_kendall_tau 0.1, bar ≥ 0.5; see reports/other-cpu" in page
    suites = ET.fromstring(junit(own, (other,)))
    assert len({suite.attrib["name"] for suite in suites}) == 4


def test_each_machine_is_compared_with_itself() -> None:
    """What got worse on one type of machine is worse, and named; a type of one side only is named as well."""
    own = a_report()
    other, third = measured_on(own, cpu=OTHER), measured_on(own, cpu="Third CPU")
    worse = replace(other, variants=(replace(other.variants[0], verdict="fail"), *other.variants[1:]))
    found = compare_machines(Reports(own, (other,)), Reports(own, (worse, third)))
    assert found.outcome == "worse"
    assert found.why == f"{other.machine}: worse: onnx verdict"
    new = [one for one in found.findings if one.what == "machine"]
    assert [(one.machine, one.change) for one in new] == [(str(third.machine), "unknown")]
    same = compare_machines(Reports(own, (other,)), Reports(other, (own,)))
    assert {one.change for one in same.findings} == {"same"}
