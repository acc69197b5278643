"""What every rewrite needs of a graph: inferred shapes and constants."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from exporter.backend import backend
from exporter.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import onnx_ir as ir


Dim: TypeAlias = int | str
Shapes: TypeAlias = "Mapping[str, tuple[Dim, ...]]"


class UnknownShapes(Exception):
    """A graph whose shapes cannot be inferred; it is left as it is."""


def infer_shapes(plain: Path) -> dict[str, tuple[Dim, ...]]:
    """Infer every tensor's shape; a dimension is a number or a symbol, equal symbols being equal numbers.

    Raises:
        UnknownShapes: the inference trips over the graph.
    """
    import onnx
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

    try:
        with backend("shapes cannot be inferred"):  # it raises Exception itself, and whatever it trips over
            # Weights beside the graph are not read: their shapes are in it.
            model = onnx.load(plain, load_external_data=False)
            inferred = SymbolicShapeInference.infer_shapes(model, auto_merge=True)
    except BackendError as error:
        raise UnknownShapes(str(error)) from error

    shapes = {tensor.name: tuple(tensor.dims) for tensor in inferred.graph.initializer}
    for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            shapes[value.name] = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param for d in dims)
    return shapes


def int64_constant(graph: ir.Graph, values: tuple[int, ...]) -> ir.Value:
    """Return a graph's constant of these numbers, int64[n]; one initializer serves all its users."""
    import onnx_ir as ir

    name = "int64_" + "_".join(map(str, values)).replace("-", "m")
    if name not in graph.initializers:
        graph.register_initializer(
            ir.Value(name=name, const_value=ir.tensor(np.array(values, np.int64), name=name))
        )
    return graph.initializers[name]
