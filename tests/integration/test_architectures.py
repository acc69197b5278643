"""Every kind of several architectures, through the runtime and through other libraries, against PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from exporter.artifact.manifest import read_manifest
from exporter.cache import Cache
from exporter.cli.app import app
from exporter.context import Context
from exporter.export.build import build_artifact
from exporter.export.source import find_source
from exporter.pairs import load_pair_sets, load_pairs
from exporter.recipe.kinds import KINDS
from exporter.recipe.load import load_recipe
from exporter.runtime import Plan, Reranker
from tests.architectures import ARCHITECTURES, write_architecture
from tests.support import write_pairs, write_recipe

# Those whose tokenizer gives what the model does not read or the other way round, and those whose graph no
# other has: relative positions, branches, a shared layer, products of products.
NAMES = (
    "bert, tokenizer without types",
    "electra, tokenizer without types",
    "deberta-v2",
    "modernbert, tokenizer that does not say",
    "roberta with types",
    "albert",
)
# Largest |difference| to PyTorch relative to the spread of its scores; int8 is far off on random weights.
BOUNDS = {
    "onnx": 1e-4,
    "openvino": 1e-4,
    "openvino-fp16": 3e-2,
    "openvino-bf16": 1.0,
    "onnx-int8": 1.0,
    "onnx-int8-static": 1.5,
    "openvino-int8": 2.0,
}
LEAST_CORRELATION = 0.85


@pytest.fixture(scope="module", params=NAMES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an architecture's model and its artifact of every kind. Read it, do not write it."""
    folder = tmp_path_factory.mktemp("architecture")
    write_architecture(folder / "model", request.param)
    write_pairs(folder / "pairs.jsonl", n_queries=5, n_passages=4)
    write_pairs(folder / "calibrate.jsonl", n_queries=5, n_passages=4, seed=5)
    recipe = load_recipe(write_recipe(folder, *KINDS))
    context = Context(cache=Cache(folder / "cache"))
    verify, calibrate = load_pair_sets(recipe)
    (folder / "tiny").mkdir()
    manifest = build_artifact(
        recipe,
        find_source(recipe.model, context.cache),
        verify,
        calibrate,
        into=folder / "tiny",
        context=context,
    )
    assert {entry.inputs for entry in manifest.variants} == {ARCHITECTURES[request.param][3]}
    return folder


@pytest.fixture(scope="module")
def reference(made: Path) -> np.ndarray:
    from sentence_transformers import CrossEncoder

    pairs = [list(pair) for pair in load_pairs(str(made / "pairs.jsonl")).pairs]
    return np.asarray(CrossEncoder(str(made / "model"), device="cpu").predict(pairs))


def test_every_kind_scores_as_the_user_s_model(made: Path, reference: np.ndarray) -> None:
    """Batches with padding and without score as `CrossEncoder(model).predict` does, in every kind."""
    pairs = load_pairs(str(made / "pairs.jsonl")).pairs
    for kind, bound in BOUNDS.items():
        scores = Reranker.load(made / "tiny", kind, plan=Plan(1, 1, 256)).score(pairs)
        assert np.abs(scores - reference).max() < bound * reference.std(), kind
        assert np.corrcoef(scores, reference)[0, 1] > LEAST_CORRELATION, kind


@pytest.mark.parametrize(("backend", "kind"), [("onnx", "onnx"), ("openvino", "openvino")])
def test_other_libraries_score_as_the_user_s_model(
    made: Path, reference: np.ndarray, backend: str, kind: str
) -> None:
    """sentence-transformers gives the artifact's graph what the artifact's tokenizer gives."""
    from sentence_transformers import CrossEncoder

    arguments: dict[str, object] = {"file_name": read_manifest(made / "tiny").variant(kind).model}
    if backend == "openvino":
        # optimum-intel defaults to bf16 arithmetic on CPUs that have it.
        arguments["ov_config"] = {"INFERENCE_PRECISION_HINT": "f32"}
    model = CrossEncoder(
        str(made / "tiny"), backend=backend, model_kwargs=arguments, device="cpu", local_files_only=True
    )
    pairs = [list(pair) for pair in load_pairs(str(made / "pairs.jsonl")).pairs]
    assert np.abs(model.predict(pairs) - reference).max() < 1e-4


def test_a_model_that_does_not_build_ends_with_3(tmp_path: Path) -> None:
    """On the command line whatever a library raises is one line and exit code 3, and no artifact is left."""
    write_architecture(tmp_path / "model", "longformer")
    write_pairs(tmp_path / "pairs.jsonl")
    write_pairs(tmp_path / "calibrate.jsonl", seed=5)
    recipe = write_recipe(tmp_path, "onnx")
    done = CliRunner().invoke(
        app, ["export", str(recipe), "--out", str(tmp_path / "artifacts")], env={"COLUMNS": "200"}
    )
    assert done.exit_code == 3, done.output
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: export to ONNX, opset 18: the exported graph does not ")
    assert "Traceback" not in done.output
    assert list((tmp_path / "artifacts").iterdir()) == []
