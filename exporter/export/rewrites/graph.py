"""What every rewrite needs of a graph: inferred shapes and constants."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from exporter.backend import backend
from exporter.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import onnx
    import onnx_ir as ir


# Numbers of a tensor that is no matrix: a bias has some thousands.
_SMALL = 1 << 16
Dim: TypeAlias = int | str
Shapes: TypeAlias = "Mapping[str, tuple[Dim, ...]]"


class UnknownShapes(Exception):
    """A graph whose shapes cannot be inferred; it is left as it is."""


def infer_shapes(plain: Path) -> dict[str, tuple[Dim, ...]]:
    """Infer every tensor's shape; a dimension is a number or a symbol, equal symbols being equal numbers.

    Raises:
        UnknownShapes: the inference trips over the graph.
    """
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

    try:
        with backend("shapes cannot be inferred"):  # it raises Exception itself, and whatever it trips over
            inferred = SymbolicShapeInference.infer_shapes(_without_weights(plain), auto_merge=True)
    except BackendError as error:
        raise UnknownShapes(str(error)) from error

    shapes = {tensor.name: tuple(tensor.dims) for tensor in inferred.graph.initializer}
    for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            shapes[value.name] = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param for d in dims)
    return shapes


def _without_weights(plain: Path) -> onnx.ModelProto:
    """Read a graph whose weights may lie beside it: of those only small ones, which inference computes with.

    Of the others it asks the shapes, which are in the graph.
    """
    import onnx
    from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

    model = onnx.load(plain, load_external_data=False)
    for tensor in model.graph.initializer:
        if uses_external_data(tensor) and math.prod(tensor.dims) <= _SMALL:
            load_external_data_for_tensor(tensor, str(plain.parent))
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]
    return model


def int64_constant(graph: ir.Graph, values: tuple[int, ...]) -> ir.Value:
    """Return a graph's constant of these numbers, int64[n]; one initializer serves all its users."""
    import onnx_ir as ir

    name = "int64_" + "_".join(map(str, values)).replace("-", "m")
    if name not in graph.initializers:
        graph.register_initializer(
            ir.Value(name=name, const_value=ir.tensor(np.array(values, np.int64), name=name))
        )
    return graph.initializers[name]
