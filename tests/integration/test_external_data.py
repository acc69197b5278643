"""Models whose weights lie beside the graph, as those of over 2 GiB: the tiny model, told to do so."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exporter.artifact.manifest import read_manifest, write_manifest
from exporter.context import Context
from exporter.errors import IntegrityError
from exporter.export.build import build_artifact
from exporter.export.source import find_source
from exporter.measure.contents import read_contents
from exporter.measure.saturation import bound_sums
from exporter.pairs import load_pair_sets, load_pairs
from exporter.publish.layout import lay_out, place
from exporter.recipe.kinds import KINDS
from exporter.recipe.load import load_recipe
from exporter.runtime import Plan, Reranker
from exporter.runtime.model_file import check_artifact

FILES = {
    "onnx": "onnx/model.onnx",
    "onnx-int8": "onnx/model_qint8_avx2.onnx",
    "onnx-int8-static": "onnx/model_qint8_static_avx2.onnx",
}
PLAN = Plan(1, 1, 256)


@pytest.fixture(scope="module")
def beside(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny artifact of every kind, with all weights beside the graphs. Read it, do not write it."""
    recipe, folder = load_recipe(tiny / "recipe.yaml"), tmp_path_factory.mktemp("beside") / "tiny"
    folder.mkdir()
    verify, calibrate = load_pair_sets(recipe)
    source, context = find_source(recipe.model, Context().cache), Context()
    build_artifact(recipe, source, verify, calibrate, into=folder, context=context, inline_bytes=0)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_scores(beside: Path, built: Path, tiny: Path, kind: str) -> None:
    """Every kind scores to the last bit as it does with the weights in the graph's own file."""
    pairs = load_pairs(str(tiny / "pairs.jsonl")).pairs
    scores = [Reranker.load(folder, kind, plan=PLAN).score(pairs) for folder in (beside, built)]
    assert np.array_equal(*scores)


def test_weights_are_named_listed_and_counted(beside: Path, built: Path) -> None:
    """Each variant has a file of weights of its own name, hashed, and counted in its size."""
    check_artifact(read_manifest(beside), beside)
    manifest, inline = read_manifest(beside), read_manifest(built)
    for kind, model in FILES.items():
        entry = manifest.variant(kind)
        assert entry.files == (model, f"{model}_data")
        assert any(fact == f"weights in {model}_data" for fact in entry.facts)
        assert manifest.size_bytes(entry) == pytest.approx(inline.size_bytes(inline.variant(kind)), rel=0.2)
    assert {file.path for file in manifest.files if "onnx/" in file.path} == {
        name for model in FILES.values() for name in (model, f"{model}_data")
    }


@pytest.mark.parametrize("kind", FILES)
def test_contents_are_found_beside_the_graph(beside: Path, built: Path, kind: str) -> None:
    """What is measured of the files themselves is the same: operators, precisions, sums that saturate."""
    first, second = (read_contents(folder / FILES[kind]) for folder in (beside, built))
    assert first == second
    if kind != "onnx":
        assert bound_sums(beside / FILES[kind]) == bound_sums(built / FILES[kind])


def test_swapped_weights_are_refused(beside: Path, tmp_path: Path) -> None:
    """A changed byte of the weights, and weights of another variant, are not loaded."""
    folder = Path(shutil.copytree(beside, tmp_path / "tiny"))
    (folder / "onnx/model.onnx_data").write_bytes(b"\0" * (folder / "onnx/model.onnx_data").stat().st_size)
    with pytest.raises(IntegrityError, match=r"model.onnx_data is not the file its manifest names"):
        Reranker.load(folder, "onnx")

    manifest = read_manifest(beside)
    variants = tuple(
        replace(entry, files=(entry.model,)) if entry.kind == "onnx-int8" else entry
        for entry in manifest.variants
    )
    write_manifest(replace(manifest, variants=variants), folder)
    with pytest.raises(IntegrityError, match="reads 'model_qint8_avx2.onnx_data', which is no file of this"):
        Reranker.load(folder, "onnx-int8")


@pytest.mark.parametrize(("profile", "kind"), [("hub", "onnx-int8"), ("flat", "onnx"), ("flat", "onnx-int8")])
def test_published_with_its_weights(
    beside: Path, tiny: Path, tmp_path: Path, profile: str, kind: str
) -> None:
    """A published folder of either layout has the weights where its graph looks, and no graph without."""
    from exporter.artifact.files import list_files

    manifest = read_manifest(beside)
    layout = lay_out(manifest, [kind], profile)
    place(layout, beside, tmp_path)
    write_manifest(replace(manifest, variants=layout.variants, files=list_files(tmp_path)), tmp_path)
    assert not (tmp_path / "onnx/model_quantized.onnx").exists()
    pairs = load_pairs(str(tiny / "pairs.jsonl")).pairs
    scores = [Reranker.load(folder, kind, plan=PLAN).score(pairs) for folder in (beside, tmp_path)]
    assert np.array_equal(*scores)


@pytest.mark.parametrize("kind", FILES)
def test_loaded_out_of_the_hub_s_cache(beside: Path, tiny: Path, tmp_path: Path, kind: str) -> None:
    """In the Hub's cache graph and weights are links to files of other names, side by side."""
    snapshot, blobs = tmp_path / "snapshots" / "commit", tmp_path / "blobs"
    blobs.mkdir()
    for file in read_manifest(beside).files:
        link = snapshot / file.path
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(beside / file.path, blobs / file.sha256)
        link.symlink_to(os.path.relpath(blobs / file.sha256, link.parent))
    shutil.copyfile(beside / "manifest.json", blobs / "manifest")
    (snapshot / "manifest.json").symlink_to("../../blobs/manifest")
    pairs = load_pairs(str(tiny / "pairs.jsonl")).pairs
    scores = [Reranker.load(folder, kind, plan=PLAN).score(pairs) for folder in (beside, snapshot)]
    assert np.array_equal(*scores)


@pytest.mark.parametrize("kind", FILES)
def test_other_libraries_find_the_weights(beside: Path, tiny: Path, kind: str) -> None:
    """sentence-transformers opens a graph with its weights beside it, and scores as the runtime does."""
    from sentence_transformers import CrossEncoder

    pairs = load_pairs(str(tiny / "pairs.jsonl")).pairs[:6]
    arguments = {"file_name": FILES[kind]}
    model = CrossEncoder(
        str(beside), backend="onnx", model_kwargs=arguments, device="cpu", local_files_only=True
    )
    theirs = [model.predict([list(pair)])[0] for pair in pairs]  # alone, as int8 depends on batch mates
    ours = Reranker.load(beside, kind, plan=Plan(1, 1, 1)).score(pairs)
    assert np.abs(np.array(theirs) - ours).max() < 1e-4
