"""Build fp32 ONNX graphs: the plain export, and the same graph with ORT's lossless transformer fusions.

The plain graph is the common ancestor of every kind: int8 and fused ONNX come from it, and OpenVINO, which cannot read ORT's
fused operators, is converted from it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from exporter.errors import BackendError

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.export.source import Source

# The opset of the common plain graph when a variant has no opinion (OpenVINO).
DEFAULT_OPSET = 18


def export_plain(source: Source, opset: int, path: Path) -> None:
    """Export a cross-encoder with Optimum: dynamic batch and sequence, one output `logits` [n_rows, 1].

    Eager attention, since ORT's attention fusion does not recognise the SDPA form; the TorchScript exporter, since BERT's
    dynamic batch fails under dynamo.
    Source: https://github.com/microsoft/onnxruntime/issues/23864
    Source: https://github.com/pytorch/pytorch/issues/150842

    Args:
        source: the model.
        opset: ONNX opset, 17 or later.
        path: the .onnx file to write.

    Raises:
        BackendError: the architecture cannot be exported, or the graph lost an input or the output it must have.
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
        raise BackendError(f"Optimum cannot export {model.config.model_type}: {str(error).splitlines()[0]}") from error
    graph = onnx.load(path, load_external_data=False).graph
    inputs = {value.name for value in graph.input}
    if lost := set(source.inputs) - inputs:
        # A BERT without token types scores, and scores wrongly.
        # Source: https://github.com/elixir-nx/bumblebee/issues/444
        raise BackendError(f"the exported graph has no input {', '.join(sorted(lost))}, which the tokenizer gives")
    if [value.name for value in graph.output] != ["logits"]:
        raise BackendError(f"the exported graph gives {[value.name for value in graph.output]}, wanted logits")


def fuse(plain: Path, source: Source, path: Path, *, gelu_approximation: bool, embeddings: bool) -> tuple[str, ...]:
    """Apply ORT's transformer fusions: attention, GELU, layer norms.

    Args:
        plain: the exported graph.
        source: the model, for its number of heads.
        path: the .onnx file to write.
        gelu_approximation: allow the one fusion that changes scores.
        embeddings: fuse the embedding sum too; int8 leaves it apart to quantize the tables.

    Returns:
        Facts for the manifest, for example `fused: 6 Attention, 6 BiasGelu`.

    Raises:
        BackendError: the optimizer fails.
    """
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(source.folder, trust_remote_code=False, local_files_only=True)
    options = FusionOptions("bert")
    options.enable_gelu_approximation = gelu_approximation
    options.enable_embed_layer_norm = embeddings
    try:
        model = optimize_model(
            str(plain),
            model_type="bert",
            num_heads=config.num_attention_heads,
            hidden_size=config.hidden_size,
            optimization_options=options,
            opt_level=0,
        )
        # Not sorted by the optimizer; quantization needs it so.
        model.topological_sort()
        model.save_model_to_file(str(path))
    except (RuntimeError, ValueError, AttributeError) as error:
        raise BackendError(f"ORT's optimizer failed on {source.name}: {str(error).splitlines()[0]}") from error
    counts = Counter(node.op_type for node in model.model.graph.node if node.domain == "com.microsoft")
    fused = ", ".join(f"{n} {name}" for name, n in sorted(counts.items()))
    return (f"fused: {fused or 'nothing'}", *(("GELU approximated",) if gelu_approximation else ()))
