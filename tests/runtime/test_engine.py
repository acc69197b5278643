"""The engines: what a variant's traits and the numerics asked for decide. Uses the tiny artifact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exporter.artifact.manifest import Traits
from exporter.errors import BackendError, IntegrityError
from exporter.runtime import Plan, Reranker
from exporter.runtime.engine import open_engine

PLAN = Plan(1, 1, 64)


def scores(model: Path, activations: str) -> np.ndarray:
    """Score one made-up batch with OpenVINO."""
    engine = open_engine(Traits("openvino", "fp32", activations), model, PLAN)
    ids = np.arange(5, 25, dtype=np.int64).reshape(2, 10)
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    return engine.logits({name: feed[name] for name in engine.inputs})


def test_openvino_computes_in_the_precision_of_the_traits(built: Path) -> None:
    """Pinned fp32 and int8 compute in float32 on every CPU, pinned bf16 in bf16 where the CPU has it."""
    model = built / "openvino/openvino_model.xml"
    exact = scores(model, "fp32")
    assert np.array_equal(exact, scores(model, "int8"))
    if "bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        assert 0 < np.abs(exact - scores(model, "bf16")).max() < 0.05


def test_openvino_meets_few_shapes(built: Path) -> None:
    """Widths are 16 up to 512 tokens, and pairs 1, 2, 4, 8...: OpenVINO keeps kernels of every shape."""
    engine = open_engine(Traits("openvino", "fp32", "fp32"), built / "openvino/openvino_model.xml", PLAN)
    widths = [engine.width(n) for n in range(1, 8193)]
    assert all(n <= width < n + 32 or width <= 1.125 * n for n, width in enumerate(widths, 1))
    assert set(widths[:512]) == set(range(32, 513, 32))
    assert len(set(widths)) == 16 + 4 * 8
    assert [engine.rows(n) for n in (1, 2, 3, 5, 16, 31)] == [1, 2, 2, 4, 16, 16]


def test_width_does_not_pass_max_length(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is not padded beyond the positions that a model has, and padding changes no score."""
    pairs = [("wing", "lift " * n) for n in (1, 20, 500)]
    expected = Reranker.load(built, "openvino", plan=Plan(1, 1, 128)).score(pairs)
    monkeypatch.setattr("exporter.runtime.engine._OpenVino.width", lambda *_: 1000)
    assert Reranker.load(built, "openvino", plan=Plan(1, 1, 128)).score(pairs) == pytest.approx(
        expected, abs=1e-5
    )


def test_an_engine_that_this_version_does_not_know(tmp_path: Path) -> None:
    """A manifest of a later version may name another engine; it is refused with those known."""
    with pytest.raises(
        IntegrityError, match="engine 'tensorrt', this exporter runs onnxruntime and openvino"
    ):
        open_engine(Traits("tensorrt", "fp32", "fp32"), tmp_path / "model.plan", PLAN)


@pytest.mark.parametrize(("engine", "suffix"), [("onnxruntime", ".onnx"), ("openvino", ".xml")])
def test_a_file_that_the_engine_refuses(tmp_path: Path, engine: str, suffix: str) -> None:
    """A file that is no graph is one line with the engine and the file."""
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"not a graph")
    with pytest.raises(BackendError, match=f"{engine} cannot load .*model{suffix}"):
        open_engine(Traits(engine, "fp32", "fp32"), path, PLAN)


def made_up(folder: Path, engine: str, shape: tuple[int, ...]) -> Path:
    """Write a graph that reshapes the tokens to logits of a shape, for an engine."""
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Constant", [], ["shape"], value_ints=list(shape)),
        helper.make_node("Cast", ["input_ids"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["floats", "shape"], ["logits"]),
    ]
    tokens = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ("rows", "tokens"))
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "graph", [tokens], [logits])
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    if engine == "openvino":
        import openvino as ov

        ov.save_model(ov.convert_model(path), path.with_suffix(".xml"), compress_to_fp16=False)
        path = path.with_suffix(".xml")
    return path


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_graph_that_does_not_run(tmp_path: Path, engine: str) -> None:
    """What an engine raises in the middle of a graph is one line with the engine and the file."""
    loaded = open_engine(Traits(engine, "fp32", "fp32"), made_up(tmp_path, engine, (7, 7)), PLAN)
    with pytest.raises(BackendError, match=f"^{engine} cannot run .*model") as raised:
        loaded.logits({"input_ids": np.ones((2, 3), np.int64)})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("shape", [(-1,), (2, 3), (1, 6), (6, 1)])
def test_a_graph_that_does_not_give_one_score_a_pair(
    tmp_path: Path, engine: str, shape: tuple[int, ...]
) -> None:
    """Several numbers a row, none a row, or rows of others: which is the score cannot be known."""
    loaded = open_engine(Traits(engine, "fp32", "fp32"), made_up(tmp_path, engine, shape), PLAN)
    with pytest.raises(BackendError, match=r"gives logits of shape \[.*\], wanted \[2, 1\]"):
        loaded.logits({"input_ids": np.ones((2, 3), np.int64)})
