"""Names in a folder that may be a stranger's, and what stands under one: a plain file, or a link."""

from __future__ import annotations

import os
import re
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.errors import IntegrityError
from exporter.owners import file_problem

if TYPE_CHECKING:
    from collections.abc import Iterable

# What a file may be called: ASCII, so that no two names look alike or differ only in how a file system folds
# them, and none is a pattern to the Hub's client, an option to a shell or an escape sequence to a terminal.
_PART = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._+=-]*")
MAX_NAME = 200
# Between a kind and the instruction set that one of its variants is for.
AT = "@"
# What version control keeps in a working copy: no part of an artifact that lies there, and never touched.
_VERSION_CONTROL = frozenset(
    (
        *(".git", ".gitattributes", ".gitignore", ".gitmodules", ".gitkeep", ".mailmap", ".lfsconfig"),
        *(".github", ".gitlab-ci.yml", ".gitea", ".forgejo"),
        *(".hg", ".hgignore", ".hgtags", ".hgsub", ".hgsubstate", ".hgeol"),
        *(".svn", ".bzr", ".bzrignore", ".jj", "_darcs", "cvs"),
    )
)
# What a working copy may have beside an artifact, as whoever made the repository put it there.
_BESIDE = re.compile(r"(LICEN[CS]E|COPYING|NOTICE)([-.].*)?", re.IGNORECASE)


def is_name(text: str) -> bool:
    """Return whether an artifact may hold a file of this name: relative, plain ASCII, not too long.

    Nor does it belong to version control: no artifact that is fetched puts a hook into somebody's `.git`.
    """
    return len(text) <= MAX_NAME and all(
        _PART.fullmatch(part) and part.strip(".") and not is_version_controls(part)
        for part in text.split("/")
    )


def version_control(folder: Path) -> tuple[str, ...]:
    """Return what stands in a folder that belongs to version control; none where it is no working copy."""
    try:
        return tuple(sorted(path.name for path in folder.iterdir() if is_version_controls(path.name)))
    except OSError:
        return ()


def is_version_controls(name: str) -> bool:
    """Return whether a file or folder of this name belongs to version control."""
    return name.casefold() in _VERSION_CONTROL


def beside(folder: Path, names: Iterable[str]) -> frozenset[str]:
    """Return those of a folder's files that a working copy may hold beside an artifact: licences."""
    found = frozenset(name for name in names if _BESIDE.fullmatch(name))
    return found if found and version_control(folder) else frozenset()


def plain_file(folder: Path, name: str) -> Path:
    """Return the path of a plain file of a folder; no file is opened, so that a pipe is not waited for.

    No link is followed, but those of the Hub's cache, see `_blob`.

    Raises:
        IntegrityError: the file is missing, a link, a pipe or a device, or one of the folders on the way to
            it is a link.
    """
    path = folder / name
    try:
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode) and (blob := _blob(folder, name)):
            found = blob.lstat()
    except (FileNotFoundError, NotADirectoryError):
        raise IntegrityError(f"{path}: missing") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte
        raise IntegrityError(f"{str(path)!a}: cannot be read: {error}") from None

    above = (folder / parent for parent in Path(name).parents[:-1])
    if not stat.S_ISREG(found.st_mode) or any(parent.is_symlink() for parent in above):
        raise IntegrityError(
            f"{folder}/{shown(name)}: a link or special file; an artifact holds plain files only"
        )
    return path


def check_owner(path: Path) -> None:
    """Raise where another user could write a file between its check and its use.

    Raises:
        IntegrityError: one could.
    """
    if problem := file_problem(path):
        raise IntegrityError(problem)


def _blob(folder: Path, name: str) -> Path | None:
    """Return the file of the Hub's cache that a link of a snapshot leads to; None for any other link.

    There `snapshots/COMMIT/NAME` is a link whose text is `../../blobs/HASH`, and nothing else is one: not the
    blob, nor any folder from the repository's own down to either. Where one of them were, files of elsewhere
    would be taken for the model's, copied into an artifact and published.
    Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
    Source: https://github.com/huggingface/huggingface_hub/blob/main/src/huggingface_hub/file_download.py
    (_create_symlink: relative, but across volumes)
    """
    snapshot = folder.absolute()
    repository, link = snapshot.parent.parent, snapshot / name
    blobs = repository / "blobs"
    target = link.readlink()
    way = (
        repository,
        snapshot.parent,
        snapshot,
        blobs,
        *(snapshot / part for part in Path(name).parents[:-1]),
    )
    if (
        ".." in snapshot.parts
        or snapshot.parent.name != "snapshots"
        or any(one.is_symlink() or not one.is_dir() for one in way)
    ):
        return None
    found = blobs / target.name
    return found if str(target) == os.path.relpath(found, link.parent) else None


def shown(name: str) -> str:
    """Return a name that someone else chose in a form that can be printed."""
    return name if is_name(name) else ascii(name)


def link_or_copy(first: Path, second: Path) -> None:
    """Link a file under a second name, or copy it where the disk has no hard links; never a symbolic link.

    Raises:
        OSError: the disk refuses.
    """
    try:
        os.link(first, second)
    except OSError:
        shutil.copyfile(first, second)


def kind_of(variant: str) -> str:
    """Return the kind of a variant's id, which is the kind, or `kind@isa` where a recipe lists several."""
    return variant.partition(AT)[0]
