"""Attention rewritten: real exports of several architectures, before and after."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from exporter.export.rewrites.attention import absorb_kv_projections, add_unpadded_fast_path
from exporter.export.rewrites.last_layer import first_token_only
from tests.export.rewrites.models import N_LAYERS, exported, operators_run, rows_of_products, scores


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "electra"])
def test_keys_and_values_absorbed_is_exact(tmp_path: Path, kind: str) -> None:
    """Same scores for any batch, length and padding; the last layer makes no keys and values any more."""
    narrowed, path = tmp_path / "narrowed.onnx", tmp_path / "absorbed.onnx"
    first_token_only(exported(tmp_path, kind), narrowed)
    assert absorb_kv_projections(narrowed, path) == "keys and values absorbed: 1 layer"
    for shape in ((1, 1), (1, 9), (3, 2), (5, 33)):
        for padded in (False, True):
            before, after = scores(narrowed, shape, padded=padded), scores(path, shape, padded=padded)
            assert np.abs(before - after).max() < 1e-5
    onnx.checker.check_model(str(path), full_check=True)
    before, after = rows_of_products(narrowed), rows_of_products(path)
    last = {name for name in before if f"layer.{N_LAYERS - 1}" in name}
    assert {name for name in last if before[name] == 3 * 7} == {
        name for name in last if name.endswith(("/key/MatMul", "/value/MatMul"))
    }
    assert set(after) & last == {name for name in last if before[name] == 3}
    unmasked = tmp_path / "unmasked.onnx"
    assert (
        add_unpadded_fast_path(path, unmasked)
        == f"attention without a mask where no row is padded: {N_LAYERS - 1} layers"
    )
    assert np.abs(scores(path, (3, 9), padded=False) - scores(unmasked, (3, 9), padded=False)).max() < 1e-5


def test_keys_and_values_of_many_queries_are_left_alone(tmp_path: Path) -> None:
    """Where every position asks, or attention is not recognized, nothing changes."""
    for kind in ("bert", "modernbert"):
        plain, path = exported(tmp_path / kind, kind), tmp_path / "absorbed.onnx"
        said = "keys and values absorbed: does not apply, no attention of the known form has one query"
        assert absorb_kv_projections(plain, path) == said
        assert path.read_bytes() == plain.read_bytes()


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "electra"])
def test_attention_without_a_mask_where_no_row_is_padded(tmp_path: Path, kind: str) -> None:
    """Same scores for any batch; one fused attention a layer where nothing is padded, else as exported."""
    narrowed, path = tmp_path / "narrowed.onnx", tmp_path / "unmasked.onnx"
    first_token_only(exported(tmp_path, kind), narrowed)
    assert (
        add_unpadded_fast_path(narrowed, path)
        == f"attention without a mask where no row is padded: {N_LAYERS} layers"
    )
    for shape in ((1, 1), (1, 9), (3, 2), (5, 33)):
        for padded in (False, True):
            before, after = scores(narrowed, shape, padded=padded), scores(path, shape, padded=padded)
            assert np.abs(before - after).max() < 1e-5
    assert operators_run(path, tmp_path, (2, 9), padded=False).count("MultiHeadAttention") == N_LAYERS
    assert "Softmax" not in operators_run(path, tmp_path, (2, 9), padded=False)
    assert "MultiHeadAttention" not in operators_run(path, tmp_path, (2, 9), padded=True)
    again = tmp_path / "again.onnx"
    assert "does not apply" in add_unpadded_fast_path(
        path, again
    )  # a branch's attention is no attention of the graph
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("kind", ["distilbert", "modernbert"])
def test_attention_of_another_form_is_left_alone(tmp_path: Path, kind: str) -> None:
    """What is not recognized stays as it is, and the fact says so."""
    plain, path = exported(tmp_path, kind), tmp_path / "unmasked.onnx"
    assert (
        add_unpadded_fast_path(plain, path)
        == "attention without a mask: does not apply, no attention of the known form"
    )
    assert path.read_bytes() == plain.read_bytes()
