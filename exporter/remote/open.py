"""Open what lies at a place, whatever kind of place it is."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.artifact.files import MANIFEST, UNLISTED, listed, machine_reports, sha256_file
from exporter.artifact.names import plain_file
from exporter.remote.source import ArtifactSource, RemoteFile, copy_file, is_sidecar

if TYPE_CHECKING:
    from exporter.artifact.files import FileEntry
    from exporter.remote.address import Place


@dataclass(frozen=True, slots=True)
class FolderSource:
    """An artifact's folder on this machine."""

    folder: Path
    files: dict[str, RemoteFile]

    @property
    def version(self) -> str:
        """Return the hash over the files that seal or speak of all others."""
        sealing = {
            name: sha256_file(plain_file(self.folder, name))
            for name in self.files
            if name == MANIFEST or is_sidecar(name)
        }
        return hashlib.sha256(repr(sorted(sealing.items())).encode()).hexdigest()

    def same(self, entry: FileEntry, file: Path) -> bool:
        """Return whether the place holds the content of a local file at the path of its `entry`."""
        del file
        there = self.files.get(entry.path)
        if there is None or there.size_bytes != entry.size_bytes:
            return False
        return sha256_file(plain_file(self.folder, entry.path)) == entry.sha256

    def copy(self, path: str, to: Path, limit_bytes: int) -> None:
        """Write a file of the place to the new local file `to`."""
        copy_file(plain_file(self.folder, path), to, limit_bytes)


def folder_source(folder: Path) -> FolderSource | None:
    """Return a folder of this machine as a source, none of its files read; None if it does not exist.

    Raises:
        IntegrityError: the folder holds a link or special file.
    """
    if not folder.is_dir():
        return None
    beside = (*(name for name in UNLISTED if os.path.lexists(folder / name)), *machine_reports(folder))
    names = {*listed(folder), *beside}
    files = {name: RemoteFile(plain_file(folder, name).stat().st_size, None) for name in sorted(names)}
    return FolderSource(folder, files)


def open_source(place: Place) -> ArtifactSource | None:
    """Return what lies at a place as a source; None if the place is empty.

    Raises:
        RecipeError: the repository or bucket does not exist.
        BackendError: the place cannot be reached, or refuses.
        BackendMissing: the place's client library is not installed.
        IntegrityError: what lies at the place is damaged.
    """
    match place.kind:
        case "dir":
            return folder_source(Path(place.where))
        case "hf":
            from exporter.remote.hub import hub_source

            return hub_source(place)
        case "oci":
            from exporter.remote.oci import oci_source

            return oci_source(place)
        case "s3":
            from exporter.remote.bucket import bucket_source

            return bucket_source(place)
