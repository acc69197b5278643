"""Where a job's input and output lie: folders and files of this machine, or prefixes of a bucket.

Whatever is written takes its name only once all of it is there, and stays over a power cut: a reader finds a
part whole or not at all.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from exporter.artifact.files import sha256_file
from exporter.artifact.place import check_place, check_text
from exporter.errors import BackendError, RecipeError
from exporter.locks import name_lock
from exporter.remote import is_remote, parse_place
from exporter.remote.bucket import bucket_errors, open_bucket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from s3fs import S3FileSystem

    from exporter.remote import Place

FORMATS = (".jsonl", ".tsv", ".csv", ".jsonl.gz", ".tsv.gz", ".csv.gz", ".parquet")
_LOCK = ".lock"
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")
_CHUNK_BYTES = 8 << 20


class Output(Protocol):
    """A folder that holds what a job writes."""

    text: str

    def prepare(self) -> None:
        """Make the folder, and check that it can be written; remove what a killed run left half-written."""
        ...

    def alone(self) -> AbstractContextManager[None]:
        """Hold the folder while the block runs, where there are locks."""
        ...

    def names(self) -> list[str]:
        """Return the files in it, sorted."""
        ...

    def read(self, name: str) -> bytes:
        """Return a file's content."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all, in the place of one that is there."""
        ...

    def n_free(self) -> int | None:
        """Return the bytes that can still be written; None where nobody knows."""
        ...


class Folder:
    """A folder of this machine."""

    def __init__(self, text: str) -> None:
        self.text, self._path = text, Path(text)

    def prepare(self) -> None:
        """See `Output`.

        Raises:
            RecipeError: a file stands there, or on the way.
            BackendError: the disk refuses.
        """
        check_text(self._path)
        if not self._path.is_dir():
            if os.path.lexists(self._path):
                raise RecipeError(f"{self.text}: no folder; the output is one, of a file for each part")
            check_place(self._path)
        with _disk(self.text):
            self._path.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """See `Output`.

        Raises:
            RecipeError: another process writes there.
        """
        with name_lock(self._path / _LOCK, wait=False) as held:
            if held is False:
                raise RecipeError(
                    f"{self.text}: another `exporter score` writes there; wait for it, or give another folder"
                )
            self._clear()
            try:
                yield
            finally:
                self._clear()

    def _clear(self) -> None:
        for path in self._path.iterdir():
            if _TEMPORARY.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def names(self) -> list[str]:
        """See `Output`."""
        with _disk(self.text):
            return sorted(path.name for path in self._path.iterdir())

    def read(self, name: str) -> bytes:
        """See `Output`."""
        with _disk(f"{self.text}/{name}"):
            return (self._path / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """See `Output`.

        Raises:
            BackendError: the disk refuses, or is full.
        """
        path = self._path / f".{name}.{uuid.uuid4().hex}.tmp"
        with _disk(f"{self.text}/{name}"):
            try:
                with path.open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                path.replace(self._path / name)
                _sync_folder(self._path)
            except BaseException:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                raise

    def n_free(self) -> int | None:
        """See `Output`."""
        return shutil.disk_usage(self._path).free


def _sync_folder(path: Path) -> None:
    if os.name != "posix":
        return
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:  # a file system that cannot
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(fd)


@contextmanager
def _disk(text: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full; make room and run the same again, " if full else f"{error.strerror}; "
        raise BackendError(f"{text}: cannot be written: {what}what was finished is kept") from error


class Bucket:
    """A prefix of a bucket. A store puts an object whole or not at all, and has no locks."""

    def __init__(self, text: str) -> None:
        self.text = text.rstrip("/")
        self._place = parse_place(text)
        self._store, self._prefix = open_bucket(self._place)

    def prepare(self) -> None:
        """See `Output`; a prefix is there once something lies below it."""
        self.names()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """See `Output`; two at a time would write the same bytes."""
        yield

    def names(self) -> list[str]:
        """See `Output`."""
        with bucket_errors(self._place):
            found = self._store.find(self._prefix, maxdepth=1)
        return sorted(key.rpartition("/")[2] for key in found)

    def read(self, name: str) -> bytes:
        """See `Output`."""
        with bucket_errors(self._place):
            return bytes(self._store.cat_file(f"{self._prefix}/{name}"))

    def write(self, name: str, content: bytes) -> None:
        """See `Output`."""
        with bucket_errors(self._place):
            self._store.pipe_file(f"{self._prefix}/{name}", content)

    def n_free(self) -> int | None:
        """See `Output`."""
        return None


def output_at(text: str) -> Folder | Bucket:
    """Return the output that an address means.

    Raises:
        RecipeError: it is no folder and no prefix of a bucket.
        BackendMissing: s3fs is not installed.
    """
    if not is_remote(text):
        return Folder(text)
    _bucket_place(text)
    return Bucket(text)


def _bucket_place(text: str) -> Place:
    place = parse_place(text)
    if place.kind != "s3":
        raise RecipeError(f"{text}: rows are read and written in folders and at s3://bucket/prefix")
    return place


def found_files(texts: list[str]) -> list[tuple[str, str]]:
    """Return the name and the address of every input file: files as given, folders' sorted by name.

    What begins with `.` or `_` in a folder is passed over, as is what is no file of rows.

    Raises:
        RecipeError: there is nothing at an address, or nothing with rows.
    """
    found = [pair for text in texts for pair in (_in_bucket(text) if is_remote(text) else _here(text))]
    names = [name for name, _ in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise RecipeError(f"{min(twice)}: two files of the input have this name; give each once")
    return found


def _here(text: str) -> list[tuple[str, str]]:
    path = Path(text).absolute()  # a worker may be somewhere else
    check_text(path)
    if path.is_dir():
        names = (one.relative_to(path) for one in path.rglob("*") if one.is_file())
        found = sorted(str(name) for name in names if _is_wanted(str(name)))
        for name in found:
            check_text(Path(name))
        return [(name, str(path / name)) for name in _some(found, text)]
    if not path.is_file():
        raise RecipeError(f"{text}: no such file or folder")
    _check_format(text)
    return [(path.name, str(path))]


def _in_bucket(text: str) -> list[tuple[str, str]]:
    place = _bucket_place(text)
    store, prefix = open_bucket(place)
    with bucket_errors(place):
        if store.isfile(prefix):
            _check_format(text)
            return [(prefix.rpartition("/")[2], f"s3://{prefix}")]
        keys = store.find(prefix)
    names = sorted(key.removeprefix(f"{prefix}/") for key in keys)
    found = _some([name for name in names if _is_wanted(name)], text)
    return [(name, f"s3://{prefix}/{name}") for name in found]


def _is_wanted(name: str) -> bool:
    hidden = any(part.startswith((".", "_")) for part in name.split("/"))
    return not hidden and format_of(name) is not None


def _some(names: list[str], text: str) -> list[str]:
    if not names:
        raise RecipeError(f"{text}: no file of rows in it; wanted {', '.join(FORMATS)}")
    return names


def _check_format(text: str) -> None:
    if format_of(text) is None:
        raise RecipeError(f"{text}: wanted {', '.join(FORMATS)}")


def format_of(name: str) -> str | None:
    """Return a file's format by the end of its name, without `.gz`; None where it is none of ours."""
    suffix = next((known for known in FORMATS if name.lower().endswith(known)), None)
    return None if suffix is None else suffix.removesuffix(".gz")


def opened(address: str) -> BinaryIO:
    """Open a file of the input.

    Raises:
        RecipeError: it is not there, or must not be read.
        BackendError: the store cannot be reached.
    """
    if not is_remote(address):
        return Path(address).open("rb")
    place = parse_place(address)
    store, key = open_bucket(place)
    with bucket_errors(place):
        return _Shielded(store, key, place)  # type: ignore[return-value] # has a file's methods by __getattr__


class _Shielded:
    """A file in a bucket whose errors are worded."""

    def __init__(self, store: S3FileSystem, key: str, place: Place) -> None:
        self._file, self._place = store.open(key, "rb", block_size=_CHUNK_BYTES), place

    def __getattr__(self, name: str) -> object:
        found = getattr(self._file, name)
        if name not in ("read", "readinto", "read1"):
            return found

        def call(*args: object) -> object:
            with bucket_errors(self._place):
                return found(*args)

        return call

    def __enter__(self) -> BinaryIO:
        return self  # type: ignore[return-value] # has a file's methods by __getattr__

    def __exit__(self, *_: object) -> None:
        self._file.close()


def fingerprint(address: str) -> tuple[int, str]:
    """Return a file's size in bytes, and what tells its content from any other: a hash, or a store's ETag."""
    if not is_remote(address):
        return Path(address).stat().st_size, f"sha256:{sha256_file(Path(address))}"
    place = parse_place(address)
    store, key = open_bucket(place)
    with bucket_errors(place):
        found = store.info(key)
    return int(found["size"]), f"etag:{str(found.get('ETag', '')).strip(chr(34))}"


def check_unchanged(address: str, size_bytes: int, content: str) -> None:
    """Check that a file of the input is still the one that was cut: by its size, in a bucket by its ETag.

    Raises:
        RecipeError: it is not, or is gone.
    """
    if is_remote(address):
        same = fingerprint(address) == (size_bytes, content)
    else:
        try:
            same = Path(address).stat().st_size == size_bytes
        except OSError as error:
            raise RecipeError(f"{address}: cannot be read here: {error.strerror}") from None
    if not same:
        raise RecipeError(f"{address}: was changed while the job ran; score it into another folder")
