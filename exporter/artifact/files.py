"""The files of an artifact: their names, sizes and hashes, and the JSON written into them.

Knows names, sizes and bytes; does not know what a model is. A folder may be untrusted input: names, numbers
and sizes are checked before a file is opened. A file swapped between its check and its use is not noticed: so
nobody else may be able to write it, see `exporter.owners`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Annotated, TypeVar, cast

from pydantic import Field, TypeAdapter

from exporter.artifact.lfs import IS_POINTER, says_pointer
from exporter.artifact.names import MAX_NAME, check_owner, is_version_controls, plain_file, shown
from exporter.errors import BackendError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_T = TypeVar("_T")

MANIFEST = "manifest.json"
# How each variant is best run on machines it was measured on.
PLANS = "plans.json"
REPORT = "report.json"
# A report of each type of machine; the newest of them is report.json too.
REPORTS = "reports"
REPORT_MD = "report.md"
REPORT_HTML = "report.html"
REPORT_XML = "report.xml"
# in-toto statements about the files, and the signature over all of them.
# Source: https://github.com/in-toto/attestation/blob/main/spec/v1/bundle.md#file-naming-convention
# Source: https://github.com/sigstore/model-transparency/blob/main/README.md#model-signing-cli
ATTESTATION = "attestation.intoto.jsonl"
SIGNATURE = "model.sig"
TOKENIZER = "tokenizer.json"
CARD = "README.md"
PLOTS = "plots"
# What transformers.js opens for its dtype q8, and infinity on a CPU.
# Source: https://github.com/huggingface/transformers.js/blob/main/packages/transformers/src/utils/dtypes.js
# Source: https://github.com/michaelfeil/infinity/blob/main/libs/infinity_emb/infinity_emb/transformer/utils_optimum.py
QUANTIZED = "onnx/model_quantized.onnx"
# What text-embeddings-inference opens.
# Source: https://github.com/huggingface/text-embeddings-inference/blob/main/backends/ort/src/lib.rs
FLAT = "onnx/model.onnx"
# Written after the files are hashed, and sealed (or derived) themselves; everything else must stand in the
# manifest.
UNLISTED = frozenset((MANIFEST, PLANS, REPORT, REPORT_MD, REPORT_HTML, REPORT_XML, ATTESTATION, SIGNATURE))


# CPU, digits of a hash, instruction set, cores: a name that nobody else's file has by chance.
_OF_A_MACHINE = re.compile(rf"{REPORTS}/[a-z0-9][a-z0-9-]*-[0-9a-f]{{8}}-[a-z0-9_]+-[0-9]+\.json")
_PART = re.compile(r"((?:.*/)?)\.([^/]+)\.part")
# A fleet has a handful of machine types, and a report of 100,000 pairs 20 MB.
MAX_REPORTS = 64
MAX_REPORTS_BYTES = 512 << 20


def _part(name: str) -> str:
    """Return the name that a file has while it is written."""
    above, slash, last = name.rpartition("/")
    return f"{above}{slash}.{last}.part"


def is_unlisted(name: str) -> bool:
    """Return whether a manifest never lists a file: plans, reports, statements, signature, and itself."""
    return name in UNLISTED or is_of_a_machine(name)


def is_of_a_machine(name: str) -> bool:
    """Return whether a file is called as a report of a machine type is."""
    return len(name) <= MAX_NAME and _OF_A_MACHINE.fullmatch(name) is not None


def _is_part(name: str) -> bool:
    """Return whether a file is what a killed run may leave; the next one writes over it."""
    found = _PART.fullmatch(name)
    return found is not None and is_unlisted(found[1] + found[2])


# What runs code, or hides what it holds, once another tool opens it; nothing an artifact needs.
UNWANTED = re.compile(
    r"(?i)\.(pyc?|so|dll|dylib|sh|jinja|ort|pkl|pickle|pt|pth|ckpt|joblib|h5|keras|npy|npz|zip|tar|t?gz|bz2|xz|zst|7z|whl)"
)
# Limits that no artifact of ours comes near. The largest rerankers have 9 billion float32 weights, a
# tokenizer.json of 256,000 tokens has 35 MB, a manifest 20 kB.
MAX_FILES = 10_000
MAX_BYTES = 64 << 30
MAX_TEXT_BYTES = 64 << 20
MAX_MANIFEST_BYTES = 8 << 20
TEXT = frozenset((".json", ".xml", ".txt", ".md"))
# Types of what a manifest or its plans say, held against them when they are read. A line is shown on
# terminals: no control characters, none that turn the direction of text.
Line = Annotated[
    str, Field(max_length=1 << 16, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*$")
]
Cores = Annotated[int, Field(ge=1, le=4096)]
Tokens = Annotated[int, Field(ge=1, le=1 << 17)]
Count = Annotated[int, Field(ge=0, le=1 << 53)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Bytes = Annotated[int, Field(ge=0, le=MAX_BYTES)]


@dataclass(frozen=True, order=True, slots=True)
class FileEntry:
    """One file of an artifact; `path` is relative and with forward slashes, so the folder may move."""

    path: str
    size_bytes: Bytes
    sha256: Sha256


def sha256_file(path: Path) -> str:
    """Hash a file, a megabyte at a time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_files(folder: Path) -> tuple[FileEntry, ...]:
    """Hash every file of a folder that a manifest lists, sorted by path.

    Raises:
        IntegrityError: something in it is a link or no plain file; an artifact brings all it needs itself.
    """
    names = sorted(listed(folder))
    return tuple(
        FileEntry(name, (folder / name).stat().st_size, sha256_file(folder / name)) for name in names
    )


def listed(folder: Path) -> Iterator[str]:
    """Return the name of every file of a folder that a manifest lists; no file is opened.

    What belongs to version control is passed over.
    """
    above, n_found = [""], 0
    while above:
        prefix = above.pop()
        try:
            found = list(os.scandir(folder / prefix))
        except OSError as error:
            raise IntegrityError(f"{folder}/{shown(prefix)}: cannot be read: {error.strerror}") from None
        n_found += len(found)
        if n_found > MAX_FILES:
            raise IntegrityError(f"{folder}: more than {MAX_FILES} files, which no artifact has")
        for entry in found:
            if not prefix and is_version_controls(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                above.append(f"{prefix}{entry.name}/")
                continue
            plain_file(folder, f"{prefix}{entry.name}")
            if not is_unlisted(name := f"{prefix}{entry.name}") and not _is_part(name):
                yield name


def machine_reports(folder: Path) -> tuple[str, ...]:
    """Return the paths of an artifact's reports by machine type, sorted; no file is opened.

    Raises:
        IntegrityError: something else lies among them, or they are more or larger than any artifact has.
    """
    place = folder / REPORTS
    if not os.path.lexists(place):
        return ()
    if place.is_symlink() or not place.is_dir():
        raise IntegrityError(f"{place}: no folder; an artifact has its reports by machine there")
    try:
        names = sorted(f"{REPORTS}/{entry.name}" for entry in islice(os.scandir(place), 2 * MAX_REPORTS + 1))
    except OSError as error:
        raise IntegrityError(f"{place}: cannot be read: {error.strerror}") from None
    if len(names) > 2 * MAX_REPORTS:  # a report, and what a killed run left of it
        raise IntegrityError(f"{place}: no artifact has more than {MAX_REPORTS} reports")
    names = [name for name in names if not _is_part(name)]
    for name in names:
        if not is_of_a_machine(name):
            raise IntegrityError(f"{folder}/{shown(name)}: no report of a machine; delete it")
    check_reports(((name, plain_file(folder, name).stat().st_size) for name in names), str(folder))
    return tuple(names)


def check_reports(sizes: Iterable[tuple[str, int]], where: str) -> None:
    """Raise where an artifact's reports by machine type are more, or have more bytes, than it may have.

    Raises:
        IntegrityError: they have.
    """
    found = [size for name, size in sizes if is_of_a_machine(name)]
    if len(found) > MAX_REPORTS or sum(found) > MAX_REPORTS_BYTES:
        raise IntegrityError(
            f"{where}: {len(found)} reports in {REPORTS}/ with {sum(found)} bytes; no artifact has more than "
            f"{MAX_REPORTS} with {MAX_REPORTS_BYTES}"
        )


def read_json_object(path: Path, *, wide: bool = False, unique: bool = False) -> dict[str, object]:
    """Read a JSON object of bearable size and nesting whose integers have 64 bits.

    Args:
        path: the file.
        wide: larger integers are read as floats. transformers writes 10^30 for a tokenizer without a limit.
            Source: https://github.com/huggingface/transformers/blob/v4.57.6/src/transformers/tokenization_utils_base.py
            (VERY_LARGE_INTEGER)
        unique: refuse a key that is there twice, of which another reader may take the other one.

    Raises:
        IntegrityError: the file holds no such object, or cannot be read.
    """
    return _json_object(_bounded(path), path, wide=wide, unique=unique)


def read_json(path: Path) -> object:
    """Read JSON of any type; sizes, nesting and integers as in `read_json_object`.

    Raises:
        IntegrityError: the file holds no JSON, or cannot be read.
    """
    return _json(_bounded(path), path)


def _bounded(path: Path) -> bytes:
    most = MAX_MANIFEST_BYTES if path.name == MANIFEST else MAX_TEXT_BYTES
    try:
        if (size := path.stat().st_size) > most:
            raise IntegrityError(f"{path}: {size} bytes, and no such file has more than {most}")
        content = path.read_bytes()
    except FileNotFoundError:
        raise IntegrityError(f"{path}: missing") from None
    except OSError as error:
        raise IntegrityError(f"{path}: cannot be read: {error.strerror}") from None
    if says_pointer(content):
        raise IntegrityError(f"{path} {IS_POINTER}")
    return content


def _json_object(raw: bytes, path: Path, *, wide: bool = False, unique: bool = False) -> dict[str, object]:
    content = _json(raw, path, wide=wide, unique=unique)
    if not isinstance(content, dict):
        raise IntegrityError(f"{path}: no JSON object, changed since it was written")
    return content


def _json(raw: bytes, path: Path, *, wide: bool = False, unique: bool = False) -> object:
    try:
        content: object = json.loads(
            raw,
            parse_int=_int64_or_float if wide else _int64,
            object_pairs_hook=_unique if unique else None,
        )
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path}: cannot be read as JSON: {error}") from None
    return content


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value] # adds it
        raise ValueError(f"{twice[:80]!a} is there twice")
    return found


def _int64(digits: str) -> int:
    if len(digits) > 20 or not -(1 << 63) <= (value := int(digits)) < 1 << 63:
        raise ValueError(f"{digits[:20]}... has more than 64 bits")
    return value


def _int64_or_float(digits: str) -> int | float:
    return float(digits) if 20 <= len(digits) <= 64 else _int64(digits)


def write_sealed(path: Path, content: Mapping[str, object]) -> None:
    """Write JSON with its own sha256 in it, so that a changed byte shows; the file is whole or not there.

    Raises:
        BackendError: the disk refuses.
    """
    write_together(path.parent, {path.name: sealed(content)})


def sealed(content: Mapping[str, object]) -> bytes:
    """Return JSON with its own sha256 in it, as `write_sealed` writes it."""
    return _canonical({"sha256": seal_of(content), **content})


def seal_of(content: Mapping[str, object]) -> str:
    """Return the sha256 that stands in a sealed file."""
    return hashlib.sha256(_canonical(content)).hexdigest()


def write_together(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files that belong together: none is touched before the disk has room for all.

    Each file is whole or not there. They take their names in the order given; a process killed between two of
    them leaves the first ones new and the others old.

    Args:
        folder: an existing folder.
        files: contents by name; a name may have one folder before a slash.

    Raises:
        BackendError: the disk refuses; no file was changed.
    """
    at = ""
    try:
        for at, content in files.items():
            part = folder / _part(at)
            if "/" in at:
                part.parent.mkdir(exist_ok=True)
            part.write_bytes(content)
        for at in files:
            (folder / _part(at)).replace(folder / at)
    except OSError as error:
        for name in files:
            with suppress(OSError):
                (folder / _part(name)).unlink(missing_ok=True)
        raise BackendError(f"{folder / at}: cannot be written: {error.strerror}") from error


def read_sealed(path: Path) -> dict[str, object]:
    """Read JSON written by `write_sealed`.

    Raises:
        IntegrityError: the file is missing, no JSON, any byte of it differs from what was written, or another
            user could change it.
    """
    check_owner(plain_file(path.parent, path.name))
    raw = _bounded(path)
    found = _json_object(raw, path)
    try:
        as_written = _is_canonical(found, raw)
    except (ValueError, RecursionError):  # NaN, a lone surrogate, too deep a nest
        as_written = False
    content = {key: value for key, value in found.items() if key != "sha256"}
    if not as_written or seal_of(content) != found.get("sha256"):
        raise IntegrityError(f"{path}: changed since it was written")
    return content


_ENCODER = json.JSONEncoder(indent=1, ensure_ascii=False, sort_keys=True, allow_nan=False)


def _canonical(content: Mapping[str, object]) -> bytes:
    return f"{_ENCODER.encode(content)}\n".encode()


def _is_canonical(content: Mapping[str, object], raw: bytes) -> bool:
    """Return whether bytes are the canonical JSON of a value, up to the first that differs.

    A nest takes a hundred times its bytes once it is indented: what is not written so is not written out.
    """
    at = 0
    for piece in _ENCODER.iterencode(content):
        encoded = piece.encode()
        if not raw.startswith(encoded, at):
            return False
        at += len(encoded)
    return raw[at:] == b"\n"


# pydantic takes milliseconds to build a type's schema, and advises to do it once.
# Source: https://docs.pydantic.dev/latest/concepts/performance/ (TypeAdapter instantiated once)
_adapters = cache(TypeAdapter)


def _adapter(cls: object) -> TypeAdapter[object]:
    return _adapters(cls)


def to_json(value: object, *, indent: int | None = None) -> bytes:
    """Return a dataclass, or a tuple or list of them, as JSON; NaN and infinity become null."""
    return _adapter(type(value)).dump_json(value, indent=indent)


def to_python(value: object) -> dict[str, object]:
    """Return a dataclass as a dict of what JSON can hold: dicts, lists, texts, numbers, None."""
    return cast("dict[str, object]", _adapter(type(value)).dump_python(value, mode="json"))


def from_json(cls: type[_T], raw: bytes | str) -> _T:
    """Read a value of a type from JSON.

    Raises:
        pydantic.ValidationError: the bytes are no JSON, or not what the type's annotations ask for.
    """
    return cast("_T", _adapter(cls).validate_json(raw))


def from_python(cls: type[_T], plain: object) -> _T:
    """Read a value of a type from what `to_python` returns.

    Raises:
        pydantic.ValidationError: the value is not what the type's annotations ask for.
    """
    return cast("_T", _adapter(cls).validate_python(plain))


def sealed_schema(cls: type[object]) -> dict[str, object]:
    """Return the JSON schema of a file that `write_sealed` writes of a type, its sha256 included."""
    schema = _adapter(cls).json_schema()
    schema["properties"] = {
        "sha256": {"type": "string", "title": "Sha256 of the canonical JSON of the rest"},
        **schema["properties"],
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
