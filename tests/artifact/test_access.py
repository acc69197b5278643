"""Reading and changing an artifact that others replace meanwhile."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from exporter.artifact.access import changing, check_still, read_whole, steady
from exporter.artifact.manifest import read_manifest
from exporter.artifact.staging import staged
from exporter.errors import NoVerdict, RecipeError
from tests.factories import an_artifact


def replaced(folder: Path, text: str) -> None:
    """Put another artifact in a folder's place, whose two files both hold `text`."""
    with staged(folder, replace=True) as scratch:
        an_artifact(scratch)
        for name in ("one", "other"):
            (scratch / name).write_text(text, encoding="utf-8")


def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand for a file system that has no locks."""
    import fcntl

    def flock(_fd: int, _how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("locks", ["flock", "none"])
def test_reader_sees_the_old_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: str) -> None:
    """While a folder is replaced as fast as it can be, each reading is of one version, and none fails."""
    if locks == "none":
        without_locks(monkeypatch)
    folder, ended = tmp_path / "tiny", threading.Event()
    replaced(folder, "0")

    def replace() -> None:
        for i in range(60):
            replaced(folder, str(i))
            time.sleep(0.02)
        ended.set()

    def read() -> tuple[str, str]:
        read_manifest(folder)
        one = (folder / "one").read_text(encoding="utf-8")
        time.sleep(0.002)
        return one, (folder / "other").read_text(encoding="utf-8")

    writer = threading.Thread(target=replace)
    writer.start()
    seen = set()
    while not ended.is_set():
        one, other = read_whole(folder, read)
        assert one == other
        seen.add(one)
    writer.join()
    assert len(seen) > 10
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_error_of_a_folder_that_stays_is_the_readers(tmp_path: Path) -> None:
    """Where nothing was replaced, or nothing is there, what the reader raises comes out after one try."""
    an_artifact(tmp_path / "tiny")
    tries = []

    def fail() -> None:
        tries.append(1)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        read_whole(tmp_path / "tiny", fail)
    with pytest.raises(RecipeError, match="no such artifact folder"):
        read_whole(tmp_path / "none", lambda: read_manifest(tmp_path / "none"))
    assert tries == [1]


def test_replaced_each_time(tmp_path: Path) -> None:
    """A folder that is another one after every reading ends in a line, not in a loop."""
    replaced(tmp_path / "tiny", "0")

    def read() -> None:
        (tmp_path / "tiny").rename(tmp_path / "away")
        (tmp_path / "tiny").mkdir()
        (tmp_path / "away").rename(tmp_path / f"old{time.monotonic_ns()}")

    with pytest.raises(NoVerdict, match="was replaced 20 times while it was read"):
        read_whole(tmp_path / "tiny", read)


def test_change_waits_for_a_reader(tmp_path: Path) -> None:
    """Who changes a file in an artifact waits until nobody reads it."""
    manifest = an_artifact(tmp_path / "tiny")
    order: list[str] = []
    reading = threading.Event()

    def change() -> None:
        reading.wait()
        with changing(tmp_path / "tiny", manifest.root):
            order.append("changed")

    def read() -> None:
        reading.set()
        time.sleep(0.2)
        order.append("read")

    writer = threading.Thread(target=change)
    writer.start()
    read_whole(tmp_path / "tiny", read)
    writer.join()
    assert order == ["read", "changed"]


def test_nothing_is_written_into_another_artifact(tmp_path: Path) -> None:
    """What was measured of one artifact does not get into the one that took its place, or into none."""
    old = an_artifact(tmp_path / "tiny")
    (tmp_path / "tiny").rename(tmp_path / "old")
    with pytest.raises(NoVerdict, match="was replaced by another run"), changing(tmp_path / "tiny", old.root):
        pytest.fail("the block ran")
    an_artifact(tmp_path / "tiny")
    check_still(tmp_path / "tiny", old.root)  # the same files: the same artifact
    with pytest.raises(NoVerdict, match="run the same command again"):
        check_still(tmp_path / "tiny", "0" * 64)


def test_error_in_an_artifact_that_is_gone(tmp_path: Path) -> None:
    """An error while an artifact is measured is its own; of one that was replaced, that is what is said."""
    root = an_artifact(tmp_path / "tiny").root
    with pytest.raises(RecipeError, match="no such kind"), steady(tmp_path / "tiny", root):
        raise RecipeError("no such kind")
    with pytest.raises(NoVerdict), steady(tmp_path / "tiny", "0" * 64):
        raise RecipeError("no such kind")
