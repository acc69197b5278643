"""Send to a folder of this machine: as a whole by a rename, or into a working copy file by file.

Only files of an artifact are ever replaced or removed: those that the manifest there names, or that the
delivery brings under the same name. Whatever else lies in the folder is refused by name, but for what version
control and whoever made the repository keep there, which stays as it is.

A working copy cannot be renamed: `.git` would have to move, and where it is a file that names a worktree or a
submodule, others know its path. So its files are replaced one by one, the manifest last: a send that was
killed is repeated, and finds by the old manifest what it still has to replace. Until then readers refuse the
folder, since its files are not those of its manifest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.artifact.files import MANIFEST, is_unlisted
from exporter.artifact.names import beside, link_or_copy, version_control
from exporter.artifact.staging import Reservation, reserved, stage
from exporter.errors import BackendError, RecipeError
from exporter.remote.difference import Holds, Sent, check_overwrite, difference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.progress import Progress
    from exporter.remote.address import Place
    from exporter.remote.difference import Delivery, Difference


# Git answers about one file at once, unless the disk hangs.
_TIMEOUT_S = 60


def write(wanted: Delivery, place: Place, progress: Progress, *, replace: bool) -> Sent:
    """Write a delivery to a folder, once no other process writes there.

    Args:
        wanted: the delivery.
        place: the folder.
        progress: told if another process is waited for.
        replace: whether files that the folder has under the delivery's names may be lost.

    Raises:
        RecipeError: the folder lies in the delivery, or holds what is no artifact's and would be lost.
        BackendError: the disk refuses.
    """
    dest = Path(place.where)
    if dest.resolve().is_relative_to(wanted.folder.resolve()):
        raise RecipeError(f"{dest} lies in the artifact {wanted.folder} itself; choose another folder")
    with reserved(dest, progress.note) as reservation:
        found = difference(wanted, place, replace=replace)  # another process may have sent something since
        if not replace:
            check_overwrite(wanted, found, place)
        in_place = bool(version_control(dest)) or (dest.is_dir() and not any(dest.iterdir()))
        if in_place or (dest / MANIFEST).is_file():
            _check_foreign(wanted, dest, found)
        if not in_place:
            with stage(reservation, dest, replace=True) as scratch:
                _fill(wanted, scratch)
        else:
            if not replace and found.holds is not Holds.ARTIFACT:
                _check_recorded(dest, found)
            _write_in_place(wanted, reservation, found)
    return Sent(str(dest), str(dest), len(found.changed), len(wanted.files))


def _check_foreign(wanted: Delivery, dest: Path, found: Difference) -> None:
    """Raise where a folder holds files that no artifact brought there."""
    names = set(_names(dest))
    ours = found.own | {file.path for file in wanted.files} | set(filter(is_unlisted, names))
    if foreign := names - ours - beside(dest, names):
        raise RecipeError(
            f"{dest} has a {min(foreign)} of its own, which no artifact brought; "
            "move it away, or choose another folder"
        )


def _names(folder: Path) -> Iterator[str]:
    """Yield the path of every file of a folder, and of every link, that is not version control's."""
    kept = {folder / name for name in version_control(folder)}
    for path in folder.rglob("*"):
        if kept.isdisjoint((path, *path.parents)) and (path.is_symlink() or not path.is_dir()):
            yield path.relative_to(folder).as_posix()


def _check_recorded(dest: Path, found: Difference) -> None:
    """Raise where a file that would be replaced is not recorded in the working copy's history."""
    for file in found.changed:
        if os.path.lexists(dest / file.path) and not _is_committed(dest, file.path):
            raise RecipeError(
                f"{dest}: no artifact, and has a {file.path} of its own, which git would not bring back; "
                "commit it, or pass --replace to overwrite it"
            )


def _is_committed(folder: Path, name: str) -> bool:
    """Return whether git has a file of a working copy as it is; without git, or for another tool, no."""
    git = shutil.which("git")
    if git is None:
        return False
    # fsmonitor would have git start a program.
    asked = (git, "-C", str(folder), "-c", "core.fsmonitor=false", "--literal-pathspecs")
    try:
        known, changed = (
            subprocess.run(
                (*asked, *question, "--", name), capture_output=True, check=True, timeout=_TIMEOUT_S
            ).stdout
            for question in (
                ("ls-tree", "--name-only", "HEAD"),
                ("status", "--porcelain", "--ignored", "--no-renames"),
            )
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return bool(known) and not changed


def _write_in_place(wanted: Delivery, place: Reservation, found: Difference) -> None:
    """Replace an artifact's files one by one, the manifest last; all of them are beside the folder before."""
    dest = place.folder
    try:
        with place.scratch() as scratch:
            _fill(wanted, scratch)
            files = [file.path for file in found.changed if file.path != MANIFEST]
            for path in files:
                _move(scratch / path, dest / path)
            for path in found.gone:
                (dest / path).unlink(missing_ok=True)
                _remove_empty(dest, path)
            if len(files) < len(found.changed):
                _move(scratch / MANIFEST, dest / MANIFEST)
    except OSError as error:
        raise BackendError(
            f"{dest}: cannot be written: {error.strerror or error}; publish again to complete it"
        ) from error


def _fill(wanted: Delivery, scratch: Path) -> None:
    """Copy a delivery's files; equal ones are one file under two names where the disk can do so."""
    names: dict[str, Path] = {}
    for file in wanted.files:
        target = scratch / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if first := names.get(file.sha256):
            link_or_copy(first, target)
        else:
            shutil.copyfile(wanted.folder / file.path, target)
        names[file.sha256] = target


def _move(source: Path, target: Path) -> None:
    """Move a file over another in one step, also where the folder is a file system of its own."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.replace(target)
    except OSError:
        beside_it = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copyfile(source, beside_it)
        beside_it.replace(target)


def _remove_empty(folder: Path, path: str) -> None:
    """Remove the folders above a file that are empty now."""
    for above in (folder / path).parents:
        if above == folder or any(above.iterdir()):
            return
        above.rmdir()
