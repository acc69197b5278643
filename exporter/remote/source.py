"""What lies at a place: which files, how large, and their bytes. One class per kind of place.

A source is pinned when it is opened: to a commit, a digest, a version. Whatever is published there meanwhile, its reader gets one
artifact, whole.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from exporter.artifact import (
    ATTESTATION,
    MANIFEST,
    REPORT,
    REPORT_HTML,
    REPORT_MD,
    REPORT_XML,
    SIGNATURE,
    list_files,
    sha256_file,
)
from exporter.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.artifact import FileEntry, Manifest
    from exporter.remote.place import Place

TOKENIZER = "tokenizer.json"
# What lies beside the manifest and not in it, because it is sealed itself or speaks of the manifest.
BESIDE = (REPORT, REPORT_MD, REPORT_HTML, REPORT_XML, ATTESTATION, SIGNATURE)


@dataclass(frozen=True, slots=True)
class Listed:
    """A file that a source says it has; `sha256` None where the place does not know it."""

    size_bytes: int
    sha256: str | None


class Source(Protocol):
    """Something published, as it was at one moment."""

    @property
    def version(self) -> str:
        """Name the content for good: another version is another text."""
        ...

    @property
    def files(self) -> Mapping[str, Listed]:
        """Name all files there, by path."""
        ...

    def same(self, entry: FileEntry, file: Path) -> bool:
        """Tell whether the file there has the content of this one here, which `entry` describes."""
        ...

    def copy(self, path: str, to: Path, limit_bytes: int) -> None:
        """Write the file there to a new file here; stop after `limit_bytes`.

        Raises:
            IntegrityError: it is longer than that.
            BackendError: it cannot be fetched, or not be written.
        """
        ...


@dataclass(frozen=True, slots=True)
class FolderSource:
    """An artifact's folder on this machine."""

    folder: Path
    files: dict[str, Listed]

    @property
    def version(self) -> str:
        """The hash over all files."""
        return hashlib.sha256(repr(sorted(self.files.items())).encode()).hexdigest()

    def same(self, entry: FileEntry, file: Path) -> bool:
        """Tell whether the file there has the content of this one here, which `entry` describes."""
        del file
        return self.files.get(entry.path) == Listed(entry.size_bytes, entry.sha256)

    def copy(self, path: str, to: Path, limit_bytes: int) -> None:
        """Write the file there to a new file here."""
        del limit_bytes  # its size was read from the disk
        with (self.folder / path).open("rb") as there, to.open("xb") as here:
            shutil.copyfileobj(there, here)


def folder_source(folder: Path) -> FolderSource | None:
    """Open a folder; None if there is none.

    Raises:
        IntegrityError: it holds a link or special file.
    """
    if not folder.is_dir():
        return None
    listed = {file.path: Listed(file.size_bytes, file.sha256) for file in list_files(folder)}
    for name in (MANIFEST, *BESIDE):
        if (path := folder / name).is_file() and name not in listed:
            listed[name] = Listed(path.stat().st_size, sha256_file(path))
    return FolderSource(folder, listed)


def open_source(place: Place) -> Source | None:
    """Open what lies at a place; None if nothing does.

    Raises:
        RecipeError: there is no such repository, or no such bucket.
        BackendError: the place cannot be reached, or refuses.
        BackendMissing: the library that knows the way is not installed.
        IntegrityError: what lies there is damaged.
    """
    match place.kind:
        case "dir":
            return folder_source(Path(place.where))
        case "hf":
            from exporter.remote.hub_source import hub_source

            return hub_source(place)
        case "oci":
            from exporter.remote.oci import oci_source

            return oci_source(place)
        case "s3":
            from exporter.remote.bucket import bucket_source

            return bucket_source(place)


def write_chunks(chunks: Iterable[bytes], to: Path, limit_bytes: int) -> None:
    """Write a stream to a new file, and stop when it is longer than it was said to be.

    Raises:
        IntegrityError: it is longer.
    """
    n_bytes = 0
    with to.open("xb") as file:
        for chunk in chunks:
            n_bytes += len(chunk)
            if n_bytes > limit_bytes:
                raise IntegrityError(f"{to.name}: longer than the {limit_bytes} bytes it was said to have; nothing was kept")
            file.write(chunk)


def needed(manifest: Manifest, variant: str | None) -> tuple[str, ...]:
    """Name the files that running one variant, by default the first, needs beside the manifest.

    Raises:
        RecipeError: the artifact has none of that kind.
    """
    entry = manifest.variant(variant) if variant else manifest.variants[0]
    return (TOKENIZER, *entry.files)
