"""Temporary folders: live ones stay, leftovers go, whoever's process made them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from exporter.errors import BackendError
from exporter.scratch import Scratch, clear_leftovers

_HOLD = """
import sys
from exporter.scratch import Scratch
with Scratch("job") as folder:
    (folder / "file").write_text("")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A $TMPDIR of the test's own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_removed_at_the_end(temporary: Path) -> None:
    """The folder is there in the block, empty and nobody else's, and gone after it, also after an error."""
    with Scratch("job") as folder:
        assert folder.parent.parent == temporary
        assert folder.parent.stat().st_mode & 0o777 == 0o700
        (folder / "file").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="no"), Scratch("job"):
        raise ValueError("no")
    held = Scratch("job")
    del held
    assert list(temporary.iterdir()) == []


def test_killed_ones_go_and_live_ones_stay(temporary: Path) -> None:
    """The next folder clears what a killed process left, in whatever container it was; a live one's stays.

    The number of the live one's process means nothing in another container; here it is not asked for at all.
    """
    holding = [sys.executable, "-c", _HOLD]
    live, killed = (
        subprocess.Popen(holding, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    )
    assert live.stdout is not None
    assert killed.stdout is not None
    lives, left = Path(live.stdout.readline().strip()), Path(killed.stdout.readline().strip())
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert left.is_dir()
    with Scratch("tokenizer"):
        assert (lives / "file").is_file()
        assert not left.exists()
    live.communicate("")
    assert list(temporary.iterdir()) == []


def test_folders_of_people_stay(temporary: Path) -> None:
    """Folders that only look like ours are nobody's leftovers."""
    theirs = ["exporter-job-artifact", "exporter-abcd1234.tmp", "exporter-job-abcd1234.tmp.d", "tmpabcd1234"]
    for name in theirs:
        (temporary / name).mkdir()
    (temporary / "exporter-job-abcd1234.tmp").write_text("a file", encoding="utf-8")
    (temporary / "elsewhere").mkdir()
    (temporary / "exporter-job-abcd5678.tmp").symlink_to(temporary / "elsewhere")
    clear_leftovers(temporary)
    assert len(list(temporary.iterdir())) == len(theirs) + 3


def test_forked_process_leaves_its_parents(temporary: Path) -> None:
    """A forked process that ends does not take its parent's folder with it."""
    del temporary
    with Scratch("profile") as folder:
        child = os.fork()
        if child == 0:
            try:
                sys.exit(0)
            except SystemExit:
                import weakref

                weakref.finalize._exitfunc()  # noqa: SLF001 - what Python does at exit
                os._exit(0)
        os.waitpid(child, 0)
        assert folder.is_dir()


def test_no_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where no folder can be made, one line says so and names TMPDIR."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    with pytest.raises(BackendError, match="no temporary folder can be made: .*TMPDIR"):
        Scratch("job")
