"""Write a folder so that it is either whole or not there: built beside its place, renamed at the end.

All that is made on the way lies in hidden folders beside the place, `.NAME.exporter-...`. Whoever holds the
lock file of a name, `.NAME.exporter-lock`, is the only one who builds it; what lies there when the lock is
taken is left over from a killed run. So a second builder of one name waits, and nothing that is alive is
cleared, whichever container or user it belongs to.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import sys
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter import locks
from exporter.artifact.files import MANIFEST
from exporter.artifact.names import version_control
from exporter.artifact.place import check_place
from exporter.errors import BackendError, RecipeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_WORK = re.compile(r"\.(?P<name>.+)\.exporter-(?P<id>lock|[a-z0-9_]{8})")
# How long a folder that is being read is not replaced, in seconds; readers that take longer start again.
_READERS_S = 2.0
_EXISTS = (errno.EEXIST, errno.ENOTEMPTY)


def _silent(_line: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Reservation:
    """A place for a folder, which nobody else fills now; `folder` is where it really lies, with no link."""

    folder: Path

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Make an empty folder beside the place, on its file system, and remove it after the block.

        Raises:
            OSError: the disk refuses.
        """
        work = Path(tempfile.mkdtemp(prefix=f".{self.folder.name}.exporter-", dir=self.folder.parent))
        try:
            new = work / "new"
            new.mkdir()  # with the rights that the user's umask gives, which `mkdtemp` does not
            yield new
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def fill(self, new: Path, *, replace: bool) -> None:
        """Put a folder that `scratch` made in the place; who opens the place sees the old one or the new one.

        Args:
            new: the folder, whole.
            replace: whether a folder that stands there may go. It is not taken away from under a reader that
                holds its lock, see `exporter.artifact.access`, unless that one takes too long.

        Raises:
            OSError: the disk refuses; EEXIST or ENOTEMPTY: something stands there.
        """
        if not replace or not self.folder.exists():
            new.rename(self.folder)
            return
        with locks.folder_lock(self.folder, shared=False, wait_s=_READERS_S):
            if not _exchange(new, self.folder):
                _swap(new, self.folder, new.with_name("old"))


@contextmanager
def staged(final: Path, *, replace: bool = False, tell: Callable[[str], object] = _silent) -> Iterator[Path]:
    """Make a scratch folder that becomes `final` only if the block succeeds.

    Args:
        final: the folder to be; of a link, what it leads to.
        replace: whether an artifact that stands there may be replaced.
        tell: told in one line if another process is waited for.

    Raises:
        RecipeError: `final` exists and `replace` is false, or it is something `exporter` did not make; or it
            is no place for a folder, see `check_place`.
        BackendError: the disk is full or refuses.
    """
    with reserved(final, tell) as place, stage(place, final, replace=replace) as scratch:
        yield scratch


@contextmanager
def reserved(
    final: Path, tell: Callable[[str], object] = _silent, *, way_on: str = ""
) -> Iterator[Reservation]:
    """Keep other processes from building at a place; wait while another one does.

    What a killed run left beside it, or beside its neighbours, is cleared, or put back, first.

    Args:
        final: the folder to be; of a link, what it leads to.
        tell: told in one line if another process is waited for.
        way_on: what to do where the disk refuses, the end of the error's line.

    Raises:
        BackendError: the disk is full or refuses.
    """
    check_place(final)
    folder = Path(os.path.realpath(final)) if final.is_symlink() else final

    def waiting() -> None:
        tell(f"waiting for another run, which is writing {final}")

    with ExitStack() as stack:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            if stack.enter_context(locks.name_lock(_lock_path(folder), waiting)):
                _clear(folder)
                _clear_neighbours(folder)
        except OSError as error:
            raise BackendError(f"{folder.parent}: cannot be written: {error.strerror}{way_on}") from error
        yield Reservation(folder)


@contextmanager
def stage(place: Reservation, final: Path, *, replace: bool) -> Iterator[Path]:
    """Make a scratch folder that fills a reserved place only if the block succeeds; see `staged`.

    Args:
        place: from `reserved`.
        final: the folder under the name it was asked for by, for errors.
        replace: see `staged`.

    Raises:
        RecipeError, BackendError: see `staged`.
    """
    folder = place.folder
    try:
        if os.path.lexists(folder) and not replace:
            raise _already_there(final)
        if os.path.lexists(folder) and not (folder / MANIFEST).is_file():
            raise RecipeError(f"{final} exists and is no artifact; it is left alone, choose another place")
        if found := version_control(folder):
            raise RecipeError(
                f"{final} is a working copy, it has {found[0]}; it is left alone, choose another place"
            )
        with place.scratch() as scratch:
            yield scratch
            place.fill(scratch, replace=replace)
    except OSError as error:
        if error.errno in _EXISTS and not replace:
            raise _already_there(final) from error
        raise BackendError(
            f"{final}: cannot be written: {error.strerror or error}; nothing was left behind"
        ) from error


def _already_there(final: Path) -> RecipeError:
    return RecipeError(f"{final} already exists; pass --replace to put another in its place")


def _lock_path(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.exporter-lock")


def _clear(folder: Path) -> None:
    """Remove what a killed run left beside a folder; put the old one back if the new one never arrived.

    What belongs to another user may have to stay.
    """
    for work in _left_beside(folder.parent).get(folder.name, ()):
        if not os.path.lexists(folder):
            with suppress(OSError):
                (work / "old").rename(folder)
        shutil.rmtree(work, ignore_errors=True)


def _clear_neighbours(folder: Path) -> None:
    """Clear what killed runs left of other names in the same folder, where nobody works on them."""
    for name in _left_beside(folder.parent).keys() - {folder.name}:
        neighbour = folder.with_name(name)
        with suppress(OSError), locks.name_lock(_lock_path(neighbour), wait=False) as held:
            if held:
                _clear(neighbour)


def _left_beside(parent: Path) -> dict[str, list[Path]]:
    """Return the work folders in a folder by the name that they were for; none for a lock file alone."""
    found: dict[str, list[Path]] = {}
    for path in parent.iterdir():
        if parts := _WORK.fullmatch(path.name):
            works = found.setdefault(parts["name"], [])
            if parts["id"] != "lock":
                works.append(path)
    return found


def _swap(new: Path, folder: Path, old: Path) -> None:
    """Replace a folder by two renames; between them it is not there."""
    folder.rename(old)
    try:
        new.rename(folder)
    except BaseException:
        old.rename(folder)
        raise


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; return whether this system and its file system can.

    Source: https://man7.org/linux/man-pages/man2/rename.2.html (RENAME_EXCHANGE)

    Raises:
        OSError: they can, and the disk refuses.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # a C library without it
        return False
    at_cwd, rename_exchange = -100, 2
    if renameat2(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), rename_exchange) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(other))
