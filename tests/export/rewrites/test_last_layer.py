"""Exact graph rewrites: real exports of tiny random models of several architectures, before and after."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from exporter.export.onnx import export_plain
from exporter.export.rewrites.attention import absorb_kv_projections, add_unpadded_fast_path
from exporter.export.rewrites.last_layer import first_token_only
from exporter.export.rewrites.proof import keep_if_equivalent
from exporter.export.source import Source
from exporter.runtime.operators import recorded_by_onnxruntime

if TYPE_CHECKING:
    from transformers import PretrainedConfig

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_labels": 1,
}
N_LAYERS = 2


def config_of(kind: str) -> PretrainedConfig:
    import transformers as tr

    many = {**SIZES, "num_hidden_layers": N_LAYERS, "max_position_embeddings": 40}
    match kind:
        case "bert":
            return tr.BertConfig(**many)
        case "roberta":
            return tr.RobertaConfig(**many, pad_token_id=1)
        case "xlm-roberta":
            return tr.XLMRobertaConfig(**many, pad_token_id=1)
        case "electra":
            return tr.ElectraConfig(**many, embedding_size=16)
        case "distilbert":
            return tr.DistilBertConfig(
                vocab_size=50, dim=32, n_heads=4, hidden_dim=64, n_layers=N_LAYERS, num_labels=1
            )
        case "modernbert":
            special = dict.fromkeys(
                ("pad_token_id", "cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id"), 0
            )
            return tr.ModernBertConfig(**many, **special, classifier_pooling="mean", reference_compile=False)
    raise AssertionError(kind)


def exported(folder: Path, kind: str) -> Path:
    """Export a random model of an architecture."""
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    config = config_of(kind)
    config.initializer_range = 0.3  # scores far enough apart to differ
    model = AutoModelForSequenceClassification.from_config(config).eval()
    for (
        parameter
    ) in model.parameters():  # biases are born as zeros, which would hide a rewrite that drops them
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder / "model", safe_serialization=True)
    inputs = ("input_ids", "attention_mask", *(("token_type_ids",) if kind in ("bert", "electra") else ()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, which the build silences too
        export_plain(Source(kind, folder / "model", None, "", 0, inputs, 0), 18, folder / "plain.onnx")
    return folder / "plain.onnx"


def scores(path: Path, shape: tuple[int, int], *, padded: bool) -> np.ndarray:
    """Score random tokens; the second half of every other row is padding if asked for."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(3)
    mask = np.ones(shape, np.int64)
    if padded:
        mask[::2, shape[1] // 2 :] = 0
    feed = {
        "input_ids": rng.integers(2, 50, shape),
        "attention_mask": mask,
        "token_type_ids": rng.integers(0, 2, shape),
    }
    (logits,) = session.run(None, {value.name: feed[value.name] for value in session.get_inputs()})
    return np.asarray(logits)


def rows_of_products(path: Path) -> dict[str, int]:
    """Count the rows each matrix product makes for 3 pairs of 7 tokens."""
    model = onnx.load(path)
    names = {node.output[0]: node.name for node in model.graph.node if node.op_type == "MatMul"}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    ones = np.ones((3, 7), np.int64)
    values = session.run(list(names), {value.name: ones for value in session.get_inputs()})
    return {names[out]: int(np.prod(value.shape[:-1])) for out, value in zip(names, values, strict=True)}


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "electra", "distilbert"])
def test_first_token_only_is_exact_and_narrows_the_last_layer(tmp_path: Path, kind: str) -> None:
    """Same scores for any batch, length and padding; six of the last layer's eight products are made for one position."""
    plain, path = exported(tmp_path, kind), tmp_path / "rewritten.onnx"
    fact = first_token_only(plain, path)
    assert fact.startswith("first token only: 6 of ")
    for shape in ((1, 1), (1, 9), (3, 2), (5, 33)):
        for padded in (False, True):
            before, after = scores(plain, shape, padded=padded), scores(path, shape, padded=padded)
            assert np.abs(before - after).max() < 1e-5
    onnx.checker.check_model(str(path), full_check=True)
    before, after = rows_of_products(plain), rows_of_products(path)
    narrowed = [name for name in after if after[name] < before[name]]
    assert len(narrowed) == 6
    assert all(before[name] == 7 * after[name] for name in narrowed)
    last = [name for name in before if f"layer.{N_LAYERS - 1}" in name]
    assert set(narrowed) < set(last)


def test_model_that_reads_every_token_is_left_alone(tmp_path: Path) -> None:
    """Mean pooling needs all positions: nothing changes, and the fact says so."""
    plain, path = exported(tmp_path, "modernbert"), tmp_path / "rewritten.onnx"
    assert (
        first_token_only(plain, path)
        == "first token only: does not apply, no matrix product is read at one position alone"
    )
    assert (scores(plain, (3, 9), padded=True) == scores(path, (3, 9), padded=True)).all()


def test_rewrite_that_moves_a_score_is_taken_back(tmp_path: Path) -> None:
    """A rewritten graph that scores otherwise is replaced by the exported one, and the fact says by how much it was off."""
    plain, path = exported(tmp_path, "bert"), tmp_path / "rewritten.onnx"
    fact = first_token_only(plain, path)
    feeds = [{name: np.ones((2, 5), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}]
    assert keep_if_equivalent(fact, plain, path, feeds).startswith(
        f"{fact}; moves no score of 2 pairs by more than "
    )
    wrong = onnx.load(path)
    tensor = next(tensor for tensor in wrong.graph.initializer if tensor.name == "classifier.bias")
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) + 1, tensor.name))
    onnx.save(wrong, path)
    assert (
        keep_if_equivalent(fact, plain, path, feeds) == "first token only: taken back, it moved a score by 1"
    )
    assert path.read_bytes() == plain.read_bytes()


def test_rewrite_that_does_not_run_is_taken_back(tmp_path: Path) -> None:
    """A rewritten file no engine opens is replaced by the exported one, and the fact says so."""
    plain, path = exported(tmp_path, "bert"), tmp_path / "rewritten.onnx"
    path.write_bytes(b"no graph")
    feeds = [{name: np.ones((2, 5), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}]
    assert keep_if_equivalent("what: how", plain, path, feeds).startswith(
        "what: taken back, it does not run: "
    )
    assert path.read_bytes() == plain.read_bytes()


def operators_run(path: Path, folder: Path, shape: tuple[int, int], *, padded: bool) -> list[str]:
    """Name the operators that one batch runs."""
    options = ort.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    mask = np.ones(shape, np.int64)
    mask[0, shape[1] - padded :] = 0
    feed = {
        "input_ids": np.full(shape, 7),
        "attention_mask": mask,
        "token_type_ids": np.zeros(shape, np.int64),
    }
    session.run(None, {value.name: feed[value.name] for value in session.get_inputs()})
    return [operation.op for operation in recorded_by_onnxruntime(Path(session.end_profiling()))]


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "electra"])
def test_keys_and_values_absorbed_is_exact(tmp_path: Path, kind: str) -> None:
    """Same scores for any batch, length and padding; the last layer makes no keys and values any more."""
    narrowed, path = tmp_path / "narrowed.onnx", tmp_path / "absorbed.onnx"
    first_token_only(exported(tmp_path, kind), narrowed)
    assert absorb_kv_projections(narrowed, path) == "keys and values absorbed: 1 layer"
    for shape in ((1, 1), (1, 9), (3, 2), (5, 33)):
        for padded in (False, True):
            before, after = scores(narrowed, shape, padded=padded), scores(path, shape, padded=padded)
            assert np.abs(before - after).max() < 1e-5
    onnx.checker.check_model(str(path), full_check=True)
    before, after = rows_of_products(narrowed), rows_of_products(path)
    last = {name for name in before if f"layer.{N_LAYERS - 1}" in name}
    assert {name for name in last if before[name] == 3 * 7} == {
        name for name in last if name.endswith(("/key/MatMul", "/value/MatMul"))
    }
    assert set(after) & last == {name for name in last if before[name] == 3}
    unmasked = tmp_path / "unmasked.onnx"
    assert (
        add_unpadded_fast_path(path, unmasked)
        == f"attention without a mask where no row is padded: {N_LAYERS - 1} layers"
    )
    assert np.abs(scores(path, (3, 9), padded=False) - scores(unmasked, (3, 9), padded=False)).max() < 1e-5


def test_keys_and_values_of_many_queries_are_left_alone(tmp_path: Path) -> None:
    """Where every position asks, absorbing would cost more; where attention is not recognized, nothing changes either."""
    for kind in ("bert", "modernbert"):
        plain, path = exported(tmp_path / kind, kind), tmp_path / "absorbed.onnx"
        said = "keys and values absorbed: does not apply, no attention of the known form has one query"
        assert absorb_kv_projections(plain, path) == said
        assert path.read_bytes() == plain.read_bytes()


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "electra"])
def test_attention_without_a_mask_where_no_row_is_padded(tmp_path: Path, kind: str) -> None:
    """Same scores for any batch; one fused attention a layer where nothing is padded, the exported operators where a token is."""
    narrowed, path = tmp_path / "narrowed.onnx", tmp_path / "unmasked.onnx"
    first_token_only(exported(tmp_path, kind), narrowed)
    assert (
        add_unpadded_fast_path(narrowed, path)
        == f"attention without a mask where no row is padded: {N_LAYERS} layers"
    )
    for shape in ((1, 1), (1, 9), (3, 2), (5, 33)):
        for padded in (False, True):
            before, after = scores(narrowed, shape, padded=padded), scores(path, shape, padded=padded)
            assert np.abs(before - after).max() < 1e-5
    assert operators_run(path, tmp_path, (2, 9), padded=False).count("MultiHeadAttention") == N_LAYERS
    assert "Softmax" not in operators_run(path, tmp_path, (2, 9), padded=False)
    assert "MultiHeadAttention" not in operators_run(path, tmp_path, (2, 9), padded=True)
    again = tmp_path / "again.onnx"
    assert "does not apply" in add_unpadded_fast_path(
        path, again
    )  # a branch's attention is no attention of the graph
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("kind", ["distilbert", "modernbert"])
def test_attention_of_another_form_is_left_alone(tmp_path: Path, kind: str) -> None:
    """What is not recognized stays as it is, and the fact says so."""
    plain, path = exported(tmp_path, kind), tmp_path / "unmasked.onnx"
    assert (
        add_unpadded_fast_path(plain, path)
        == "attention without a mask: does not apply, no attention of the known form"
    )
    assert path.read_bytes() == plain.read_bytes()


@pytest.mark.parametrize(("inner", "expected"), [("other", "1 of 1"), ("hidden", "does not apply")])
def test_what_a_subgraph_reads_stays_whole(tmp_path: Path, inner: str, expected: str) -> None:
    """A product whose whole output a branch of If reads is not narrowed; read by the pick alone, it is."""
    text = f"""
    <ir_version: 9, opset_import: ["" : 18]>
    picked (float[b, s, 4] x, float[4, 4] w, bool c) => (float[b, 4] logits, float[b, s, 4] branch) {{
        other = Neg(x)
        hidden = MatMul(x, w)
        zero = Constant <value_int = 0> ()
        logits = Gather <axis = 1> (hidden, zero)
        branch = If (c) <
            then_branch = yes () => (float[b, s, 4] a) {{ a = Identity({inner}) }},
            else_branch = no () => (float[b, s, 4] d) {{ d = Neg({inner}) }}
        >
    }}
    """
    plain = tmp_path / "plain.onnx"
    onnx.save(onnx.parser.parse_model(text), plain)
    # The inference trips over this graph's branches: unknown shapes change nothing, and hand-written ones stand in for it here.
    assert "shapes cannot be inferred" in first_token_only(plain, tmp_path / "rewritten.onnx")
    whole = dict.fromkeys(("x", "other", "hidden", "branch"), ("b", "s", 4))
    shapes = {**whole, "w": (4, 4), "zero": (), "logits": ("b", 4), "c": (1,)}
    assert expected in first_token_only(plain, tmp_path / "rewritten.onnx", shapes)
