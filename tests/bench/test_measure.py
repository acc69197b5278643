"""Side by side with other libraries: what is measured on, how it is written down, and a real small run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exporter.bench.measure import (
    AS_DOCUMENTED,
    AT_BEST,
    BENCH_SCHEMA,
    OURS,
    TUNED,
    Bench,
    BenchRow,
    MixRow,
)
from exporter.bench.report import FILES, markdown, write_bench
from exporter.bench.run import bench
from exporter.bench.scaling import ScalingRow, of_lengths
from exporter.bench.settings import BenchSettings
from exporter.context import Context
from exporter.errors import RecipeError
from exporter.libraries.peers import PEERS
from exporter.machine import this_machine
from exporter.pairs import Pair, whole_queries
from exporter.worker.job import PeerSpec
from tests.conftest import SHORT
from tests.factories import a_latency, a_machine, a_pair_set, a_quality, a_ratio, a_throughput


def words(pairs: list[Pair]) -> list[int]:
    """Count a pair's tokens as its words, and one for the end."""
    return [len(query.split()) + len(passage.split()) + 1 for query, passage in pairs]


def test_whole_queries_by_hand() -> None:
    """Of four queries, by letters b (4), a (6), d (19) and c (26), two are picked, the upper of each half."""
    assert whole_queries(a_pair_set((3, 1, 4, 2)), 2) == [0, 1, 2, 4, 5, 6, 7]
    assert whole_queries(a_pair_set((1, 1, 2, 1, 1)), 3) == [2, 3]  # single passages rank nothing
    assert whole_queries(a_pair_set((1, 1, 1)), 1) == [1]


def test_whole_queries_keeps_a_query_together() -> None:
    """All pairs of a picked query come in a row, whatever the order of the file, and each once."""
    pair_set = a_pair_set((2, 2, 2))
    mixed = replace(pair_set, query_of=np.array([0, 1, 2, 0, 1, 2], np.int64))
    assert whole_queries(mixed, 3) == [0, 3, 1, 4, 2, 5]
    assert whole_queries(mixed, 99) == whole_queries(mixed, 3)


def test_picked_numbers_queries_anew() -> None:
    """A part of a pair set is a pair set: queries counted from 0, names and labels its own."""
    part = a_pair_set((2, 2, 2), labels=[0, 1, 2, 3, 4, 5]).picked([5, 4, 0])
    assert part.query_of.tolist() == [0, 0, 1]
    assert part.query_ids == ("c", "a")
    assert part.labels is not None
    assert part.labels.tolist() == [5, 4, 0]
    assert part.pairs[2] == ("a", "p")


def test_of_lengths_does_not_go_over() -> None:
    """Pairs are as long as wanted, or as the query's passages reach."""
    pair_set = a_pair_set((2, 2))
    long = replace(pair_set, pairs=tuple((query, " ".join(["word"] * 40)) for query, _ in pair_set.pairs))
    assert words(of_lengths(long, [8, 32, 64, 500], words)) == [8, 32, 64, 82]


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_says_where_its_usage_comes_from(name: str) -> None:
    """A peer is run as a page says, and that page is named."""
    peer = PEERS[name]
    assert peer.source.startswith("https://")
    assert peer.batch is None or peer.batch >= 1


def a_bench() -> Bench:
    """Return a benchmark of us, and of a peer at half and a third of our speed."""
    rows = (
        BenchRow(
            "exporter onnx-int8",
            OURS,
            "exporter 1",
            a_throughput(),
            95,
            105,
            0.2,
            None,
            a_latency(),
            a_quality(),
            0.999,
        ),
        *(
            BenchRow(
                "other",
                setting,
                "other 2",
                a_throughput(pairs_per_s=speed),
                speed - 5,
                speed + 5,
                7.0,
                ratio,
                a_latency(),
                None,
                1.0,
            )
            for setting, speed, ratio in (
                (AS_DOCUMENTED, 33.0, a_ratio(value=3.0)),
                (AT_BEST, 50.0, a_ratio()),
            )
        ),
    )
    mixes = (
        MixRow("short", "exporter onnx-int8", OURS, 48, 2, 400.0, 1.0),
        MixRow("short", "other", AT_BEST, 48, 2, 100.0, 4.0),
    )
    scaling = tuple(
        ScalingRow(what, "onnx-int8", n, 100 * n, 32.0 * n, 1.0, 10.0, 10**9, 2 * 10**8)
        for what in ("tokens", "cores", "pairs", "candidates")
        for n in (1, 2)
    )
    machine = a_machine(packages=(("exporter", "1"),))
    return Bench(
        BENCH_SCHEMA,
        "tiny",
        "0" * 64,
        "2026-01-01T00:00:00Z",
        machine,
        "4 queries",
        "exporter onnx-int8",
        rows,
        mixes,
        scaling,
        (("gone", "not there"),),
    )


def test_markdown_says_all() -> None:
    """The page is sorted by speed, names the machine and says what was left out."""
    page = markdown(a_bench())
    sides = [
        line.split(" | ")[:2] for line in page.splitlines() if line.startswith(("| exporter", "| other"))
    ][:3]
    assert sides == [["| exporter onnx-int8", OURS], ["| other", AT_BEST], ["| other", AS_DOCUMENTED]]
    for words_ in (
        "Some CPU",
        "gone: not measured, not there",
        "| 3.00 | 1.90 to 2.10 |",
        "100.0 (4.00x)",
        "no labels",
    ):
        assert words_ in page


def test_files(tmp_path: Path) -> None:
    """Table, JSON and charts are written, that of scaling only with it; same numbers, same bytes."""
    write_bench(a_bench(), tmp_path / "all")
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == sorted(FILES)
    write_bench(replace(a_bench(), scaling=()), tmp_path / "few")
    assert not list((tmp_path / "few").glob("scaling*"))
    write_bench(a_bench(), tmp_path / "again")
    assert (tmp_path / "again" / "bench.png").read_bytes() == (tmp_path / "all" / "bench.png").read_bytes()
    assert (
        json.loads((tmp_path / "all" / "bench.json").read_text())["rows"][0]["side"] == "exporter onnx-int8"
    )


def test_a_real_run(built: Path) -> None:
    """A peer beside us on the tiny model, in processes of their own: the same scores, and every number."""
    settings = BenchSettings(
        rounds=replace(SHORT, min_rounds=1),
        n_quality_queries=4,
        n_latency_calls=5,
        batches=(4, 8),
        min_run_s=0.0,
        n_mix_rounds=1,
        mixes=(("short", 16, 32),),
        token_counts=(16,),
        job_sizes=(100,),
    )
    peer, context = "optimum ORTModel", Context(started_at="2026-01-01T00:00:00Z")
    found = bench(built, context, only=(peer,), lengths=True, scaling=True, settings=settings)
    assert found.skipped == ()
    sides = {(row.side, row.setting): row for row in found.rows}
    ours = {(f"exporter {kind}", OURS) for kind in ("onnx", "onnx-int8", "onnx-int8-static")}
    torch = {("torch tuned", TUNED)} | ({("torch bfloat16", TUNED)} if this_machine().has_bf16 else set())
    assert set(sides) == ours | torch | {(peer, setting) for setting in (AS_DOCUMENTED, AT_BEST)}
    assert all(row.throughput.pairs_per_s > 0 and row.latency.p50_ms > 0 for row in found.rows)
    for row in found.rows:
        rounding = 0.1 if "int8" in row.side else 1e-2 if "bfloat16" in row.side else 1e-5
        assert row.pearson == pytest.approx(1, abs=rounding), row.side
    assert [row.side for row in found.rows if row.ours_over is None] == ["exporter onnx-int8"]
    assert {row.what for row in found.scaling} == {"tokens", "cores", "candidates", "pairs"}
    assert {row.mix for row in found.mixes} == {"short"}
    markdown(found)


def test_what_is_not_there(built: Path) -> None:
    """A peer nobody knows is one line that names them all."""
    with pytest.raises(RecipeError, match="'no' is no peer; they are sentence-transformers torch"):
        bench(built, Context(started_at=""), only=("no",), lengths=False, scaling=False)
    assert str(PeerSpec("x", "f", None, 1, 2)) == "a query a batch"
