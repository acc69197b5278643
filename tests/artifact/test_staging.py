"""Staging: an artifact's folder is whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from exporter.artifact.manifest import Manifest, check_files, read_manifest
from exporter.artifact.staging import staged
from exporter.errors import BackendError, ExporterError, RecipeError
from tests.factories import an_artifact

# Above the largest number Linux gives a process.
# Source: https://man7.org/linux/man-pages/man5/proc_sys_kernel.5.html (pid_max)
DEAD_PID = 4_200_000


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
    (tmp_path / f".{name}.{DEAD_PID}-abc123").mkdir()
    (tmp_path / f".{name}.{DEAD_PID}-abc123/half").write_text("", encoding="utf-8")
    with staged(tmp_path / name) as scratch:
        an_artifact(scratch)
    assert names(tmp_path) == [name]


def test_leftovers_of_others_are_not_touched(tmp_path: Path) -> None:
    """What a living process, another artifact or a person put there stays."""
    theirs = [f".tiny.{os.getpid()}-abc123", f".tiny2.{DEAD_PID}-abc123", ".tiny.notes", ".tiny.2-b.x"]
    for name in theirs:
        (tmp_path / name).mkdir()
    with staged(tmp_path / "tiny") as scratch:
        an_artifact(scratch)
    assert names(tmp_path) == sorted([*theirs, "tiny"])


def test_old_folder_is_put_back(tmp_path: Path) -> None:
    """A run killed between the two renames loses nothing: the old folder is put back."""
    old = an_artifact(tmp_path / f".tiny.{DEAD_PID}-abc123.old")
    (tmp_path / f".tiny.{DEAD_PID}-abc123").mkdir()
    with pytest.raises(RecipeError, match="already exists"), staged(tmp_path / "tiny"):
        pytest.fail("the block ran")
    assert names(tmp_path) == ["tiny"]
    check_files(old, tmp_path / "tiny")


def test_old_folder_is_dropped_once_the_new_one_is_there(tmp_path: Path) -> None:
    """A run killed after the new folder arrived leaves the old one beside it; it goes, the new one stays."""
    new = an_artifact(tmp_path / "tiny")
    (tmp_path / f".tiny.{DEAD_PID}-abc123.old").mkdir()
    with pytest.raises(RecipeError, match="already exists"), staged(tmp_path / "tiny"):
        pytest.fail("the block ran")
    assert names(tmp_path) == ["tiny"]
    check_files(new, tmp_path / "tiny")
