"""Narrow the last layer, losslessly, to the one position whose state the classifier reads.

A classifier that reads one position of the last hidden state needs that layer's queries, attention output,
feed-forward and norms at that position only. `first_token_only` pushes the selection backwards through every
operator that treats positions apart, so it is found from the graph, not from an architecture's name; keys and
values are still made for all positions.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from exporter.export.rewrites.graph import Dim, Shapes, UnknownShapes, infer_shapes, int64_constant

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import onnx_ir as ir
    from numpy.typing import NDArray

_ELEMENTWISE = frozenset(
    (
        "Abs",
        "Add",
        "And",
        "Cast",
        "Clip",
        "Div",
        "Equal",
        "Erf",
        "Exp",
        "Gelu",
        "Greater",
        "Identity",
        "Less",
        "Log",
        "Max",
        "Min",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "Pow",
        "Reciprocal",
        "Relu",
        "Sigmoid",
        "Sign",
        "Sqrt",
        "Sub",
        "Tanh",
        "Where",
    )
)


@dataclass(frozen=True, slots=True)
class _Push:
    """How selecting position 0 of a node's output becomes selecting position 0 of its inputs.

    `inputs` maps an input's index to the axis selected on; inputs that are not in it are needed whole.
    `shape` is what Reshape and Expand get instead of their shape.
    """

    inputs: dict[int, int]
    shape: tuple[int, ...] | None = None


def first_token_only(plain: Path, path: Path, shapes: Shapes | None = None) -> str:
    """Rewrite a graph to compute for the first token only what nothing but its score depends on.

    Args:
        plain: the exported graph, not fused.
        path: the .onnx file to write; the graph as it was where nothing can be saved.
        shapes: of the graph's tensors; inferred if not passed.

    Returns:
        A fact for the manifest: how many matrix products were narrowed, or why none.
    """
    import onnx_ir as ir
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    try:
        shapes = infer_shapes(plain) if shapes is None else shapes
    except UnknownShapes as why:
        shutil.copyfile(plain, path)
        return f"first token only: does not apply, {why}"
    model = ir.load(plain)
    plan = _plan(model.graph, shapes)
    n_products = sum(node.op_type == "MatMul" for node in plan)
    if n_products:
        _apply(model.graph, plan, shapes)
        RemoveUnusedNodesPass()(model)
        ir.save(model, path)
        n_all = sum(node.op_type == "MatMul" for node in model.graph)
        return f"first token only: {n_products} of {n_all} matrix products made for one position"
    shutil.copyfile(plain, path)
    return "first token only: does not apply, no matrix product is read at one position alone"


def _plan(graph: ir.Graph, shapes: Shapes) -> dict[ir.Node, _Push]:
    """Walk backwards from where one position is picked; return the nodes that can be narrowed to it."""
    import onnx_ir as ir

    wanted: dict[ir.Value, set[int | None]] = defaultdict(
        set
    )  # axes on which a value is read at 0 only; None reads it whole
    inner = (
        value
        for node in ir.traversal.RecursiveGraphIterator(graph)
        if node.graph is not graph
        for value in node.inputs
    )
    for value in (*graph.outputs, *inner):  # what a subgraph reads, it reads whole
        if value is not None:
            wanted[value].add(None)
    plan: dict[ir.Node, _Push] = {}
    for node in reversed(graph):
        axes = set().union(*(wanted[value] for value in node.outputs))
        if not axes:
            continue
        push = None
        if _picks_first_token(node, shapes):
            push = _Push({0: 1})
        elif len(node.outputs) == 1 and len(axes) == 1 and (axis := axes.pop()) is not None:
            push = _rule(node, axis, shapes)
            if push is not None:
                plan[node] = push
        for index, read in enumerate(node.inputs):
            if read is not None and not (node.op_type == "Shape" and _known_from_inputs(read, graph, shapes)):
                wanted[read].add(push.inputs.get(index) if push else None)
    return plan


def _picks_first_token(node: ir.Node, shapes: Shapes) -> bool:
    """Return whether a node is `hidden_state[:, 0]`, [n_rows, n_tokens, hidden] -> [n_rows, hidden]."""
    if node.op_type != "Gather" or node.attributes.get_int("axis", 0) != 1:
        return False
    shape = _shape(node.inputs[0], shapes)
    index = _constant(node.inputs[1])
    return (
        shape is not None
        and len(shape) == 3
        and isinstance(shape[1], str)
        and index is not None
        and not index.any()
    )


def _rule(node: ir.Node, axis: int, shapes: Shapes) -> _Push | None:
    """Return what a node needs of its inputs for position 0 on `axis` of its output; None if not known."""
    out = _shape(node.outputs[0], shapes)
    ins = [_shape(value, shapes) for value in node.inputs]
    if out is None or any(
        shape is None for shape, value in zip(ins, node.inputs, strict=True) if value is not None
    ):
        return None
    sizes = [shape or () for shape in ins]
    behind = len(out) - axis  # counted from the right, as broadcasting does
    broadcast = {
        i: len(s) - behind for i, s in enumerate(sizes) if len(s) >= behind and s[len(s) - behind] != 1
    }
    push = None
    match node.op_type:
        case op if op in _ELEMENTWISE:
            push = _Push(broadcast)
        case "MatMul" if behind >= 2 and min(len(size) for size in sizes) >= 2:
            push = _Push({0: len(sizes[0]) - 2} if behind == 2 else broadcast)
        case "LayerNormalization" if node.attributes.get_int("axis", -1) % len(out) > axis:
            push = _Push({0: axis})
        case "Softmax" | "LogSoftmax" if node.attributes.get_int("axis", -1) % len(out) != axis:
            push = _Push({0: axis})
        case "ReduceMean" | "ReduceSum" if (
            axes := _reduced(node, len(out))
        ) is not None and axis not in axes:
            push = _Push({0: axis})
        case "Transpose":
            order = node.attributes.get_ints("perm", tuple(reversed(range(len(out)))))
            push = _Push({0: order[axis]})
        case "Reshape" if (
            sizes[0][: axis + 1] == out[: axis + 1] and sum(isinstance(d, str) for d in out[axis + 1 :]) < 2
        ):
            rest = (dim if isinstance(dim, int) else -1 for dim in out[axis + 1 :])
            push = _Push(
                {0: axis}, (*[0] * axis, 1, *rest)
            )  # 0 leaves a dimension as it is, -1 is what remains
        case "Expand" if len(sizes[0]) == len(out) and all(
            i == axis or a == b or isinstance(b, int)
            for i, (a, b) in enumerate(zip(sizes[0], out, strict=True))
        ):
            kept = tuple(dim if isinstance(dim, int) else 1 for dim in out)  # 1 leaves a dimension as it is
            push = _Push({i: a for i, a in broadcast.items() if i == 0}, (*kept[:axis], 1, *kept[axis + 1 :]))
    return push


def _reduced(node: ir.Node, rank: int) -> set[int] | None:
    """Return the axes of a reduction that keeps its dimensions, or None where they are not constant."""
    if node.attributes.get_int("keepdims", 1) != 1:
        return None
    axes = node.attributes.get_ints("axes", None)
    if axes is None:
        constant = _constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if constant is None:
            return None
        axes = constant.tolist()
    return {axis % rank for axis in axes}


def _apply(graph: ir.Graph, plan: Mapping[ir.Node, _Push], shapes: Shapes) -> None:
    """Narrow the planned nodes: select position 0 of the values that enter them, and adapt their shapes."""
    selected: dict[tuple[ir.Value, int], ir.Value] = {}
    for node, push in plan.items():
        for index, axis in push.inputs.items():
            value = node.inputs[index]
            assert value is not None
            if value.producer() in plan:
                continue
            if (value, axis) not in selected:
                selected[value, axis] = _slice(graph, value, 0, 1, axis)
            node.replace_input_with(index, selected[value, axis])
        if push.shape is not None:
            node.replace_input_with(1, int64_constant(graph, push.shape))
    for node in graph:
        if node.op_type == "Shape" and node.inputs[0] is not None and node.inputs[0].producer() in plan:
            _shape_from_inputs(graph, node, shapes)


def _known_from_inputs(value: ir.Value, graph: ir.Graph, shapes: Shapes) -> bool:
    """Return whether a value's dimensions are numbers, or symbols that the graph's inputs have too."""
    symbols = {dim for given in graph.inputs for dim in shapes[given.name or ""]}
    return all(isinstance(dim, int) or dim in symbols for dim in shapes.get(value.name or "", ("?",)))


def _shape_from_inputs(graph: ir.Graph, node: ir.Node, shapes: Shapes) -> None:
    """Replace a Shape of a narrowed value by the shape it had before, taken from the graph's inputs."""
    import onnx_ir as ir

    assert node.inputs[0] is not None
    dims = []
    for dim in shapes[node.inputs[0].name or ""]:
        if isinstance(dim, int):
            dims.append(int64_constant(graph, (dim,)))
            continue
        given, axis = next(
            (v, shapes[v.name or ""].index(dim)) for v in graph.inputs if dim in shapes[v.name or ""]
        )
        shape = ir.node("Shape", [given], {"start": axis, "end": axis + 1})
        graph.insert_before(node, shape)
        dims.append(shape.outputs[0])
    concat = ir.node("Concat", dims, {"axis": 0})
    graph.insert_before(node, concat)
    node.outputs[0].replace_all_uses_with(concat.outputs[0])


def _slice(graph: ir.Graph, value: ir.Value, start: int, end: int, axis: int) -> ir.Value:
    import onnx_ir as ir

    node = ir.node("Slice", [value, *(int64_constant(graph, (n,)) for n in (start, end, axis))])
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], node)
    else:
        graph.insert_after(producer, node)
    return node.outputs[0]


def _constant(value: ir.Value | None) -> NDArray[np.int64] | None:
    import onnx_ir as ir

    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if tensor is None else np.asarray(tensor.numpy())


def _shape(value: ir.Value | None, shapes: Shapes) -> tuple[Dim, ...] | None:
    return shapes.get(value.name or "") if value is not None else None
