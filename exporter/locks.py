"""Locks that the kernel lets go of when their process ends, however it ends: `flock`, on a folder or a file.

A process number says nothing to another container, and a dead one is given out again; a lock that is held by
an open file needs none, works between users, and dies with its process. Workers do not inherit it: Python's
descriptors are closed on exec. Where the file system has no `flock` (some network shares, Windows), `None`
stands for "cannot tell": work goes on unlocked, and nothing is taken for left over.
Source: https://man7.org/linux/man-pages/man2/flock.2.html

The package filelock locks files only, wants write access to them, leaves them where they are, and falls back
to process numbers.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_POLL_S = 0.005
_SOON_S = 0.2  # who only clears up holds a lock for less
_HELD_BY_OTHERS = (errno.EAGAIN, errno.EACCES)


@contextmanager
def name_lock(
    path: Path, tell: Callable[[], object] | None = None, *, wait: bool = True
) -> Iterator[bool | None]:
    """Hold a lock file, which exists only while somebody holds or awaits it.

    Args:
        path: the lock file; made, and removed by the last who held it. It may belong to another user.
        tell: called once if the lock has to be waited for.
        wait: wait until the lock is free.

    Yields:
        True: the lock is held. False: somebody else holds it. None: there are no locks here.

    Raises:
        OSError: the folder cannot be written, or the disk refuses.
    """
    fd, held = _lock_file(path, tell, wait=wait)
    try:
        yield held
    finally:
        if held is not False and leads_to(path, fd):
            with suppress(OSError):  # another user's, in a folder where only owners may remove
                path.unlink()
        _release(fd)


def _lock_file(path: Path, tell: Callable[[], object] | None, *, wait: bool) -> tuple[int, bool | None]:
    """Open and lock a file until the one that is locked is the one at this path."""
    while True:
        fd = _open_lock_file(path)
        held = _flock(fd)
        if held is False and wait:
            held = _flock_by(time.monotonic() + _SOON_S, fd)
        if held is False and wait:
            if tell:
                tell()
                tell = None
            held = _flock_until(fd)
        if not held or leads_to(path, fd):
            return fd, held
        os.close(fd)  # its holder removed it meanwhile


def _open_lock_file(path: Path) -> int:
    """Open a lock file, made if it is not there; that of another user may be readable only."""
    flags = os.O_NOFOLLOW | os.O_CLOEXEC if sys.platform != "win32" else 0
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o644)
        except PermissionError:
            if not os.path.lexists(path):
                raise
            try:
                return os.open(path, os.O_RDONLY | flags)
            except FileNotFoundError:
                continue  # removed meanwhile
        if sys.platform != "win32" and os.fstat(fd).st_uid == os.geteuid():
            os.fchmod(fd, 0o644)  # whatever the umask: others have to see that it is held
        return fd


@contextmanager
def folder_lock(folder: Path, *, shared: bool, wait_s: float) -> Iterator[Callable[[], bool]]:
    """Lock a folder itself, with no file for it, and keep it open; read access is enough.

    Who waits longer than `wait_s` goes on without the lock: a reader that never ends must not stop a writer.

    Args:
        folder: a folder, or none where there is none.
        shared: with others who share it, as readers do; else alone, as who changes or replaces the folder.
        wait_s: how long to wait, in seconds.

    Yields:
        A function that returns whether the path still leads to the folder that was opened.
    """
    deadline = time.monotonic() + wait_s
    fd = None
    try:
        while True:
            fd = _open_folder(folder)
            identity = _identity(folder if fd is None else fd)
            in_time = fd is None or _flock_by(deadline, fd, shared=shared) is not False
            if identity == _identity(folder) or not in_time:
                break
            if fd is not None:
                os.close(fd)  # it was replaced meanwhile
        # As long as it is open, no other folder can get its number.
        yield lambda: _identity(folder) == identity
    finally:
        if fd is not None:
            _release(fd)


def lock_folder(folder: Path, *, wait: bool) -> tuple[int | None, bool | None]:
    """Lock a folder for good: until the returned descriptor is closed, or the process ends.

    Returns:
        The descriptor, None where the folder cannot be opened; and True if the lock is held, False if
        somebody else holds it, None if there are no locks here.
    """
    fd = _open_folder(folder)
    if fd is None:
        return None, None
    held = _flock_until(fd) if wait else _flock(fd)
    return fd, held


def leads_to(path: Path, fd: int) -> bool:
    """Return whether a path leads to the file or folder that is open as `fd`."""
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except OSError:
        return False


def _open_folder(folder: Path) -> int | None:
    if sys.platform == "win32":
        return None
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None


def _flock(fd: int, *, shared: bool = False) -> bool | None:
    """Lock at once or not at all; None where there are no locks."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in _HELD_BY_OTHERS else None
    return True


def _flock_until(fd: int) -> bool | None:
    """Wait until the lock is free; None where there are no locks."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except OSError:
        return None
    return True


def _flock_by(deadline: float, fd: int, *, shared: bool = False) -> bool | None:
    """Wait for a lock until `deadline`, of the monotonic clock."""
    held = _flock(fd, shared=shared)
    while held is False and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        held = _flock(fd, shared=shared)
    return held


def _release(fd: int) -> None:
    if sys.platform != "win32":
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)  # closing would not do where a forked process has it open too
    os.close(fd)


def _identity(folder: Path | int) -> tuple[int, int] | None:
    """Return what tells a folder from others that stand at its path in turn; None where there is none."""
    try:
        found = os.stat(folder)  # noqa: PTH116 - a descriptor too
    except OSError:
        return None
    return found.st_dev, found.st_ino
