"""Branches that the graph's own shapes settle are taken; others stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from exporter.export.rewrites.branches import settle_branches


def branched(path: Path, first: int, second: int, *, turned: bool = False) -> Path:
    """Write a graph of x and y, [rows, tokens]: x + y if two of their dimensions are equal, else x - y.

    Dimensions 0 and 1 are x's and y's rows and tokens, 2 is y's other axis, whose symbol is its own.
    """

    def branch(op: str) -> onnx.GraphProto:
        node = helper.make_node(op, ["x", "z"], [f"{op}_out"])
        return helper.make_graph(
            [node], op, [], [helper.make_tensor_value_info(f"{op}_out", TensorProto.FLOAT, None)]
        )

    def constant(name: str, value: int) -> onnx.NodeProto:
        return helper.make_node(
            "Constant", [], [name], value=helper.make_tensor(name, TensorProto.INT64, [], [value])
        )

    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Shape", ["r"], ["of_x"]),
        helper.make_node("Shape", ["y"], ["of_y"]),
        constant("i", first),
        constant("j", second),
        helper.make_node("Gather", ["of_x", "i"], ["a"]),
        helper.make_node("Gather", ["of_y", "j"], ["b"]),
        helper.make_node("Equal", ["a", "b"], ["same"]),
        helper.make_node("Not", ["same"], ["other"]),
        helper.make_node("ReduceSum", ["y"], ["z"]),
        helper.make_node(
            "If",
            ["other" if turned else "same"],
            ["out"],
            then_branch=branch("Sub" if turned else "Add"),
            else_branch=branch("Add" if turned else "Sub"),
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ("rows", "tokens")),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ("rows", "tokens", "others")),
        ],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ("rows", "tokens"))],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def run(path: Path, others: int) -> np.ndarray:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.ones((2, 3), np.float32), "y": np.ones((2, 3, others), np.float32)})
    return np.asarray(found)


@pytest.mark.parametrize("turned", [False, True])
def test_equal_dimensions_settle_a_branch(tmp_path: Path, *, turned: bool) -> None:
    """Where both sides are one symbol the branch is taken, and the graph has no If any more."""
    graph = branched(tmp_path / "graph.onnx", 1, 1, turned=turned)
    assert settle_branches(graph, tmp_path / "out.onnx") == "branches settled: 1 of 1"
    assert all(node.op_type != "If" for node in onnx.load(tmp_path / "out.onnx").graph.node)
    assert np.array_equal(run(tmp_path / "out.onnx", 4), run(graph, 4))


def test_dimensions_that_may_be_equal_leave_it(tmp_path: Path) -> None:
    """Two symbols are equal for some batches and not for others: the branch stays, and so does the file."""
    graph = branched(tmp_path / "graph.onnx", 1, 2)
    assert settle_branches(graph, tmp_path / "out.onnx") == "branches settled: none of 1"
    assert (tmp_path / "out.onnx").read_bytes() == graph.read_bytes()
    assert not np.array_equal(run(graph, 3), run(graph, 4))


def test_a_graph_without_branches_says_nothing(tmp_path: Path) -> None:
    """Nothing to settle is no fact."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1,))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1,))
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "graph", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), tmp_path / "graph.onnx")
    assert settle_branches(tmp_path / "graph.onnx", tmp_path / "out.onnx") == ""
