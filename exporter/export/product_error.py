"""How much each matrix product of an int8 graph loses, against the fp32 graph, on equal inputs.

A score that is off says that something was lost, not where: errors of one product go through all that follow.
So every product is given the input it has in the fp32 graph, and its output with the weights and the
activations that the int8 file has is held against the exact one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from exporter.backend import backend
from exporter.errors import BackendError
from exporter.export.external_data import workplace
from exporter.export.observed import observed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import onnx_ir as ir
    from numpy.typing import NDArray

# Bytes of activations that are held at once; a graph of more is run once for each part.
_MAX_HELD = 128 << 20
_SMALLEST = 1e-12


@dataclass(frozen=True, slots=True)
class ProductError:
    """What one int8 product loses on the inputs that it has in the fp32 graph.

    Attributes:
        name: of the graph's node, as `keep_fp32` takes it.
        error: root mean square of the output's differences over the output's own root mean square.
        of_weights: the same where only the weights are int8.
        of_activations: the same where only the activations are.
        share: its weights' share of all int8 products' weights, by number, 0...1.
    """

    name: str
    error: float
    of_weights: float
    of_activations: float
    share: float


class _Ranges(NamedTuple):
    """How an input is rounded where its range is fixed: times `smoothing` a channel, in steps of `scale`."""

    scale: NDArray[np.float32]
    zero: NDArray[np.float32]
    smoothing: NDArray[np.float32]


class _Product(NamedTuple):
    """A product of both graphs, weights [k, n]; `ranges` are None where each batch has its own."""

    name: str
    input: str
    weight: NDArray[np.float32]
    int8_weight: NDArray[np.float32]
    ranges: _Ranges | None

    def rounded(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return inputs, [..., k], as 8 bits hold them: by the fixed range, or by the range they have.

        Source: https://onnx.ai/onnx/operators/onnx__DynamicQuantizeLinear.html
        """
        scale, zero, smoothing = self.ranges or _own_range(inputs)
        steps = np.clip(np.round(inputs * smoothing / scale) + zero, 0, 255)
        found: NDArray[np.float32] = ((steps - zero) * scale / smoothing).astype(np.float32)
        return found


def _own_range(inputs: NDArray[np.float32]) -> _Ranges:
    """Lay 0...255 over the range that inputs have, and 0."""
    least, most = min(float(inputs.min()), 0.0), max(float(inputs.max()), 0.0)
    scale = max((most - least) / 255, _SMALLEST)
    zero = np.clip(np.round(-least / scale), 0, 255)
    return _Ranges(np.array(scale, np.float32), np.array(zero, np.float32), np.array(1, np.float32))


@dataclass(slots=True)
class _Squares:
    """Sums of squares so far: of the exact output, and of the three differences from it."""

    exact: float = 0.0
    differences: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))

    def add(self, product: _Product, inputs: NDArray[np.float32]) -> None:
        """Count a batch's inputs of the product, float32[..., k]."""
        rows = inputs.reshape(-1, inputs.shape[-1])
        rounded = product.rounded(inputs).reshape(rows.shape)
        exact = rows @ product.weight
        others = (rounded @ product.int8_weight, rows @ product.int8_weight, rounded @ product.weight)
        self.exact += _square(exact)
        self.differences += [_square(other - exact) for other in others]

    def relative(self) -> tuple[float, float, float]:
        """Return the three errors: of both, of the weights, of the activations."""
        both, weights, activations = np.sqrt(self.differences / max(self.exact, _SMALLEST)).tolist()
        return both, weights, activations


def _square(values: NDArray[np.float32]) -> float:
    return float((values.astype(np.float64) ** 2).sum())


def product_errors(
    graph: Path, quantized: Path, feeds: Sequence[Mapping[str, NDArray[np.int64]]], beside: Path
) -> tuple[ProductError, ...]:
    """Return how much each int8 product loses, the one that loses most first.

    Args:
        graph: the fp32 graph that the int8 file was made from.
        quantized: the int8 file, as `export.int8` writes it.
        feeds: int64[n_rows, n_tokens] per input and batch, of real pairs.
        beside: a folder for scratch files.

    Raises:
        BackendError: a file cannot be read, the graph cannot be run, or no product of it is int8 in the file.
    """
    import onnx_ir as ir

    with backend("the int8 products cannot be held against fp32"):
        products = _products(ir.load(graph), ir.load(quantized))
        if not products:
            raise BackendError(f"{quantized.name} has no int8 product of {graph.name}")
        found = {product.name: _Squares() for product in products}
        n_rows = max(feed.size for batch in feeds for feed in batch.values())
        for part in _parts(products, n_rows):
            for batch in _inputs(graph, sorted({product.input for product in part}), feeds, beside):
                for product in part:
                    found[product.name].add(product, batch[product.input])

    n_weights = sum(product.weight.size for product in products)
    errors = (
        ProductError(product.name, *found[product.name].relative(), product.weight.size / n_weights)
        for product in products
    )
    return tuple(sorted(errors, key=lambda one: -one.error))


def _parts(products: Sequence[_Product], n_rows: int) -> Iterator[list[_Product]]:
    """Split products so that the inputs of a part's, of `n_rows` tokens, are not too many bytes at once."""
    part: list[_Product] = []
    n_bytes = 0
    for _, group in groupby(products, key=lambda product: product.input):
        of_input = list(group)
        size = 4 * n_rows * len(of_input[0].weight)
        if part and n_bytes + size > _MAX_HELD:
            yield part
            part, n_bytes = [], 0
        part += of_input
        n_bytes += size
    if part:
        yield part


def _inputs(
    graph: Path, names: Sequence[str], feeds: Sequence[Mapping[str, NDArray[np.int64]]], beside: Path
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Run the fp32 graph, and yield the named values of each batch."""
    with workplace(graph, beside) as copy:
        yield from observed(copy, names, feeds)


def _products(graph: ir.Model, quantized: ir.Model) -> list[_Product]:
    """Return the products whose weight the int8 file holds in int8, in the graph's order."""
    stored = {
        name: value
        for part in quantized.graphs()
        for name, value in part.initializers.items()
        if value.const_value is not None
    }
    found = (_product(node, stored) for node in graph.graph if node.op_type in ("MatMul", "Gemm"))
    return [product for product in found if product is not None]


def _product(node: ir.Node, stored: Mapping[str, ir.Value]) -> _Product | None:
    """Return a product of the fp32 graph with what the int8 file stores for it; None where it stores none.

    `export.int8` names what it stores by the node and by its input, onnxruntime's quantizer by the weight,
    which it has turned before where the product is a Gemm.
    """
    value, weight = node.inputs[:2]
    if value is None or weight is None or weight.const_value is None:
        return None
    exact = _array(weight)
    if node.op_type == "Gemm" and node.attributes.get_int("transB"):
        exact = exact.T
    static = [f"{node.name}_int8_weight", f"{node.name}_int8_scales"]
    static += [f"{value.name}_int8_{what}" for what in ("smoothing", "scale", "zero")]
    if stored.keys() >= set(static):
        int8, scales, smoothing, scale, zero = (_array(stored[name]) for name in static)
        ranges = _Ranges(scale, zero, smoothing)
        return _Product(node.name or "", value.name or "", exact, int8 * scales * smoothing[:, None], ranges)
    for name in (weight.name, f"{weight.name}_Transposed"):
        if stored.keys() >= {f"{name}_quantized", f"{name}_scale"}:
            int8 = _array(stored[f"{name}_quantized"]) * _array(stored[f"{name}_scale"])
            return _Product(node.name or "", value.name or "", exact, int8, None)
    return None


def _array(value: ir.Value) -> NDArray[np.float32]:
    assert value.const_value is not None
    return np.asarray(value.const_value.numpy()).astype(np.float32)
