"""The engines: what a variant's traits and the numerics asked for decide. Uses the tiny artifact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exporter.artifact.manifest import Traits
from exporter.errors import BackendError, IntegrityError
from exporter.runtime import Plan
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
