"""Quantize an exported ONNX graph to int8, activations at run time.

Weights are signed, symmetric, one scale per output channel. On CPUs without VNNI the product of unsigned activations and
signed weights is summed in int16 and saturates, so there the weights keep to 7 bits.
Source: https://github.com/microsoft/onnxruntime/issues/14642
"""

from __future__ import annotations

from fnmatch import fnmatch
from typing import TYPE_CHECKING

from exporter.errors import BackendError, RecipeError

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import NodeProto

    from exporter.machine import Isa

# One [CLS] row per pair: quantizing them saves nothing and costs ranking.
# Source: https://github.com/vllm-project/vllm/issues/35849
_ALWAYS_FP32 = ("*pooler*", "*classifier*")
# The quantizer turns `NAME` of this type into a MatMul `NAME_MatMul`, and quantizes that.
# Source: https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/python/tools/quantization/onnx_model.py
_GEMM = "Gemm"


def quantize(graph: Path, path: Path, *, isa: Isa, embeddings: bool, keep_fp32: tuple[str, ...]) -> tuple[str, ...]:
    """Quantize matrix products, and embedding tables if asked for.

    Args:
        graph: the fp32 graph.
        path: the .onnx file to write.
        isa: the CPUs it is for; decides whether weights keep to 7 bits.
        embeddings: quantize the tables too.
        keep_fp32: shell patterns of node names left alone.

    Returns:
        Facts for the manifest.

    Raises:
        RecipeError: a pattern of `keep_fp32` names no node.
        BackendError: the quantizer fails.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(graph)
    initializers = {tensor.name for tensor in model.graph.initializer}
    names = [n.name for n in model.graph.node if n.op_type in ("MatMul", _GEMM) and _has_weight(n, initializers)]
    for pattern in keep_fp32:
        if not any(fnmatch(name, pattern) for name in names):
            raise RecipeError(f"keep_fp32 {pattern!r} names no matrix product; they are {', '.join(names)}")
    kept = [name for name in names if any(fnmatch(name, pattern) for pattern in (*_ALWAYS_FP32, *keep_fp32))]
    reduce_range = isa in ("avx2", "avx512")
    try:
        quantize_dynamic(
            str(graph),
            str(path),
            op_types_to_quantize=["MatMul", *(("Gather",) if embeddings else ())],
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[*kept, *(f"{name}_MatMul" for name in kept)],
            extra_options={"MatMulConstBOnly": True},
        )
    except (RuntimeError, ValueError) as error:
        raise BackendError(f"ORT's quantizer failed: {str(error).splitlines()[0]}") from error
    return (
        f"int8: {len(names) - len(kept)} of {len(names)} matrix products, {7 if reduce_range else 8}-bit weights per channel",
        *((f"kept in fp32: {', '.join(kept)}",) if kept else ()),
        *(("int8 embedding tables",) if embeddings else ()),
    )


def _has_weight(node: NodeProto, initializers: set[str]) -> bool:
    return len(node.input) > 1 and node.input[1] in initializers
