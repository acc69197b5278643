"""Real builds of the tiny model: what the files are, who else loads them, and builds that are cut off."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from exporter import pipeline
from exporter.artifact.manifest import check_files, read_manifest
from exporter.cache import Cache
from exporter.context import Context
from exporter.errors import BackendError, IntegrityError, RecipeError
from exporter.pairs import load_pairs
from exporter.recipe.load import load_recipe
from exporter.runtime import Plan, Reranker
from tests.support import write_pairs, write_recipe, write_tiny_model

# Largest |difference| in logits to the PyTorch model, whose scores here lie within -2...2.
BOUNDS = {
    "onnx": 1e-5,
    "openvino": 1e-5,
    "openvino-fp16": 1e-2,
    "openvino-bf16": 5e-2,
    "onnx-int8": 0.5,
    "onnx-int8-static": 0.5,
    "openvino-int8": 0.8,
}


@pytest.fixture(scope="module")
def reference(tiny: Path) -> np.ndarray:
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(tiny / "model"), max_length=64, device="cpu")
    return model.predict([list(pair) for pair in load_pairs(str(tiny / "pairs.jsonl")).pairs])


@pytest.mark.parametrize("kind", BOUNDS)
def test_scores_are_the_references(built: Path, tiny: Path, reference: np.ndarray, kind: str) -> None:
    """Every kind scores like PyTorch, through the runtime, on pairs of mixed length with truncation."""
    scores = Reranker.load(built, kind).score(load_pairs(str(tiny / "pairs.jsonl")).pairs)
    assert scores.dtype == np.float32
    assert np.abs(scores - reference).max() < BOUNDS[kind]


@pytest.mark.parametrize(
    ("backend", "file_name", "kind"),
    [
        ("onnx", "onnx/model.onnx", "onnx"),
        ("onnx", "onnx/model_qint8_avx2.onnx", "onnx-int8"),
        ("onnx", "onnx/model_qint8_static_avx2.onnx", "onnx-int8-static"),
        ("openvino", "openvino/openvino_model.xml", "openvino"),
        ("openvino", "openvino/openvino_model_qint8_quantized.xml", "openvino-int8"),
    ],
)
def test_sentence_transformers_loads_the_artifact(
    artifact: Path, tiny: Path, backend: str, file_name: str, kind: str
) -> None:
    """The folder is a drop-in: `CrossEncoder(folder, backend=...)` scores as the runtime does, raw."""
    from sentence_transformers import CrossEncoder

    arguments = {"file_name": file_name}
    if backend == "openvino":
        # optimum-intel defaults to bf16 arithmetic on CPUs that have it.
        arguments["ov_config"] = {"INFERENCE_PRECISION_HINT": "f32"}
    model = CrossEncoder(
        str(artifact), backend=backend, model_kwargs=arguments, device="cpu", local_files_only=True
    )
    pairs = load_pairs(str(tiny / "pairs.jsonl")).pairs[:12]
    theirs = np.array(
        [model.predict([list(pair)])[0] for pair in pairs]
    )  # alone, as int8 depends on batch mates
    ours = np.array([Reranker.load(artifact, kind).score([pair])[0] for pair in pairs])
    assert np.abs(theirs - ours).max() < 1e-4


def test_token_types_matter(built: Path, tiny: Path) -> None:
    """The graph keeps `token_type_ids`: a BERT without them scores, and scores wrongly."""
    assert read_manifest(built).variant("onnx").inputs == ("input_ids", "attention_mask", "token_type_ids")


def test_folder_is_complete_and_has_one_length_limit(built: Path) -> None:
    """Consumers find every file they look for, and no limit on length but the recipe's."""
    names = {path.name for path in built.iterdir()}
    assert {
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "vocab.txt",
    } <= names
    tokenizer = json.loads((built / "tokenizer.json").read_text())
    assert tokenizer["truncation"]["max_length"] == 64
    assert tokenizer["padding"] is None
    assert json.loads((built / "tokenizer_config.json").read_text())["model_max_length"] == 64
    config = json.loads((built / "config.json").read_text())
    assert config["sentence_transformers"]["activation_fn"] == "torch.nn.modules.linear.Identity"


def test_two_clean_builds_give_the_same_bytes(
    tiny: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of two builds from nothing are equal byte by byte, whatever else the process has built."""
    monkeypatch.setenv("EXPORTER_CACHE", str(tmp_path / "cache"))
    kinds = ("openvino-int8", "onnx-int8", "openvino-fp16", "onnx")
    recipe = load_recipe(write_recipe(tiny, *kinds, file="two.yaml"))
    again = read_manifest(pipeline.build(recipe, tmp_path / "artifacts", Context()))
    first = {file.path: file.sha256 for file in read_manifest(built).files}
    compared = [file for file in again.files if file.path.endswith((".onnx", ".xml", ".bin"))]
    assert len(compared) == 6
    assert all(first[file.path] == file.sha256 for file in compared)


def test_unchanged_recipe_is_reused_and_a_changed_one_refused(tiny: Path, built: Path) -> None:
    """Building again does nothing; building something else under the same name needs --replace."""
    before = (built / "manifest.json").stat().st_mtime_ns
    pipeline.build(load_recipe(tiny / "recipe.yaml"), built.parent, Context())
    assert (built / "manifest.json").stat().st_mtime_ns == before
    changed = load_recipe(tiny / "recipe.yaml", changes=["variants.0.opset=17"])
    with pytest.raises(RecipeError, match="already exists, built from another recipe; pass --replace"):
        pipeline.build(changed, built.parent, Context())


def test_other_pairs_under_the_same_name_are_refused(tiny: Path, tmp_path: Path) -> None:
    """Ranges come from the pairs: an artifact is not reused when the content of their file has changed."""
    shutil.copytree(tiny / "model", tmp_path / "model")
    for name, seed in (("pairs.jsonl", 1), ("calibrate.jsonl", 5)):
        write_pairs(tmp_path / name, seed=seed)
    recipe = load_recipe(write_recipe(tmp_path, "onnx"))
    found = read_manifest(pipeline.build(recipe, tmp_path / "artifacts", Context()))
    assert [(pairs.role, pairs.digest) for pairs in found.pairs] == [
        ("verify", load_pairs(str(tmp_path / "pairs.jsonl")).digest),
        ("calibrate", load_pairs(str(tmp_path / "calibrate.jsonl")).digest),
    ]
    write_pairs(tmp_path / "calibrate.jsonl", seed=9)
    with pytest.raises(RecipeError, match="already exists, built from other pairs; pass --replace"):
        pipeline.build(recipe, tmp_path / "artifacts", Context())


def test_a_flipped_byte_stops_everything(artifact: Path) -> None:
    """One changed bit in a model file is refused by runtime, gate and rebuild alike."""
    model = artifact / "onnx" / "model.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    with pytest.raises(IntegrityError, match="model.onnx"):
        Reranker.load(artifact, "onnx")
    with pytest.raises(IntegrityError, match="changed: onnx/model.onnx"):
        pipeline.gate(artifact)


def test_a_damaged_cache_is_not_used(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cached step whose file changed is made again."""
    monkeypatch.setenv("EXPORTER_CACHE", str(tmp_path / "cache"))
    recipe = load_recipe(write_recipe(tiny, "onnx", file="one.yaml"))
    first = read_manifest(pipeline.build(recipe, tmp_path / "a", Context()))
    for path in (tmp_path / "cache").rglob("*.onnx"):
        path.write_bytes(b"broken")
    second = read_manifest(pipeline.build(recipe, tmp_path / "b", Context()))
    assert second.root == first.root


@pytest.mark.parametrize("kind", ["onnx-int8", "onnx-int8-static"])
def test_keep_fp32_leaves_a_product_alone_and_must_name_one(tiny: Path, tmp_path: Path, kind: str) -> None:
    """A pattern keeps weights in fp32; one that names nothing is an error that lists the names."""
    from exporter.export.build import build_variants
    from exporter.export.source import find_source

    pairs = (("wing lift", "drag of a wing"),)
    path = write_recipe(tiny, kind, file="kept.yaml")
    kept = load_recipe(path, changes=["variants.0.keep_fp32=['*output*']"])
    (entry,) = build_variants(
        kept,
        find_source(kept.model, Context().cache),
        calibrate=pairs,
        proof=pairs,
        into=tmp_path,
        context=Context(),
    )
    assert any(fact.startswith("kept in fp32: ") for fact in entry.facts)
    whole = Path(shutil.copy(tmp_path / entry.model, tmp_path / "kept.onnx")).stat().st_size
    plain = load_recipe(path)
    build_variants(
        plain,
        find_source(plain.model, Context().cache),
        calibrate=pairs,
        proof=pairs,
        into=tmp_path,
        context=Context(),
    )
    assert (tmp_path / entry.model).stat().st_size < whole
    wrong = load_recipe(path, changes=["variants.0.keep_fp32=['*nothing*']"])
    with pytest.raises(RecipeError, match="names no matrix product; they are"):
        build_variants(
            wrong,
            find_source(wrong.model, Context().cache),
            calibrate=pairs,
            proof=pairs,
            into=tmp_path,
            context=Context(),
        )


@pytest.mark.parametrize("file_name", ["model_qint8_avx2.onnx", "model_qint8_static_avx2.onnx"])
def test_int8_file_holds_what_its_kind_says(built: Path, file_name: str) -> None:
    """Encoder products and tables are int8, pooler and classifier fp32; 7-bit weights keep to 64."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(built / "onnx" / file_name).graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    matrices = {name: value for name, value in weights.items() if value.ndim == 2 and value.size >= 32}
    fp32 = [name for name, value in matrices.items() if value.dtype == np.float32]
    assert all("pooler" in name or "classifier" in name for name in fp32)
    assert sum("pooler" in name for name in fp32) == 1
    # 2 layers x (QKV, attention output, 2 x FFN) and 3 embedding tables, of which token types are too small
    # to count
    signed = [value for value in matrices.values() if value.dtype == np.int8]
    assert len(signed) >= 8
    products = [
        value for name, value in matrices.items() if value.dtype == np.int8 and "embeddings" not in name
    ]
    assert max(int(np.abs(value.astype(int)).max()) for value in products) <= 64


def test_static_ranges_keep_pairs_apart(built: Path, tiny: Path) -> None:
    """With measured ranges a batch moves a pair's score by rounding only; with its own ranges, by more."""
    pairs = load_pairs(str(tiny / "pairs.jsonl")).pairs
    moved = {}
    for kind in ("onnx-int8", "onnx-int8-static"):
        alone, batched = (
            Reranker.load(built, kind, plan=Plan(1, 1, budget)).score(pairs) for budget in (1, 4096)
        )
        moved[kind] = float(np.abs(alone - batched).max())
    assert moved["onnx-int8-static"] < 0.1 * moved["onnx-int8"]


def test_plan_does_not_change_fp32_scores(built: Path, tiny: Path) -> None:
    """fp32 scores move by rounding only, whatever the workers, threads and batches."""
    pairs = load_pairs(str(tiny / "pairs.jsonl")).pairs
    plans = [Plan(1, 1, 64), Plan(2, 1, 500), Plan(1, 2, 4096)]
    scores = [Reranker.load(built, "onnx", plan=plan).score(pairs) for plan in plans]
    assert max(np.abs(scores[0] - other).max() for other in scores[1:]) < 1e-5


@pytest.mark.parametrize("stage", ["export to ONNX", "build onnx-int8", "plan: sweep"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_cut_off_in_the_middle_leaves_nothing_and_runs_again(
    tiny: Path, tmp_path: Path, stage: str, how: signal.Signals
) -> None:
    """Killed or interrupted in any stage, no artifact is there; the next run builds and clears up."""
    path = write_recipe(tiny, "onnx-int8", file="cut.yaml")
    out = tmp_path / "artifacts"
    script = f"""
import os, signal, contextlib
from pathlib import Path
from exporter import load_recipe, pipeline
from exporter.context import Context
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
class Cut:
    @contextlib.contextmanager
    def stage(self, name, total=None):
        if name.startswith({stage!r}):
            os.kill(os.getpid(), {int(how)})
        yield lambda n: None
    def note(self, text): pass
pipeline.build(load_recipe(Path({str(path)!r})), Path({str(out)!r}), Context(Cut()))
"""
    environment = {**os.environ, "EXPORTER_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=False)
    assert done.returncode == -how or b"KeyboardInterrupt" in done.stderr, done.stderr
    assert not (out / "tiny").exists()
    if how == signal.SIGINT:
        assert list(out.iterdir()) == []
    folder = pipeline.build(load_recipe(path), out, Context())
    check_files(read_manifest(folder), folder)
    assert [p.name for p in out.iterdir()] == ["tiny"]


@pytest.mark.parametrize(
    ("share", "why"),
    [
        (0.5, r"small: 0\.\d+ MB are free there, and the artifact has at least 0\.\d+; make room"),
        (1.05, "No space left on device"),  # for the weights, not for the graph and the tokenizer too
    ],
)
def test_a_full_disk_is_one_line_and_leaves_nothing(
    tiny: Path, tmp_path: Path, share: float, why: str
) -> None:
    """On a file system too small for the artifact the error names the place, and nothing stays behind."""
    small = tmp_path / "small"
    small.mkdir()
    size = int(share * (tiny / "model/model.safetensors").stat().st_size)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        recipe = load_recipe(write_recipe(tiny, "onnx", file="full.yaml"))
        with pytest.raises(BackendError, match=why):
            pipeline.build(recipe, small, Context())
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_models_that_are_no_reranker_are_refused(tiny: Path, tmp_path: Path) -> None:
    """Several labels, no weights, pickled weights, foreign code, no model at all: one line each."""
    from exporter.export.source import find_source
    from exporter.recipe.schema import Model

    def refused(folder: Path, text: str) -> None:
        with pytest.raises(RecipeError, match=text):
            find_source(Model(source=str(folder), max_length=64), Cache.of_user())

    refused(write_tiny_model(tmp_path / "labels", n_labels=3), "gives 3 labels")
    refused(tmp_path / "nowhere", "no such folder")
    refused(tmp_path, "no model, it has no config.json")
    bare = Path(shutil.copytree(tiny / "model", tmp_path / "bare"))
    (bare / "model.safetensors").rename(bare / "pytorch_model.bin")
    refused(bare, "can run code when opened")
    code = Path(shutil.copytree(tiny / "model", tmp_path / "code"))
    config = json.loads((code / "config.json").read_text())
    (code / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "evil.Model"}}))
    refused(code, "asks to run code of its own")
    (code / "config.json").write_text(json.dumps({**config, "architectures": ["BertModel"]}))
    refused(code, "'BertModel' is no cross-encoder")
    with pytest.raises(RecipeError, match="max_length is 512, .* has 64 positions"):
        find_source(Model(source=str(tiny / "model"), max_length=512), Cache.of_user())


def test_hub_model_comes_from_a_local_cache_with_its_commit(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Hub id found in a cache laid out as huggingface_hub does is used, and its commit recorded."""
    from huggingface_hub import constants

    from exporter.export.source import find_source
    from exporter.recipe.schema import Model

    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "models--org--tiny"
    shutil.copytree(tiny / "model", repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    source = find_source(Model(source="org/tiny", max_length=64), Cache.of_user())
    assert source.revision == commit
    with pytest.raises(
        BackendError, match="org/other is not in the local cache and the Hub cannot be reached"
    ):
        find_source(Model(source="org/other", max_length=64), Cache.of_user())
    with pytest.raises(RecipeError, match="no folder and no Hub id"):
        find_source(Model(source="a/b/c", max_length=64), Cache.of_user())


def test_hub_model_is_fetched_over_http(tiny: Path, tmp_path: Path) -> None:
    """Of the files on a stand-in of the Hub, only a reranker's are asked for."""
    from tests.hub_stand_in import serve

    with serve(tiny / "model", "org/tiny") as hub:
        script = (
            "from exporter.cache import Cache; from exporter.recipe.schema import Model\n"
            "from exporter.export.source import find_source\n"
            "model = Model(source='org/tiny', revision='main', max_length=64)\n"
            "source = find_source(model, Cache.of_user())\n"
            "print(source.revision, sorted(p.name for p in source.folder.iterdir()))"
        )
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(hub.commit)
    assert "model.safetensors" in done.stdout
    assert "pytorch_model.bin" not in done.stdout


def test_shards_of_a_hub_model_are_fetched_over_http(tmp_path: Path) -> None:
    """The index says which files hold the weights, and they are asked for after it."""
    from tests.families import write_family
    from tests.hub_stand_in import serve

    model = write_family(tmp_path / "model", "bert", save={"max_shard_size": "40KB"})
    shards = sorted(path.name for path in model.glob("model-*.safetensors"))
    with serve(model, "org/tiny") as hub:
        script = (
            "from exporter.cache import Cache; from exporter.recipe.schema import Model\n"
            "from exporter.export.source import find_source\n"
            "print(*find_source(Model(source='org/tiny'), Cache.of_user()).weights)"
        )
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["model.safetensors.index.json", *shards]
    assert len(shards) > 1
