"""Shapes are inferred the same where weights lie beside the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporter.export.external_data import pack
from exporter.export.rewrites.graph import infer_shapes


def test_weights_beside_the_graph(tmp_path: Path) -> None:
    """A matrix, and a bias that the inference computes with, may lie in another file."""
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["y"]),
        helper.make_node("Add", ["y", "bias"], ["z"]),
        helper.make_node("Relu", ["z"], ["out"]),
    ]
    weights = {"weight": np.ones((300, 400), np.float32), "bias": np.ones(400, np.float32)}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("rows", "tokens", 300))],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, tmp_path / "graph.onnx")
    pack(tmp_path / "graph.onnx", tmp_path / "beside.onnx", inline_bytes=0)
    shapes = infer_shapes(tmp_path / "beside.onnx")
    assert shapes == infer_shapes(tmp_path / "graph.onnx")
    assert shapes["z"] == ("rows", "tokens", 400)
