"""Keep finished build steps, each named by everything that it was made from.

A cached folder carries the hashes of its files; one that does not match (a full disk, a killed run, a flipped
byte) is made again, never used. Of several processes that need a step, one makes it: the others wait, and use
it. Deleting a cache costs time only. A cache is a value that is handed down, so that two builds can have one
each.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from exporter.artifact.files import list_files, read_sealed, write_sealed
from exporter.artifact.place import check_place
from exporter.artifact.staging import reserved
from exporter.errors import BackendError, ExporterError, IntegrityError
from exporter.owners import folder_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


_SUMS = "manifest.json"  # not listed by `list_files`, like an artifact's
_WAY_ON = "; set EXPORTER_CACHE"


def _silent(_line: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder of finished steps, each in a folder named by the step and a hash of all it was made from.

    `root` is None where there is no place for one; what needs it then fails, and nothing else. `tell` is told
    in one line if another process, which makes the same step, is waited for.
    """

    root: Path | None
    tell: Callable[[str], object] = field(default=_silent, compare=False)

    @classmethod
    def of_user(cls, tell: Callable[[str], object] = _silent) -> Self:
        """Return `$EXPORTER_CACHE`, or `exporter` under the user's cache folder; it need not exist yet."""
        if named := os.environ.get("EXPORTER_CACHE"):
            return cls(Path(named), tell)
        if named := os.environ.get("XDG_CACHE_HOME"):
            return cls(Path(named) / "exporter", tell)
        try:
            return cls(Path.home() / ".cache/exporter", tell)
        except RuntimeError:  # neither $HOME nor an entry for this user in the system's list of users
            return cls(None, tell)

    def check(self) -> Path:
        """Return the folder, after checking that steps can be kept there.

        Raises:
            BackendError: there is no place for one, it cannot be written, or others could write there.
        """
        if self.root is None:
            raise BackendError("no home folder to keep the cache in; set EXPORTER_CACHE to a folder")
        try:
            check_place(self.root / "step")
        except ExporterError as error:
            raise BackendError(f"the cache: {error}; set EXPORTER_CACHE to a folder") from error
        except OSError as error:  # a folder on the way that this user may not even look into
            reason = f"{self.root}: {error.strerror}"
            raise BackendError(f"the cache: {reason}; set EXPORTER_CACHE to a folder") from error
        _check_owner(self.root)
        return self.root

    def holds(self, step: str, key: Mapping[str, object]) -> bool:
        """Tell whether a step was made before from the same things; `get` looks whether it is whole."""
        return self.root is not None and (self.root / _name(step, key) / _SUMS).is_file()

    def find(self, step: str, key: Mapping[str, object]) -> Path | None:
        """Return the folder of a step that is finished, see `get`; None where it would have to be made.

        Raises:
            BackendError: others could write there.
        """
        if self.root is None:
            return None
        final = self.root / _name(step, key)
        if not final.is_dir():
            return None
        _check_owner(final)
        return final if _is_whole(final) else None

    def forget(self, step: str, key: Mapping[str, object]) -> None:
        """Have a step made anew when it is asked for next; who reads what it made meanwhile still can.

        Raises:
            BackendError: the cache cannot be written, or others could write there.
        """
        if self.root is None or not self.holds(step, key):
            return
        final = self.root / _name(step, key)
        _check_owner(final)
        try:
            (final / _SUMS).unlink(missing_ok=True)  # without it, the folder does not count as whole
        except OSError as error:
            raise BackendError(f"{final}: the cache cannot be written: {error.strerror}{_WAY_ON}") from error

    def get(self, step: str, key: Mapping[str, object], make: Callable[[Path], None]) -> tuple[Path, bool]:
        """Return the folder that a step makes, reused if it was made from the same things before.

        Args:
            step: the step's name, part of the folder's.
            key: everything the result depends on, versions of tools included; anything JSON can hold.
            make: fills an empty folder.

        Returns:
            The folder, to be read and not written, and whether it was reused.

        Raises:
            BackendError: the disk is full or refuses, or others could write there. Whatever `make` raises.
        """
        final = (self.root or self.check()) / _name(step, key)
        _check_owner(final)  # also where it is not there yet: of all folders on the way
        if _is_whole(final):
            return final, True

        _make_private(self.check())
        with reserved(final, self.tell, way_on=_WAY_ON) as place:
            if _is_whole(final):  # another process was making it
                return final, True
            try:
                with place.scratch() as scratch:
                    make(scratch)
                    sums = [[file.path, file.sha256] for file in list_files(scratch)]
                    write_sealed(scratch / _SUMS, {"key": dict(key), "files": sums})
                    place.fill(scratch, replace=True)
            except OSError as error:
                if error.errno is None:  # a library's own OSError, not the disk's
                    raise
                raise BackendError(
                    f"{final.parent}: the cache cannot be written: {error.strerror}{_WAY_ON}"
                ) from error
        return final, False


def _name(step: str, key: Mapping[str, object]) -> str:
    digest = hashlib.sha256(json.dumps([step, key], sort_keys=True).encode()).hexdigest()[:32]
    return f"{step}-{digest}"


def _check_owner(folder: Path) -> None:
    """Raise where another user could have written what is in a folder."""
    if problem := folder_problem(folder):
        raise BackendError(f"the cache: {problem}; or set EXPORTER_CACHE to a folder of your own")


def _make_private(root: Path) -> None:
    """Make a cache's folder, which nobody else may read: what is fetched with a login lies there too."""
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BackendError(f"{root}: the cache cannot be written: {error.strerror}{_WAY_ON}") from error


def _is_whole(folder: Path) -> bool:
    try:
        sums = read_sealed(folder / _SUMS)
        return sums["files"] == [[f.path, f.sha256] for f in list_files(folder)]
    except (IntegrityError, OSError, KeyError):
        return False
