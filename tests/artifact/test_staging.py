"""Staging: an artifact's folder is whole or not there."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from exporter.artifact.manifest import Manifest, check_files, read_manifest
from exporter.artifact.staging import reserved, staged
from exporter.errors import BackendError, ExporterError, RecipeError
from tests.factories import an_artifact

# What a run that was killed leaves beside `tiny`.
LEFT = ".tiny.exporter-abcd1234"


def names(folder: Path) -> list[str]:
    """List what stands in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def test_staged_becomes_final(tmp_path: Path) -> None:
    """What the block wrote stands under the final name, in parents made for it, with nothing beside it."""
    final = tmp_path / "artifacts" / "tiny"
    with staged(final) as scratch:
        assert not final.exists()
        an_artifact(scratch)
    assert isinstance(read_manifest(final), Manifest)
    assert names(final.parent) == ["tiny"]


@pytest.mark.parametrize("failure", [ValueError, RecipeError, KeyboardInterrupt, SystemExit])
def test_failure_leaves_nothing(tmp_path: Path, failure: type[BaseException]) -> None:
    """A block that fails, or is interrupted, leaves nothing behind, and its own exception comes out."""
    with pytest.raises(failure), staged(tmp_path / "tiny") as scratch:  # noqa: PT012 - the block is what is tested
        (scratch / "half").write_text("", encoding="utf-8")
        raise failure
    assert names(tmp_path) == []


def test_failure_keeps_the_old(tmp_path: Path) -> None:
    """A block that fails while replacing leaves the old artifact as it was."""
    old = an_artifact(tmp_path / "tiny")
    with pytest.raises(ValueError, match="no"), staged(tmp_path / "tiny", replace=True):
        raise ValueError("no")
    assert names(tmp_path) == ["tiny"]
    check_files(old, tmp_path / "tiny")


def test_full_disk_is_the_backends_failure(tmp_path: Path) -> None:
    """A disk that fills up while the block writes is said in one line, and leaves nothing."""
    with pytest.raises(BackendError, match="No space left on device"), staged(tmp_path / "tiny"):
        raise OSError(28, "No space left on device")
    assert names(tmp_path) == []


def test_rename_that_fails_keeps_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the new folder cannot take its place at the last moment, the old one stands there again."""
    final = tmp_path / "tiny"
    old, rename = an_artifact(final), Path.rename
    without_renameat2(monkeypatch)

    def refuse_new(self: Path, target: Path) -> Path:
        if Path(target) == final and (self / "new").exists():
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_new)
    with pytest.raises(BackendError), staged(final, replace=True) as scratch:
        (scratch / "new").write_text("", encoding="utf-8")
    assert names(tmp_path) == ["tiny"]
    check_files(old, final)


def test_existing_is_not_replaced_unasked(tmp_path: Path) -> None:
    """An artifact of that name is left alone, the flag that replaces it named; the block does not run."""
    old = an_artifact(tmp_path / "tiny")
    with pytest.raises(RecipeError, match="already exists; pass --replace"), staged(tmp_path / "tiny"):
        pytest.fail("the block ran")
    check_files(old, tmp_path / "tiny")


def test_existing_is_replaced_when_asked(tmp_path: Path) -> None:
    """With `replace` the new folder takes the old one's place entirely."""
    an_artifact(tmp_path / "tiny")
    (tmp_path / "tiny/old").write_text("", encoding="utf-8")
    with staged(tmp_path / "tiny", replace=True) as scratch:
        an_artifact(scratch)
    assert names(tmp_path) == ["tiny"]
    assert "old" not in names(tmp_path / "tiny")


def test_other_folders_are_never_replaced(tmp_path: Path) -> None:
    """A folder that is no artifact is not deleted, whatever was asked."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.tex").write_text("years", encoding="utf-8")
    with (
        pytest.raises(RecipeError, match="is no artifact; it is left alone"),
        staged(tmp_path / "home", replace=True),
    ):
        pytest.fail("the block ran")
    assert (tmp_path / "home/thesis.tex").read_text(encoding="utf-8") == "years"


def test_other_files_are_never_replaced(tmp_path: Path) -> None:
    """A file of that name is not deleted either."""
    (tmp_path / "notes").write_text("years", encoding="utf-8")
    with pytest.raises(RecipeError), staged(tmp_path / "notes", replace=True):
        pytest.fail("the block ran")
    assert (tmp_path / "notes").read_text(encoding="utf-8") == "years"


def test_parent_that_is_a_file(tmp_path: Path) -> None:
    """Where no folder can be made, that is said."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ExporterError, match="cannot be written"), staged(tmp_path / "file" / "tiny"):
        pytest.fail("the block ran")


@pytest.mark.parametrize("name", ["tiny", "v1.0", "a+b", "run[1]"])
def test_leftovers_of_a_dead_process_are_cleared(tmp_path: Path, name: str) -> None:
    """What a killed run left beside the folder goes with the next run, whatever the folder is called."""
    (tmp_path / f".{name}.exporter-abcd1234/new").mkdir(parents=True)
    (tmp_path / f".{name}.exporter-abcd1234/new/half").write_text("", encoding="utf-8")
    (tmp_path / f".{name}.exporter-lock").write_text("", encoding="utf-8")
    with staged(tmp_path / name) as scratch:
        an_artifact(scratch)
    assert names(tmp_path) == [name]


def test_leftovers_of_another_name_are_cleared(tmp_path: Path) -> None:
    """What a killed run of another recipe left in the folder goes too; its old artifact is put back."""
    an_artifact(tmp_path / ".one.exporter-abcd1234/old")
    (tmp_path / ".two.exporter-lock").write_text("", encoding="utf-8")
    with staged(tmp_path / "tiny") as scratch:
        an_artifact(scratch)
    assert names(tmp_path) == ["one", "tiny"]


def test_leftovers_of_others_are_not_touched(tmp_path: Path) -> None:
    """What a person put there stays, and what another builder holds, whatever its process number is."""
    theirs = [".tiny.notes", ".tiny.exporter-x", ".tiny.2-b.x", "exporter-abcd1234"]
    for name in theirs:
        (tmp_path / name).mkdir()
    with reserved(tmp_path / "tiny2") as place, place.scratch() as live:
        with staged(tmp_path / "tiny") as scratch:
            an_artifact(scratch)
        assert live.is_dir()
    assert names(tmp_path) == sorted([*theirs, "tiny"])


def test_old_folder_is_put_back(tmp_path: Path) -> None:
    """A run killed between the two renames loses nothing: the old folder is put back."""
    old = an_artifact(tmp_path / LEFT / "old")
    (tmp_path / LEFT / "new").mkdir()
    with pytest.raises(RecipeError, match="already exists"), staged(tmp_path / "tiny"):
        pytest.fail("the block ran")
    assert names(tmp_path) == ["tiny"]
    check_files(old, tmp_path / "tiny")


def test_old_folder_is_dropped_once_the_new_one_is_there(tmp_path: Path) -> None:
    """A run killed after the new folder arrived leaves the old one beside it; it goes, the new one stays."""
    new = an_artifact(tmp_path / "tiny")
    (tmp_path / LEFT / "old").mkdir(parents=True)
    with pytest.raises(RecipeError, match="already exists"), staged(tmp_path / "tiny"):
        pytest.fail("the block ran")
    assert names(tmp_path) == ["tiny"]
    check_files(new, tmp_path / "tiny")


def test_second_builder_of_a_name_waits_and_is_refused(tmp_path: Path) -> None:
    """Of two that build one name the second waits, says so, and finds the first one's artifact there."""
    said: list[str] = []

    def second() -> str:
        with (
            pytest.raises(RecipeError, match="already exists") as refused,
            staged(tmp_path / "tiny", tell=said.append),
        ):
            pytest.fail("the block ran")
        return str(refused.value)

    with ThreadPoolExecutor(1) as pool:
        with staged(tmp_path / "tiny") as scratch:
            first = an_artifact(scratch)
            waiting = pool.submit(second)
            while not said:
                time.sleep(0.01)
            assert not waiting.done()
        assert "pass --replace" in waiting.result(timeout=60)
    assert said == [f"waiting for another run, which is writing {tmp_path / 'tiny'}"]
    check_files(first, tmp_path / "tiny")
    assert names(tmp_path) == ["tiny"]


def test_what_came_while_building_is_not_lost(tmp_path: Path) -> None:
    """A folder that somebody put there meanwhile, without a lock, is not replaced unasked."""
    with pytest.raises(RecipeError, match="already exists"), staged(tmp_path / "tiny") as scratch:  # noqa: PT012
        an_artifact(scratch)
        (tmp_path / "tiny").mkdir()
        (tmp_path / "tiny/theirs").write_text("", encoding="utf-8")
    assert names(tmp_path) == ["tiny"]
    assert names(tmp_path / "tiny") == ["theirs"]


@pytest.mark.parametrize("steps", ["one", "two"])
def test_replaced_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: str) -> None:
    """A link to a folder elsewhere stays, and the folder it leads to is replaced; nothing hidden is left."""
    if steps == "two":
        without_renameat2(monkeypatch)
    (tmp_path / "artifacts").mkdir()
    an_artifact(tmp_path / "disk/real")
    (tmp_path / "artifacts/tiny").symlink_to(tmp_path / "disk/real")
    with staged(tmp_path / "artifacts/tiny", replace=True) as scratch:
        an_artifact(scratch)
        (scratch / "fresh").write_text("", encoding="utf-8")
    assert (tmp_path / "artifacts/tiny").is_symlink()
    assert (tmp_path / "disk/real/fresh").is_file()
    assert names(tmp_path / "artifacts") == ["tiny"]
    assert names(tmp_path / "disk") == ["real"]


@pytest.mark.parametrize("umask", [0o077, 0o022, 0o027])
def test_modes_are_the_umasks(tmp_path: Path, umask: int) -> None:
    """The folder has the rights that its files have: what the user's umask gives."""
    before = os.umask(umask)
    try:
        with staged(tmp_path / "tiny") as scratch:
            an_artifact(scratch)
    finally:
        os.umask(before)
    assert (tmp_path / "tiny").stat().st_mode & 0o777 == 0o777 & ~umask
    assert (tmp_path / "tiny/manifest.json").stat().st_mode & 0o777 == 0o666 & ~umask


def test_lock_ends_with_its_process(tmp_path: Path) -> None:
    """A builder that is killed holds nothing, though a program that it started lives on."""
    script = (
        "import os, signal, subprocess, sys; from pathlib import Path\n"
        "from exporter.artifact.staging import staged\n"
        "with staged(Path(sys.argv[1])) as scratch:\n"
        "    (scratch / 'half').write_text('')\n"
        "    child = subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL)\n"
        "    print(child.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = [sys.executable, "-c", script, str(tmp_path / "tiny")]
    done = subprocess.run(killed, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 2
    try:
        with staged(tmp_path / "tiny", tell=pytest.fail) as scratch:
            an_artifact(scratch)
    finally:
        os.kill(int(done.stdout), signal.SIGKILL)
    assert names(tmp_path) == ["tiny"]


def without_renameat2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand for a system that cannot exchange two folders in one step."""
    monkeypatch.setattr(ctypes, "CDLL", lambda *_args, **_options: object())
