"""A job, scored by one worker in this process: what is written, what is gone on with, what is refused."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exporter.errors import BackendError, BackendMissing, IntegrityError, RecipeError
from exporter.jobs.cluster import cluster
from exporter.jobs.job import Columns
from exporter.jobs.run import Settings, here, score
from exporter.locks import name_lock
from exporter.runtime import Plan, Reranker
from tests.jobs.jobs import parts, rows, run, table, write_jsonl

FOURS = Settings(part_rows=4, columns=Columns(keep=("id",)))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def footer_of(path: Path) -> dict[str, object]:
    return json.loads(pq.read_metadata(path).metadata[b"exporter"])


def test_scores_are_the_rerankers(small, tmp_path):
    """A score a row, in order; null without a text, and an empty text is scored.

    This artifact's scores depend on the batch: they are those of the part's pairs alone, on one thread.
    """
    found = [*rows(9), {"id": "n", "query": None, "passage": "a"}, {"id": "e", "query": "a", "passage": ""}]
    outcome = run(small, write_jsonl(tmp_path / "in.jsonl", found), tmp_path / "out", FOURS)
    got = table(tmp_path / "out")

    pairs = [(row["query"], row["passage"]) for row in found]
    reranker = Reranker.load(small, "onnx", plan=Plan(1, 1, outcome.manifest.plan.token_budget))
    wanted = [reranker.score(some) for some in (pairs[:4], pairs[4:8], [pairs[8], pairs[10]])]
    scores = got["score"].to_pylist()
    assert scores[9] is None
    assert np.array_equal(np.float32(scores[:9] + scores[10:]), np.concatenate(wanted))
    assert got["id"].to_pylist() == [row["id"] for row in found]
    assert got.schema.names == ["id", "score"]
    assert (outcome.n_scored, outcome.manifest.n_rows, outcome.manifest.n_null) == (11, 11, 1)


def test_a_folder_of_files(small, tmp_path):
    """Files go by their names; hidden ones and others are passed over; parts end with their file."""
    source = tmp_path / "in"
    (source / "b").mkdir(parents=True)
    write_jsonl(source / "b/2.jsonl", rows(3))
    pq.write_table(pa.Table.from_pylist(rows(5)), source / "1.parquet")
    write_jsonl(source / "_temporary.jsonl", ["{"])
    (source / "README.txt").write_text("no rows", encoding="utf-8")
    run(small, source, tmp_path / "out", FOURS)
    assert [footer_of(tmp_path / "out" / name)["input"] for name in parts(tmp_path / "out")] == [
        "1.parquet",
        "1.parquet",
        "b/2.jsonl",
    ]
    assert table(tmp_path / "out")["id"].to_pylist() == [f"row{i}" for i in (0, 1, 2, 3, 4, 0, 1, 2)]


def test_goes_on_with_what_is_missing(small, tmp_path):
    """A part that is gone or damaged is scored again, to the same bytes; the others stay."""
    source, out = write_jsonl(tmp_path / "in.jsonl", rows(18)), tmp_path / "out"
    run(small, source, out, FOURS)
    before, manifest = parts(out), (out / "_manifest.json").read_bytes()
    (out / "part-000001.parquet").unlink()
    (out / "part-000003.parquet").write_bytes(before["part-000003.parquet"][:-9])
    (out / "_manifest.json").unlink()
    (out / f".part-000001.parquet.{'0' * 32}.tmp").write_bytes(b"half")
    assert run(small, source, out, FOURS).n_scored == 8
    assert parts(out) == before
    assert (out / "_manifest.json").read_bytes() == manifest
    assert names(out) == ["_manifest.json", *before]
    assert run(small, source, out, FOURS).n_scored == 0


def test_another_job_is_refused(small, tmp_path):
    """The line names what differs: the rows of a part, the columns, the input, the kind."""
    source, out = write_jsonl(tmp_path / "in.jsonl", rows(8)), tmp_path / "out"
    run(small, source, out, FOURS)
    before = parts(out)
    for settings, said in (
        (Settings(part_rows=3, columns=FOURS.columns), r"another rows of a part \(4, this is 3\)"),
        (Settings(part_rows=4), "another columns"),
        (
            Settings(part_rows=4, columns=FOURS.columns, variant="openvino"),
            r"another kind \(onnx, this is open",
        ),
    ):
        with pytest.raises(RecipeError, match=said):
            run(small, source, out, settings)
    write_jsonl(source, rows(7))
    with pytest.raises(RecipeError, match="another input"):
        run(small, source, out, FOURS)
    assert parts(out) == before


def test_what_no_job_wrote_is_left_alone(small, tmp_path):
    """A Parquet file of somebody else under a part's name is refused, not replaced."""
    source, out = write_jsonl(tmp_path / "in.jsonl", rows(8)), tmp_path / "out"
    out.mkdir()
    pq.write_table(pa.table({"a": [1]}), out / "part-000000.parquet")
    with pytest.raises(IntegrityError, match="no scores of `exporter score`"):
        run(small, source, out, FOURS)
    assert pq.read_table(out / "part-000000.parquet").num_columns == 1


def made_elsewhere(path: Path) -> None:
    """Make a part say that another instruction set scored it."""
    found = pq.read_table(path)
    said = json.loads(found.schema.metadata[b"exporter"])
    said["maker"]["isa"] = "avx2000"
    pq.write_table(found.replace_schema_metadata({b"exporter": json.dumps(said)}), path)


def test_instruction_sets_do_not_mix(small, tmp_path):
    """Another instruction set is refused; with --any-isa the manifest names whose rows are whose."""
    source, out = write_jsonl(tmp_path / "in.jsonl", rows(8)), tmp_path / "out"
    run(small, source, out, FOURS)
    made_elsewhere(out / "part-000000.parquet")
    (out / "part-000001.parquet").unlink()
    with pytest.raises(BackendError, match=r"scores of avx2000, .* differ; .*--any-isa"):
        run(small, source, out, FOURS)
    manifest = run(small, source, out, Settings(part_rows=4, columns=FOURS.columns, any_isa=True)).manifest
    assert [(part.first_row, part.maker.isa == "avx2000") for part in manifest.parts] == [
        (0, True),
        (4, False),
    ]
    with pytest.raises(RecipeError, match="--any-isa"):
        run(small, source, out, FOURS)


def test_a_bad_row(small, tmp_path):
    """It is named by file and row; skipped, it has no score, is counted and named in the footer."""
    found = [*rows(5), "{", *rows(2)]
    source, out = write_jsonl(tmp_path / "in.jsonl", found), tmp_path / "out"
    with pytest.raises(RecipeError, match=r"in.jsonl:6: not JSON: .*--on-bad-row skip"):
        run(small, source, out, FOURS)
    skips = Settings(part_rows=4, columns=FOURS.columns, on_bad_row="skip")
    with pytest.raises(RecipeError, match="another answer to a bad row"):
        run(small, source, out, skips)
    outcome = run(small, source, tmp_path / "out2", skips)
    got = table(tmp_path / "out2")
    assert [score is None for score in got["score"].to_pylist()] == [i == 5 for i in range(8)]
    assert got["id"].to_pylist()[4:7] == ["row4", None, "row0"]
    assert (outcome.manifest.n_bad, outcome.manifest.n_null) == (1, 0)
    assert footer_of(tmp_path / "out2/part-000001.parquet")["bad_rows"] == [6]


def test_the_output_is_no_input(small, tmp_path):
    """Parts in the input would be input the next time."""
    write_jsonl(tmp_path / "in.jsonl", rows(2))
    for out in (tmp_path, tmp_path / "scores"):
        with pytest.raises(RecipeError, match="lies in the input"):
            run(small, tmp_path, out, FOURS)


def test_two_at_a_time(small, tmp_path):
    """The second one on a folder is refused."""
    source, out = write_jsonl(tmp_path / "in.jsonl", rows(2)), tmp_path / "out"
    out.mkdir()
    with name_lock(out / ".lock"), pytest.raises(RecipeError, match="another `exporter score` writes there"):
        run(small, source, out, FOURS)
    run(small, source, out, FOURS)


def test_too_small_a_disk(small, tmp_path, monkeypatch):
    """What is to be written is estimated before anything is."""
    source, out = write_jsonl(tmp_path / "in.jsonl", rows(8)), tmp_path / "out"
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=9000))
    with pytest.raises(BackendError, match=r"about 0.016\d MB are to be written and 0.009 MB are free"):
        run(small, source, out, FOURS)
    assert names(out) == []


def test_a_disk_that_is_full_half_way(small, tmp_path, monkeypatch):
    """Finished parts stay, nothing is half-written, and the next run goes on."""
    source, out = write_jsonl(tmp_path / "in.jsonl", rows(18)), tmp_path / "out"
    n_left, fsync = 4, os.fsync  # two for a part: its file and the folder

    def full(fd: int) -> None:
        nonlocal n_left
        n_left -= 1
        if n_left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BackendError, match="part-000002.parquet: cannot be written: the disk is full"):
        run(small, source, out, FOURS)
    assert names(out) == ["part-000000.parquet", "part-000001.parquet"]
    monkeypatch.undo()
    assert run(small, source, out, FOURS).n_scored == 10


def test_what_cannot_be_input(small, tmp_path):
    """Nothing there, a file of another kind, a folder without rows, columns of two types."""
    (tmp_path / "x.txt").write_text("a", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    for name, said in (
        ("none", "no such file"),
        ("x.txt", r"wanted \.jsonl"),
        ("empty", "no file of rows in it"),
    ):
        with pytest.raises(RecipeError, match=said):
            run(small, tmp_path / name, tmp_path / "out")
    source = tmp_path / "in"
    source.mkdir()
    write_jsonl(source / "a.jsonl", rows(1))
    pq.write_table(pa.table({"query": ["a"], "passage": ["b"], "id": [1]}), source / "b.parquet")
    with pytest.raises(RecipeError, match="column 'id' is int64, in .*a.jsonl it is string"):
        run(small, source, tmp_path / "out", FOURS)


def test_names_of_files(small, tmp_path):
    """A name may hold anything that is text; what is not is refused."""
    odd = write_jsonl(tmp_path / "a\n\u202eb.jsonl", rows(2))
    assert run(small, odd, tmp_path / "out").manifest.n_rows == 2
    assert run(small, odd, tmp_path / "out").n_scored == 0
    with pytest.raises(RecipeError, match="not UTF-8"):
        run(small, write_jsonl(tmp_path / "a\udcff.jsonl", rows(1)), tmp_path / "out")


def test_no_rows(small, tmp_path):
    """An empty file is a job that is done."""
    source = write_jsonl(tmp_path / "in.jsonl", [])
    assert run(small, source, tmp_path / "out").manifest.n_rows == 0
    assert names(tmp_path / "out") == ["_manifest.json"]


@pytest.mark.parametrize("module", ["pyarrow.parquet", "ray"])
def test_what_is_not_installed_is_named(small, tmp_path, monkeypatch, module):
    """Before anything is read: pyarrow for every job, ray for one on a cluster."""
    monkeypatch.setitem(sys.modules, module, None)

    def begin() -> None:
        crew_of = cluster("auto") if module == "ray" else here()
        score(str(small), ["none.jsonl"], str(tmp_path / "out"), Settings(), crew_of=crew_of)

    with pytest.raises(BackendMissing, match=module.partition(".")[0]):
        begin()
