"""Settle branches whose condition is known from the graph: Ifs that ask whether two equal dimensions differ.

TorchScript keeps an `if` of a scripted function though what it asks is settled by the architecture, as in
DeBERTa, which looks in every layer whether there are as many queries as keys. NNCF cannot follow such a
branch, and no engine optimizes across one.
Source: https://github.com/huggingface/transformers/blob/main/src/transformers/models/deberta_v2/modeling_deberta_v2.py
(build_rpos)
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from exporter.export.rewrites.graph import Dim, Shapes, UnknownShapes, infer_shapes

if TYPE_CHECKING:
    from pathlib import Path

    import onnx_ir as ir


def settle_branches(graph: Path, path: Path) -> str:
    """Replace every If whose condition follows from the graph's shapes by the branch that is taken.

    Args:
        graph: an ONNX graph.
        path: the .onnx file to write; the graph as it was where nothing is found.

    Returns:
        A fact for the manifest; empty for a graph without branches.
    """
    import onnx_ir as ir
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    model = ir.load(graph)
    found = [node for node in model.graph if node.op_type == "If"]
    settled = 0
    try:
        shapes = infer_shapes(graph) if found else {}
    except UnknownShapes as why:
        shutil.copyfile(graph, path)
        return f"branches settled: does not apply, {why}"
    for node in found:
        condition = _truth(node.inputs[0], shapes)
        if condition is not None:
            _take(model.graph, node, "then_branch" if condition else "else_branch")
            settled += 1
    if not settled:
        shutil.copyfile(graph, path)
        return f"branches settled: none of {len(found)}" if found else ""
    RemoveUnusedNodesPass()(model)
    ir.save(model, path)
    return f"branches settled: {settled} of {len(found)}"


def _truth(value: ir.Value | None, shapes: Shapes) -> bool | None:
    """Return what a condition always is; None where that depends on the pairs."""
    node, turned = _producer(value), False
    while node is not None and node.op_type in ("Cast", "Identity", "Not"):
        turned ^= node.op_type == "Not"
        node = _producer(node.inputs[0])
    if node is None or node.op_type != "Equal":
        return None
    first, second = (_dimension(side, shapes) for side in node.inputs)
    # Two different symbols may stand for the same number.
    settled = first == second or (isinstance(first, int) and isinstance(second, int))
    return (first == second) != turned if settled and None not in (first, second) else None


def _dimension(value: ir.Value | None, shapes: Shapes) -> Dim | None:
    """Return the dimension that a value is: of one taken from a Shape, or a constant; else None."""
    node = _producer(value)
    while node is not None and node.op_type in ("Squeeze", "Unsqueeze", "Identity", "Cast"):
        value = node.inputs[0]
        node = _producer(value)
    constant = _whole(value)
    if constant is not None or node is None or node.op_type not in ("Gather", "Slice"):
        return constant
    dims, at = _dims(node.inputs[0], shapes), _whole(node.inputs[1])
    if dims is None or at is None:
        return None
    if node.op_type == "Gather":
        picked = dims[at:][:1]
    else:
        end = _whole(node.inputs[2]) if len(node.inputs) == 4 else None
        picked = dims[at:end] if end is not None else ()
    return picked[0] if len(picked) == 1 else None


def _dims(value: ir.Value | None, shapes: Shapes) -> tuple[Dim, ...] | None:
    """Return the shape that a Shape gives, if it is known and whole."""
    node = _producer(value)
    if node is None or node.op_type != "Shape" or node.attributes or node.inputs[0] is None:
        return None
    dims = shapes.get(node.inputs[0].name or "")
    return dims if dims and all(dim != "" for dim in dims) else None


def _whole(value: ir.Value | None) -> int | None:
    """Return a constant of one whole number, else None."""
    import onnx_ir as ir

    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if tensor is None or tensor.size != 1 else int(tensor.numpy().item())


def _producer(value: ir.Value | None) -> ir.Node | None:
    return value.producer() if value is not None else None


def _take(graph: ir.Graph, node: ir.Node, branch: str) -> None:
    """Put a branch's nodes where its If is."""
    taken = node.attributes[branch].as_graph()
    outputs = list(taken.outputs)
    for value in list(taken.initializers.values()):
        graph.register_initializer(value)
    inner = list(taken)
    taken.outputs.clear()
    taken.remove(inner)
    graph.insert_before(node, inner)
    for old, new in zip(node.outputs, outputs, strict=True):
        old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(node, safe=False)
