"""What a model's source says about its licence; nothing is guessed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.artifact.files import CARD
from exporter.artifact.manifest import LOCAL_MODEL
from exporter.errors import IntegrityError, RecipeError
from exporter.export.source import model_digest
from exporter.packages import missing
from exporter.remote.hub import fetch_snapshot

if TYPE_CHECKING:
    from exporter.artifact.manifest import SourceEntry

# How licences are named in a card. Source: https://huggingface.co/docs/hub/repositories-licenses
_LICENCE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}")
_LICENCE_FILE = re.compile(r"(LICEN[CS]E|COPYING|NOTICE)([-.].*)?", re.IGNORECASE)
_LICENCE_FILES = ("LICENSE*", "LICENCE*", "COPYING*", "NOTICE*", "license*")
_MAX_LICENCE_BYTES = 1 << 20
_MAX_FETCHED_BYTES = 16 << 20
_MAX_LINK = 500
# What a page may link to: another page, or a file beside it; no script, and nobody's own machine.
_LINK = re.compile(r"https?://[^\s<>\"'`\\]+|(?!\w+:)[\w.-][\w./-]*")


@dataclass(frozen=True, slots=True)
class Licence:
    """What a model's source says about its licence.

    `id`, `name` and `link` are `license`, `license_name` and `license_link` of a card; None where the source
    says nothing. `texts` are its licence files, which are published too. `where` names the file that says so,
    for people.
    """

    id: str | None = None
    name: str | None = None
    link: str | None = None
    texts: tuple[Path, ...] = ()
    where: str = ""


def licence_of(source: SourceEntry, artifact: Path) -> Licence:
    """Return the licence of an artifact's source: the sample's backbone, a folder, or a Hub repository.

    A source that was not named when the artifact was published has its licence in the artifact itself.

    Raises:
        RecipeError: the folder or repository is gone.
        IntegrityError: the folder is not the model that the artifact was built from.
        BackendError: the Hub cannot be reached.
        BackendMissing: the sample's backbone, or huggingface_hub, is not installed.
    """
    if source.source == "sample":
        from exporter.sample.model import backbone_dir

        return find_licence(backbone_dir())
    if source.source == LOCAL_MODEL:
        return find_licence(artifact)
    if Path(source.source).is_absolute():
        return find_licence(_recorded_folder(source))
    instead = "publish where the model was fetched before"
    folder, _ = fetch_snapshot(
        source.source,
        source.revision,
        [CARD, *_LICENCE_FILES],
        instead=instead,
        most_bytes=_MAX_FETCHED_BYTES,
    )
    return find_licence(folder)


def _recorded_folder(source: SourceEntry) -> Path:
    """Return the folder a manifest names as its model's, after checking that it holds that model.

    Who wrote the manifest may have named any folder, and what stands in its licence files is published.
    """
    folder = Path(source.source)
    if not folder.is_dir():
        raise RecipeError(f"{folder}: the model's folder is gone, and with it what it says about its licence")
    try:
        found = model_digest(folder)
    except RecipeError:
        found = ""
    if found != source.digest:
        raise IntegrityError(
            f"{folder}: not the model that the artifact was built from, so nothing of it is published; "
            "build the artifact again with --replace"
        )
    return folder


def find_licence(folder: Path) -> Licence:
    """Return the licence that a model folder states in its README.md's front matter, or in a licence file.

    A link out of the folder is not followed: an untrusted folder cannot have a file of this machine
        published.

    Raises:
        BackendMissing: huggingface_hub is not installed.
    """
    texts = tuple(
        path
        for path in sorted(folder.iterdir())
        if _LICENCE_FILE.fullmatch(path.name) and _is_own(path, folder)
    )
    said = _front_matter(folder / CARD) if _is_own(folder / CARD, folder) else {}
    stated = said.get("license")
    if isinstance(stated, str) and _LICENCE_ID.fullmatch(stated):
        link = _plain(said.get("license_link"))
        is_link = link is not None and _LINK.fullmatch(link)
        return Licence(
            stated, _plain(said.get("license_name")), link if is_link else None, texts, f"its {CARD}"
        )
    if texts:
        return Licence("other", "license-of-the-source", texts[0].name, texts, f"its {texts[0].name}")
    return Licence()


def _is_own(path: Path, folder: Path) -> bool:
    """Return whether a small file lies in the folder or, in the Hub's cache, among its repository's blobs."""
    try:
        real = path.resolve(strict=True)
        if not real.is_file() or real.stat().st_size > _MAX_LICENCE_BYTES:
            return False
    except (OSError, RuntimeError):
        return False
    folder = folder.resolve()
    blobs = folder.parent.parent / "blobs"
    return real.is_relative_to(folder) or (folder.parent.name == "snapshots" and real.is_relative_to(blobs))


def _front_matter(path: Path) -> dict[str, object]:
    try:
        import yaml
        from huggingface_hub import metadata_load
    except ImportError as error:
        raise missing(error, what=CARD) from error
    try:
        found = metadata_load(path)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _plain(value: object) -> str | None:
    return value if isinstance(value, str) and value.isprintable() and 0 < len(value) <= _MAX_LINK else None
