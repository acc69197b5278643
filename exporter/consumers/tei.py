"""Check a folder against the rules of text-embeddings-inference, a Rust server that is not run here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from exporter.artifact.files import FLAT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# text-embeddings-inference is built on ort 2.0.0-rc.8, which brings onnxruntime 1.20.
# Source: https://onnxruntime.ai/docs/reference/compatibility.html (1.20 reads IR 10, opset 21)
_TEI_IR, _TEI_OPSET = 10, 21
_TEI_INPUTS = frozenset(("input_ids", "attention_mask", "token_type_ids", "position_ids"))
# Positions of these start behind the padding token's.
# Source: https://github.com/huggingface/text-embeddings-inference/blob/main/router/src/lib.rs
_OFFSET_POSITIONS = ("xlm-roberta", "camembert", "roberta")


def tei_problems(folder: Path) -> tuple[str, ...]:
    """Return why text-embeddings-inference would not serve a folder as a reranker, or would score otherwise.

    By its sources, with onnxruntime as its backend; the program itself is not run.
    Source: https://github.com/huggingface/text-embeddings-inference/blob/main/router/src/lib.rs
    Source: https://github.com/huggingface/text-embeddings-inference/blob/main/backends/ort/src/lib.rs

    Args:
        folder: a published folder.

    Returns:
        A sentence for each broken rule; empty when all hold. Files that no rule names are not looked at.
    """
    config = _json(folder / "config.json")
    tokenizer_config = _json(folder / "tokenizer_config.json")
    problems = ["config.json: missing, or no JSON object"] if config is None else list(_tei_config(config))
    if tokenizer_config is None:
        problems.append("tokenizer_config.json: missing, or no JSON object")
    elif tokenizer_config.get("padding_side", "right") not in ("left", "right"):
        side = tokenizer_config["padding_side"]
        problems.append(f"tokenizer_config.json: padding_side is {side!r}, wanted left or right")
    problems += _tei_tokenizer(folder / "tokenizer.json", _tei_max_length(folder, config or {}))
    return (*problems, *_tei_graph(folder))


def _json(path: Path) -> dict[str, object] | None:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _tei_config(config: dict[str, object]) -> Iterator[str]:
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not any(
        str(name).endswith("Classification") for name in architectures
    ):
        yield f"config.json: architectures is {architectures}, wanted a ...ForSequenceClassification"

    for name in ("id2label", "label2id"):
        labels = config.get(name)
        if not isinstance(labels, dict) or len(labels) != 1:
            yield f"config.json: {name} is {labels}, wanted one label"
    if not isinstance(config.get("model_type"), str):
        yield "config.json: no model_type"

    for names in (
        ("max_position_embeddings", "n_positions"),
        ("hidden_size", "n_embd"),
        ("num_hidden_layers", "n_layer"),
    ):
        if not any(isinstance(config.get(name), int) for name in names):
            yield f"config.json: no {names[0]}, which it requires"


def _tei_max_length(folder: Path, config: dict[str, object]) -> int | None:
    """Return the tokens of a pair that it reads: sentence-transformers' own limit, else every position."""
    limit = (_json(folder / "sentence_bert_config.json") or {}).get("max_seq_length")
    if not isinstance(limit, int):
        limit = config.get("max_position_embeddings", config.get("n_positions"))
        pad = config.get("pad_token_id")
        if isinstance(limit, int) and config.get("model_type") in _OFFSET_POSITIONS:
            limit -= (pad if isinstance(pad, int) else 0) + 1
    return limit if isinstance(limit, int) else None


def _tei_tokenizer(path: Path, max_length: int | None) -> Iterator[str]:
    content = _json(path)
    if content is None:
        yield "tokenizer.json: missing, or no JSON object"
        return
    truncation = content.get("truncation")
    ours = truncation.get("max_length") if isinstance(truncation, dict) else None
    if isinstance(ours, int) and max_length is not None and ours != max_length:
        yield f"it would truncate pairs at {max_length} tokens, the folder's tokenizer does at {ours}"


def _tei_graph(folder: Path) -> Iterator[str]:
    import onnx
    from google.protobuf.message import DecodeError

    path = next((folder / name for name in ("model.onnx", FLAT) if (folder / name).is_file()), None)
    if path is None:
        yield f"no {FLAT}, the only file it opens; publish one variant with the profile flat"
        return
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (OSError, DecodeError) as error:
        yield f"{path.name}: cannot be read as ONNX: {error}"
        return
    opset = max((used.version for used in model.opset_import if used.domain in ("", "ai.onnx")), default=0)
    if model.ir_version > _TEI_IR or opset > _TEI_OPSET:
        read = f"its onnxruntime reads up to {_TEI_IR} and {_TEI_OPSET}"
        yield f"{path.name}: IR {model.ir_version}, opset {opset}; {read}"

    inputs = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    if unknown := inputs.keys() - _TEI_INPUTS:
        yield f"{path.name}: asks for {', '.join(sorted(unknown))}, which it does not give"
    if missing := {"input_ids", "attention_mask"} - inputs.keys():
        yield f"{path.name}: has no {', '.join(sorted(missing))}, which it always gives"
    if wrong := sorted(name for name, kind in inputs.items() if kind != onnx.TensorProto.INT64):
        yield f"{path.name}: {', '.join(wrong)} is not int64"

    logits = next((value.type.tensor_type for value in model.graph.output if value.name == "logits"), None)
    if logits is None or logits.elem_type != onnx.TensorProto.FLOAT or len(logits.shape.dim) != 2:
        yield f"{path.name}: no output named logits of float32 in two dimensions"
