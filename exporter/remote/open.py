"""Open what lies at a place, whatever kind of place it is."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.artifact.files import MANIFEST, list_files, sha256_file
from exporter.remote.source import SIDECARS, ArtifactSource, RemoteFile

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
        """Return the hash over all files."""
        return hashlib.sha256(repr(sorted(self.files.items())).encode()).hexdigest()

    def same(self, entry: FileEntry, file: Path) -> bool:
        """Return whether the place holds the content of a local file at the path of its `entry`."""
        del file
        return self.files.get(entry.path) == RemoteFile(entry.size_bytes, entry.sha256)

    def copy(self, path: str, to: Path, limit_bytes: int) -> None:
        """Write a file of the place to the new local file `to`."""
        del limit_bytes  # the size was read from the disk
        with (self.folder / path).open("rb") as there, to.open("xb") as here:
            shutil.copyfileobj(there, here)


def folder_source(folder: Path) -> FolderSource | None:
    """Return a folder of this machine as a source; None if the folder does not exist.

    Raises:
        IntegrityError: the folder holds a link or special file.
    """
    if not folder.is_dir():
        return None
    listed = {file.path: RemoteFile(file.size_bytes, file.sha256) for file in list_files(folder)}
    for name in (MANIFEST, *SIDECARS):
        if (path := folder / name).is_file() and name not in listed:
            listed[name] = RemoteFile(path.stat().st_size, sha256_file(path))
    return FolderSource(folder, listed)


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
