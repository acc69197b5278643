"""What lies at a place: which files, how large, and their bytes. One class per kind of place.

A source is pinned when it is opened: to a commit, a digest, a version. Whatever is published there meanwhile, its reader gets one
artifact, whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from exporter.artifact.files import ATTESTATION, PLANS, REPORT, REPORT_HTML, REPORT_MD, REPORT_XML, SIGNATURE
from exporter.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from exporter.artifact.files import FileEntry
    from exporter.artifact.manifest import Manifest


TOKENIZER = "tokenizer.json"
# What lies beside the manifest and not in it, because it is sealed itself or speaks of the manifest.
SIDECARS = (PLANS, REPORT, REPORT_MD, REPORT_HTML, REPORT_XML, ATTESTATION, SIGNATURE)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file that a source says it has; `sha256` None where the place does not know it."""

    size_bytes: int
    sha256: str | None


class ArtifactSource(Protocol):
    """Something published, as it was at one moment."""

    @property
    def version(self) -> str:
        """Name the content for good: another version is another text."""
        ...

    @property
    def files(self) -> Mapping[str, RemoteFile]:
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
                raise IntegrityError(
                    f"{to.name}: longer than the {limit_bytes} bytes it was said to have; nothing was kept"
                )
            file.write(chunk)


def needed(manifest: Manifest, variant: str | None) -> tuple[str, ...]:
    """Name the files that running one variant, by default the first, needs beside the manifest.

    Raises:
        RecipeError: the artifact has none of that kind.
    """
    entry = manifest.variant(variant) if variant else manifest.variants[0]
    return (TOKENIZER, *entry.files)
