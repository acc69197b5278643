"""The proof: a rewrite that moves a score, or does not run, is taken back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from exporter.export.rewrites.last_layer import first_token_only
from exporter.export.rewrites.proof import keep_if_equivalent
from tests.export.rewrites.models import exported


def test_rewrite_that_moves_a_score_is_taken_back(tmp_path: Path) -> None:
    """A rewritten graph that scores otherwise is replaced by the exported one; the fact says how far off."""
    plain, path = exported(tmp_path, "bert"), tmp_path / "rewritten.onnx"
    fact = first_token_only(plain, path)
    feeds = [{name: np.ones((2, 5), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}]
    assert keep_if_equivalent(fact, plain, path, feeds).startswith(
        f"{fact}; moves no score of 2 pairs by more than "
    )
    wrong = onnx.load(path)
    tensor = next(tensor for tensor in wrong.graph.initializer if tensor.name == "classifier.bias")
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) + 1, tensor.name))
    onnx.save(wrong, path)
    assert (
        keep_if_equivalent(fact, plain, path, feeds) == "first token only: taken back, it moved a score by 1"
    )
    assert path.read_bytes() == plain.read_bytes()


def test_rewrite_that_does_not_run_is_taken_back(tmp_path: Path) -> None:
    """A rewritten file no engine opens is replaced by the exported one, and the fact says so."""
    plain, path = exported(tmp_path, "bert"), tmp_path / "rewritten.onnx"
    path.write_bytes(b"no graph")
    feeds = [{name: np.ones((2, 5), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}]
    assert keep_if_equivalent("what: how", plain, path, feeds).startswith(
        "what: taken back, it does not run: "
    )
    assert path.read_bytes() == plain.read_bytes()
