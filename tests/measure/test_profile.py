"""Where the time goes: operators recorded by the engines, and the arithmetic of a graph."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from exporter.artifact.manifest import FlopCount, read_manifest
from exporter.cli.app import app
from exporter.errors import IntegrityError, RecipeError
from exporter.measure.profile import profile
from exporter.runtime import Reranker

# The tiny model: hidden 32, feed-forward 64, four heads of 8, two layers, of which the second is for one
# position.
H, F, N_HEADS = 32, 64, 4
PROJECTION = 2 * H * H  # multiplications and additions of one position
LAYER = 4 * PROJECTION + 2 * 2 * H * F


def test_work_by_hand(built: Path) -> None:
    """First layer for n positions, the second for one.

    Attention is 2 products of 2 H n each, absorbed weights once a head.
    """
    per_token = LAYER + 2 * 2 * N_HEADS * H  # the last: one query's products with n positions, for every head
    per_pair = (
        LAYER + PROJECTION + 2 * H
    )  # last layer's one position, its keys' and values' weights too; pooler, classifier
    assert {entry.flop_count for entry in read_manifest(built).variants} == {
        FlopCount(per_pair, per_token, 2 * 2 * H)
    }


def test_work_adds_up() -> None:
    """Two pairs of 2 and 3 tokens: 2 * 100 + 5 * 10 + (4 + 9) * 1."""
    assert FlopCount(100, 10, 1).flops(2, 5, 13) == 263


@pytest.mark.parametrize(
    ("kind", "products"),
    [
        ("onnx", "MatMul"),
        ("onnx-int8", "DynamicQuantizeMatMul"),
        ("openvino", "FullyConnected"),
        (None, "MatMul"),
    ],
)
def test_profile_names_the_operators(built: Path, kind: str | None, products: str) -> None:
    """Each operator type once, the slowest first, shares of one whole."""
    found = profile(built, kind)
    assert found.kind == (kind or "onnx")
    ops = [row.op for row in found.operators]
    assert products in ops
    assert len(set(ops)) == len(ops)
    assert sum(row.share for row in found.operators) == pytest.approx(1)
    assert [row.seconds for row in found.operators] == sorted(
        (row.seconds for row in found.operators), reverse=True
    )
    assert 0 < sum(row.seconds for row in found.operators) < found.wall_s
    assert all(row.n_runs > 0 for row in found.operators)


def test_profile_counts_the_arithmetic(built: Path) -> None:
    """What the operators say they did is the work of the pairs, and of their padding."""
    found = profile(built, "onnx")
    (entry,) = (entry for entry in read_manifest(built).variants if entry.kind == "onnx")
    least = entry.flop_count.flops(found.n_pairs, found.n_tokens, found.n_tokens**2 // found.n_pairs)
    assert least <= sum(row.flops for row in found.operators) < 1.5 * least


def test_recording_ends_when_read(built: Path) -> None:
    """Operations are there when asked for at load, and are empty otherwise."""
    pairs = [("wing", "lift of a wing")]
    profiled = Reranker.load(built, "onnx", profiled=True)
    plain = Reranker.load(built, "onnx")
    assert (profiled.score(pairs) == plain.score(pairs)).all()
    assert profiled.operations()
    assert plain.operations() == []


def test_profile_command(artifact: Path) -> None:
    """A table for people, JSON for scripts, and the same errors as every command."""
    table = CliRunner().invoke(app, ["profile", str(artifact), "--variant", "onnx-int8"])
    assert table.exit_code == 0, table.output
    assert "DynamicQuantizeMatMul" in table.output
    printed = CliRunner().invoke(app, ["profile", str(artifact), "--json"])
    assert json.loads(printed.stdout)["kind"] == "onnx"
    with pytest.raises(RecipeError, match="has no no; it has onnx, "):
        profile(artifact, "no")
    (artifact / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(IntegrityError):
        profile(artifact)
