"""What a published folder and a place have in common, and whether the one may be put over the other."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.artifact.files import MANIFEST, SIGNATURE, FileEntry, sha256_file
from exporter.artifact.manifest import check_files, read_manifest
from exporter.errors import IntegrityError, RecipeError
from exporter.remote.fetch import read_published
from exporter.remote.open import open_source
from exporter.remote.source import SIDECARS

if TYPE_CHECKING:
    from exporter.artifact.manifest import Manifest
    from exporter.remote.address import Place
    from exporter.remote.source import ArtifactSource


@dataclass(frozen=True, slots=True)
class Delivery:
    """A folder to be sent, checked, with all its files; `files` are sorted by path."""

    folder: Path
    manifest: Manifest
    files: tuple[FileEntry, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """How what is at a place differs from a delivery.

    `there` is None where nothing is, and `found` the manifest there, None where there is none or it is damaged. `changed` are the
    files to be sent, `gone` those of an artifact that is there and that the delivery does not have.
    """

    there: ArtifactSource | None
    found: Manifest | None
    changed: tuple[FileEntry, ...]
    gone: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether the delivery is there already, as it is."""
        return self.there is not None and not self.changed and not self.gone


@dataclass(frozen=True, slots=True)
class Sent:
    """What a send did.

    `reference` names for good what is at the place now, or the pull request that was opened; `n_files` is None where all was
    there already, `n_in_all` how many files the artifact has.
    """

    place: str
    reference: str
    n_files: int | None
    n_in_all: int

    def __str__(self) -> str:
        """Say it in a line."""
        if self.n_files is None:
            return f"{self.place} already holds this artifact, nothing was sent"
        there = f", {self.n_in_all - self.n_files} were there" if self.n_files < self.n_in_all else ""
        return f"{self.place}: {self.n_files} files sent{there}"


def delivery(folder: Path) -> Delivery:
    """Take a folder for sending, and check it.

    Raises:
        RecipeError: it is no artifact.
        IntegrityError: it is not what its manifest says.
    """
    manifest = read_manifest(folder)
    check_files(manifest, folder)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = (
        FileEntry(path.relative_to(folder).as_posix(), path.stat().st_size, sha256_file(path))
        for path in paths
    )
    return Delivery(folder, manifest, tuple(sorted(files)))


def difference(wanted: Delivery, place: Place, *, replace: bool) -> Difference:
    """Look what is at a place.

    Raises:
        RecipeError: what is there is damaged and not to be replaced; or there is no such repository or bucket.
        BackendError, BackendMissing: see `exporter.remote.source.open_source`.
    """
    try:
        there = open_source(place)
        found = None if there is None else _manifest_there(wanted, there, place)
    except IntegrityError as error:
        if not replace:
            raise RecipeError(
                f"what is there is damaged: {error}; pass --replace to publish over it"
            ) from None
        return Difference(None, None, wanted.files, ())
    if there is None:
        return Difference(None, None, wanted.files, ())
    changed = tuple(file for file in wanted.files if not there.same(file, wanted.folder / file.path))
    ours = _own_files(found) if found else set()
    gone = tuple(sorted((ours & there.files.keys()) - {file.path for file in wanted.files}))
    return Difference(there, found, changed, gone)


def check_overwrite(wanted: Delivery, found: Difference, place: Place) -> None:
    """Stop if something else is at the place: another artifact, a signature, or files of somebody else, that would be lost.

    Another artifact is one with other files in its manifest; the same files with another report, card or signature are not.

    Raises:
        RecipeError: so it is.
    """
    if found.there is None:
        return
    if found.found is None:
        if taken := [file.path for file in found.changed if file.path in found.there.files]:
            raise RecipeError(
                f"{place.text}: no artifact, and has a {taken[0]} of its own; pass --replace to overwrite it"
            )
    elif found.found.root != wanted.manifest.root:
        name, root = found.found.name, found.found.root[:12]
        raise RecipeError(
            f"{place.text} holds another artifact, {name} with root {root}; pass --replace to publish over it"
        )
    elif SIGNATURE in found.gone:
        raise RecipeError(
            f"{place.text} is signed, and this is not; sign it too, with --sign-key FILE, or pass --replace"
        )
    elif place.kind == "dir" and (others := found.there.files.keys() - _own_files(found.found)):
        raise RecipeError(
            f"{place.text} has a {min(others)} of its own; move it away, or pass --replace to lose it"
        )


def _own_files(manifest: Manifest) -> set[str]:
    """Name what belongs to a published artifact."""
    return {MANIFEST, *SIDECARS, *(file.path for file in manifest.files)}


def _manifest_there(wanted: Delivery, there: ArtifactSource, place: Place) -> Manifest | None:
    if MANIFEST not in there.files:
        return None
    own = next(file for file in wanted.files if file.path == MANIFEST)
    if there.same(own, wanted.folder / MANIFEST):
        return wanted.manifest
    with tempfile.TemporaryDirectory() as scratch:
        return read_published(there, place.text, Path(scratch))
