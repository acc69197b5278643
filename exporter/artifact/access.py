"""Read and change an artifact that others may replace, read or measure at the same time.

A reader shares the lock of the folder itself, which needs no right to write; who replaces the folder, or
changes a file in it, has it alone. Where a reader takes longer than a replacement waits, or there are no
locks, the reader finds that the folder is another one, and starts again.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from exporter.artifact.manifest import read_manifest
from exporter.errors import ExporterError, NoVerdict
from exporter.locks import folder_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_T = TypeVar("_T")

# A replacement takes milliseconds, and waits two seconds for readers: twenty in a row are no accident.
_N_TRIES = 20
_PAUSE_S = 0.02
# Others read for as long as they load a model.
_WAIT_S = 30.0


def read_whole(folder: Path, read: Callable[[], _T]) -> _T:
    """Return what a function reads of an artifact, all of it from one version of the folder.

    Args:
        folder: the artifact's; it may be replaced at any time.
        read: reads it; called again when the folder was replaced meanwhile.

    Raises:
        NoVerdict: the folder was replaced each time. Whatever `read` raises of a folder that stayed.
    """
    for _ in range(_N_TRIES):
        with folder_lock(folder, shared=True, wait_s=_WAIT_S) as is_same:
            try:
                found = read()
            except Exception:
                there = os.path.exists(folder)  # noqa: PTH110 - Path.exists raises on a name that is too long
                time.sleep(0 if there else _PAUSE_S)  # where it takes two renames, none is there
                if is_same():
                    raise
                continue
            if is_same():
                return found
    raise NoVerdict(f"{folder} was replaced {_N_TRIES} times while it was read; try again")


@contextmanager
def changing(folder: Path, root: str) -> Iterator[None]:
    """Have an artifact alone while files beside those of its manifest are written into it.

    Args:
        folder: the artifact's.
        root: of the manifest that the files are about.

    Raises:
        NoVerdict: the folder now holds something else.
    """
    with folder_lock(folder, shared=False, wait_s=_WAIT_S):
        check_still(folder, root)
        yield


@contextmanager
def steady(folder: Path, root: str) -> Iterator[None]:
    """Check when a block that reads an artifact ends, also by an error, that the artifact is still there.

    Args:
        folder: the artifact's.
        root: of its manifest.

    Raises:
        NoVerdict: it was replaced or removed, whatever the block met in what came after it.
    """
    try:
        yield
    except ExporterError:
        check_still(folder, root)
        raise
    check_still(folder, root)


def check_still(folder: Path, root: str) -> None:
    """Check that a folder still holds the artifact of a manifest root.

    Raises:
        NoVerdict: it was replaced or removed.
    """
    try:
        now = read_manifest(folder).root
    except ExporterError:
        now = ""
    if now != root:
        raise NoVerdict(
            f"{folder} was replaced by another run meanwhile, and what was found is about the artifact "
            "before; run the same command again"
        )
