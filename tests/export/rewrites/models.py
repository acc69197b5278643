"""Tiny random models of several architectures, exported for real, and what their graphs compute."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort

from exporter.export.onnx import export_plain
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
        feed = {name: np.ones((2, 7), np.int64) for name in inputs}
        if "token_type_ids" in inputs:  # types that differ, so that the scores depend on them
            feed["token_type_ids"][:, :3] = 0
        source = Source(
            name=kind,
            folder=folder / "model",
            revision=None,
            digest="",
            weights=(),
            weights_bytes=0,
            max_length=64,
            activation=None,
            inputs=inputs,
            pad_id=0,
        )
        export_plain(source, 18, folder / "plain.onnx", [feed])
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


def operators_run(path: Path, folder: Path, shape: tuple[int, int], *, padded: bool) -> list[str]:
    """Return the operators that one batch runs."""
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
