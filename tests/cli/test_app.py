"""The command line: exit codes, one line on stderr, results on stdout."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from exporter import __version__
from exporter.artifact.manifest import read_manifest, write_manifest
from exporter.cli.app import app
from exporter.machine import this_machine
from exporter.report.read import read_report
from tests.factories import a_not_judged, write_report
from tests.families import change_tensors
from tests.support import write_pairs, write_recipe


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def lines(result: Result) -> list[str]:
    """Return the lines on stderr, without those that say how long a stage took."""
    return [line for line in result.stderr.strip().splitlines() if not re.fullmatch(r"[\w ]+: \d+ s", line)]


def test_help_names_the_exit_codes() -> None:
    """`exporter --help` says what each exit code means."""
    done = run("--help")
    assert done.exit_code == 0
    assert "5 no verdict" in " ".join(done.stdout.split())


def test_version() -> None:
    """`exporter --version` prints the version and nothing else."""
    assert run("--version").stdout == f"exporter {__version__}\n"


def test_usage_errors_are_2() -> None:
    """An unknown command or option, or a missing argument, is a usage error."""
    assert run("exprot").exit_code == 2
    assert run("plan", "--nothing").exit_code == 2
    assert run("plan").exit_code == 2


def with_recipe(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    write_pairs(tmp_path / "pairs.jsonl")
    write_pairs(tmp_path / "calibrate.jsonl", seed=5)
    shutil.copytree(tiny / "model", tmp_path / "model")
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda text: text + "colour: red\n", "recipe.yaml:7: colour: unknown key"),
        (lambda text: text + "name: again\n", 'recipe.yaml:7: found duplicate key "name"'),
        (lambda text: text.replace("kind: onnx", "kind: onxx"), "'onxx' is no kind, did you mean 'onnx'?"),
        (lambda text: text.replace("pairs.jsonl", "none.jsonl"), "none.jsonl: no such file"),
        (lambda text: text.replace("./model", "./nowhere"), "nowhere: no such folder"),
        (lambda text: text.replace("./model", "./empty"), "empty: no model, it has no config.json"),
    ],
    ids=["unknown key", "duplicate key", "wrong kind", "no pairs", "no folder", "no model"],
)
@pytest.mark.parametrize("command", ["export"])
def test_bad_recipe_is_one_line_and_2(folder: Path, change, expected: str, command: str) -> None:
    """A recipe that cannot be carried out ends with 2, one line, and nothing written."""
    path = write_recipe(folder, "onnx")
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    done = run(command, path, "--out", folder / "out")
    assert done.exit_code == 2
    assert len(lines(done)) == 1
    assert expected in done.stderr
    assert not (folder / "out").exists()


def test_pairs_that_cannot_rank_are_2(folder: Path) -> None:
    """Empty pairs, and one query without labels, are refused before anything is built."""
    recipe = write_recipe(folder, "onnx")
    (folder / "pairs.jsonl").write_text("", encoding="utf-8")
    done = run("export", recipe, "--out", folder / "out")
    assert (done.exit_code, len(lines(done))) == (2, 1)
    assert "empty" in done.stderr
    write_pairs(folder / "pairs.jsonl", n_queries=1, labels=False)
    done = run("plan", recipe)
    assert (done.exit_code, len(lines(done))) == (2, 1)
    assert "1 query with more than one passage and no labels" in done.stderr


def test_plan_shows_and_builds_nothing(folder: Path, tiny: Path) -> None:
    """`plan` prints variants, files and bars."""
    shutil.copytree(tiny / "model", folder / "model", dirs_exist_ok=True)
    done = run("plan", write_recipe(folder, "onnx", "openvino-int8"))
    assert done.exit_code == 0
    assert "openvino-int8 -> artifacts/tiny/openvino/openvino_model_qint8_quantized.xml" in done.stdout
    assert "min_kendall_tau 0.3" in done.stdout
    assert re.search(r"^about \d+ (s|min): ", done.stderr, re.MULTILINE)
    assert json.loads(run("plan", "--json", folder / "recipe.yaml").stdout)["name"] == "tiny"


def test_plan_says_what_speed_is_over(folder: Path) -> None:
    """Which PyTorch speed bars are held against is said before anything is built, and why it is that one."""
    recipe = write_recipe(folder, "onnx")
    assert "  speed over PyTorch in float32\n" in run("plan", recipe).stdout
    done = run("plan", recipe, "--set", "reference.speed_over=best")
    either = "float32 or bfloat16, whichever is faster"
    only = "float32: speed_over is best, and this CPU has no bf16 units"
    assert f"  speed over PyTorch in {either if this_machine().has_bf16 else only}\n" in done.stdout
    assert run("plan", recipe, "--set", "reference.speed_over=fast").exit_code == 2


def test_set_and_model_override(folder: Path, tiny: Path) -> None:
    """`--set` and `--model` change the recipe; a place that does not exist is an error."""
    recipe, model = write_recipe(folder, "onnx"), tiny / "model"
    done = run("plan", recipe, "--model", model, "--set", "variants.0.bars.min_kendall_tau=0.5")
    assert f"model-tiny: {model}, up to 64 tokens a pair" in done.stdout
    assert "min_kendall_tau 0.5" in done.stdout
    assert run("plan", recipe, "--set", "variants.7.bars=1").exit_code == 2


def test_plan_warns_of_what_is_not_as_the_model_is(folder: Path, tiny: Path) -> None:
    """A length that is not the model's own, and pairs that are the sample's, are each a line of warning."""
    shutil.copytree(tiny / "model", folder / "model", dirs_exist_ok=True)
    path = write_recipe(folder, "onnx")
    done = run("plan", path, "--set", "model.max_length=32", "--set", "pairs.verify=sample/verify")
    assert done.exit_code == 0
    assert "warning: the recipe sets max_length 32, the model's own is 64" in done.stdout
    assert "warning: the pairs are the sample's (sample/verify)" in done.stdout
    assert "warning" not in run("plan", path, "--set", "model.max_length=null").stdout


def test_plan_refuses_what_export_would(folder: Path, tiny: Path) -> None:
    """A model whose head is missing ends with 2 and one line before anything is built."""
    shutil.copytree(tiny / "model", folder / "model", dirs_exist_ok=True)
    change_tensors(folder / "model", lambda t: {k: v for k, v in t.items() if "classifier" not in k})
    for command in ("plan", "export"):
        done = run(command, write_recipe(folder, "onnx"))
        assert (done.exit_code, len(lines(done))) == (2, 1)
        assert "its weights lack classifier.bias, classifier.weight" in done.stderr


def test_another_model_gets_a_folder_of_its_own(tiny: Path, tmp_path: Path) -> None:
    """`--model` leaves the artifact of the recipe's own model alone, and says whose pairs are measured."""
    variant = "{kind: onnx, bars: {min_kendall_tau: 0.9}}"
    recipe = with_recipe(
        tmp_path, f"name: sample-int8\nmodel: {{source: sample}}\nvariants:\n  - {variant}\n"
    )
    done = run("export", recipe, "--build-only", "--model", tiny / "model", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model-int8"]
    assert read_manifest(tmp_path / "out" / "model-int8").name == "model-int8"
    assert "the pairs are the sample's (sample/verify)" in done.stderr


def test_schema_is_json() -> None:
    """`schema` prints a JSON schema that knows the bars."""
    assert "min_ndcg_retained" in json.dumps(json.loads(run("schema").stdout))


def test_doctor_says_what_can_be_built() -> None:
    """`doctor` prints the instruction set, the cores and every kind."""
    done = run("doctor")
    assert done.exit_code == 0
    assert "cores allowed" in done.stdout
    assert "onnx-int8: can be built" in done.stdout
    assert json.loads(run("doctor", "--json").stdout)["missing"]["onnx"] == []


def test_unverified_artifact(built: Path) -> None:
    """An artifact without a report can be shown, not gated or published."""
    done = run("show", built)
    assert done.exit_code == 0
    assert "not verified yet" in done.stdout
    assert run("gate", built).exit_code == 2
    assert run("publish", built, built.parent / "copy").exit_code == 2


def test_gate_exit_codes(verified: Path, tmp_path: Path) -> None:
    """0 pass, 1 refused, 4 changed files; table on stdout, JSON with --json."""
    assert run("gate", verified).exit_code == 0
    bars = tmp_path / "bars.yaml"
    bars.write_text("onnx-int8: {max_abs_diff: 1e-9}\n", encoding="utf-8")
    done = run("gate", verified, "--bars", bars)
    assert done.exit_code == 1
    assert "FAIL" in done.stdout
    found = json.loads(run("gate", verified, "--bars", bars, "--json").stdout)
    assert (found["verdict"], found["exit_code"]) == ("fail", 1)
    copy = Path(shutil.copytree(verified, tmp_path / "copy"))
    (copy / "config.json").write_text("{}", encoding="utf-8")
    done = run("gate", copy)
    assert (done.exit_code, len(lines(done))) == (4, 1)
    assert "changed: config.json" in done.stderr
    assert run("gate", tmp_path / "nowhere").exit_code == 2


def test_show_prints_files_and_verdict(verified: Path) -> None:
    """`show` prints variants, sizes, plans and the table; `--json --full` both files."""
    done = run("show", verified)
    assert done.exit_code == 0
    assert "onnx/model_qint8_avx2.onnx" in done.stdout
    assert "PASS" in done.stdout
    assert set(json.loads(run("show", verified, "--json", "--full").stdout)) == {"manifest", "reports"}
    assert run("show", verified, "--full").exit_code == 2


def test_show_here(verified: Path) -> None:
    """`show --here` says how each variant stands on this CPU, and which one is taken."""
    done = run("show", verified, "--here")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["onnx", "onnx-int8"]
    assert all("safe here; " in line for line in lines)
    assert sum(line.endswith("chosen here") for line in lines) == 1
    found = json.loads(run("show", verified, "--here", "--json").stdout)
    assert [one["kind"] for one in found if one["is_chosen"]]


def test_show_knows_what_it_is_told(verified: Path, tmp_path: Path) -> None:
    """A kind of another version is shown with its stored verdict: all that is needed stands in the files."""
    folder = Path(shutil.copytree(verified, tmp_path / "tiny"))
    manifest, report = read_manifest(folder), read_report(verified, read_manifest(verified))
    traits = replace(manifest.variants[1].traits, weights="int4")
    variants = (manifest.variants[0], replace(manifest.variants[1], kind="onnx-int4", traits=traits))
    manifest = replace(manifest, recipe=manifest.recipe.replace("onnx-int8", "onnx-int4"), variants=variants)
    (folder / "plans.json").unlink()
    (folder / "manifest.json").unlink()
    write_manifest(manifest, folder)

    row = report.variants[1]
    row = replace(row, kind="onnx-int4", fidelity=replace(row.fidelity, kind="onnx-int4", traits=traits))
    rows = (report.variants[0], row)
    write_report(replace(report, variants=rows, manifest_root=manifest.root), folder)
    done = run("show", folder)
    assert (done.exit_code, lines(done)) == (0, ["Terms: docs/glossary.md"])
    assert re.search(r"onnx-int4: \d+ of \d+ checks passed", done.stdout)


def test_nothing_that_this_cpu_can_run(verified: Path, tmp_path: Path) -> None:
    """Where no variant could be judged there is no verdict: 5, and the reason on stdout."""
    folder = Path(shutil.copytree(verified, tmp_path / "tiny"))
    report = read_report(folder, read_manifest(folder))
    rows = tuple(a_not_judged(row.kind) for row in report.variants)
    write_report(replace(report, variants=(), not_judged=rows, verdict="not judged"), folder)
    done = run("gate", folder)
    assert done.exit_code == 5
    assert "onnx: NOT JUDGED needs a CPU with avx512_bf16 or amx_bf16" in done.stdout
    assert "vs tuned" in done.stdout  # the table is as wide as its words
    assert "…" not in done.stdout
    assert run("show", folder).exit_code == 0


def test_publish_says_where(verified: Path, tmp_path: Path) -> None:
    """`publish` copies what passed and prints the folder; it is there then, and another needs --replace."""
    done = run("publish", verified, tmp_path / "copy")
    assert (done.exit_code, done.stdout.strip()) == (0, str(tmp_path / "copy"))
    assert run("gate", tmp_path / "copy").exit_code == 0
    again = run("publish", verified, tmp_path / "copy")
    assert (again.exit_code, again.stdout.strip()) == (0, str(tmp_path / "copy"))
    assert "already holds this artifact, nothing was sent" in again.stderr
    assert run("publish", verified, tmp_path / "copy", "--variant", "onnx").exit_code == 2  # another artifact
    assert run("publish", verified, tmp_path / "copy", "--variant", "onnx", "--replace").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "detail"),
    [
        (("publish", "a", "b", "--profile", "flatt"), "--profile 'flatt': known are hub, flat"),
        (("publish", "a", "b", "--certificate", "c.pem"), "--certificate belongs to a --sign-key"),
        (("publish", "a", "b", "--sign-key", "k", "--chain", "c.pem"), "--chain to a --certificate"),
        (("publish", "a", "b", "--sign-key", "k", "--sigstore"), "--sigstore needs no key"),
        (("publish", "a", "gs://bucket/prefix"), "did you mean s3://bucket/prefix?"),
        (("publish", "a", "oci://registry.example/name"), "wanted oci://registry/name:tag"),
        (("pull", "b", "c", "--key", "k", "--root", "r"), "one way to verify, please"),
        (("pull", "b", "c", "--identity", "me"), "--identity and --issuer belong together"),
        (("verify-signature", "a"), "whose signature?"),
        (("reproduce", "a"), "a: no such artifact folder"),
        (("check-consumers", "a"), "a: no such artifact folder"),
    ],
)
def test_publishing_mistakes_are_one_line(arguments: tuple[str, ...], detail: str) -> None:
    """What cannot be meant is said before anything is built, asked or sent."""
    done = run(*arguments)
    assert done.exit_code == 2
    assert len(lines(done)) == 1
    assert detail in done.stderr
