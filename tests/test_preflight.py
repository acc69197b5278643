"""What speaks against a recipe is said before anything is built, by plan and export alike, all at once."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from exporter import pipeline
from exporter.artifact.cpus import fits
from exporter.cache import Cache
from exporter.cli.app import app
from exporter.context import Context
from exporter.errors import BackendError, RecipeError
from exporter.machine import this_machine
from exporter.preflight import check, look
from exporter.recipe.load import Draft, load_recipe, read_recipe
from tests.support import write_pairs, write_recipe


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model's folder with a recipe of one kind, to be spoilt."""
    shutil.copytree(tiny / "model", tmp_path / "model")
    for name in ("pairs.jsonl", "calibrate.jsonl"):
        shutil.copyfile(tiny / name, tmp_path / name)
    write_recipe(tmp_path, "onnx")
    return tmp_path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def said(done: Result) -> list[str]:
    """Return the error's lines, without what goes on before."""
    text = done.stderr.partition("error: ")[2]
    return text.splitlines()


def no_model(folder: Path) -> None:
    shutil.rmtree(folder / "model")


def no_config(folder: Path) -> None:
    (folder / "model/config.json").unlink()


def no_weights(folder: Path) -> None:
    (folder / "model/model.safetensors").unlink()


def model_is_a_file(folder: Path) -> None:
    no_model(folder)
    (folder / "model").write_text("", encoding="utf-8")


def no_pairs(folder: Path) -> None:
    (folder / "pairs.jsonl").unlink()


def pairs_are_a_folder(folder: Path) -> None:
    no_pairs(folder)
    (folder / "pairs.jsonl").mkdir()


def pairs_too_few(folder: Path) -> None:
    write_pairs(folder / "pairs.jsonl", n_queries=1)


def pairs_shared(folder: Path) -> None:
    shutil.copyfile(folder / "pairs.jsonl", folder / "calibrate.jsonl")


def out_is_a_file(folder: Path) -> None:
    (folder / "out").write_text("", encoding="utf-8")


def place_is_dangling(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out/tiny").symlink_to("nowhere")


def another_stands_there(folder: Path) -> None:
    (folder / "out/tiny").mkdir(parents=True)
    (folder / "out/tiny/notes").write_text("years", encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (no_model, "no such folder"),
        (model_is_a_file, "no such folder"),
        (no_config, "it has no config.json"),
        (no_weights, "model.safetensors"),
        (no_pairs, "pairs.jsonl: no such file"),
        (pairs_are_a_folder, "pairs.jsonl: no such file"),
        (pairs_too_few, "query with more than one passage"),
        (pairs_shared, "share 72 pairs"),
        (out_is_a_file, "out is no folder"),
        (place_is_dangling, "is a link to nowhere, which is not there"),
        (another_stands_there, "it has no manifest.json"),
    ],
)
def test_plan_says_what_export_refuses(folder: Path, spoil, text: str) -> None:
    """Same line, same exit code, and nothing is built or changed by either."""
    spoil(folder)
    arguments = (folder / "recipe.yaml", "--out", folder / "out")
    before = sorted(folder.rglob("*"))
    plan, export = run("plan", *arguments), run("export", *arguments)
    assert (plan.exit_code, export.exit_code) == (2, 2)
    assert said(plan) == said(export)
    assert len(said(plan)) == 1
    assert text in said(plan)[0]
    assert sorted(folder.rglob("*")) == before


def test_replace_of_what_is_no_artifact(folder: Path) -> None:
    """A folder of somebody's own is not replaced, and `plan --replace` says so."""
    another_stands_there(folder)
    for command in ("plan", "export"):
        done = run(command, folder / "recipe.yaml", "--out", folder / "out", "--replace")
        assert done.exit_code == 2
        assert "exists and is no artifact" in said(done)[0]
    assert (folder / "out/tiny/notes").read_text(encoding="utf-8") == "years"


def test_everything_at_once(folder: Path) -> None:
    """Unknown keys, keys that stand twice, wrong pairs and a missing model are shown by one run."""
    no_model(folder)
    no_pairs(folder)
    path = folder / "recipe.yaml"
    text = path.read_text(encoding="utf-8").replace("min_kendall_tau: 0.3", "min_kendal_tau: 0.3")
    path.write_text(text + "colour: red\nname: again\nmeasure: {budget_s: -1}\n", encoding="utf-8")
    (folder / "calibrate.jsonl").write_text('{"query": "a"}\n', encoding="utf-8")
    for command in ("plan", "export"):
        done = run(command, path, "--set", "nonsense")
        assert done.exit_code == 2
        for text in (
            'recipe.yaml:8: found duplicate key "name"',
            'recipe.yaml:9: found duplicate key "measure"',
            "min_kendal_tau: unknown key, did you mean 'min_kendall_tau'?",
            "colour: unknown key",
            "--set 'nonsense'",
            "pairs.jsonl: no such file",
            "calibrate.jsonl:1: wanted the columns query and passage",
            "model: no such folder",
        ):
            assert len([line for line in said(done) if text in line]) == 1, text


def test_calibrated_without_pairs_beside_another_mistake(folder: Path) -> None:
    """What does not fit together is said also where a part is wrong by itself."""
    path = write_recipe(folder, "onnx-int8-static", "onnx-int8-static")
    text = path.read_text(encoding="utf-8").replace(", calibrate: calibrate.jsonl", "")
    path.write_text(text + "colour: red\n", encoding="utf-8")
    findings = read_recipe(path).findings
    assert len(findings) == 3
    assert "colour" in findings[0]
    assert "onnx-int8-static stands twice" in findings[1]
    assert "onnx-int8-static is calibrated" in findings[2]


def test_ready(folder: Path) -> None:
    """A recipe that nothing speaks against comes with all it names."""
    ready = check(load_recipe(folder / "recipe.yaml"), folder / "out", Context())
    assert ready.source.folder.is_dir()
    assert len(ready.verify_set.pairs) == 72
    assert not ready.reusable


def test_what_is_there_is_reused(tiny: Path, built: Path) -> None:
    """`plan` says that the artifact is there, and whose other recipe it was built from."""
    done = run("plan", tiny / "recipe.yaml", "--out", built.parent)
    assert done.exit_code == 0
    assert "is there already and is reused" in done.stdout
    done = run("plan", tiny / "recipe.yaml", "--out", built.parent, "--set", "variants.0.opset=17")
    assert done.exit_code == 2
    assert "built from another recipe; pass --replace" in said(done)[0]
    assert (
        run(
            "plan", tiny / "recipe.yaml", "--out", built.parent, "--set", "variants.0.opset=17", "--replace"
        ).exit_code
        == 0
    )


def test_hub_model_is_not_fetched(folder: Path) -> None:
    """`plan` asks nobody on the network; it says that the model was not looked at."""
    done = run("plan", folder / "recipe.yaml", "--model", "org/name")
    assert done.exit_code == 0
    assert "note: org/name is a Hub id" in done.stdout


@pytest.mark.parametrize("place", ["none", "file"])
def test_nowhere_to_keep_steps(folder: Path, place: str) -> None:
    """A cache that cannot be is said before the first step."""
    (folder / "file").write_text("", encoding="utf-8")
    cache = Cache(None if place == "none" else folder / "file")
    with pytest.raises(BackendError, match="set EXPORTER_CACHE"):
        pipeline.export(load_recipe(folder / "recipe.yaml"), folder / "out", Context(cache=cache))
    assert not (folder / "out").exists()


def test_disk_too_small(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the artifact cannot fit, that is said with both sizes."""
    real = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: real._replace(free=1000))
    with pytest.raises(BackendError, match="0 MB are free there, and the artifact has at least"):
        check(load_recipe(folder / "recipe.yaml"), folder / "out", Context())


def test_kinds_of_errors_are_weighed(folder: Path) -> None:
    """Of several the one to mend first gives the exit code: what was typed before what the machine lacks."""
    no_pairs(folder)
    found = look(Draft.of(load_recipe(folder / "recipe.yaml")), folder / "out", Context(cache=Cache(None)))
    with pytest.raises(RecipeError) as caught:
        found.refuse()
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("isa", "on", "right"),
    [
        ("avx2", "avx512_vnni", True),
        ("avx2", "arm64", True),
        ("avx512", "avx2", True),
        ("avx512_vnni", "avx512_vnni", True),
        ("avx512_vnni", "avx_vnni", True),
        ("avx512_vnni", "avx2", False),
        ("avx512_vnni", "other", False),
        ("arm64", "arm64", True),
        ("arm64", "avx512_vnni", False),
        ("arm64", "avx2", False),
    ],
)
def test_isa_fits(isa: str, on: str, *, right: bool) -> None:
    """7-bit weights are right everywhere, 8-bit ones where int8 sums have 32 bits; arm64 is for arm64."""
    assert fits(isa, on) is right


def test_isa_of_other_cpus_is_noted(folder: Path) -> None:
    """`plan` says which variants are not for this CPU, and refuses none of them."""
    write_recipe(folder, "onnx-int8")
    other = "arm64" if this_machine().isa != "arm64" else "avx512_vnni"
    done = run("plan", folder / "recipe.yaml", "--set", f"variants.0.isa={other}")
    assert done.exit_code == 0
    noted = f"note: onnx-int8 for {other} is for" in done.stdout
    assert noted is not fits(other, this_machine().isa)


def test_draft_of_a_recipe(folder: Path) -> None:
    """A whole recipe has no findings, and its parts are the recipe's."""
    recipe = load_recipe(folder / "recipe.yaml")
    assert read_recipe(folder / "recipe.yaml") == Draft.of(recipe)
    assert replace(Draft.of(recipe), findings=("x",)) != Draft.of(recipe)
