"""Temporary folders, each held by a lock that ends with its process: a later run clears what is left."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import weakref
from pathlib import Path

from exporter import locks
from exporter.errors import BackendError
from exporter.owners import folder_problem

# Eight characters of `tempfile`, and an ending that keeps people's own `exporter-...` folders apart.
_ENDING = ".tmp"
_NAME = re.compile(rf"exporter-[a-z]+-[a-z0-9_]{{8}}{re.escape(_ENDING)}")


class Scratch:
    """A new empty folder in $TMPDIR, removed at the end of its block, or when nobody refers to it any more.

    What only a killed run can leave there is removed by the next one: a folder of `exporter` that no process
    has locked. Those of other users and of live processes are not touched, whichever container they are in.
    """

    def __init__(self, what: str) -> None:
        """Make a folder `exporter-WHAT-....tmp`; `what` consists of small letters.

        Raises:
            BackendError: the disk refuses, the path of $TMPDIR is not UTF-8, or others could put another
                folder in its place.
        """
        parent = Path()
        try:
            parent = Path(tempfile.gettempdir())
            str(parent).encode()  # libraries open what lies there by its name, as text
            if problem := folder_problem(parent):
                raise BackendError(f"temporary files: {problem}; TMPDIR says where they go")
            clear_leftovers(parent)
            held, fd = _locked_folder(f"exporter-{what}-", parent)
            # One below what is locked: the folder may hold an artifact, whose readers lock it too.
            self.path = held / "files"
            self.path.mkdir()
        except UnicodeEncodeError:
            raise BackendError(
                f"no temporary folder can be used: {str(parent)!a} is not UTF-8; TMPDIR says where they go"
            ) from None
        except OSError as error:
            raise BackendError(
                f"no temporary folder can be made: {error.strerror or error}; TMPDIR says where they go"
            ) from error
        self._remove = weakref.finalize(self, _remove, held, fd, os.getpid())

    def __enter__(self) -> Path:
        """Return the folder."""
        return self.path

    def __exit__(self, *_: object) -> None:
        """Remove the folder."""
        self.cleanup()

    def cleanup(self) -> None:
        """Remove the folder."""
        self._remove()


def clear_leftovers(parent: Path) -> None:
    """Remove this user's temporary folders whose process has ended."""
    try:
        with os.scandir(parent) as found:
            ours = [Path(entry.path) for entry in found if _NAME.fullmatch(entry.name) and _is_own(entry)]
    except OSError:
        return
    for folder in ours:
        fd, held = locks.lock_folder(folder, wait=False)
        if held:
            shutil.rmtree(folder, ignore_errors=True)
        if fd is not None:
            os.close(fd)


def _is_own(entry: os.DirEntry[str]) -> bool:
    try:
        is_own = os.name != "posix" or entry.stat(follow_symlinks=False).st_uid == os.geteuid()
        return is_own and entry.is_dir(follow_symlinks=False)
    except OSError:  # removed meanwhile
        return False


def _locked_folder(prefix: str, parent: Path) -> tuple[Path, int | None]:
    """Make and lock a folder; one that was taken for a leftover before it was locked is made again."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, suffix=_ENDING, dir=parent))
        fd, _ = locks.lock_folder(path, wait=True)
        if path.is_dir() and (fd is None or locks.leads_to(path, fd)):
            return path, fd
        if fd is not None:
            os.close(fd)


def _remove(path: Path, fd: int | None, pid: int) -> None:
    if pid == os.getpid():  # a forked process does not remove its parent's
        shutil.rmtree(path, ignore_errors=True)
    if fd is not None:
        os.close(fd)
