"""The last layer narrowed to one position: real exports of several architectures, before and after."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from exporter.export.rewrites.last_layer import first_token_only
from tests.export.rewrites.models import N_LAYERS, exported, rows_of_products, scores


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "electra", "distilbert"])
def test_first_token_only_is_exact_and_narrows_the_last_layer(tmp_path: Path, kind: str) -> None:
    """Same scores for any batch, length and padding; six of the last layer's products are of one position."""
    plain, path = exported(tmp_path, kind), tmp_path / "rewritten.onnx"
    fact = first_token_only(plain, path)
    assert fact.startswith("first token only: 6 of ")
    for shape in ((1, 1), (1, 9), (3, 2), (5, 33)):
        for padded in (False, True):
            before, after = scores(plain, shape, padded=padded), scores(path, shape, padded=padded)
            assert np.abs(before - after).max() < 1e-5
    onnx.checker.check_model(str(path), full_check=True)
    before, after = rows_of_products(plain), rows_of_products(path)
    narrowed = [name for name in after if after[name] < before[name]]
    assert len(narrowed) == 6
    assert all(before[name] == 7 * after[name] for name in narrowed)
    last = [name for name in before if f"layer.{N_LAYERS - 1}" in name]
    assert set(narrowed) < set(last)


def test_model_that_reads_every_token_is_left_alone(tmp_path: Path) -> None:
    """Mean pooling needs all positions: nothing changes, and the fact says so."""
    plain, path = exported(tmp_path, "modernbert"), tmp_path / "rewritten.onnx"
    assert (
        first_token_only(plain, path)
        == "first token only: does not apply, no matrix product is read at one position alone"
    )
    assert (scores(plain, (3, 9), padded=True) == scores(path, (3, 9), padded=True)).all()


@pytest.mark.parametrize(("inner", "expected"), [("other", "1 of 1"), ("hidden", "does not apply")])
def test_what_a_subgraph_reads_stays_whole(tmp_path: Path, inner: str, expected: str) -> None:
    """A product whose whole output a branch of If reads is not narrowed; read by the pick alone, it is."""
    text = f"""
    <ir_version: 9, opset_import: ["" : 18]>
    picked (float[b, s, 4] x, float[4, 4] w, bool c) => (float[b, 4] logits, float[b, s, 4] branch) {{
        other = Neg(x)
        hidden = MatMul(x, w)
        zero = Constant <value_int = 0> ()
        logits = Gather <axis = 1> (hidden, zero)
        branch = If (c) <
            then_branch = yes () => (float[b, s, 4] a) {{ a = Identity({inner}) }},
            else_branch = no () => (float[b, s, 4] d) {{ d = Neg({inner}) }}
        >
    }}
    """
    plain = tmp_path / "plain.onnx"
    onnx.save(onnx.parser.parse_model(text), plain)
    # The inference trips over this graph's branches: unknown shapes change nothing, and hand-written ones
    # stand in for it here.
    assert "shapes cannot be inferred" in first_token_only(plain, tmp_path / "rewritten.onnx")
    whole = dict.fromkeys(("x", "other", "hidden", "branch"), ("b", "s", 4))
    shapes = {**whole, "w": (4, 4), "zero": (), "logits": ("b", 4), "c": (1,)}
    assert expected in first_token_only(plain, tmp_path / "rewritten.onnx", shapes)
