"""Artifacts in a bucket, through s3fs: each version under its own prefix, and a pointer to the current one.

    prefix/artifact.json                    the pointer: files, sizes and hashes of the current version
    prefix/.versions/SHA256/manifest.json   and the rest; SHA256 is over the list in the pointer

A bucket knows no rename, but puts one object whole or not at all. A reader that reads the pointer once, and
then the files of its version, gets one artifact, whatever is published meanwhile. Older versions stay for
readers that are not done; an expiry rule may clear them.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, ValidationError

from exporter.artifact.files import MAX_FILES, FileEntry, from_python, read_sealed
from exporter.errors import BackendError, IntegrityError, RecipeError
from exporter.packages import missing
from exporter.remote.patience import Patience
from exporter.remote.source import RemoteFile, check_size, write_chunks
from exporter.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from s3fs import S3FileSystem

    from exporter.remote.address import Place


POINTER = "artifact.json"
VERSIONS = ".versions"
POINTER_SCHEMA = 1
_MAX_POINTER_BYTES = 4 << 20
_CHUNK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Pointer:
    """The content of the pointer; `version` is the hash over `files`."""

    schema: int
    name: str
    root: str  # of the artifact's manifest, for people
    version: str
    files: Annotated[tuple[FileEntry, ...], Field(max_length=MAX_FILES)]


def version_of(files: tuple[FileEntry, ...]) -> str:
    """Return the hash over a list of files, which is sorted by path."""
    return hashlib.sha256(repr([(f.path, f.size_bytes, f.sha256) for f in files]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class BucketSource:
    """One version in a bucket."""

    bucket: S3FileSystem
    prefix: str
    pointer: Pointer
    files: dict[str, RemoteFile]
    place: Place
    patience: Patience

    @property
    def version(self) -> str:
        """Return the hash over all files."""
        return self.pointer.version

    def same(self, entry: FileEntry, file: Path) -> bool:
        """Return whether the place holds the content of a local file at the path of its `entry`."""
        del file
        return self.files.get(entry.path) == RemoteFile(entry.size_bytes, entry.sha256)

    def copy(self, path: str, to: Path, limit_bytes: int) -> None:
        """Write a file of the place to the new local file `to`."""
        write_chunks(self._chunks(path, limit_bytes), to, limit_bytes)

    def _chunks(self, path: str, limit_bytes: int) -> Iterator[bytes]:
        key, wait = version_key(self.prefix, self.version, path), self.patience.wait_for
        with bucket_errors(self.place):
            opened = wait(lambda: self.bucket.open(key, "rb", block_size=_CHUNK_BYTES), self.place.text)
            with opened as there:
                check_size(path, there.size, limit_bytes)  # opening asked for it
                while chunk := wait(lambda: there.read(_CHUNK_BYTES), self.place.text, _CHUNK_BYTES):
                    yield chunk


def version_key(prefix: str, version: str, path: str) -> str:
    """Return the key of the object that holds one file of one version."""
    return f"{prefix}/{VERSIONS}/{version}/{path}"


def open_bucket(place: Place) -> tuple[S3FileSystem, str]:
    """Return the store's file system, which remembers no listings, and the prefix in it.

    Raises:
        BackendMissing: s3fs is not installed.
    """
    try:
        from s3fs import S3FileSystem
    except ImportError as error:
        raise missing(error, what=place.text) from error
    return S3FileSystem(use_listings_cache=False, skip_instance_cache=True), place.where


def bucket_source(place: Place, patience: Patience | None = None) -> BucketSource | None:
    """Return the current version at a prefix as a source; None if the prefix has no pointer.

    Args:
        place: of the kind `s3`.
        patience: how long the store is waited for.

    Raises:
        RecipeError: the bucket does not exist, or the credentials found may not read it.
        BackendError: the store cannot be reached.
        BackendMissing: s3fs is not installed.
        IntegrityError: the pointer is damaged.
    """
    bucket, prefix = open_bucket(place)
    patience = patience or Patience()
    with bucket_errors(place):
        raw = patience.wait_for(lambda: _pointer(bucket, prefix, place), place.text, _MAX_POINTER_BYTES)
    if raw is None:
        return None

    with Scratch("remote") as scratch:
        (scratch / POINTER).write_bytes(raw)
        try:
            pointer = from_python(Pointer, read_sealed(scratch / POINTER))
        except (IntegrityError, ValidationError):
            raise IntegrityError(
                f"{place.text}/{POINTER}: changed since it was written; publish again with --replace"
            ) from None

    if pointer.schema != POINTER_SCHEMA or pointer.version != version_of(pointer.files):
        raise IntegrityError(
            f"{place.text}/{POINTER}: schema {pointer.schema}, this exporter reads {POINTER_SCHEMA}"
        )
    files = {file.path: RemoteFile(file.size_bytes, file.sha256) for file in pointer.files}
    return BucketSource(bucket, prefix, pointer, files, place, patience)


def _pointer(bucket: S3FileSystem, prefix: str, place: Place) -> bytes | None:
    """Return the bytes of the pointer at a prefix; None if there is none."""
    try:
        size = bucket.info(f"{prefix}/{POINTER}")["size"]
    except FileNotFoundError:
        return None
    if size > _MAX_POINTER_BYTES:
        raise IntegrityError(f"{place.text}/{POINTER}: {size} bytes, which no pointer has")
    return bytes(bucket.cat_file(f"{prefix}/{POINTER}", start=0, end=_MAX_POINTER_BYTES))


@contextmanager
def bucket_errors(place: Place) -> Iterator[None]:
    """Raise the store's errors as ours, one line each; the store's own texts may quote what was sent."""
    from botocore.exceptions import BotoCoreError, FlexibleChecksumError, NoCredentialsError

    try:
        yield
    except PermissionError:
        raise RecipeError(
            f"{place.text}: the credentials found may not do this; set AWS_ACCESS_KEY_ID or AWS_PROFILE"
        ) from None
    except FlexibleChecksumError:
        raise IntegrityError(f"{place.text}: what came is not what was sent; fetch it again") from None
    except NoCredentialsError:
        raise RecipeError(
            f"{place.text}: no credentials found; set AWS_ACCESS_KEY_ID or AWS_PROFILE"
        ) from None
    except FileNotFoundError:
        raise RecipeError(
            f"{place.text}: there is no such bucket, or an object of this version is gone"
        ) from None
    except (BotoCoreError, OSError) as error:
        reason = type(error).__name__
        raise BackendError(
            f"{place.text}: the store cannot be reached or failed ({reason}); run the same again"
        ) from error
