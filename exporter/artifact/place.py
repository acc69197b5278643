"""Whether a folder can be made at a place: said before work begins, not after it."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from exporter.errors import BackendError, RecipeError

if TYPE_CHECKING:
    from pathlib import Path


def check_place(folder: Path) -> Path:
    """Check that a folder can be made or replaced at a place, or what is there be written.

    Args:
        folder: the place; it and the folders on the way to it need not exist.

    Returns:
        The nearest folder on the way that exists.

    Raises:
        RecipeError: the place, or one on the way, is a file or a link that leads nowhere.
        BackendError: the disk refuses to write there.
    """
    for one in (folder, *folder.absolute().parents):
        if one.is_symlink() and not one.exists():
            raise RecipeError(
                f"{folder}: cannot be written: {one} is a link to {one.readlink()}, which is not there"
            )
    there = next(one for one in folder.absolute().parents if os.path.lexists(one))
    if not there.is_dir():
        raise RecipeError(f"{folder}: cannot be written: {there} is no folder; choose another place")
    try:
        with tempfile.TemporaryFile(dir=there):  # root may write anywhere, but not on a read-only disk
            pass
    except OSError as error:
        raise BackendError(f"{folder}: cannot be written: {there}: {error.strerror}") from error
    return there
