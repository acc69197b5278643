"""What lies at a place: which files, how large, and their bytes. One class per kind of place.

A source is pinned when it is opened: to a commit, a digest, a version. Whatever is published at the place
meanwhile, a reader of the source gets one artifact, whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from exporter.artifact.choice import choose_variant
from exporter.artifact.files import (
    ATTESTATION,
    PLANS,
    REPORT,
    REPORT_HTML,
    REPORT_MD,
    REPORT_XML,
    SIGNATURE,
    TOKENIZER,
    is_of_a_machine,
)
from exporter.artifact.names import shown
from exporter.artifact.plans import read_plans
from exporter.errors import IntegrityError
from exporter.machine import this_cpu

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from exporter.artifact.files import FileEntry
    from exporter.artifact.manifest import Manifest


_CHUNK_BYTES = 1 << 20
# What lies beside the manifest and not in it, because it is sealed itself or speaks of the manifest.
# Three of them are a report as people read it: made of report.json, and of nothing else.
FORMS = (REPORT_MD, REPORT_HTML, REPORT_XML)
_SIDECARS = frozenset((PLANS, REPORT, *FORMS, ATTESTATION, SIGNATURE))


def is_sidecar(path: str) -> bool:
    """Return whether a file lies beside the manifest and not in it, which is called as one of ours is."""
    return path in _SIDECARS or is_of_a_machine(path)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as its place lists it; `sha256` is None where the place does not know the hash."""

    size_bytes: int
    sha256: str | None


class ArtifactSource(Protocol):
    """What was published at a place, as it was at one moment."""

    @property
    def version(self) -> str:
        """Return what names this content for good: other content has another version."""
        ...

    @property
    def files(self) -> Mapping[str, RemoteFile]:
        """Return the files at the place by path, relative with forward slashes."""
        ...

    def same(self, entry: FileEntry, file: Path) -> bool:
        """Return whether the place holds the content of a local file at the path of its `entry`."""
        ...

    def copy(self, path: str, to: Path, limit_bytes: int) -> None:
        """Write a file of the place to the new local file `to`; stop after `limit_bytes`.

        Raises:
            IntegrityError: the file is longer than `limit_bytes`.
            BackendError: the file cannot be fetched or written.
        """
        ...


def write_chunks(chunks: Iterable[bytes], to: Path, limit_bytes: int) -> None:
    """Write a stream to a new file, and stop when the stream is longer than its place listed.

    Raises:
        IntegrityError: the stream has more than `limit_bytes`.
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


def copy_file(there: Path, to: Path, limit_bytes: int) -> None:
    """Copy a file of this machine to a new one, and stop when it is longer than its place listed.

    Raises:
        IntegrityError: it has more than `limit_bytes`.
    """

    def read() -> Iterator[bytes]:
        with there.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk

    write_chunks(read(), to, limit_bytes)


def check_size(path: str, n_bytes: int, limit_bytes: int) -> None:
    """Raise where a file of a place is larger than it may be, before any of it is fetched.

    Raises:
        IntegrityError: it is.
    """
    if n_bytes > limit_bytes:
        raise IntegrityError(
            f"{shown(path)}: {n_bytes} bytes, {limit_bytes} expected at most; it was not fetched"
        )


def needed(manifest: Manifest, folder: Path, variant: str | None) -> tuple[str, ...]:
    """Return the files that running one variant needs beside the manifest.

    Args:
        manifest: the artifact's.
        folder: holds its plans, if it has any.
        variant: as `Reranker.load` takes it.

    Raises:
        RecipeError: the artifact has no such variant.
        IntegrityError: its plans are not what was written.
        BackendError: it has none that is safe on this CPU.
    """
    entry = choose_variant(manifest, read_plans(folder, manifest), this_cpu(), variant).entry
    return (TOKENIZER, *entry.files)
