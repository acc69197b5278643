"""Export the plain ONNX graph, the common ancestor of every kind.

No fused operators are written into it: ORT fuses what pays when it loads a graph, every other engine reads
plain operators, and the rewrites need them. On two cores int8 with ORT's offline transformer fusions
(Attention, SkipLayerNormalization) did 125 pairs/s, without them 155; fp32 61 and 66 (AMD EPYC 25/17,
onnxruntime 1.32.0, 128 tokens a pair).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.errors import BackendError

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.export.source import Source


# The opset of the common plain graph when a variant has no opinion (OpenVINO).
DEFAULT_OPSET = 18


def export_plain(source: Source, opset: int, path: Path) -> None:
    """Export a cross-encoder with Optimum: dynamic batch and sequence, one output `logits` [n_rows, 1].

    Eager attention, since the SDPA form hides the products of queries and keys from the rewrites; the
    TorchScript exporter, since BERT's dynamic batch fails under dynamo.
    Source: https://github.com/pytorch/pytorch/issues/150842

    Args:
        source: the model.
        opset: ONNX opset, 17 or later.
        path: the .onnx file to write.

    Raises:
        BackendError: the architecture cannot be exported, or the graph lost an input or the output it must
            have.
    """
    import onnx
    import torch
    from optimum.exporters.onnx import export
    from optimum.exporters.tasks import TasksManager
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(
        source.folder,
        dtype=torch.float32,
        attn_implementation="eager",
        trust_remote_code=False,
        use_safetensors=True,
        local_files_only=True,
    ).eval()
    try:
        make_config = TasksManager.get_exporter_config_constructor(
            "onnx", model, task="text-classification", library_name="transformers"
        )
        export(model, make_config(model.config), path, opset=opset)
    except (KeyError, ValueError, RuntimeError) as error:
        raise BackendError(
            f"Optimum cannot export {model.config.model_type}: {str(error).splitlines()[0]}"
        ) from error
    graph = onnx.load(path, load_external_data=False).graph
    inputs = {value.name for value in graph.input}
    if lost := set(source.inputs) - inputs:
        # A BERT without token types scores, and scores wrongly.
        # Source: https://github.com/elixir-nx/bumblebee/issues/444
        raise BackendError(
            f"the exported graph has no input {', '.join(sorted(lost))}, which the tokenizer gives"
        )
    if [value.name for value in graph.output] != ["logits"]:
        raise BackendError(
            f"the exported graph gives {[value.name for value in graph.output]}, wanted logits"
        )
