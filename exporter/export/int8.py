"""Quantize an exported ONNX graph to int8, activations at run time or by ranges measured before.

Weights are signed, symmetric, one scale per output channel. On CPUs without VNNI the product of unsigned
activations and signed weights is summed in int16 and saturates, so there the weights keep to 7 bits.
Source: https://github.com/microsoft/onnxruntime/issues/14642
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING

import numpy as np

from exporter.artifact.cpus import saturates
from exporter.backend import backend
from exporter.errors import BackendError, RecipeError
from exporter.export.external_data import INLINE_BYTES, is_external, pack, save, workplace
from exporter.export.observed import observed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    import onnx_ir as ir
    from numpy.typing import NDArray
    from onnx import NodeProto

    from exporter.machine import Isa


@dataclass(frozen=True, slots=True)
class Options:
    """The options of both ways of quantizing.

    `isa`: the CPUs it is for; decides whether weights keep to 7 bits. `keep_fp32`: shell patterns of node
    names left alone, beside pooler and classifier. `embeddings`: quantize the tables too. `inline_bytes`:
    weights beyond which they are written beside the graph.
    """

    isa: Isa
    keep_fp32: tuple[str, ...]
    embeddings: bool
    inline_bytes: int = INLINE_BYTES

    @property
    def weight_bits(self) -> int:
        """7 where sums are of 16 bits, else 8."""
        return 7 if saturates(self.isa) else 8


# One [CLS] row per pair: quantizing them saves nothing and costs ranking. So are the products of
# `absorb_kv_projections`.
# Source: https://github.com/vllm-project/vllm/issues/35849
ALWAYS_FP32 = ("*pooler*", "*classifier*", "absorbed_*")
# The quantizer turns `NAME` of this type into a MatMul `NAME_MatMul`, and quantizes that.
# Source: https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/python/tools/quantization/onnx_model.py
_GEMM = "Gemm"
# How much of an activation's range goes into the weights: all at 1. On the sample's 3,600 pairs tau-b was
# 0.957 at 0.5, 0.982 at 0.7, 0.986 at 0.8, 0.987 at 0.85, 0.985 at 0.9, 0.984 at 1, and 0.974 without (8-bit
# weights). Ranges narrower than all that was seen rank worse, since a separator's few large activations
# decide: at the 99.99th percentile 0.922, at the least error 0.974.
_SMOOTHING = 0.8
_SMALLEST = 1e-5
# By weight bits. Two products of at most 255 * 64 sum to 32,640, within int16; ORT's own reduced range ends
# at 64 too.
_LARGEST_WEIGHT = {7: 64, 8: 127}


def quantize_at_run_time(graph: Path, path: Path, options: Options) -> tuple[str, ...]:
    """Quantize matrix products, activations by each batch's own range, and embedding tables if asked for.

    Args:
        graph: the fp32 graph.
        path: the .onnx file to write.
        options: what is quantized, and how far.

    Returns:
        Facts for the manifest.

    Raises:
        RecipeError: a pattern of `keep_fp32` names no node.
        BackendError: the quantizer fails.
    """
    names, kept = _products(graph, options)
    operators = ("MatMul", "Gather") if options.embeddings else ("MatMul",)
    with workplace(graph, path.parent) as copy:
        pack(_quantize_dynamic(copy, operators, options, kept), path, options.inline_bytes)
    return _facts(names, kept, options)


def quantize_by_ranges(
    graph: Path, path: Path, options: Options, feeds: Sequence[Mapping[str, NDArray[np.int64]]]
) -> tuple[str, ...]:
    """Quantize matrix products, activations by ranges measured on calibration pairs.

    With fixed ranges a pair's score does not depend on its batch. Channels of large activations are scaled
    down, their weights up by as much (SmoothQuant); the scaling is a multiplication before the quantization,
    too cheap to measure. Products are written as ORT's MatMulIntegerToFloat, which takes the bias too: as
    DequantizeLinear and MatMul (QDQ), from which ORT makes the same without the bias, 134 pairs/s became 145
    (AMD EPYC 25/17 with VNNI, two cores, onnxruntime 1.32.0). A scale per channel in QuantizeLinear itself:
    28 pairs/s.
    Source: https://arxiv.org/abs/2211.10438 (SmoothQuant, equation 4)
    Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#commicrosoftmatmulintegertofloat

    Args:
        graph: the fp32 graph.
        path: the .onnx file to write.
        options: what is quantized, and how far.
        feeds: int64[n_rows, n_tokens] per input and batch, of real pairs, without padding.

    Returns:
        Facts for the manifest.

    Raises:
        RecipeError: a pattern of `keep_fp32` names no node.
        BackendError: the quantizer fails.
    """
    names, kept = _products(graph, options)
    with workplace(graph, path.parent) as copy, backend("the graph cannot be quantized"):
        _quantize_by_ranges(copy, path, options, feeds, set(names) - set(kept))
    return (*_facts(names, kept, options), f"activation ranges of {len(feeds)} pairs, smoothed")


def _quantize_by_ranges(
    graph: Path,
    path: Path,
    options: Options,
    feeds: Sequence[Mapping[str, NDArray[np.int64]]],
    products: Collection[str],
) -> None:
    """Quantize the products of these names.

    Args:
        graph: the fp32 graph, in a folder that may be written to.
        path: see `quantize_by_ranges`.
        options: see there.
        feeds: see there.
        products: names of the products with a weight.
    """
    import onnx_ir as ir
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    embedded = _quantize_dynamic(graph, ("Gather",), options, ()) if options.embeddings else graph
    model = ir.load(embedded)

    by_input: dict[ir.Value, list[ir.Node]] = {}
    for node in model.graph:
        if node.op_type == "MatMul" and node.name in products:
            by_input.setdefault(_input(node, 0), []).append(node)
    if not by_input:
        raise BackendError("no matrix product reads a weight, so there is nothing to quantize")

    ranges = _channel_ranges(graph, [value.name or "" for value in by_input], feeds)
    for value, nodes in by_input.items():
        name = value.name or ""
        _quantize_products(model.graph, name, nodes, ranges[name], _LARGEST_WEIGHT[options.weight_bits])

    model.graph.opset_imports["com.microsoft"] = 1
    RemoveUnusedNodesPass()(model)
    save(model, path, options.inline_bytes)


def _products(graph: Path, options: Options) -> tuple[list[str], list[str]]:
    """Return the names of the matrix products with a weight, and of those among them that stay in fp32."""
    import onnx

    model = onnx.load(graph, load_external_data=False)
    initializers = {tensor.name for tensor in model.graph.initializer}
    names = [
        n.name for n in model.graph.node if n.op_type in ("MatMul", _GEMM) and _has_weight(n, initializers)
    ]

    for pattern in options.keep_fp32:
        if not any(fnmatch(name, pattern) for name in names):
            raise RecipeError(f"keep_fp32 {pattern!r} names no matrix product; they are {', '.join(names)}")
    return names, [
        name
        for name in names
        if any(fnmatch(name, pattern) for pattern in (*ALWAYS_FP32, *options.keep_fp32))
    ]


def _has_weight(node: NodeProto, initializers: set[str]) -> bool:
    return len(node.input) > 1 and node.input[1] in initializers


def _quantize_dynamic(graph: Path, operators: tuple[str, ...], options: Options, kept: Iterable[str]) -> Path:
    """Quantize with ORT, which writes beside what it reads; return the file, in the graph's folder."""
    import onnx_ir as ir
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = graph.with_name("quantized.onnx")
    with backend("ORT's quantizer failed"):
        quantize_dynamic(
            str(graph),
            str(path),
            op_types_to_quantize=list(operators),
            per_channel=True,
            reduce_range=options.weight_bits == 7,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[*kept, *(f"{name}_MatMul" for name in kept)],
            use_external_data_format=is_external(ir.load(graph)),
            extra_options={"MatMulConstBOnly": True},
        )
    return path


def _facts(names: list[str], kept: list[str], options: Options) -> tuple[str, ...]:
    return (
        f"int8: {len(names) - len(kept)} of {len(names)} matrix products, "
        f"{options.weight_bits}-bit weights per channel",
        *((f"kept in fp32: {', '.join(kept)}",) if kept else ()),
        *(("int8 embedding tables",) if options.embeddings else ()),
    )


def _channel_ranges(
    graph: Path, names: Sequence[str], feeds: Sequence[Mapping[str, NDArray[np.int64]]]
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Run pairs and return the least and the largest of each named value's channels, its last axis."""
    ranges: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
    for values in observed(graph, names, feeds):
        for name, found in values.items():
            rows = found.reshape(-1, found.shape[-1])
            low, high = rows.min(axis=0), rows.max(axis=0)
            if name in ranges:
                low, high = np.minimum(low, ranges[name][0]), np.maximum(high, ranges[name][1])
            ranges[name] = low, high
    return ranges


def _quantize_products(
    graph: ir.Graph,
    name: str,
    nodes: Sequence[ir.Node],
    channels: tuple[NDArray[np.float32], NDArray[np.float32]],
    largest_weight: int,
) -> None:
    """Replace the products that read one value, of this name when its ranges were seen, by integer ones."""
    import onnx_ir as ir

    value = _input(nodes[0], 0)  # another one by now, where a product before has made it
    low, high = channels
    weights = [_array(_input(node, 1)) for node in nodes]
    largest = np.maximum(np.maximum(-low, high), _SMALLEST)
    largest_of_weights = np.maximum(
        np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0), _SMALLEST
    )
    divisor = largest**_SMOOTHING / largest_of_weights ** (1 - _SMOOTHING)
    scale, zero = _scale_and_zero(low / divisor, high / divisor)

    name = f"{name}_int8"
    smoothed = ir.node(
        "Mul", [value, _initializer(graph, f"{name}_smoothing", (1 / divisor).astype(np.float32))]
    )
    scale_value, zero_value = (
        _initializer(graph, f"{name}_scale", scale),
        _initializer(graph, f"{name}_zero", zero),
    )
    quantized = ir.node("QuantizeLinear", [smoothed.outputs[0], scale_value, zero_value])
    graph.insert_before(nodes[0], [smoothed, quantized])

    for node, weight in zip(nodes, weights, strict=True):
        smoothed_weight = weight * divisor[:, None]
        scales = (np.maximum(np.abs(smoothed_weight).max(axis=0), _SMALLEST) / largest_weight).astype(
            np.float32
        )
        rounded = np.clip(np.round(smoothed_weight / scales), -largest_weight, largest_weight).astype(np.int8)
        last, bias = _with_bias(node)
        product = ir.node(
            "MatMulIntegerToFloat",
            [
                quantized.outputs[0],
                _initializer(graph, f"{node.name}_int8_weight", rounded),
                scale_value,
                _initializer(graph, f"{node.name}_int8_scales", scales),
                zero_value,
                _initializer(graph, f"{node.name}_int8_zeros", np.zeros(scales.shape, np.int8)),
                *((bias,) if bias is not None else ()),
            ],
            domain="com.microsoft",
            name=node.name,
        )
        graph.insert_before(node, product)
        last.outputs[0].replace_all_uses_with(product.outputs[0])


def _scale_and_zero(
    low: NDArray[np.float32], high: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Lay 0...255 over a range that holds 0, so that zero stays exactly zero."""
    least, most = min(float(low.min()), 0.0), max(float(high.max()), 0.0)
    scale = max(most - least, _SMALLEST) / 255
    return np.array(scale, np.float32), np.array(round(-least / scale), np.uint8)


def _with_bias(node: ir.Node) -> tuple[ir.Node, ir.Value | None]:
    """Return the Add that alone reads a product, and its constant bias; else the product and None."""
    users = list(node.outputs[0].uses())
    if len(users) == 1 and users[0].node.op_type == "Add":
        other = _input(users[0].node, 1 - users[0].idx)
        if other.is_initializer() and _array(other).ndim == 1:
            return users[0].node, other
    return node, None


def _input(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value


def _array(value: ir.Value) -> NDArray[np.float32]:
    assert value.const_value is not None
    return np.asarray(value.const_value.numpy())


def _initializer(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    import onnx_ir as ir

    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    graph.register_initializer(value)
    return value
