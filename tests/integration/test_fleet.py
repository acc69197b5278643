"""One artifact for several CPUs: a kind for two instruction sets, and which of its variants is used where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from exporter import pipeline
from exporter.artifact.choice import standings
from exporter.artifact.manifest import read_manifest
from exporter.artifact.plans import VerdictEntry, read_plans, write_plans
from exporter.context import Context
from exporter.errors import RecipeError
from exporter.machine import this_cpu, this_machine
from exporter.publish.folder import Publication
from exporter.recipe.load import load_bars, load_recipe
from exporter.reproduce import reproduce
from exporter.runtime import Reranker
from tests.conftest import SHORT, STARTED_AT, write_recipe_beside

AVX2, VNNI = "onnx-int8@avx2", "onnx-int8@avx512_vnni"
HAS_VNNI = this_machine().isa == "avx512_vnni"


@pytest.fixture(scope="module")
def fleet(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny artifact with onnx and an onnx-int8 for each of two instruction sets, verified for real."""
    out = tmp_path_factory.mktemp("fleet")
    path = write_recipe_beside(tiny, out)
    text = path.read_text(encoding="utf-8").replace("onnx-int8,", "onnx-int8, isa: [avx2, avx512_vnni],")
    path.write_text(text, encoding="utf-8")
    pipeline.export(load_recipe(path), out, Context(started_at=STARTED_AT), SHORT)
    return out / "tiny"


def test_a_file_each(fleet: Path) -> None:
    """Each instruction set is a variant with an id and a file of its own, for its CPUs."""
    manifest = read_manifest(fleet)
    assert [(entry.kind, entry.isa) for entry in manifest.variants] == [
        ("onnx", None),
        (AVX2, "avx2"),
        (VNNI, "avx512_vnni"),
    ]
    assert len({entry.model for entry in manifest.variants}) == 3
    assert [entry.kind for entry in manifest.named("onnx-int8")] == [AVX2, VNNI]


def test_judged_by_id(fleet: Path) -> None:
    """The report has a row for each that this CPU is for; the others are named and not judged."""
    report = pipeline.gate(fleet).newest
    measured = {row.kind for row in report.variants}
    assert {"onnx", AVX2} <= measured
    assert (VNNI in measured) is HAS_VNNI
    assert ({row.kind for row in report.not_judged} == {VNNI}) is not HAS_VNNI


@pytest.mark.parametrize(("key", "n_failing"), [("onnx-int8", 1 + HAS_VNNI), (AVX2, 1), ("onnx", 1)])
def test_bars_by_kind_or_id(fleet: Path, tmp_path: Path, key: str, n_failing: int) -> None:
    """A bar under a bare kind is held against all its variants, one under an id against that one."""
    bars = tmp_path / "bars.yaml"
    bars.write_text(f"'{key}': {{max_size_ratio: 0.0001}}\n", encoding="utf-8")
    report = pipeline.gate(fleet, load_bars(bars)).newest
    assert sum(row.verdict == "fail" for row in report.variants) == n_failing


def test_loads_the_fastest_that_passed(fleet: Path, tmp_path: Path) -> None:
    """Without a variant the one is loaded that passed and was fastest here; `why` names it."""
    plans, cpu = read_plans(fleet, read_manifest(fleet)), this_cpu()
    passed = {
        kind: one.pairs_per_s
        for kind, found in plans.verdicts.items()
        for one in found
        if one.verdict == "pass"
    }
    assert passed
    reranker = Reranker.load(fleet)
    assert passed[reranker.kind] == max(passed.values())
    assert reranker.why.startswith(f"{reranker.kind}: the")
    assert f"{cpu.n_cores} core" in reranker.why
    (chosen,) = [one for one in standings(read_manifest(fleet), plans, cpu) if one.is_chosen]
    assert chosen.kind == reranker.kind


def test_other_verdicts_choose_another(fleet: Path, tmp_path: Path) -> None:
    """A verdict decides, also between the variants of a bare kind; an id is loaded as it stands."""
    manifest, cpu = read_manifest(fleet), this_cpu()
    plans = read_plans(fleet, manifest)
    kept = fleet / "plans.json"
    before = kept.read_bytes()
    try:
        fast = VerdictEntry(cpu.isa, cpu.n_cores, "pass", 1e6)
        found = {**plans.verdicts, "onnx": (fast,)}
        write_plans(replace(plans, verdicts=found), fleet)
        assert Reranker.load(fleet).kind == "onnx"
        assert Reranker.load(fleet, "onnx-int8").kind in (AVX2, VNNI)
        found = {**plans.verdicts, AVX2: (replace(fast, pairs_per_s=2e6),)}
        write_plans(replace(plans, verdicts=found), fleet)
        assert Reranker.load(fleet, "onnx-int8").kind == AVX2
        reranker = Reranker.load(fleet, VNNI)
        assert (reranker.kind, reranker.why) == (VNNI, f"{VNNI}: asked for")
    finally:
        kept.write_bytes(before)


def test_nothing_of_the_name(fleet: Path) -> None:
    """A variant that is not there is refused with those that are."""
    with pytest.raises(RecipeError, match="has no openvino; it has onnx, onnx-int8@avx2, onnx-int8@avx"):
        Reranker.load(fleet, "openvino")


def test_published_and_built_again(fleet: Path, tmp_path: Path) -> None:
    """A bare kind publishes all of it that passed; the copy says its ids, and is built again as published."""
    place = tmp_path / "published"
    published = pipeline.publish(fleet, str(place), Context(), Publication(kinds=(AVX2,), report="full"))
    assert published.left == ("onnx", VNNI)
    assert [entry.kind for entry in read_manifest(place).variants] == [AVX2]
    assert Reranker.load(place, "onnx-int8").kind == AVX2
    assert set(read_plans(place, read_manifest(place)).verdicts) == {AVX2}
    assert reproduce(place, Context()).same
