"""What takes too much memory or time is stopped, said in one line, and leaves nothing behind."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import onnx
import psutil
import pytest
from typer.testing import CliRunner

from exporter import worker
from exporter.cli.app import app
from exporter.cli.options import limits_of
from exporter.errors import BackendError, IntegrityError, LimitReached, RecipeError
from exporter.worker.job import ArtifactSpec
from tests.small_artifact import endless, insatiable, relist, write_artifact

PAIRS = (("wing", "lift drag"),)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small artifact, and a folder for temporary files of the test's own."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return write_artifact(tmp_path / "small")


@pytest.fixture(autouse=True)
def others() -> set[psutil.Process]:
    """Return the processes that earlier tests of this run have left running, such as Python's trackers."""
    return set(psutil.Process().children(recursive=True))


def with_graph(folder: Path, graph: onnx.ModelProto) -> Path:
    """Put another graph into the artifact, and seal it."""
    onnx.save(graph, folder / "onnx/model.onnx")
    relist(folder)
    return folder


def spec(folder: Path) -> ArtifactSpec:
    """Return the artifact's first variant, with one thread."""
    return ArtifactSpec(str(folder), "onnx", 1, 1, 256)


def nothing_is_left(others: set[psutil.Process]) -> None:
    """No worker runs, and no temporary folder stays."""
    assert set(psutil.Process().children(recursive=True)) <= others
    assert not list(Path(tempfile.gettempdir()).glob("exporter-*"))


def test_what_is_right_runs_within_limits(folder: Path, others: set[psutil.Process]) -> None:
    """Limits that are wide enough change nothing."""
    with worker.limited(max_bytes=4 << 30, max_s=60):
        assert worker.score(spec(folder), PAIRS).tolist() == [3.0]
    nothing_is_left(others)


def test_endless_graph(folder: Path, others: set[psutil.Process]) -> None:
    """A graph without end is stopped when the time is up; later workers of the block are not started."""
    with worker.limited(max_s=5):
        with pytest.raises(LimitReached, match="stopped after the 5 seconds of --max-seconds") as caught:
            worker.score(spec(with_graph(folder, endless())), PAIRS)
        with pytest.raises(LimitReached, match="--max-seconds"):
            worker.score(spec(folder), PAIRS)
    assert caught.value.exit_code == 4
    assert str(caught.value).isprintable()
    nothing_is_left(others)


def test_insatiable_graph(folder: Path, others: set[psutil.Process]) -> None:
    """A graph that asks for more memory than it may have gets none of it."""
    with (
        worker.limited(max_bytes=2 << 30),
        pytest.raises(LimitReached, match=r"more than the 2\.1 GB of --max-memory") as caught,
    ):
        worker.score(spec(with_graph(folder, insatiable())), PAIRS)
    assert caught.value.exit_code == 4
    assert str(caught.value).isprintable()
    nothing_is_left(others)


def test_other_failures_stay_what_they_are(folder: Path) -> None:
    """Within limits, a graph that an engine refuses is a graph that an engine refuses."""
    graph = endless()
    graph.graph.node[0].op_type = "Nothing"
    with (
        worker.limited(max_bytes=4 << 30, max_s=60),
        pytest.raises((BackendError, IntegrityError), match="Nothing") as caught,
    ):
        worker.score(spec(with_graph(folder, graph)), PAIRS)
    assert not isinstance(caught.value, LimitReached)


def test_pull_that_tries(folder: Path, tmp_path: Path, others: set[psutil.Process]) -> None:
    """What does not score within the limits does not appear; what does, does."""
    to = tmp_path / "copy"
    done = CliRunner().invoke(app, ["pull", str(folder), str(to), "--try"])
    assert done.exit_code == 0, done.output
    assert "tried: onnx, openvino" in done.stderr
    assert to.is_dir()

    with_graph(folder, endless())
    command = ["pull", str(folder), str(tmp_path / "evil"), "--try", "--max-seconds", "5"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 4, done.output
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "--max-seconds" in line
    assert not (tmp_path / "evil").exists()
    assert not list(tmp_path.glob(".evil*"))
    nothing_is_left(others)


@pytest.mark.parametrize("command", ["verify", "check-consumers"])
def test_commands_that_run_models(artifact: Path, command: str, others: set[psutil.Process]) -> None:
    """`verify` and `check-consumers` stop, with 4 and one line, at the limit they are given."""
    from exporter.artifact.manifest import read_manifest

    variants = read_manifest(artifact).variants
    onnx.save(endless(), artifact / variants[0].model)
    relist(artifact, variants=(replace(variants[0], inputs=("input_ids",)), *variants[1:]))
    done = CliRunner().invoke(app, [command, str(artifact), "--max-seconds", "8"])
    assert done.exit_code == 4, done.output
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "the 8 seconds of --max-seconds" in line
    assert set(psutil.Process().children(recursive=True)) <= others


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("8GB", 8 * 10**9),
        ("500 mb", 500 * 10**6),
        ("2GiB", 2 << 30),
        ("1.5g", 1_500_000_000),
        ("268435456", 1 << 28),
    ],
)
def test_sizes(text: str, n_bytes: int) -> None:
    """A size is written as people do."""
    assert limits_of(text, None) == (n_bytes, None)


@pytest.mark.parametrize(
    ("size", "seconds", "words"),
    [
        ("lots", None, "--max-memory 'lots': wanted a size, for example 8GB"),
        ("-1GB", None, "wanted a size"),
        ("1e999GB", None, "wanted a size"),
        ("1kB", None, "needs 128 MiB to start with"),
        (None, 0.0, "--max-seconds 0: wanted a number of seconds above 0"),
        (None, float("inf"), "wanted a number of seconds"),
        (None, float("nan"), "wanted a number of seconds"),
    ],
)
def test_what_is_no_limit(size: str | None, seconds: float | None, words: str) -> None:
    """What is no size, no time, or too little for any process is refused."""
    with pytest.raises(RecipeError, match="--max") as caught:
        limits_of(size, seconds)
    assert words in str(caught.value)


def test_limits_without_a_try(tmp_path: Path) -> None:
    """`pull` runs nothing unless it is told to, and says so of limits."""
    done = CliRunner().invoke(app, ["pull", str(tmp_path), str(tmp_path / "to"), "--max-seconds", "5"])
    assert done.exit_code == 2
    assert "are for --try" in done.stderr
