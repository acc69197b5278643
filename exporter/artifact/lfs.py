"""Files that only point to the real ones, as a clone without Git LFS leaves them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


# Source: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md#the-pointer
_START = b"version https://git-lfs.github.com/spec/"
_MAX_BYTES = 1024
# What is said of such a file, after its name.
IS_POINTER = "is a pointer of Git LFS and not the file; run `git lfs pull` in the clone it comes from"


def is_pointer(path: Path) -> bool:
    """Return whether a file is a pointer; one that cannot be read is none."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            return False
        with path.open("rb") as file:
            return says_pointer(file.read(len(_START)))
    except OSError:
        return False


def says_pointer(content: bytes) -> bool:
    """Return whether a file that begins with these bytes is a pointer."""
    return content.startswith(_START)
