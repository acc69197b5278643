"""How a published folder differs from what a place holds, and whether the folder may replace it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from exporter.artifact.files import MANIFEST, SIGNATURE, FileEntry, sha256_file
from exporter.artifact.manifest import Manifest, check_files, read_manifest
from exporter.errors import IntegrityError, RecipeError
from exporter.remote.fetch import read_published
from exporter.remote.open import open_source
from exporter.remote.source import RemoteFile, is_sidecar
from exporter.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from exporter.remote.address import Place
    from exporter.remote.source import ArtifactSource


class Holds(Enum):
    """What a place holds before a delivery."""

    NOTHING = "nothing, or only what cannot be opened and is to be replaced"
    OTHER_FILES = "files without a manifest, or with a damaged one that is to be replaced"
    ARTIFACT = "an artifact"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A folder to be sent, checked against its manifest; `files` are all its files, sorted by path."""

    folder: Path
    manifest: Manifest
    files: tuple[FileEntry, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """How what a place holds differs from a delivery.

    `changed` are the files to be sent. `version` and `there` (files by path) are those of the place, empty
    where it holds nothing. `name` and `root` are those of the artifact there, `own` the paths that belong to
    it, and `gone` those of `own` that the delivery lacks; all are empty unless the place holds an artifact.
    """

    holds: Holds
    changed: tuple[FileEntry, ...]
    version: str = ""
    there: Mapping[str, RemoteFile] = field(default_factory=dict)
    name: str = ""
    root: str = ""
    own: frozenset[str] = frozenset()
    gone: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Return whether the place holds the delivery already, as it is."""
        return self.holds is not Holds.NOTHING and not self.changed and not self.gone


@dataclass(frozen=True, slots=True)
class Sent:
    """What a send did.

    `reference` names for good what is at the place now, or the pull request that was opened. `n_files` counts
    the files sent, None where the place held all of them already; `n_in_all` counts the artifact's files.
    `lost_signature` is whether what was there before was signed, and this is not.
    """

    place: str
    reference: str
    n_files: int | None
    n_in_all: int
    lost_signature: bool = False

    def __str__(self) -> str:
        """Return one line for people."""
        if self.n_files is None:
            return f"{self.place} already holds this artifact, nothing was sent"
        there = f", {self.n_in_all - self.n_files} were there" if self.n_files < self.n_in_all else ""
        return f"{self.place}: {self.n_files} files sent{there}"


def delivery(folder: Path) -> Delivery:
    """Return a folder as a delivery, with every file checked against the manifest and hashed.

    Raises:
        RecipeError: the folder is no artifact.
        IntegrityError: the folder is not what its manifest says.
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
    """Return how what a place holds differs from a delivery.

    Args:
        wanted: the delivery.
        place: where it is to go.
        replace: whether what is damaged there may be replaced.

    Raises:
        RecipeError: what the place holds is damaged and may not be replaced; or its repository or bucket is
            missing.
        BackendError, BackendMissing: see `exporter.remote.open.open_source`.
    """
    there: ArtifactSource | None = None
    manifest: Manifest | None = None
    try:
        there = open_source(place)
        if there and MANIFEST in there.files:
            manifest = _manifest_at(wanted, there, place)
    except IntegrityError as error:
        if not replace:
            raise RecipeError(
                f"what is there is damaged: {error}; pass --replace to publish over it"
            ) from None
    if there is None:
        return Difference(Holds.NOTHING, wanted.files)

    changed = tuple(file for file in wanted.files if not there.same(file, wanted.folder / file.path))
    if manifest is None:
        return Difference(Holds.OTHER_FILES, changed, there.version, there.files)

    beside = filter(is_sidecar, there.files)
    own = frozenset({MANIFEST, *beside, *(file.path for file in manifest.files)})
    gone = sorted((own & there.files.keys()) - {file.path for file in wanted.files})
    return Difference(
        Holds.ARTIFACT, changed, there.version, there.files, manifest.name, manifest.root, own, tuple(gone)
    )


def check_overwrite(wanted: Delivery, found: Difference, place: Place) -> None:
    """Raise where a delivery would lose another artifact, a signature, or files of other people.

    Another artifact is one with other files in its manifest. The same files with another report, card or
    signature are the same artifact.

    Raises:
        RecipeError: the place holds something that would be lost.
    """
    match found.holds:
        case Holds.NOTHING:
            return
        case Holds.OTHER_FILES if place.kind == "dir":
            return  # what may be replaced there, the folder's own writer decides file by file
        case Holds.OTHER_FILES:
            if taken := [file.path for file in found.changed if file.path in found.there]:
                raise RecipeError(
                    f"{place.text}: no artifact, and has a {taken[0]} of its own; "
                    "pass --replace to overwrite it"
                )
        case Holds.ARTIFACT if found.root != wanted.manifest.root:
            raise RecipeError(
                f"{place.text} holds another artifact, {found.name} with root {found.root[:12]}"
                f"{', signed, which this is not' if SIGNATURE in found.gone else ''}; "
                "pass --replace to publish over it"
            )
        case Holds.ARTIFACT if SIGNATURE in found.gone:
            raise RecipeError(
                f"{place.text} is signed, and this is not; "
                "sign it too, with --sign-key FILE, or pass --replace"
            )
        case Holds.ARTIFACT:
            return  # files of others stay on the Hub, are refused in a folder, and are none elsewhere


def _manifest_at(wanted: Delivery, there: ArtifactSource, place: Place) -> Manifest:
    own = next(file for file in wanted.files if file.path == MANIFEST)
    if there.same(own, wanted.folder / MANIFEST):
        return wanted.manifest
    with Scratch("remote") as scratch:
        return read_published(there, place.text, scratch)
