"""Where the time goes: operators recorded by the engines, and the arithmetic of a graph."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from exporter.artifact.manifest import FlopCount, read_manifest
from exporter.cli.app import app
from exporter.errors import IntegrityError, RecipeError
from exporter.measure.profile import profile
from exporter.runtime import Reranker
from exporter.runtime.operators import own_durations, recorded_by_onnxruntime

if TYPE_CHECKING:
    from onnx import ValueInfoProto

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
    assert 0 < sum(row.seconds for row in found.operators) <= found.wall_s
    assert all(row.n_runs > 0 for row in found.operators)


def test_profile_counts_the_arithmetic(built: Path) -> None:
    """What the operators say they did is the work of the pairs, and of their padding."""
    found = profile(built, "onnx")
    (entry,) = (entry for entry in read_manifest(built).variants if entry.kind == "onnx")
    least = entry.flop_count.flops(found.n_pairs, found.n_tokens, found.n_tokens**2 // found.n_pairs)
    assert least <= sum(row.flops for row in found.operators) < 1.5 * least


@pytest.mark.parametrize(
    ("spans", "own"),
    [
        ([(1, 0, 10), (1, 10, 5)], [10, 5]),
        ([(1, 2, 3), (1, 5, 4), (1, 0, 10)], [3, 4, 3]),  # recorded as they end: the outer one last
        ([(1, 2, 3), (1, 1, 6), (1, 0, 10), (1, 10, 1)], [3, 3, 4, 1]),  # a loop in a branch
        ([(1, 0, 10), (2, 2, 3)], [10, 3]),  # another thread's
        ([(1, 0, 4), (1, 0, 10), (1, 10, 0)], [4, 6, 0]),  # begun in the same microsecond
        ([], []),
    ],
)
def test_own_time_by_hand(spans: list[tuple[int, int, int]], own: list[int]) -> None:
    """What runs inside another operator is not counted in it too."""
    assert own_durations(spans) == own


@given(
    st.recursive(
        st.integers(0, 9).map(lambda own: (own, [])),
        lambda inner: st.tuples(st.integers(0, 9), st.lists(inner, max_size=3)),
        max_leaves=12,
    ).flatmap(lambda tree: st.tuples(st.just(tree), st.randoms()))
)
def test_own_times_sum_to_the_outer(drawn: tuple[tuple[int, list[Any]], random.Random]) -> None:
    """However operators are nested, their own times sum to the outermost one's."""
    spans: list[tuple[int, int, int]] = []

    def lay_out(node: tuple[int, list[Any]], start: int) -> int:
        own, inner = node
        end = start
        for one in inner:
            end = lay_out(one, end)
        spans.append((7, start, end + own - start))
        return end + own

    tree, order = drawn
    total = lay_out(tree, 100) - 100
    order.shuffle(spans)
    assert sum(own_durations(spans)) == total
    assert all(own >= 0 for own in own_durations(spans))


@pytest.mark.parametrize("op", ["If", "Loop", "Scan"])
def test_what_runs_inside_is_counted_once(tmp_path: Path, op: str) -> None:
    """A profile with an operator that holds a graph: operators sum to at most the time that passed.

    It is recorded by onnxruntime itself, of a small graph made here.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.enable_profiling = True
    options.log_severity_level = 3
    options.profile_file_prefix = str(tmp_path / "ort")
    session = ort.InferenceSession(holding(op), options, providers=["CPUExecutionProvider"])
    feed = {"x": np.ones((256, 256), np.float32), "go": np.array(True)}
    session.run(None, {value.name: feed[value.name] for value in session.get_inputs()})
    recorded = Path(session.end_profiling())
    found = recorded_by_onnxruntime(recorded)
    assert {op, "MatMul"} <= {operation.op for operation in found}
    events = json.loads(recorded.read_bytes())
    whole = max(event["dur"] for event in events if event["name"] == "model_run") / 1e6
    assert sum(operation.seconds for operation in found) <= whole
    outer = next(operation for operation in found if operation.op == op)
    assert outer.seconds >= 0


def holding(op: str) -> bytes:
    """Return a model of one operator that holds a graph with three products of 256 x 256."""
    from onnx import TensorProto, helper

    def value(name: str, shape: list[int] | None, kind: int = TensorProto.FLOAT) -> ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    products = [
        helper.make_node("MatMul", [a, "x"], [b]) for a, b in (("x", "y0"), ("y0", "y1"), ("y1", "y"))
    ]
    last, go = value("y", [256, 256]), value("go", [], TensorProto.BOOL)
    if op == "If":
        branch = helper.make_graph(products, "branch", [], [last])
        node = helper.make_node("If", ["go"], ["out"], then_branch=branch, else_branch=branch)
    elif op == "Loop":
        body = helper.make_graph(
            [*products, helper.make_node("Identity", ["on"], ["still"])],
            "body",
            [value("i", [], TensorProto.INT64), value("on", [], TensorProto.BOOL)],
            [value("still", [], TensorProto.BOOL), last],
        )
        node = helper.make_node("Loop", ["once", "go"], ["out"], body=body)
    else:
        body = helper.make_graph(products, "body", [value("row", [256])], [last])
        node = helper.make_node("Scan", ["x"], ["out"], body=body, num_scan_inputs=1)
    graph = helper.make_graph(
        [node],
        "holder",
        [value("x", [256, 256]), go],
        [value("out", None)],
        [helper.make_tensor("once", TensorProto.INT64, [], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(model.SerializeToString())


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
