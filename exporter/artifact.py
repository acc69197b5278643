"""The artifact folder: what its manifest says, how it comes to be there whole, and whether its files are still the ones.

Knows files and hashes; does not know what a model is.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from exporter.errors import BackendError, IntegrityError, RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterator

MANIFEST = "manifest.json"
REPORT = "report.json"
REPORT_MD = "report.md"
REPORT_HTML = "report.html"
REPORT_XML = "report.xml"
# Written after the files are hashed, and sealed (or derived) themselves; everything else must stand in the manifest.
_UNLISTED = frozenset((MANIFEST, REPORT, REPORT_MD, REPORT_HTML, REPORT_XML))
# 1: first version. 2: plans per CPU class with their sweeps, and the work of a pair. 3: a sweep's rows as numbers.
MANIFEST_SCHEMA = 3
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, order=True, slots=True)
class FileEntry:
    """One file of an artifact; `path` is relative and with forward slashes, so the folder may move."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SweepRow:
    """A plan that was tried, and how fast it was."""

    workers: int
    threads: int
    token_budget: int
    pairs_per_s: float


@dataclass(frozen=True, slots=True)
class PlanEntry:
    """How a variant is best run on CPUs of one class, measured: `workers` x `threads`, `token_budget` padded tokens a batch.

    `isa` and `n_cores` say where it was measured; `sweep` holds every plan tried.
    """

    isa: str
    n_cores: int
    workers: int
    threads: int
    token_budget: int
    sweep: tuple[SweepRow, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """Multiplications and additions of a graph's matrix products, for a pair of n tokens: per_pair + per_token n + ... n²."""

    per_pair: int
    per_token: int
    per_token_squared: int

    def flops(self, n_pairs: int, n_tokens: int, n_tokens_squared: int) -> int:
        """Add up the work of pairs with so many tokens, and squares of tokens, in all; padding is not counted."""
        return self.per_pair * n_pairs + self.per_token * n_tokens + self.per_token_squared * n_tokens_squared


@dataclass(frozen=True, slots=True)
class VariantEntry:
    """One runnable variant of an artifact.

    `model` is the file the engine opens, `files` all the files it needs beside the tokenizer, `inputs` the graph's input
    names in order. `plans` are those measured, one per CPU class and number of cores; `facts` are short statements on what the
    build did, for people.
    """

    kind: str
    isa: str | None
    engine: str  # onnxruntime | openvino
    model: str
    files: tuple[str, ...]
    inputs: tuple[str, ...]
    plans: tuple[PlanEntry, ...]
    work: Work
    facts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """Where the weights came from; `digest` stands for weights, config and tokenizer."""

    source: str
    revision: str | None
    digest: str
    weights_bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an artifact holds and what it was built from."""

    schema: int
    name: str
    recipe_digest: str
    recipe: str  # the resolved recipe as JSON text
    source: SourceEntry
    max_length: int
    pad_id: int
    tools: tuple[tuple[str, str], ...]
    variants: tuple[VariantEntry, ...]
    files: tuple[FileEntry, ...]  # sorted by path

    @property
    def root(self) -> str:
        """One sha256 that stands for every file of the artifact; a report quotes it."""
        lines = (f"{f.path}\0{f.size_bytes}\0{f.sha256}\n" for f in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def variant(self, kind: str) -> VariantEntry:
        """Find a variant by kind.

        Raises:
            RecipeError: the artifact has none of that kind.
        """
        for entry in self.variants:
            if entry.kind == kind:
                return entry
        raise RecipeError(f"{self.name} has no {kind}; it has {', '.join(entry.kind for entry in self.variants)}")

    def size_bytes(self, entry: VariantEntry) -> int:
        """Add up a variant's own files, tokenizer and config not counted."""
        return sum(file.size_bytes for file in self.files if file.path in entry.files)


@dataclass(frozen=True, slots=True)
class ManifestDiff:
    """How the files of a folder differ from a manifest; false when they do not."""

    extra: tuple[str, ...]
    missing: tuple[str, ...]
    changed: tuple[str, ...]

    def __bool__(self) -> bool:
        """Tell whether anything differs."""
        return bool(self.extra or self.missing or self.changed)


def sha256_file(path: Path) -> str:
    """Hash a file, a megabyte at a time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_files(folder: Path) -> tuple[FileEntry, ...]:
    """Hash every file of a folder that a manifest lists, sorted by path.

    Raises:
        IntegrityError: something in it is a link or no plain file; an artifact brings all it needs itself.
    """
    entries = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise IntegrityError(f"{path}: a link or special file; an artifact holds plain files only")
        if path.is_file() and relative not in _UNLISTED:
            entries.append(FileEntry(relative, path.stat().st_size, sha256_file(path)))
    return tuple(sorted(entries))


def compare_files(manifest: Manifest, folder: Path) -> ManifestDiff:
    """Hash a folder again and say how it differs from its manifest.

    Raises:
        IntegrityError: the folder holds a link or special file.
    """
    wanted, found = {f.path: f for f in manifest.files}, {f.path: f for f in list_files(folder)}
    return ManifestDiff(
        extra=tuple(sorted(found.keys() - wanted.keys())),
        missing=tuple(sorted(wanted.keys() - found.keys())),
        changed=tuple(sorted(p for p in wanted.keys() & found.keys() if wanted[p] != found[p])),
    )


def check_files(manifest: Manifest, folder: Path) -> None:
    """Stop unless a folder holds exactly what its manifest names.

    Raises:
        IntegrityError: a file is extra, missing or changed.
    """
    if diff := compare_files(manifest, folder):
        parts = {"changed": diff.changed, "missing": diff.missing, "not in the manifest": diff.extra}
        text = "; ".join(f"{word}: {', '.join(paths)}" for word, paths in parts.items() if paths)
        raise IntegrityError(f"{folder} is not what its manifest says: {text}; build it again with --replace")


def write_sealed(path: Path, content: dict[str, object]) -> None:
    """Write JSON with its own sha256 in it, beside and renamed, so that it is whole, and a changed byte shows.

    Raises:
        BackendError: the disk refuses.
    """
    body = _canonical(content)
    sealed = {"sha256": hashlib.sha256(body).hexdigest(), **content}
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_bytes(_canonical(sealed))
        scratch.replace(path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise BackendError(f"{path}: cannot be written: {error.strerror}") from error


def read_sealed(path: Path) -> dict[str, object]:
    """Read JSON written by `write_sealed`.

    Raises:
        IntegrityError: it is missing, no JSON, or any byte of it differs from what was written.
    """
    try:
        raw = path.read_bytes()
        sealed = json.loads(raw)
        as_written = isinstance(sealed, dict) and _canonical(sealed) == raw
    except FileNotFoundError:
        raise IntegrityError(f"{path}: missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{path}: cannot be read as JSON: {error}") from None
    if not as_written:
        raise IntegrityError(f"{path}: changed since it was written")
    content = {key: value for key, value in sealed.items() if key != "sha256"}
    if hashlib.sha256(_canonical(content)).hexdigest() != sealed.get("sha256"):
        raise IntegrityError(f"{path}: changed since it was written")
    return content


def manifest_json(manifest: Manifest) -> bytes:
    """Give a manifest as JSON, for machines."""
    return TypeAdapter(Manifest).dump_json(manifest)


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write manifest.json into a folder."""
    write_sealed(folder / MANIFEST, TypeAdapter(Manifest).dump_python(manifest, mode="json"))


def read_manifest(folder: Path) -> Manifest:
    """Read and check manifest.json of a folder; its files are not hashed here, see `check_files`.

    Raises:
        RecipeError: the folder is missing or is no artifact.
        IntegrityError: the manifest was changed, is of another schema, or names a path outside the folder.
    """
    if not folder.is_dir():
        raise RecipeError(f"{folder}: no such artifact folder; build it with `exporter export RECIPE`")
    if not (folder / MANIFEST).is_file():
        raise RecipeError(f"{folder}: no artifact, it has no {MANIFEST}")
    content = read_sealed(folder / MANIFEST)
    if content.get("schema") != MANIFEST_SCHEMA:
        raise IntegrityError(f"{folder / MANIFEST}: schema {content.get('schema')}, this exporter reads {MANIFEST_SCHEMA}")
    try:
        manifest = TypeAdapter(Manifest).validate_python(content)
    except ValidationError as error:
        raise IntegrityError(f"{folder / MANIFEST}: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from None
    named = [f.path for f in manifest.files] + [p for v in manifest.variants for p in (v.model, *v.files)]
    for path in named:
        if not _stays_inside(path):
            raise IntegrityError(f"{folder / MANIFEST}: {path!r} leaves the artifact's folder")
    return manifest


def _stays_inside(path: str) -> bool:
    pure = PurePosixPath(path)
    return not pure.is_absolute() and ".." not in pure.parts and "\\" not in path and path.isprintable() and path != ""


@contextmanager
def staged(final: Path, *, replace: bool = False) -> Iterator[Path]:
    """Give a scratch folder that becomes `final` only if the block succeeds.

    The scratch folder is a sibling, so that the rename stays on one file system. What a killed run left beside `final`
    is cleared, or put back, first.

    Raises:
        RecipeError: `final` exists and `replace` is false, or it is something `exporter` did not make.
        BackendError: the disk is full or refuses.
    """
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        clear_left_over(final)
        if final.exists() and not replace:
            raise RecipeError(f"{final} already exists; pass --replace to build it again")
        if final.exists() and not (final / MANIFEST).is_file():
            raise RecipeError(f"{final} exists and is no artifact; it is left alone, choose another --out or name")
        scratch = scratch_beside(final)
    except OSError as error:
        raise BackendError(f"{final.parent}: cannot be written: {error.strerror}") from error
    try:
        yield scratch
        scratch.chmod(0o755)
        old = scratch.with_name(f"{scratch.name}.old")
        if final.exists():
            final.rename(old)
        try:
            scratch.rename(final)
        except BaseException:
            if old.exists():
                old.rename(final)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise BackendError(f"{final}: cannot be written: {error.strerror or error}; nothing was left behind") from error
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def scratch_beside(final: Path) -> Path:
    """Make a hidden folder beside `final`, named so that `clear_left_over` knows whose it is."""
    return Path(tempfile.mkdtemp(prefix=f".{final.name}.{os.getpid()}-", dir=final.parent))


def clear_left_over(final: Path) -> None:
    """Undo what a killed run left beside `final`: put the old folder back if the new one never arrived, drop the rest."""
    for left in final.parent.glob(f".{glob.escape(final.name)}.*"):
        found = re.fullmatch(rf"\.{re.escape(final.name)}\.(\d+)-[^.]+(\.old)?", left.name)
        if not found or Path(f"/proc/{found[1]}").exists():
            continue
        if found[2] and not final.exists():
            left.rename(final)
        else:
            shutil.rmtree(left, ignore_errors=True)


def _canonical(content: dict[str, object]) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True, allow_nan=False) + "\n").encode()
