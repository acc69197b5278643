"""Weights beside the graph: where they go, and that the graph is the same with them in its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.export.external_data import pack, workplace
from exporter.runtime.model_file import read_onnx


def a_graph(path: Path) -> Path:
    """Write a graph that adds a constant and multiplies by a weight of 4,000 bytes."""
    weight = np.arange(1000, dtype=np.float32).reshape(10, 100)
    one = helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.ones(500, np.float32)))
    nodes = [
        one,
        helper.make_node("MatMul", ["x", "weight"], ["y"]),
        helper.make_node("ReduceSum", ["one"], ["sum"]),
        helper.make_node("Add", ["y", "sum"], ["z"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 10))],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, (1, 100))],
        [numpy_helper.from_array(weight, "weight")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def result(path: Path) -> np.ndarray:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.ones((1, 10), np.float32)})
    return np.asarray(found)


def test_a_small_graph_keeps_its_bytes(tmp_path: Path) -> None:
    """What fits is copied, byte by byte."""
    graph = a_graph(tmp_path / "graph.onnx")
    pack(graph, tmp_path / "model.onnx", inline_bytes=4000)
    assert (tmp_path / "model.onnx").read_bytes() == graph.read_bytes()
    assert not (tmp_path / "model.onnx_data").exists()


def test_a_large_graph_has_its_weights_under_its_own_name(tmp_path: Path) -> None:
    """One byte more than allowed, and weights lie in NAME.onnx_data; back again they lie in the file."""
    graph = a_graph(tmp_path / "graph.onnx")
    (tmp_path / "far").mkdir()
    pack(graph, tmp_path / "far/model.onnx", inline_bytes=3999)
    assert (tmp_path / "far/model.onnx_data").stat().st_size == 4000
    (entries,) = read_onnx(tmp_path / "far/model.onnx").external
    assert dict(entries)["location"] == "model.onnx_data"
    pack(tmp_path / "far/model.onnx", tmp_path / "again.onnx", inline_bytes=4000)
    assert read_onnx(tmp_path / "again.onnx").external == ()
    for path in (tmp_path / "far/model.onnx", tmp_path / "again.onnx"):
        assert np.array_equal(result(path), result(graph))


def test_under_whatever_name_an_exporter_put_them(tmp_path: Path) -> None:
    """Weights and constants in files of an exporter's own naming end in one file of ours."""
    model = onnx.load(a_graph(tmp_path / "graph.onnx"))
    (tmp_path / "from").mkdir()
    options = {"all_tensors_to_one_file": True, "size_threshold": 100, "convert_attribute": True}
    onnx.save(model, tmp_path / "from/e.onnx", save_as_external_data=True, location="exported.bin", **options)
    pack(tmp_path / "from/e.onnx", tmp_path / "model.onnx", inline_bytes=0)
    locations = {dict(entries)["location"] for entries in read_onnx(tmp_path / "model.onnx").external}
    assert locations == {"model.onnx_data"}
    assert np.array_equal(result(tmp_path / "model.onnx"), result(tmp_path / "graph.onnx"))


def test_tools_write_beside_a_copy(tmp_path: Path) -> None:
    """A tool that writes beside the graph that it reads, with its weights, changes no cached folder."""
    (tmp_path / "cached").mkdir()
    (tmp_path / "made").mkdir()
    pack(a_graph(tmp_path / "graph.onnx"), tmp_path / "cached/model.onnx", inline_bytes=0)
    with workplace(tmp_path / "cached/model.onnx", tmp_path / "made") as copy:
        assert np.array_equal(result(copy), result(tmp_path / "graph.onnx"))
        copy.with_name("beside.onnx").write_bytes(b"")
    assert sorted(path.name for path in (tmp_path / "cached").iterdir()) == ["model.onnx", "model.onnx_data"]
    assert list((tmp_path / "made").iterdir()) == []


@pytest.mark.parametrize("inline_bytes", [0, 3999])
def test_the_same_bytes_every_time(tmp_path: Path, inline_bytes: int) -> None:
    """Two builds of one graph give the same two files."""
    graph = a_graph(tmp_path / "graph.onnx")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        pack(graph, tmp_path / name / "model.onnx", inline_bytes)
    for file in ("model.onnx", "model.onnx_data"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
