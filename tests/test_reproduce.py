"""Reproducing: the comparison without a build, where inputs are found, and the tiny model built again."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter.artifact.files import PLANS, FileEntry, list_files
from exporter.artifact.manifest import Manifest, PairsEntry, SourceEntry, read_manifest, write_manifest
from exporter.cache import Cache
from exporter.context import Context
from exporter.errors import IntegrityError, RecipeError
from exporter.pairs import load_pairs
from exporter.progress import Silent
from exporter.reproduce import (
    FileComparison,
    Reproduction,
    ScoreComparison,
    ToolDifference,
    compare_builds,
    find_inputs,
    reproduce,
    text,
    tool_differences,
)
from tests.factories import MODELS, a_manifest, an_artifact
from tests.support import write_pairs, write_tiny_model

if TYPE_CHECKING:
    from exporter.progress import Progress


def outcomes(found: Reproduction) -> dict[str, str]:
    return {file.path: file.outcome for file in found.files}


def rebuilt_as(manifest: Manifest, **others: str) -> tuple[FileEntry, ...]:
    """Return the files of a second build: the manifest's, but for those with another hash."""
    return tuple(
        dataclasses.replace(file, sha256=others.get(file.path, file.sha256)) for file in manifest.files
    )


def test_same_files_are_reproduced(tmp_path: Path) -> None:
    """The same bytes with the same packages leave nothing to say."""
    manifest = an_artifact(tmp_path)
    found = compare_builds(manifest, manifest.variants, manifest.files, manifest.tools)
    assert set(outcomes(found).values()) == {"same"}
    assert found.same
    assert found.tools == found.scores == found.kinds_that_differ == ()


def test_difference_names_file_and_kind(tmp_path: Path) -> None:
    """A file with other bytes is named with the variant it belongs to."""
    manifest = an_artifact(tmp_path)
    found = compare_builds(
        manifest, manifest.variants, rebuilt_as(manifest, **{MODELS["onnx-int8"]: "0" * 64}), manifest.tools
    )
    assert FileComparison(MODELS["onnx-int8"], "onnx-int8", "differs") in found.files
    assert found.kinds_that_differ == ("onnx-int8",)
    assert not found.same


def test_shared_file_that_differs_counts(tmp_path: Path) -> None:
    """A tokenizer with other bytes is no reproduction, though no variant's file differs."""
    manifest = an_artifact(tmp_path)
    found = compare_builds(
        manifest, manifest.variants, rebuilt_as(manifest, **{"tokenizer.json": "0" * 64}), manifest.tools
    )
    assert FileComparison("tokenizer.json", None, "differs") in found.files
    assert found.kinds_that_differ == ()
    assert not found.same


def test_published_names_are_seen_through(tmp_path: Path) -> None:
    """A copy may rename a variant's file or hold it twice, add a card with plots, drop a tokenizer file."""
    built = an_artifact(tmp_path)
    (tmp_path / "onnx/model.onnx").rename(tmp_path / "model_O3.onnx")
    shutil.copyfile(tmp_path / MODELS["onnx-int8"], tmp_path / "onnx/model_quantized.onnx")
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "README.md").write_text("card", encoding="utf-8")
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots/speed.svg").write_text("plot", encoding="utf-8")
    onnx, int8 = built.variants
    renamed = (dataclasses.replace(onnx, model="model_O3.onnx", files=("model_O3.onnx",)), int8)
    found = compare_builds(a_manifest(tmp_path, variants=renamed), built.variants, built.files, built.tools)
    assert outcomes(found) == {
        "README.md": "not built",
        "config.json": "same",
        "model_O3.onnx": "same",
        "onnx/model_qint8_avx2.onnx": "same",
        "onnx/model_quantized.onnx": "same",
        "plots/speed.svg": "not built",
        "tokenizer.json": "only rebuilt",
    }
    assert found.same


def test_file_nobody_builds_is_no_reproduction(tmp_path: Path) -> None:
    """A file that building does not give, and publishing does not write, cannot be vouched for."""
    built = an_artifact(tmp_path)
    (tmp_path / "onnx/model_quantized.onnx").write_text("something else", encoding="utf-8")
    found = compare_builds(a_manifest(tmp_path), built.variants, built.files, built.tools)
    assert outcomes(found)["onnx/model_quantized.onnx"] == "only recorded"
    assert not found.same


def test_kind_that_was_not_built_again(tmp_path: Path) -> None:
    """A variant without a counterpart is not the same."""
    manifest = an_artifact(tmp_path)
    found = compare_builds(manifest, manifest.variants[:1], manifest.files, manifest.tools)
    assert FileComparison(MODELS["onnx-int8"], "onnx-int8", "only recorded") in found.files
    assert not found.same


def test_other_versions_are_named() -> None:
    """Versions that changed, packages that went and packages that came, in the order recorded."""
    recorded = (("torch", "2.1"), ("onnx", "1.2"), ("numpy", "2.0"))
    here = (("torch", "2.2"), ("numpy", "2.0"), ("nncf", "3.0"))
    assert tool_differences(recorded, here) == (
        ToolDifference("torch", "2.1", "2.2"),
        ToolDifference("onnx", "1.2", None),
        ToolDifference("nncf", None, "3.0"),
    )


def test_words_for_people() -> None:
    """Other versions come first, the answer last."""
    found = Reproduction(
        name="tiny",
        tools=(ToolDifference("torch", "2.1", "2.2"), ToolDifference("nncf", "3.0", None)),
        files=(
            FileComparison("onnx/model.onnx", "onnx", "differs"),
            FileComparison("config.json", None, "same"),
        ),
        scores=(ScoreComparison("onnx", 200, 0.00123),),
    )
    assert text(found).splitlines() == [
        "torch: built with 2.1, here 2.2",
        "nncf: built with 3.0, here none",
        "onnx/model.onnx  differs (onnx)",
        "config.json      same",
        "onnx: scores of 200 pairs differ by at most 0.00123 logits",
        "tiny: not reproduced, 1 of 2 files are the same",
    ]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="module")
def described(model: Path) -> SourceEntry:
    """The tiny model as a manifest records it."""
    from exporter.export.source import find_source
    from exporter.recipe.schema import Model

    source = find_source(Model(source=str(model), max_length=64), Cache.of_user())
    return SourceEntry(source.name, source.revision, source.digest, source.weights_bytes, source.notes)


def made_elsewhere(folder: Path, source: SourceEntry, pairs: Path, **changes: object) -> Manifest:
    """Return a manifest whose recipe names a model and these pairs, in places of another machine."""
    manifest = a_manifest(folder)
    recipe = json.loads(manifest.recipe) | {
        "model": {"source": "/elsewhere/model", "revision": None, "max_length": 64},
        "pairs": {"verify": "/elsewhere/pairs.jsonl", "calibrate": "/elsewhere/calibrate.jsonl"},
        **changes,
    }
    used = (PairsEntry("verify", "elsewhere", load_pairs(str(pairs)).digest, 4),)
    return dataclasses.replace(manifest, recipe=json.dumps(recipe), source=source, pairs=used)


def test_what_is_elsewhere_is_asked_for(tmp_path: Path, model: Path, described: SourceEntry) -> None:
    """A model or pair set of another machine is named, with its digest and the option that passes it."""
    pairs = write_pairs(tmp_path / "mine.jsonl")
    digest = load_pairs(str(pairs)).digest
    manifest = made_elsewhere(tmp_path, described, pairs)
    with pytest.raises(
        RecipeError,
        match=rf"the model {described.digest[:12]} in /elsewhere/model, which is not here; pass --model",
    ):
        find_inputs(manifest, tmp_path, Cache.of_user())
    with pytest.raises(
        RecipeError,
        match=rf"pairs {digest[:12]} in /elsewhere/pairs.jsonl, which is not here; pass --verify-pairs",
    ):
        find_inputs(manifest, tmp_path, Cache.of_user(), model=str(model))
    found = find_inputs(manifest, tmp_path, Cache.of_user(), model=str(model), verify_pairs=pairs)
    assert found.source.folder == model
    assert found.calibrate is None


def test_something_else_is_refused(tmp_path: Path, model: Path, described: SourceEntry) -> None:
    """Another model or other pairs under the option are refused: they would give another artifact."""
    other = write_tiny_model(tmp_path / "other", seed=1)
    pairs, wrong = write_pairs(tmp_path / "pairs.jsonl"), write_pairs(tmp_path / "wrong.jsonl", seed=9)
    manifest = made_elsewhere(tmp_path, described, pairs)
    with pytest.raises(
        IntegrityError,
        match=rf"other is model [0-9a-f]{{12}}, .* was built from the model {described.digest[:12]}",
    ):
        find_inputs(manifest, tmp_path, Cache.of_user(), model=str(other), verify_pairs=pairs)
    with pytest.raises(
        IntegrityError, match=r"wrong.jsonl holds pairs [0-9a-f]{12}, .*; pass --verify-pairs FILE"
    ):
        find_inputs(manifest, tmp_path, Cache.of_user(), model=str(model), verify_pairs=wrong)


def test_calibration_pairs_are_asked_for_only_by_those_calibrated(
    tmp_path: Path, model: Path, described: SourceEntry
) -> None:
    """A variant left behind when publishing needs nothing; one with ranges from pairs needs those pairs."""
    bars = {"min_kendall_tau": 0.5}
    kinds = [{"kind": kind, "bars": bars} for kind in ("onnx", "onnx-int8-static")]
    pairs = write_pairs(tmp_path / "pairs.jsonl")
    manifest = made_elsewhere(tmp_path, described, pairs, variants=kinds)
    found = find_inputs(manifest, tmp_path, Cache.of_user(), model=str(model), verify_pairs=pairs)
    assert [variant.kind for variant in found.recipe.variants] == ["onnx"]
    static = dataclasses.replace(manifest.variants[1], kind="onnx-int8-static")
    manifest = dataclasses.replace(manifest, variants=(manifest.variants[0], static))
    with pytest.raises(IntegrityError, match="its recipe needs calibrate pairs, and it names none"):
        find_inputs(manifest, tmp_path, Cache.of_user(), model=str(model), verify_pairs=pairs)
    used = (*manifest.pairs, PairsEntry("calibrate", "elsewhere", "5" * 64, 4))
    manifest = dataclasses.replace(manifest, pairs=used)
    with pytest.raises(
        RecipeError,
        match="calibrate pairs 555555555555 in /elsewhere/calibrate.jsonl, which is not here; "
        "pass --calibrate-pairs",
    ):
        find_inputs(manifest, tmp_path, Cache.of_user(), model=str(model), verify_pairs=pairs)


def test_recipe_that_is_none(tmp_path: Path) -> None:
    """A manifest whose recipe this exporter cannot read is refused with what is wrong."""
    manifest = dataclasses.replace(a_manifest(tmp_path), recipe='{"name": "tiny"}')
    with pytest.raises(
        IntegrityError,
        match="manifest.json: its recipe is none that this exporter reads: model: Field required",
    ):
        find_inputs(manifest, tmp_path, Cache.of_user())


@pytest.fixture(scope="module")
def clone(tiny: Path, built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny artifact as somebody else has it: its ONNX kinds, with model and pairs in other places."""
    there = tmp_path_factory.mktemp("clone")
    shutil.copytree(tiny / "model", there / "model")
    for name in ("pairs.jsonl", "calibrate.jsonl"):
        shutil.copyfile(tiny / name, there / name)
    artifact = Path(shutil.copytree(built, there / "tiny", ignore=shutil.ignore_patterns("openvino", PLANS)))
    manifest = read_manifest(artifact)
    recipe = manifest.recipe.replace(str(tiny), "/elsewhere")
    variants = tuple(entry for entry in manifest.variants if entry.traits.engine == "onnxruntime")
    write_manifest(
        dataclasses.replace(manifest, recipe=recipe, variants=variants, files=list_files(artifact)), artifact
    )
    return there


def reproduced(clone: Path, artifact: Path, progress: Progress | None = None) -> Reproduction:
    return reproduce(
        artifact,
        Context(progress=progress or Silent()),
        model=str(clone / "model"),
        verify_pairs=clone / "pairs.jsonl",
        calibrate_pairs=clone / "calibrate.jsonl",
        n_pairs=24,
    )


def test_tiny_model_gives_the_same_files(clone: Path) -> None:
    """Built again elsewhere, from the manifest and what it names alone, every file has the same bytes."""
    found = reproduced(clone, clone / "tiny")
    assert [file.path for file in found.files if file.kind] == [
        "onnx/model.onnx",
        "onnx/model_qint8_avx2.onnx",
        "onnx/model_qint8_static_avx2.onnx",
    ]
    assert {file.outcome for file in found.files} == {"same"}
    assert found.same
    assert found.tools == ()


def test_changed_weight_is_found_and_measured(clone: Path, tmp_path: Path) -> None:
    """A model with a changed weight, and a manifest that fits it, is named with the difference in scores."""
    import onnx
    from onnx import numpy_helper

    artifact = Path(shutil.copytree(clone / "tiny", tmp_path / "tiny"))
    path = artifact / "onnx/model.onnx"
    model = onnx.load(path)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("classifier.bias"))
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 0.5, bias.name))
    onnx.save(model, path)
    with pytest.raises(IntegrityError, match="changed: onnx/model.onnx"):
        reproduced(clone, artifact)
    manifest = read_manifest(artifact)
    kept = tuple(entry for entry in manifest.variants if entry.kind == "onnx")
    others = {path for entry in manifest.variants for path in entry.files if entry.kind != "onnx"}
    for other in others:
        (artifact / other).unlink()
    write_manifest(dataclasses.replace(manifest, variants=kept, files=list_files(artifact)), artifact)
    found = reproduced(clone, artifact)
    assert found.kinds_that_differ == ("onnx",)
    (scores,) = found.scores
    assert (scores.kind, scores.n_pairs) == ("onnx", 24)
    assert scores.max_abs_diff == pytest.approx(0.5, abs=1e-4)


class Notes(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_users_cache_is_left_alone(clone: Path) -> None:
    """Nothing of earlier builds is used though they are there, and nothing is added to them."""
    cache = Cache.of_user().check()
    before = sorted(cache.iterdir())
    assert any(folder.name.startswith("variant-") for folder in before)
    progress = Notes()
    assert reproduced(clone, clone / "tiny", progress).same
    assert progress.notes == []
    assert sorted(cache.iterdir()) == before
