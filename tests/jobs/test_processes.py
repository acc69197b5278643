"""Processes: killed at any moment, every row is scored once, and to the bytes of an undisturbed run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.errors import RecipeError
from exporter.jobs.job import Columns
from exporter.jobs.run import Settings
from exporter.jobs.stream import passages_of
from tests.jobs.jobs import parts, rows, run, write_jsonl
from tests.jobs.killing import begun, ended, wait_for, wait_for_parts, workers_of

N_ROWS, N_PARTS = 3000, 150
OPTIONS = ("--part-rows", "20", "--keep", "id", "--threads", "2")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_jsonl(tmp_path_factory.mktemp("source") / "in.jsonl", rows(N_ROWS))


@pytest.fixture(scope="module")
def undisturbed(small, source, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    run(small, source, out, Settings(part_rows=20, columns=Columns(keep=("id",))))
    return {path.name: path.read_bytes() for path in out.iterdir()}


def written(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_a_worker_is_killed(small, source, undisturbed, tmp_path):
    """Another one is started, its part is scored again, and nothing else is."""
    job = begun(small, source, tmp_path / "out", *OPTIONS)
    wait_for_parts(tmp_path / "out", 5)
    workers_of(job)[0].kill()
    code, said = ended(job)
    assert code == 0, said
    assert written(tmp_path / "out") == undisturbed


def test_the_driver_is_killed(small, source, undisturbed, tmp_path):
    """Its workers end with it, and the same command goes on."""
    job = begun(small, source, tmp_path / "out", *OPTIONS)
    wait_for_parts(tmp_path / "out", 5)
    workers = workers_of(job)
    job.kill()
    ended(job)
    wait_for(lambda: not any(worker.is_running() for worker in workers))
    n_before = len(parts(tmp_path / "out"))
    assert 5 <= n_before < N_PARTS
    code, said = ended(begun(small, source, tmp_path / "out", *OPTIONS))
    assert code == 0, said
    assert f"{N_ROWS} rows, {20 * n_before} of them by an earlier run" in said
    assert written(tmp_path / "out") == undisturbed


def test_the_driver_is_asked_to_end(small, source, tmp_path):
    """SIGTERM ends it with 143 and one line; parts that are there are whole, and nothing else is."""
    job = begun(small, source, tmp_path / "out", *OPTIONS)
    wait_for_parts(tmp_path / "out", 5)
    workers = workers_of(job)
    job.send_signal(signal.SIGTERM)
    code, said = ended(job)
    assert code == 143
    assert "stopped by SIGTERM; what was finished is kept" in said
    wait_for(lambda: not any(worker.is_running() for worker in workers))
    assert all(name.startswith("part-") for name in written(tmp_path / "out"))


def test_a_bad_row_stops_it(small, tmp_path):
    """What a worker finds wrong comes out as one line of the command, with its exit code."""
    source = write_jsonl(tmp_path / "in.jsonl", [*rows(30), '{"query": 1, "passage": "a"}'])
    code, said = ended(begun(small, source, tmp_path / "out", "--part-rows", "20"))
    assert code == 2
    assert f"error: {source}:31: query is 1; wanted a string or null; `--on-bad-row skip`" in said


def streamed(command: str, text: str, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "exporter", command, *map(str, words)],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )


def test_standard_streams(small):
    """Lines in, lines out, in order; a bad one has no score where that is asked for."""
    lines = [json.dumps(row) for row in rows(3)]
    text = "\n".join([lines[0], "", "{", json.dumps({"id": None, "query": None, "passage": ""}), *lines[1:]])
    found = streamed("score", text, small, "-", "-", "--keep", "id", "--on-bad-row", "skip")
    got = [json.loads(line) for line in found.stdout.splitlines()]
    assert [row["id"] for row in got] == ["row0", None, None, "row1", "row2"]
    assert [row["score"] is None for row in got] == [False, True, True, False, False]
    assert "5 rows, 1 without a query or passage, 1 that could not be read" in found.stderr
    refused = streamed("score", text, small, "-", "-")
    assert (refused.returncode, refused.stderr.startswith("error: stdin:3: not JSON")) == (2, True)


def test_rank(small):
    """Passages a line, best first; as JSON they may hold line breaks."""
    found = streamed("rank", "a\n\nb c\n", small, "a", "--json")
    ranked = json.loads(found.stdout)
    assert sorted(row["text"] for row in ranked) == ["a", "b c"]
    assert ranked[0]["score"] >= ranked[1]["score"]
    found = streamed("rank", '"a\\nb"\n{"passage": "a"}\n', small, "a", "--jsonl", "--top-k", "1")
    (line,) = found.stdout.splitlines()
    assert line.split()[1] in ("0", "1")


def test_passages_of_lines():
    """A line is a passage as it is, or JSON: a string, or an object with one."""
    assert list(passages_of(["a b\n", "\n", "{c}\r\n"], None)) == ["a b", "{c}"]
    assert list(passages_of(['"a\\nb"\n', '{"p": "c"}'], "p")) == ["a\nb", "c"]
    for line in ("{", "1", '"\udcff"', '{"q": "c"}'):
        with pytest.raises(RecipeError, match="stdin:1: "):
            list(passages_of([line], "p"))
