"""Export the plain ONNX graph, the common ancestor of every kind.

No fused operators are written into it: ORT fuses what pays when it loads a graph, every other engine reads
plain operators, and the rewrites need them. On two cores int8 with ORT's offline transformer fusions
(Attention, SkipLayerNormalization) did 125 pairs/s, without them 155; fp32 61 and 66 (AMD EPYC 25/17,
onnxruntime 1.32.0, 128 tokens a pair).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from exporter.backend import backend
from exporter.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from exporter.export.source import Source


# The opset of the common plain graph when a variant has no opinion (OpenVINO).
DEFAULT_OPSET = 18
# What every graph has; a mask too where the tokenizer gives none, since pairs are padded to a batch.
ALWAYS = ("input_ids", "attention_mask")
# A field is read if without it a score moves by more than rounding does, relative to the largest one: sums in
# another order, as of tensors that lie elsewhere in memory, move a float32 score by some 1e-7 a layer.
_ROUNDING = 1e-5


@dataclass(frozen=True, slots=True)
class Exported:
    """What was exported.

    `inputs` are the graph's input names in order, `scores` PyTorch's own of the pairs that it was given,
    float32[n_pairs, n_labels].
    """

    inputs: tuple[str, ...]
    scores: NDArray[np.float32]


def export_plain(
    source: Source, opset: int, path: Path, feeds: Sequence[Mapping[str, NDArray[np.int64]]]
) -> Exported:
    """Export a cross-encoder with Optimum: dynamic batch and sequence, one output `logits` [n_rows, 1].

    The graph's inputs are what decides PyTorch's scores, neither what the tokenizer gives nor what the
    architecture could take: see `_inputs_read`. What is not given is a constant of the graph, the zeros that
    PyTorch takes where a tokenizer gives no token types, so that no caller has to know.

    Eager attention, since the SDPA form hides the products of queries and keys from the rewrites; the
    TorchScript exporter, since BERT's dynamic batch fails under dynamo.
    Source: https://github.com/pytorch/pytorch/issues/150842

    Args:
        source: the model.
        opset: ONNX opset, 17 or later.
        path: the .onnx file to write; a graph of over 2 GiB has its weights beside it.
        feeds: int64[n_rows, n_tokens] per input and batch, of real pairs, with `ALWAYS` and everything that
            the tokenizer gives.

    Raises:
        BackendError: PyTorch cannot score the pairs, the architecture cannot be exported, or the graph lost
            an input or the output it must have.
    """
    import onnx
    import torch
    from transformers import AutoModelForSequenceClassification

    with backend("PyTorch cannot load it"):
        model = AutoModelForSequenceClassification.from_pretrained(
            source.folder,
            dtype=torch.float32,
            attn_implementation="eager",
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
        ).eval()
    inputs, scores = _inputs_read(model, feeds)

    with backend(f"Optimum cannot export {model.config.model_type}"):
        _export(model, inputs, opset, path)
    graph = onnx.load(path, load_external_data=False).graph
    found = tuple(value.name for value in graph.input)
    if set(found) != set(inputs):
        # A BERT without token types scores, and scores wrongly.
        # Source: https://github.com/elixir-nx/bumblebee/issues/444
        raise BackendError(
            f"the exported graph reads {', '.join(found) or 'nothing'}; PyTorch reads {', '.join(inputs)}"
        )
    if [value.name for value in graph.output] != ["logits"]:
        raise BackendError(
            f"the exported graph gives {[value.name for value in graph.output]}, wanted logits"
        )
    return Exported(found, scores)


def _inputs_read(
    model: Any, feeds: Sequence[Mapping[str, NDArray[np.int64]]]
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Return which of the tokenizer's fields decide the scores, and the scores.

    sentence-transformers hands over all that the tokenizer gives. A field without which every score stays
    the same is not read: token types in a DeBERTa without any, in ModernBERT, or where they are all zero.
    Source: https://github.com/huggingface/sentence-transformers/blob/main/sentence_transformers/base/modules/transformer.py

    Raises:
        BackendError: PyTorch does not take the fields.
    """
    given = tuple(dict.fromkeys((*ALWAYS, *(feeds[0] if feeds else ()))))
    with backend(
        f"PyTorch cannot score with {', '.join(given)}, which the tokenizer gives",
        "model_input_names in tokenizer_config.json says what it gives",
    ):
        scores = _scores(model, feeds, given)
    rounding = _ROUNDING * max(1.0, float(np.abs(scores).max()))
    for name in [name for name in given if name not in ALWAYS]:
        fewer = tuple(one for one in given if one != name)
        with backend(f"PyTorch cannot score without {name}"):
            if not _differ(model, feeds, fewer, scores, rounding):
                given = fewer
    return given, scores


def _differ(
    model: Any,
    feeds: Sequence[Mapping[str, NDArray[np.int64]]],
    names: Sequence[str],
    scores: NDArray[np.float32],
    rounding: float,
) -> bool:
    """Return whether any batch scores otherwise with these fields; what is read shows in the first ones."""
    start = 0
    for feed in feeds:
        n_rows = len(feed["input_ids"])
        found = _scores(model, [feed], names)
        if not np.abs(found - scores[start : start + n_rows]).max() <= rounding:
            return True
        start += n_rows
    return False


def _scores(
    model: Any, feeds: Sequence[Mapping[str, NDArray[np.int64]]], names: Sequence[str]
) -> NDArray[np.float32]:
    import torch

    with torch.no_grad():
        logits = [
            model(**{name: torch.from_numpy(feed[name]) for name in names}, return_dict=True).logits.numpy()
            for feed in feeds
        ]
    return np.concatenate(logits).astype(np.float32)


def _export(model: Any, inputs: Sequence[str], opset: int, path: Path) -> None:
    from optimum.exporters.onnx import export
    from optimum.exporters.tasks import TasksManager

    make_config = TasksManager.get_exporter_config_constructor(
        "onnx", model, task="text-classification", library_name="transformers"
    )
    config = make_config(model.config)
    axes = {0: "batch_size", 1: "sequence_length"}
    of_architecture = config.inputs
    wanted = {name: of_architecture.get(name, axes) for name in inputs}
    # Optimum's own are those of the architecture, whatever the tokenizer gives.
    config.__class__ = type("Inputs", (type(config),), {"inputs": property(lambda _: wanted)})
    export(model, config, path, opset=opset)
