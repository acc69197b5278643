"""A recipe's new bars need no new build, and a new measurement only where none was made."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from exporter import pipeline
from exporter.artifact.manifest import read_manifest
from exporter.cli.app import app
from exporter.context import Context
from exporter.recipe.difference import differences
from exporter.recipe.load import load_recipe
from exporter.report.read import read_report, read_reports
from exporter.report.write import is_complete
from tests.conftest import SHORT, write_recipe_beside
from tests.support import LOOSE_BARS

NEW_BAR = LOOSE_BARS.replace("max_abs_diff: 5", "max_abs_diff: 1.0e-12")


@pytest.fixture
def recipe(verified: Path, tiny: Path, tmp_path: Path) -> Path:
    """A recipe whose verified artifact lies beside it."""
    shutil.copytree(verified, tmp_path / "tiny")
    return write_recipe_beside(tiny, tmp_path)


def edit(recipe: Path, old: str, new: str) -> None:
    text = recipe.read_text(encoding="utf-8")
    assert old in text
    recipe.write_text(text.replace(old, new), encoding="utf-8")


def run(command: str, recipe: Path, *options: str) -> Result:
    return CliRunner().invoke(app, [command, str(recipe), "--out", str(recipe.parent), *options])


def test_gate_judges_by_the_bars_of_the_recipe_as_it_is(recipe: Path) -> None:
    """An edited bar decides at once, stands in manifest and report from then on, and is said once."""
    folder = recipe.parent / "tiny"
    assert run("gate", recipe).exit_code == 0
    root = read_manifest(folder).root
    edit(recipe, LOOSE_BARS, NEW_BAR)
    done = run("gate", recipe)
    assert done.exit_code == 1, done.stderr
    assert "from the recipe: variants.onnx.bars.max_abs_diff" in done.stderr
    manifest = read_manifest(folder)
    assert (manifest.root, manifest.recipe_digest) == (root, load_recipe(recipe).digest)
    report = read_report(folder, manifest)
    assert (report.verdict, report.recipe_digest) == ("fail", manifest.recipe_digest)
    assert is_complete(read_reports(folder, manifest), manifest, folder)
    assert CliRunner().invoke(app, ["gate", str(folder)]).exit_code == 1
    assert "judged by" not in run("gate", recipe).stderr
    edit(recipe, NEW_BAR, LOOSE_BARS)
    assert run("gate", recipe).exit_code == 0


def test_a_speed_bar_where_speed_was_timed_too_little_says_what_to_do(recipe: Path) -> None:
    """A kind that was timed in a few rounds has no verdict against a new speed bar, and verify makes them."""
    edit(recipe, LOOSE_BARS, LOOSE_BARS.replace("}", ", min_speedup: 0.01}"))
    done = run("gate", recipe)
    assert done.exit_code == 5
    assert "rounds, 6 needed: `exporter verify` makes them" in done.stdout


def test_another_reference_is_not_judged_by_old_measurements(recipe: Path) -> None:
    """Where the recipe asks for another reference, gate refuses, names the key, and changes nothing."""
    before = (recipe.parent / "tiny/manifest.json").read_bytes()
    edit(recipe, "variants:", "reference: {speed_over: best}\nvariants:")
    for command in (("gate",), ("publish", str(recipe.parent / "copy"))):
        done = run(command[0], recipe, *command[1:])
        assert done.exit_code == 2
        assert "another measurement" in done.stderr
        assert "reference.speed_over" in done.stderr
    assert (recipe.parent / "tiny/manifest.json").read_bytes() == before


def test_another_build_is_refused_by_name(recipe: Path) -> None:
    """A recipe that would build something else is told from the artifact's, with what to type."""
    edit(recipe, "kind: onnx,", "kind: onnx, opset: 17,")
    for command in ("gate", "verify"):
        done = run(command, recipe)
        assert done.exit_code == 2
        assert "it differs in variants.onnx.opset" in done.stderr.splitlines()[-1]
        assert "--replace" in done.stderr


def test_export_with_new_bars_builds_and_measures_nothing(recipe: Path) -> None:
    """Only bars changed: the same files, the same measurements, another verdict."""
    folder = recipe.parent / "tiny"
    before = read_report(folder, read_manifest(folder))
    edit(recipe, LOOSE_BARS, NEW_BAR)
    report = pipeline.export(load_recipe(recipe), recipe.parent, Context(), SHORT)
    assert (before.verdict, report.verdict) == ("pass", "fail")
    assert report.started_at == before.started_at
    assert report.variants[0].throughput == before.variants[0].throughput


def test_verify_measures_by_the_recipe_as_it_is(recipe: Path) -> None:
    """A reference that the recipe asks for now is recorded, and the report is of it."""
    folder = recipe.parent / "tiny"
    edit(recipe, "variants:", "reference: {speed_over: best}\nvariants:")
    report = pipeline.export(load_recipe(recipe), recipe.parent, Context(), SHORT)
    assert report.reference.speed_over == "best"
    assert report.recipe_digest == read_manifest(folder).recipe_digest == load_recipe(recipe).digest


def test_another_checkout_is_the_same_recipe(recipe: Path) -> None:
    """Files and folders count by name: what they hold has digests of its own."""
    here = load_recipe(recipe)
    moved = here.model_copy(update={"model": here.model.model_copy(update={"source": "/elsewhere/model"})})
    assert not any(differences(here, moved))
    other = here.model_copy(update={"model": here.model.model_copy(update={"source": "/elsewhere/other"})})
    assert differences(here, other).built == ("model.source",)
