"""The protobuf reader of our own sees in a graph what `onnx` sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from exporter.errors import IntegrityError
from exporter.runtime.model_file import read_onnx

DOMAINS = st.sampled_from(["", "ai.onnx", "com.microsoft", "evil"])
NAMES = st.text("abcdefgh_/.é", min_size=1, max_size=300)


@st.composite
def tensors(draw: st.DrawFn) -> onnx.TensorProto:
    """A tensor with its data in the file, or in another file."""
    tensor = helper.make_tensor(draw(NAMES), onnx.TensorProto.FLOAT, [2], [0.5, 1.5], raw=False)
    if draw(st.booleans()):
        del tensor.float_data[:]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        keys = draw(st.lists(st.sampled_from(["location", "offset", "length", "checksum"]), min_size=1))
        for key in keys:
            entry = tensor.external_data.add()
            entry.key, entry.value = key, draw(NAMES | st.integers(0, 1 << 40).map(str))
    return tensor


@st.composite
def nodes(draw: st.DrawFn, depth: int = 2) -> onnx.NodeProto:
    """A node with attributes of every type that holds something, subgraphs among them."""
    node = helper.make_node(draw(NAMES), draw(st.lists(NAMES, max_size=2)), ["out"], domain=draw(DOMAINS))
    values: list[st.SearchStrategy[object]] = [
        st.integers(-9, 9),
        st.floats(-1, 1),
        NAMES,
        tensors(),
        st.lists(tensors(), min_size=1, max_size=2),
    ]
    if depth:
        values += [graphs(depth - 1), st.lists(graphs(depth - 1), min_size=1, max_size=2)]
    for i, value in enumerate(draw(st.lists(st.one_of(values), max_size=2))):
        node.attribute.append(helper.make_attribute(f"a{i}", value))
    return node


@st.composite
def graphs(draw: st.DrawFn, depth: int = 2) -> onnx.GraphProto:
    """A graph of a few nodes and tensors; nothing of it has to run."""
    inner = draw(st.lists(nodes(depth), max_size=3))
    return helper.make_graph(inner, draw(NAMES), [], [], draw(st.lists(tensors(), max_size=2)))


@st.composite
def models(draw: st.DrawFn) -> onnx.ModelProto:
    """A model with a graph and functions."""
    functions = [
        helper.make_function("d", f"f{i}", [], [], draw(st.lists(nodes(1), max_size=2)), [])
        for i in range(draw(st.integers(0, 2)))
    ]
    return helper.make_model(draw(graphs()), functions=functions, producer_name=draw(NAMES))


def walk(body: Iterable[onnx.NodeProto], found: list[onnx.NodeProto], held: list[onnx.TensorProto]) -> None:
    """Collect the nodes and tensors of nodes and of all below them, as onnx's own classes have them."""
    for node in body:
        found.append(node)
        for attribute in node.attribute:
            held.extend(([attribute.t] if attribute.HasField("t") else []) + list(attribute.tensors))
            for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                held.extend(graph.initializer)
                walk(graph.node, found, held)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(model=models())
def test_same_operators_and_external_data_as_onnx_sees(model: onnx.ModelProto, tmp_path: Path) -> None:
    """Operators and external tensors, those of subgraphs and functions too, are those that onnx finds."""
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    seen = onnx.load(path, load_external_data=False)
    found: list[onnx.NodeProto] = []
    held: list[onnx.TensorProto] = [*seen.graph.initializer]
    for body in (seen.graph.node, *(function.node for function in seen.functions)):
        walk(body, found, held)

    contents = read_onnx(path)
    assert contents.operators == Counter((node.domain, node.op_type) for node in found)
    external = Counter(tuple((e.key, e.value) for e in t.external_data) for t in held if t.external_data)
    assert Counter(contents.external) == external
    assert contents.messages["Function"] == len(seen.functions)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(model=models(), data=st.data())
def test_a_broken_file_is_refused_or_read(
    model: onnx.ModelProto, data: st.DataObject, tmp_path: Path
) -> None:
    """A file cut short, or with a byte changed, gives contents or one IntegrityError, nothing else."""
    raw = bytearray(model.SerializeToString())
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "model.onnx"
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    with suppress(IntegrityError):
        read_onnx(path)


def test_text_is_refused(tmp_path: Path) -> None:
    """What is no ONNX file is named as such."""
    path = tmp_path / "model.onnx"
    path.write_text("not a graph")
    with pytest.raises(IntegrityError, match=r"model\.onnx: no ONNX file"):
        read_onnx(path)
