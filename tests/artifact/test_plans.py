"""Plans: measured beside the manifest and not in it, and never taken for another artifact's."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.artifact.files import MANIFEST, PLANS, read_sealed, write_sealed
from exporter.artifact.manifest import check_files, read_manifest, write_manifest
from exporter.artifact.plans import (
    PLANS_SCHEMA,
    PlanEntry,
    Plans,
    SweepRow,
    VerdictEntry,
    no_plans,
    read_plans,
    write_plans,
)
from exporter.errors import BackendError, IntegrityError
from tests.factories import a_manifest, an_artifact

ENTRY = PlanEntry("avx2", 4, 4, 1, 512, (SweepRow(4, 1, 512, 61.5), SweepRow(2, 2, 1024, 40.0)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An artifact of dummy files, not measured."""
    an_artifact(tmp_path / "tiny")
    return tmp_path / "tiny"


def measured(folder: Path, **plans: tuple[PlanEntry, ...]) -> Plans:
    """Plans of the artifact in a folder."""
    return replace(no_plans(read_manifest(folder)), plans=plans)


def reseal(folder: Path, **changes: object) -> None:
    """Change keys of plans.json and seal it anew, as someone who wants to mislead us would."""
    write_sealed(folder / PLANS, {**read_sealed(folder / PLANS), **changes})


def test_not_measured(folder: Path) -> None:
    """An artifact without plans.json has no plan of any kind."""
    plans = read_plans(folder, read_manifest(folder))
    assert plans.of("onnx") == ()


def test_round_trip(folder: Path) -> None:
    """What was written is what is read, by kind; a kind that was not measured has none."""
    plans = measured(folder, onnx=(ENTRY,))
    write_plans(plans, folder)
    read = read_plans(folder, read_manifest(folder))
    assert read == plans
    assert read.of("onnx") == (ENTRY,)
    assert read.of("onnx-int8") == ()


def test_a_plan_more_changes_no_hash_of_the_manifest(folder: Path) -> None:
    """Measuring on one machine more leaves the manifest's bytes, its root and the files it lists alone."""
    before = (folder / MANIFEST).read_bytes()
    write_plans(measured(folder, onnx=(ENTRY,)), folder)
    write_plans(measured(folder, onnx=(ENTRY, replace(ENTRY, isa="avx512_vnni"))), folder)
    manifest = read_manifest(folder)
    check_files(manifest, folder)
    assert (folder / MANIFEST).read_bytes() == before
    assert len(read_plans(folder, manifest).of("onnx")) == 2


def test_plans_of_another_artifact(folder: Path, tmp_path: Path) -> None:
    """Plans that were measured with other files are refused, with both roots and what to do."""
    other = tmp_path / "other"
    an_artifact(other)
    (other / "config.json").write_text("{}", encoding="utf-8")
    write_manifest(a_manifest(other), other)
    write_plans(measured(other, onnx=(ENTRY,)), other)
    shutil.copyfile(other / PLANS, folder / PLANS)

    ours, theirs = read_manifest(folder), read_manifest(other)
    roots = rf"root {theirs.root[:12]}, the manifest's is {ours.root[:12]}"
    with pytest.raises(IntegrityError, match=rf"about other files \({roots}\); delete it, and run"):
        read_plans(folder, ours)


def test_every_changed_byte_shows(folder: Path) -> None:
    """plans.json is sealed: a byte flipped anywhere in it is found."""
    write_plans(measured(folder, onnx=(ENTRY,)), folder)
    raw, manifest = (folder / PLANS).read_bytes(), read_manifest(folder)
    for at in range(0, len(raw), 3):
        (folder / PLANS).write_bytes(raw[:at] + bytes((raw[at] ^ 1,)) + raw[at + 1 :])
        with pytest.raises(IntegrityError, match=r"plans\.json"):
            read_plans(folder, manifest)


def test_plans_of_a_kind_that_this_version_does_not_know(folder: Path) -> None:
    """A kind of a later version keeps its plans: they are read and written with the others."""
    plans = measured(folder, **{"onnx-int4": (ENTRY,)})
    write_plans(plans, folder)
    assert read_plans(folder, read_manifest(folder)).of("onnx-int4") == (ENTRY,)


@pytest.mark.parametrize("schema", [0, 3, "1", None])
def test_another_schema(folder: Path, schema: object) -> None:
    """Plans of another schema are refused, with both numbers."""
    write_plans(measured(folder, onnx=(ENTRY,)), folder)
    reseal(folder, schema=schema)
    with pytest.raises(IntegrityError, match=f"schema {schema}, this exporter reads 2"):
        read_plans(folder, read_manifest(folder))


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ({"workers": 0}, "plans.onnx.0.workers"),
        ({"token_budget": 1 << 40}, "plans.onnx.0.token_budget"),
        ({"isa": "a\nb"}, "plans.onnx.0.isa"),
        ({"sweep": [{}]}, "plans.onnx.0.sweep.0.workers"),
        ({"workers": 3, "threads": 2}, "onnx has a plan of 3x2 for 4 cores"),
    ],
)
def test_plans_that_no_measurement_makes(folder: Path, entry: dict[str, object], found: str) -> None:
    """Sealed plans with numbers that no machine has are refused, and the number is named."""
    write_plans(measured(folder, onnx=(ENTRY,)), folder)
    content = read_sealed(folder / PLANS)["plans"]
    assert isinstance(content, dict)
    reseal(folder, plans={"onnx": [{**content["onnx"][0], **entry}]})
    with pytest.raises(IntegrityError, match=found):
        read_plans(folder, read_manifest(folder))


def test_where_nothing_can_be_written(folder: Path, tmp_path: Path) -> None:
    """A disk that refuses is the backend's failure."""
    with pytest.raises(BackendError, match="cannot be written"):
        write_plans(measured(folder), tmp_path / "none")


def test_first_schema(folder: Path) -> None:
    """Plans written before there were verdicts are read, and have none."""
    write_plans(measured(folder, onnx=(ENTRY,)), folder)
    content = read_sealed(folder / PLANS)
    del content["verdicts"]
    write_sealed(folder / PLANS, {**content, "schema": 1})
    plans = read_plans(folder, read_manifest(folder))
    assert (plans.schema, plans.of("onnx"), plans.verdicts) == (PLANS_SCHEMA, (ENTRY,), {})


def test_verdicts(folder: Path) -> None:
    """Verdicts come back as written, and go with their variant."""
    found = VerdictEntry("avx2", 4, "pass", 10.0), VerdictEntry("avx2", 8, "fail", 20.0)
    plans = replace(measured(folder, onnx=(ENTRY,)), verdicts={"onnx": found})
    write_plans(plans, folder)
    assert read_plans(folder, read_manifest(folder)).verdicts == {"onnx": found}
    assert plans.only(["onnx-int8"], "0" * 64).verdicts == {}


@pytest.mark.parametrize(
    "change", [{"verdict": "good"}, {"n_cores": 0}, {"pairs_per_s": -1.0}, {"isa": "a\u202eb"}]
)
def test_verdict_of_no_measurement(folder: Path, change: dict[str, object]) -> None:
    """A verdict that no run of ours gives is refused."""
    write_plans(measured(folder), folder)
    good = {"isa": "avx2", "n_cores": 4, "verdict": "pass", "pairs_per_s": 1.0}
    reseal(folder, verdicts={"onnx": [{**good, **change}]})
    with pytest.raises(IntegrityError, match=r"verdicts\.onnx"):
        read_plans(folder, read_manifest(folder))
