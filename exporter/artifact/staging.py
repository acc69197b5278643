"""Write a folder so that it is either whole or not there: built beside its place, renamed at the end."""

from __future__ import annotations

import glob
import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.artifact.files import MANIFEST, version_control
from exporter.artifact.place import check_place
from exporter.errors import BackendError, RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def staged(final: Path, *, replace: bool = False) -> Iterator[Path]:
    """Make a scratch folder that becomes `final` only if the block succeeds.

    The scratch folder is a sibling, so that the rename stays on one file system. What a killed run left
    beside `final` is cleared, or put back, first.

    Raises:
        RecipeError: `final` exists and `replace` is false, or it is something `exporter` did not make; or it
            is no place for a folder, see `check_place`.
        BackendError: the disk is full or refuses.
    """
    check_place(final)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        clear_left_over(final)
        if final.exists() and not replace:
            raise RecipeError(f"{final} already exists; pass --replace to put another in its place")
        if final.exists() and not (final / MANIFEST).is_file():
            raise RecipeError(f"{final} exists and is no artifact; it is left alone, choose another place")
        if found := version_control(final):
            raise RecipeError(
                f"{final} is a working copy, it has {found[0]}; it is left alone, choose another place"
            )
        scratch = scratch_beside(final)
    except OSError as error:
        raise BackendError(f"{final.parent}: cannot be written: {error.strerror}") from error
    try:
        yield scratch
        scratch.chmod(0o755)
        old = scratch.with_name(f"{scratch.name}.old")
        if final.exists():
            final.rename(old)
        try:
            scratch.rename(final)
        except BaseException:
            if old.exists():
                old.rename(final)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise BackendError(
            f"{final}: cannot be written: {error.strerror or error}; nothing was left behind"
        ) from error
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def scratch_beside(final: Path) -> Path:
    """Make a hidden folder beside `final`, whose name tells `clear_left_over` which process made it."""
    return Path(tempfile.mkdtemp(prefix=f".{final.name}.{os.getpid()}-", dir=final.parent))


def clear_left_over(final: Path) -> None:
    """Remove what a killed run left beside `final`; put the old folder back if the new one never arrived."""
    for left in final.parent.glob(f".{glob.escape(final.name)}.*"):
        found = re.fullmatch(rf"\.{re.escape(final.name)}\.(\d+)-[^.]+(\.old)?", left.name)
        if not found or Path(f"/proc/{found[1]}").exists():
            continue
        if found[2] and not final.exists():
            left.rename(final)
        else:
            shutil.rmtree(left, ignore_errors=True)
