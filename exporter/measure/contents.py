"""What a variant's files hold, so that a kind's promise can be held against it: operators and weights.

Knows ONNX and OpenVINO IR, runs neither.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from exporter.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from onnx import GraphProto, NodeProto, TensorProto
    from openvino import Node


# Which input of a product is its weight.
PRODUCTS = {
    "MatMul": 1,
    "FusedMatMul": 1,
    "Gemm": 1,
    "FusedGemm": 1,
    "MatMulInteger": 1,
    "MatMulIntegerToFloat": 1,
    "DynamicQuantizeMatMul": 1,
    "QLinearMatMul": 3,
}
# What may stand between a stored weight and the product that reads it.
_ONNX_BETWEEN = frozenset(("Cast", "DequantizeLinear", "Identity", "Transpose"))
_OPENVINO_BETWEEN = frozenset(("Convert", "Multiply", "Subtract", "FakeQuantize", "Transpose", "Reshape"))
_LARGE_OPERATORS = 12


class Weight(NamedTuple):
    """A constant that a matrix product reads: [k, n] as stored, in the type that it is stored in."""

    product: str
    values: NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in the files.

    `operators` are the most frequent with their counts; `stored_bytes` the constants by type, of all
    operators; the shares are of the matrix products' weights, by number, 0...1.
    """

    operators: tuple[tuple[str, int], ...]
    stored_bytes: tuple[tuple[str, int], ...]
    n_products: int
    int8_share: float
    fp16_share: float

    def share_of(self, precision: str) -> float:
        """Return the share of the products' weights stored in a precision, 0...1; `fp32` is what is left."""
        shares = {"int8": self.int8_share, "fp16": self.fp16_share}
        return shares.get(precision, 1.0 - sum(shares.values()))


def read_contents(model: Path) -> Contents:
    """Count a model file's operators and constants.

    Raises:
        BackendError: the file is neither ONNX nor OpenVINO IR.
    """
    operators, stored = _openvino_counts(model) if model.suffix == ".xml" else _onnx_counts(model)
    by_type: Counter[str] = Counter()
    n_products = 0
    for weight in weights(model):
        by_type[weight.values.dtype.name] += weight.values.size
        n_products += 1
    n_weights = max(1, by_type.total())
    return Contents(
        operators=tuple(operators.most_common(_LARGE_OPERATORS)),
        stored_bytes=tuple(sorted(stored.items(), key=lambda item: -item[1])),
        n_products=n_products,
        int8_share=(by_type["int8"] + by_type["uint8"]) / n_weights,
        fp16_share=by_type["float16"] / n_weights,
    )


def weights(model: Path) -> Iterator[Weight]:
    """Yield every constant that a matrix product reads.

    Raises:
        BackendError: the file is neither ONNX nor OpenVINO IR.
    """
    yield from _openvino_weights(model) if model.suffix == ".xml" else _onnx_weights(model)


def _onnx_graph(model: Path) -> GraphProto:
    import onnx

    try:
        return onnx.load(model).graph
    except (
        Exception
    ) as error:  # protobuf's DecodeError, whose package has no types, or whatever a broken file leads to
        raise BackendError(f"{model} cannot be read as ONNX: {error}") from error


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield a graph and those in its If and Loop nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _onnx_counts(model: Path) -> tuple[Counter[str], Counter[str]]:
    import onnx

    operators: Counter[str] = Counter()
    stored: Counter[str] = Counter()
    for graph in _graphs(_onnx_graph(model)):
        operators.update(node.op_type for node in graph.node)
        for tensor in graph.initializer:
            values = onnx.numpy_helper.to_array(tensor)
            stored[values.dtype.name] += values.nbytes
    return operators, stored


def _onnx_weights(model: Path) -> Iterator[Weight]:
    import onnx

    whole = _onnx_graph(model)
    graphs = list(_graphs(whole))
    tensors = {tensor.name: tensor for graph in graphs for tensor in graph.initializer}
    makers = {output: node for graph in graphs for node in graph.node for output in node.output}
    for graph in graphs:
        for node in graph.node:
            index = PRODUCTS.get(node.op_type)
            if index is None or len(node.input) <= index:
                continue
            tensor, turned = _stored(node.input[index], tensors, makers)
            if tensor is not None:
                turned ^= any(a.name == "transB" and a.i for a in node.attribute)
                values = onnx.numpy_helper.to_array(tensor)
                yield Weight(node.name, values.T if turned else values)


def _stored(
    name: str, tensors: Mapping[str, TensorProto], makers: Mapping[str, NodeProto]
) -> tuple[TensorProto | None, bool]:
    """Follow a product's input back to a constant; say too whether it is transposed on the way."""
    turned = False
    while name not in tensors:
        node = makers.get(name)
        if node is None or node.op_type not in _ONNX_BETWEEN:
            return None, False
        turned ^= node.op_type == "Transpose"
        name = node.input[0]
    return tensors[name], turned


def _openvino_ops(model: Path) -> list[Node]:
    import openvino as ov

    try:
        return list(ov.Core().read_model(model).get_ordered_ops())
    except RuntimeError as error:
        raise BackendError(f"{model} cannot be read as OpenVINO IR: {str(error).splitlines()[0]}") from error


def _openvino_counts(model: Path) -> tuple[Counter[str], Counter[str]]:
    operators: Counter[str] = Counter()
    stored: Counter[str] = Counter()
    for op in _openvino_ops(model):
        operators[op.get_type_name()] += 1
        if op.get_type_name() == "Constant":
            stored[op.data.dtype.name] += op.data.nbytes
    return operators, stored


def _openvino_weights(model: Path) -> Iterator[Weight]:
    for op in _openvino_ops(model):
        if op.get_type_name() != "MatMul":
            continue
        node, turned = op.input_value(1).get_node(), bool(op.get_attributes()["transpose_b"])
        while node.get_type_name() in _OPENVINO_BETWEEN:
            turned ^= node.get_type_name() == "Transpose"
            node = node.input_value(0).get_node()
        if node.get_type_name() == "Constant":
            yield Weight(op.get_friendly_name(), node.data.T if turned else node.data)
