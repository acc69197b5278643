"""Fetch a published artifact: only files its manifest names, each with the size and hash named there.

A manifest is untrusted input. So its own size is bounded before it is read, each file is held against the
manifest as the file comes, and the folder appears only when all of it was found right.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.artifact.files import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    MAX_TEXT_BYTES,
    PLANS,
    check_reports,
    sha256_file,
)
from exporter.artifact.manifest import check_files, read_manifest
from exporter.artifact.plans import read_plans
from exporter.artifact.staging import staged
from exporter.cache import Cache
from exporter.errors import BackendError, IntegrityError, RecipeError
from exporter.machine import this_cpu
from exporter.remote.address import parse_place
from exporter.remote.open import open_source
from exporter.remote.source import check_size, is_sidecar, needed

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.artifact.manifest import Manifest
    from exporter.remote.address import Place
    from exporter.remote.source import ArtifactSource


def fetch_artifact(
    address: str, into: Path, *, replace: bool = False, check: Callable[[Path], object] | None = None
) -> tuple[Path, str]:
    """Fetch a published artifact to a folder, which appears once every file is as the manifest names it.

    Args:
        address: a folder, `hf://org/name[@branch]`, `oci://registry/name:tag` or `s3://bucket/prefix`.
        into: the folder to become the copy.
        replace: whether an artifact at `into` may be replaced.
        check: called with the whole copy before it appears, for example to verify a signature. Where `check`
            raises, the copy does not appear.

    Returns:
        The folder, and the version of its content: a commit, a digest.

    Raises:
        RecipeError: no artifact is at this address, or `into` stands in the way.
        IntegrityError: a file is not the one its manifest names, or is too large, or the manifest names files
            outside the folder.
        BackendError: the place cannot be reached or refuses, or the disk does.
        BackendMissing: the place's client library is not installed.
    """
    source = _opened(parse_place(address))
    with staged(into, replace=replace) as scratch:
        manifest = _copy_manifest(source, scratch, address)
        _copy_files(source, manifest, tuple(file.path for file in manifest.files), scratch)
        check_reports(((name, file.size_bytes) for name, file in source.files.items()), address)
        for name in sorted(filter(is_sidecar, source.files)):
            if not (scratch / name).exists():
                _copy(source, name, scratch, MAX_TEXT_BYTES)
        check_files(manifest, scratch)
        read_plans(scratch, manifest)
        if check:
            check(scratch)
    return into, source.version


def cached_artifact(address: str, variant: str | None = None, *, cache: Cache | None = None) -> Path:
    """Return a folder with what running one variant needs: manifest, tokenizer and the variant's files.

    The folder lies in the cache, or is the folder that the address names. What is at the address is looked up
    each time, and fetched when it has changed.

    Args:
        address: as in `fetch_artifact`.
        variant: as `Reranker.load` takes it.
        cache: where the folder is kept, by default the user's cache.

    Raises:
        RecipeError, IntegrityError, BackendError, BackendMissing: see `fetch_artifact`; or the artifact has
            no such variant.
    """
    place = parse_place(address)
    if place.kind == "dir":
        return Path(place.where)
    if place.kind == "hf":  # has a cache of its own, which also serves without a network
        from exporter.remote.hub import cached_from_hub

        return cached_from_hub(place.where, place.version, variant, instead="try again where it can be")
    source = _opened(place)

    def make(scratch: Path) -> None:
        # One folder further down: the cache keeps its own list of files where the manifest would lie.
        folder = scratch / "artifact"
        folder.mkdir()
        manifest = _copy_manifest(source, folder, address)
        if PLANS in source.files:
            _copy(source, PLANS, folder, MAX_MANIFEST_BYTES)
        _copy_files(source, manifest, needed(manifest, folder, variant), folder)

    key = {"place": place.text, "version": source.version, "variant": variant, "cpu": str(this_cpu())}
    found, _ = (cache or Cache.of_user()).get("fetched", key, make)
    return found / "artifact"


def read_published(source: ArtifactSource, address: str, scratch: Path) -> Manifest:
    """Return the manifest of what is published, read by way of the empty folder `scratch`.

    Raises:
        RecipeError: the source has no manifest.
        IntegrityError: the manifest was changed or is too large.
        BackendError: the manifest cannot be fetched.
    """
    return _copy_manifest(source, scratch, address)


def _opened(place: Place) -> ArtifactSource:
    source = open_source(place)
    if source is None:
        raise RecipeError(f"{place.text}: nothing is there; check the address with whoever published it")
    return source


def _copy_manifest(source: ArtifactSource, folder: Path, address: str) -> Manifest:
    if MANIFEST not in source.files:
        raise RecipeError(f"{address}: no artifact, it has no {MANIFEST}")
    _copy(source, MANIFEST, folder, MAX_MANIFEST_BYTES)
    return read_manifest(folder)


def _copy_files(source: ArtifactSource, manifest: Manifest, wanted: tuple[str, ...], folder: Path) -> None:
    """Copy files, and raise unless each has the size and the hash that the manifest names."""
    entries = {file.path: file for file in manifest.files}
    if missing := [path for path in wanted if path not in entries or path not in source.files]:
        raise IntegrityError(
            f"{', '.join(missing)}: not there, or not in the manifest; tell who published it"
        )

    n_bytes, n_free = sum(entries[path].size_bytes for path in wanted), shutil.disk_usage(folder).free
    if n_bytes > n_free:
        raise BackendError(
            f"{folder.parent}: {n_bytes / 1e9:.1f} GB are to be fetched and {n_free / 1e9:.1f} GB are free"
        )

    for path in wanted:
        _copy(source, path, folder, entries[path].size_bytes)
        if sha256_file(folder / path) != entries[path].sha256:
            raise IntegrityError(f"{path}: not the file that the manifest names; tell who published it")


def _copy(source: ArtifactSource, path: str, folder: Path, limit_bytes: int) -> None:
    """Copy one file of at most `limit_bytes` to a path that does not exist yet."""
    listed = source.files[path]
    check_size(path, listed.size_bytes, limit_bytes)
    try:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        source.copy(path, folder / path, listed.size_bytes)
    except (FileExistsError, NotADirectoryError):
        raise IntegrityError(
            f"{path}: named twice, or as a file and as a folder; it was not fetched"
        ) from None
    if listed.sha256 and sha256_file(folder / path) != listed.sha256:
        raise IntegrityError(f"{path}: what came is not what was sent; fetch it again")
