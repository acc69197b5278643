"""Whether a folder can be made at a place: said before work begins, not after it."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from exporter.errors import BackendError, RecipeError

if TYPE_CHECKING:
    from pathlib import Path


def check_text(path: Path) -> None:
    """Check that a path is text: engines, tokenizers and JSON take UTF-8, and names on disk may be any bytes.

    Raises:
        RecipeError: it is not.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise RecipeError(
            f"{str(path)!a}: a name on this path is not UTF-8, which engines need; rename it, or use another"
        ) from None


def check_place(folder: Path) -> Path:
    """Check that a folder can be made or replaced at a place, or what is there be written.

    Args:
        folder: the place; it and the folders on the way to it need not exist.

    Returns:
        The nearest folder on the way that exists.

    Raises:
        RecipeError: the place, or one on the way, is a file or a link that leads nowhere; or no text.
        BackendError: the disk refuses to write there.
    """
    check_text(folder)
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
