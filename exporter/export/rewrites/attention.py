"""Rewrite attention losslessly. Attentions are found in the graph, around their Softmax.

`absorb_kv_projections`: where one position asks, the keys and values of all positions need not be made.
`add_unpadded_fast_path`: a batch without padding needs no mask. ORT's MultiHeadAttention without one is a
flash attention: it never writes out the scores of all positions against all, which for long pairs do not fit
the caches. Which of the two runs is decided by the batch, in the graph, so every caller gets both.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from exporter.export.rewrites.graph import UnknownShapes, infer_shapes, int64_constant

if TYPE_CHECKING:
    from pathlib import Path

    import onnx_ir as ir
    from numpy.typing import NDArray


_SPLIT, _KEYS, _SWAP = [0, 2, 1, 3], [0, 2, 3, 1], [0, 1, 3, 2]


@dataclass(frozen=True, slots=True)
class _Attention:
    """One layer's attention: its projections, the nodes behind them, and its output.

    `query`, `key` and `value` are the projections, [n_rows, n_tokens, hidden]. `scored` is the product of
    queries and keys, `mixed` that of their softmax and the values.
    """

    query: ir.Value
    key: ir.Value
    value: ir.Value
    n_heads: int
    scale: float
    scored: ir.Node
    mixed: ir.Node
    nodes: tuple[ir.Node, ...]
    output: ir.Value


@dataclass(frozen=True, slots=True)
class _Projection:
    """A product of every position with a weight [hidden, n_heads * size], by heads, and its bias if any."""

    positions: ir.Value
    weight: NDArray[np.float32]  # [hidden, n_heads, size]
    bias: NDArray[np.float32] | None  # [n_heads, 1, size]


def absorb_kv_projections(graph: Path, path: Path) -> str:
    """Absorb the weights of keys and values into other products, where attention has one query a row.

    For a head with one query q over positions X, q (X K + k)' is (q K') X' plus the same number for all
    positions, which softmax takes out again; and p (X V + v) is (p X) V + v, since p sums to 1. A position
    then costs two rows of hidden numbers a head instead of two products with hidden x hidden weights.
    Source: https://arxiv.org/abs/2405.04434 (2.1.2, where DeepSeek-V2 absorbs projections of its own so)

    Args:
        graph: an ONNX graph whose attention is made of plain operators, narrowed to the first token.
        path: the .onnx file to write; the graph as it was where nothing is found.

    Returns:
        A fact for the manifest.
    """
    import onnx_ir as ir
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    try:
        shapes = infer_shapes(graph)
    except UnknownShapes as why:
        shutil.copyfile(graph, path)
        return f"keys and values absorbed: does not apply, {why}"
    model = ir.load(graph)
    found = 0
    for node in [node for node in model.graph if node.op_type == "Softmax"]:
        one = _attention(node)
        if one is None or shapes.get(one.query.name or "", ())[1:2] != (1,):
            continue
        keys, values = _projection(one.key, one.n_heads), _projection(one.value, one.n_heads)
        if keys is not None and values is not None:
            _absorb(model.graph, one, keys, values, found)
            found += 1
    if not found:
        shutil.copyfile(graph, path)
        return "keys and values absorbed: does not apply, no attention of the known form has one query"
    RemoveUnusedNodesPass()(model)
    ir.save(model, path)
    return f"keys and values absorbed: {found} layer{'s' if found > 1 else ''}"


def _projection(value: ir.Value, n_heads: int) -> _Projection | None:
    """Recognize X W + b, the bias on either side or missing; None where anything is not as expected."""
    node, bias = _producer(value), None
    if node is not None and node.op_type == "Add":
        constants = [_constant(side) for side in node.inputs]
        at = next(
            (i for i, constant in enumerate(constants) if constant is not None and constant.ndim == 1), None
        )
        if at is None:
            return None
        bias, node = constants[at], _producer(node.inputs[1 - at])
    if node is None or node.op_type != "MatMul" or node.inputs[0] is None:
        return None
    weight = _constant(node.inputs[1])
    if weight is None or weight.ndim != 2 or weight.shape[1] % n_heads:
        return None
    by_head = weight.reshape(len(weight), n_heads, -1).astype(np.float32)
    return _Projection(
        node.inputs[0], by_head, None if bias is None else bias.reshape(n_heads, 1, -1).astype(np.float32)
    )


def _absorb(graph: ir.Graph, one: _Attention, keys: _Projection, values: _Projection, number: int) -> None:
    """Put other operators where an attention's two products are."""
    import onnx_ir as ir

    def weight(what: str, array: NDArray[np.float32]) -> ir.Value:
        name = f"absorbed_{what}_{number}"
        value = ir.Value(name=name, const_value=ir.tensor(np.ascontiguousarray(array), name=name))
        graph.register_initializer(value)
        return value

    def made(before: ir.Node, op: str, *inputs: ir.Value | None, **attributes: list[int]) -> ir.Value:
        node = ir.node(op, inputs, attributes, name=f"absorbed_{number}_{len(graph)}")
        node.outputs[0].name = node.name
        graph.insert_before(before, node)
        return node.outputs[0]

    _, n_heads, size = keys.weight.shape
    asked = made(one.scored, "Reshape", one.query, int64_constant(graph, (-1, n_heads, 1, size)))
    asked = made(
        one.scored, "MatMul", asked, weight("keys", keys.weight.transpose(1, 2, 0))
    )  # [n_rows, n_heads, 1, hidden]
    asked = made(one.scored, "Squeeze", asked, int64_constant(graph, (2,)))
    scores = made(one.scored, "MatMul", asked, made(one.scored, "Transpose", keys.positions, perm=[0, 2, 1]))
    scores = made(
        one.scored, "Unsqueeze", scores, int64_constant(graph, (2,))
    )  # [n_rows, n_heads, 1, n_tokens]
    one.scored.outputs[0].replace_all_uses_with(scores)

    shares = made(one.mixed, "Squeeze", one.mixed.inputs[0], int64_constant(graph, (2,)))
    mixed = made(
        one.mixed,
        "Unsqueeze",
        made(one.mixed, "MatMul", shares, values.positions),
        int64_constant(graph, (2,)),
    )
    mixed = made(
        one.mixed, "MatMul", mixed, weight("values", values.weight.transpose(1, 0, 2))
    )  # [n_rows, n_heads, 1, size]
    if values.bias is not None:
        mixed = made(one.mixed, "Add", mixed, weight("bias", values.bias))
    one.mixed.outputs[0].replace_all_uses_with(mixed)


def add_unpadded_fast_path(graph: Path, path: Path) -> str:
    """Add an If around each layer's attention: unpadded batches take MultiHeadAttention without a mask.

    Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#commicrosoftmultiheadattention

    Args:
        graph: an ONNX graph whose attention is made of plain operators.
        path: the .onnx file to write; the graph as it was where nothing is found.

    Returns:
        A fact for the manifest.
    """
    import onnx_ir as ir

    model = ir.load(graph)
    mask = next((value for value in model.graph.inputs if value.name == "attention_mask"), None)
    found = [
        one for node in model.graph if node.op_type == "Softmax" and (one := _attention(node)) is not None
    ]
    if mask is None or not found:
        shutil.copyfile(graph, path)
        return "attention without a mask: does not apply, no attention of the known form"
    least = ir.node("ReduceMin", [mask], {"keepdims": 0})
    unpadded = ir.Value(
        name="no_padding_one", const_value=ir.tensor(np.array(1, np.int64), name="no_padding_one")
    )
    model.graph.register_initializer(unpadded)
    full = ir.node("Equal", [least.outputs[0], unpadded])
    model.graph.insert_before(model.graph[0], [least, full])
    for number, attention in enumerate(found):
        _choose(model.graph, attention, full.outputs[0], number)
    model.graph.opset_imports["com.microsoft"] = 1
    ir.save(model, path)
    return f"attention without a mask where no row is padded: {len(found)} layers"


def _choose(graph: ir.Graph, attention: _Attention, full: ir.Value, number: int) -> None:
    """Put an If where an attention is; its nodes become the branch for padded batches."""
    import onnx_ir as ir

    float32 = ir.TensorType(ir.DataType.FLOAT)
    fused = ir.node(
        "MultiHeadAttention",
        [attention.query, attention.key, attention.value],
        {"num_heads": attention.n_heads, "scale": attention.scale},
        domain="com.microsoft",
        name=f"unmasked_attention_{number}",
    )
    fused.outputs[0].name, fused.outputs[0].type = f"unmasked_attention_{number}_out", float32
    attention.output.type = float32
    last = attention.output.producer()
    assert last is not None
    chosen = ir.Value(name=f"attention_{number}_out", type=float32)
    attention.output.replace_all_uses_with(chosen)
    node = ir.Node("", "If", [full], [], outputs=[chosen], name=f"attention_{number}")
    graph.insert_after(last, node)
    graph.remove(attention.nodes)
    then = ir.Graph([], [fused.outputs[0]], nodes=[fused], name=f"unmasked_{number}")
    other = ir.Graph([], [attention.output], nodes=attention.nodes, name=f"masked_{number}")
    node.attributes.add(ir.AttrGraph("then_branch", then))
    node.attributes.add(ir.AttrGraph("else_branch", other))


def _attention(softmax: ir.Node) -> _Attention | None:
    """Recognize Softmax(Q K^T scale + mask) V around a Softmax; None where anything is not as expected."""
    scored = _producer(softmax.inputs[0])
    product = _only_user(softmax.outputs[0])
    if scored is None or scored.op_type != "Add" or product is None or product.op_type != "MatMul":
        return None
    merged = _only_user(product.outputs[0])
    if merged is None or merged.op_type != "Transpose" or _perm(merged) != _SPLIT:
        return None
    last = next((use.node for use in merged.outputs[0].uses() if use.node.op_type == "Reshape"), None)
    for side in (0, 1):
        node, scale = _producer(scored.inputs[side]), 1.0
        while (
            node is not None
            and node.op_type in ("Mul", "Div")
            and (factor := _scalar(node.inputs[1])) is not None
        ):
            scale = scale * factor if node.op_type == "Mul" else scale / factor
            node = _producer(node.inputs[0])
        if node is None or node.op_type != "MatMul" or last is None:
            continue
        query, key, value = _split(node.inputs[0]), _split_keys(node.inputs[1]), _split(product.inputs[1])
        if query is None or key is None or value is None or len({query[1], key[1], value[1]}) != 1:
            return None
        between = _between({query[0], key[0], value[0]}, last)
        if between is None:
            return None
        return _Attention(
            query[0], key[0], value[0], query[1], scale, node, product, between, last.outputs[0]
        )
    return None


def _split(value: ir.Value | None) -> tuple[ir.Value, int] | None:
    """Return the projection that is cut into heads, [n_rows, n_tokens, hidden], and the number of heads."""
    node = _producer(value)
    if node is None or node.op_type != "Transpose" or _perm(node) != _SPLIT:
        return None
    return _heads(node.inputs[0])


def _split_keys(value: ir.Value | None) -> tuple[ir.Value, int] | None:
    node = _producer(value)
    if node is None or node.op_type != "Transpose":
        return None
    return (
        _heads(node.inputs[0])
        if _perm(node) == _KEYS
        else _split(node.inputs[0])
        if _perm(node) == _SWAP
        else None
    )


def _heads(value: ir.Value | None) -> tuple[ir.Value, int] | None:
    node = _producer(value)
    if node is None or node.op_type != "Reshape" or node.inputs[0] is None:
        return None
    shape, joined = _constant(node.inputs[1]), _producer(node.inputs[1])
    if shape is None and joined is not None and joined.op_type == "Concat" and len(joined.inputs) == 4:
        shape = _constant(joined.inputs[2])
        return (node.inputs[0], int(shape.item())) if shape is not None and shape.size == 1 else None
    return (node.inputs[0], int(shape[2])) if shape is not None and shape.size == 4 else None


def _between(starts: set[ir.Value], last: ir.Node) -> tuple[ir.Node, ...] | None:
    """Return the nodes on the ways from some values to a node, in order; None if one has other users."""
    behind: set[ir.Node] = set()
    front = [use.node for value in starts for use in value.uses()]
    while front:
        node = front.pop()
        if node in behind or node is last:
            continue
        behind.add(node)
        front += [use.node for value in node.outputs for use in value.uses()]
    inside, front = {last}, [last]
    while front:
        for value in front.pop().inputs:
            producer = _producer(value)
            if producer is not None and producer in behind and producer not in inside:
                inside.add(producer)
                front.append(producer)
    for node in inside - {last}:
        if any(use.node not in inside for value in node.outputs for use in value.uses()):
            return None
    assert last.graph is not None
    return tuple(node for node in last.graph if node in inside)


def _producer(value: ir.Value | None) -> ir.Node | None:
    return value.producer() if value is not None else None


def _only_user(value: ir.Value) -> ir.Node | None:
    users = {use.node for use in value.uses()}
    return users.pop() if len(users) == 1 else None


def _perm(node: ir.Node) -> list[int]:
    return list(node.attributes.get_ints("perm", ()))


def _constant(value: ir.Value | None) -> NDArray[np.generic] | None:
    import onnx_ir as ir

    while (
        node := _producer(value)
    ) is not None and node.op_type == "Identity":  # of equal weights only one is exported
        value = node.inputs[0]
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if tensor is None else np.asarray(tensor.numpy())


def _scalar(value: ir.Value | None) -> float | None:
    constant = _constant(value)
    return float(constant.item()) if constant is not None and constant.size == 1 else None
