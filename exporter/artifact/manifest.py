"""The artifact folder: what its manifest says, how it comes to be there whole, and whether its files are still the ones.

Knows files and hashes; does not know what a model is. The folder may come from a stranger: names, numbers and sizes are checked
before a file is opened. A file swapped between its check and its use is not noticed: who can write to the folder then could as
well have written another manifest.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from exporter.errors import BackendError, IntegrityError, RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MANIFEST = "manifest.json"
REPORT = "report.json"
REPORT_MD = "report.md"
REPORT_HTML = "report.html"
REPORT_XML = "report.xml"
# in-toto statements about the files, and the signature over all of them.
# Source: https://github.com/in-toto/attestation/blob/main/spec/v1/bundle.md#file-naming-convention
# Source: https://github.com/sigstore/model-transparency/blob/main/README.md#model-signing-cli
ATTESTATION = "attestation.intoto.jsonl"
SIGNATURE = "model.sig"
# Written after the files are hashed, and sealed (or derived) themselves; everything else must stand in the manifest.
_UNLISTED = frozenset((MANIFEST, REPORT, REPORT_MD, REPORT_HTML, REPORT_XML, ATTESTATION, SIGNATURE))
# 1: first version. 2: plans per CPU class with their sweeps, and the work of a pair. 3: a sweep's rows as numbers.
# 4: the pair sets by digest, and the platform.
MANIFEST_SCHEMA = 4

# What a file may be called: ASCII, so that no two names look alike or differ only in how a file system folds them, and none is a
# pattern to the Hub's client, an option to a shell or an escape sequence to a terminal.
_PART = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._+=-]*")
_MAX_NAME = 200
# What runs code, or hides what it holds, once another tool opens it; nothing an artifact needs.
_UNWANTED = re.compile(
    r"(?i)\.(pyc?|so|dll|dylib|sh|jinja|ort|pkl|pickle|pt|pth|ckpt|joblib|h5|keras|npy|npz|zip|tar|t?gz|bz2|xz|zst|7z|whl)"
)
# Limits that no artifact of ours comes near. The largest rerankers have 9 billion float32 weights, a tokenizer.json of 256,000
# tokens has 35 MB, a manifest 20 kB.
_MAX_FILES = 10_000
_MAX_BYTES = 64 << 30
_MAX_TEXT_BYTES = 64 << 20
_MAX_MANIFEST_BYTES = 8 << 20
_TEXT = frozenset((".json", ".xml", ".txt", ".md"))
# Keys of config.json and tokenizer_config.json by which a model brings code of its own, or takes files from elsewhere: a
# `vocab_file` of another folder would be copied into the artifact.
# Source: https://huggingface.co/docs/transformers/custom_models (auto_map), PreTrainedTokenizerBase._from_pretrained (the rest)
# fmt: off
_FOREIGN = (
    "auto_map", "custom_pipelines", "trust_remote_code", "transformers_weights", "init_inputs", "vocab_file", "merges_file",
    "tokenizer_file", "spm_file", "source_spm", "target_spm", "chat_template_file",
)
# fmt: on

# Types of what a manifest says, held against it when it is read. A line is shown on terminals: no control characters, none that
# turn the direction of text.
Line = Annotated[str, Field(max_length=1 << 16, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Bytes = Annotated[int, Field(ge=0, le=_MAX_BYTES)]
Cores = Annotated[int, Field(ge=1, le=4096)]
Tokens = Annotated[int, Field(ge=1, le=1 << 17)]
Count = Annotated[int, Field(ge=0, le=1 << 53)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, order=True, slots=True)
class FileEntry:
    """One file of an artifact; `path` is relative and with forward slashes, so the folder may move."""

    path: str
    size_bytes: Bytes
    sha256: Sha256


@dataclass(frozen=True, slots=True)
class SweepRow:
    """A plan that was tried, and how fast it was."""

    workers: Cores
    threads: Cores
    token_budget: Tokens
    pairs_per_s: Rate


@dataclass(frozen=True, slots=True)
class PlanEntry:
    """How a variant is best run on CPUs of one class, measured: `workers` x `threads`, `token_budget` padded tokens a batch.

    `isa` and `n_cores` say where it was measured; `sweep` holds every plan tried.
    """

    isa: Line
    n_cores: Cores
    workers: Cores
    threads: Cores
    token_budget: Tokens
    sweep: tuple[SweepRow, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """Multiplications and additions of a graph's matrix products, for a pair of n tokens: per_pair + per_token n + ... n²."""

    per_pair: Count
    per_token: Count
    per_token_squared: Count

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

    kind: Line
    isa: Line | None
    engine: Line  # onnxruntime | openvino
    model: str
    files: tuple[str, ...]
    inputs: tuple[Line, ...]
    plans: tuple[PlanEntry, ...]
    work: Work
    facts: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """Where the weights came from; `digest` stands for weights, config and tokenizer."""

    source: Line
    revision: Line | None
    digest: Sha256
    weights_bytes: Bytes


@dataclass(frozen=True, slots=True)
class PairsEntry:
    """A pair set that was built with; `role` is its key in the recipe, `digest` `PairSet.digest`, wherever the file lies."""

    role: Literal["verify", "calibrate"]
    name: Line
    digest: Sha256
    n_pairs: Count


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an artifact holds and what it was built from; `platform` is system, CPU class and Python, for people."""

    schema: int
    name: Line
    recipe_digest: Sha256
    recipe: str  # the resolved recipe as JSON text
    source: SourceEntry
    pairs: tuple[PairsEntry, ...]
    platform: Line
    max_length: Tokens
    pad_id: Annotated[int, Field(ge=0, lt=1 << 31)]
    tools: tuple[tuple[Line, Line], ...]
    variants: Annotated[tuple[VariantEntry, ...], Field(min_length=1)]
    files: Annotated[tuple[FileEntry, ...], Field(max_length=_MAX_FILES)]  # sorted by path

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


def is_name(text: str) -> bool:
    """Tell whether an artifact may hold a file of this name: relative, with forward slashes, plain ASCII, not too long."""
    return len(text) <= _MAX_NAME and all(_PART.fullmatch(part) and part.strip(".") for part in text.split("/"))


def plain_file(folder: Path, name: str) -> Path:
    """Give the path of a plain file of a folder; nothing is opened, so a pipe is not waited for.

    No link is followed, but those of the Hub's cache, where `snapshots/COMMIT/NAME` leads to `blobs/HASH` beside `snapshots`.
    Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache

    Raises:
        IntegrityError: it is missing, a link, a pipe or a device, or one of the folders on the way to it is a link.
    """
    path = folder / name
    try:
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode) and folder.absolute().parent.name == "snapshots":
            target = Path(os.path.realpath(path))
            if target.parent == Path(os.path.realpath(folder.absolute().parent.parent / "blobs")):
                found = target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        raise IntegrityError(f"{path}: missing") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte
        raise IntegrityError(f"{str(path)!a}: cannot be read: {error}") from None
    above = (folder / parent for parent in Path(name).parents[:-1])
    if not stat.S_ISREG(found.st_mode) or any(parent.is_symlink() for parent in above):
        raise IntegrityError(f"{folder}/{_shown(name)}: a link or special file; an artifact holds plain files only")
    return path


def list_files(folder: Path) -> tuple[FileEntry, ...]:
    """Hash every file of a folder that a manifest lists, sorted by path.

    Raises:
        IntegrityError: something in it is a link or no plain file; an artifact brings all it needs itself.
    """
    names = sorted(_listed(folder))
    return tuple(FileEntry(name, (folder / name).stat().st_size, sha256_file(folder / name)) for name in names)


def _listed(folder: Path) -> Iterator[str]:
    """Give the name of every file of a folder that a manifest lists; none is opened."""
    above, n_found = [""], 0
    while above:
        prefix = above.pop()
        try:
            found = list(os.scandir(folder / prefix))
        except OSError as error:
            raise IntegrityError(f"{folder}/{_shown(prefix)}: cannot be read: {error.strerror}") from None
        n_found += len(found)
        if n_found > _MAX_FILES:
            raise IntegrityError(f"{folder}: more than {_MAX_FILES} files, which no artifact has")
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                above.append(f"{prefix}{entry.name}/")
                continue
            plain_file(folder, f"{prefix}{entry.name}")
            if f"{prefix}{entry.name}" not in _UNLISTED:
                yield f"{prefix}{entry.name}"


def compare_files(manifest: Manifest, folder: Path) -> ManifestDiff:
    """Say how a folder differs from its manifest. A file is hashed only where its size is right.

    Raises:
        IntegrityError: the folder holds a link or special file.
    """
    wanted, found = {f.path: f for f in manifest.files}, set(_listed(folder))
    return ManifestDiff(
        extra=tuple(sorted(found - wanted.keys())),
        missing=tuple(sorted(wanted.keys() - found)),
        changed=tuple(sorted(name for name in wanted.keys() & found if not _is_same(wanted[name], folder))),
    )


def check_files(manifest: Manifest, folder: Path) -> None:
    """Stop unless a folder holds exactly what its manifest names, and no configuration that brings code.

    Raises:
        IntegrityError: a file is extra, missing or changed, or asks for what lies outside the folder.
    """
    if diff := compare_files(manifest, folder):
        parts = {"changed": diff.changed, "missing": diff.missing, "not in the manifest": diff.extra}
        text = "; ".join(f"{word}: {_listing(paths)}" for word, paths in parts.items() if paths)
        raise IntegrityError(f"{folder} is not what its manifest says: {text}; build it again with --replace, or fetch it again")
    for name in {"config.json", "tokenizer_config.json"} & {file.path for file in manifest.files}:
        config = read_json_object(folder / name)
        if key := foreign_key(config) or ("chat_template" if "chat_template" in config else None):
            raise IntegrityError(f"{folder / name}: {key} brings code or files of others, which no artifact does")


def check_needed(manifest: Manifest, folder: Path, names: Iterable[str]) -> None:
    """Stop unless these files are the ones the manifest names; others are not looked at.

    Raises:
        IntegrityError: one is missing, changed, a link, or not in the manifest.
    """
    entries = {file.path: file for file in manifest.files}
    for name in names:
        if name not in entries or not _is_same(entries[name], folder):
            raise IntegrityError(f"{folder / name} is not the file its manifest names; build the artifact again")


def _is_same(entry: FileEntry, folder: Path) -> bool:
    """Compare sizes first: a terabyte of zeros is not hashed for hours."""
    path = plain_file(folder, entry.path)
    try:
        return path.stat().st_size == entry.size_bytes and sha256_file(path) == entry.sha256
    except OSError as error:
        raise IntegrityError(f"{path}: cannot be read: {error.strerror}") from None


def _listing(names: tuple[str, ...]) -> str:
    return ", ".join(map(_shown, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _shown(name: str) -> str:
    """Give a name that someone else chose so that it can be printed."""
    return name if is_name(name) else ascii(name)


def read_json_object(path: Path) -> dict[str, object]:
    """Read a JSON object of bearable size and nesting whose integers have 64 bits.

    Raises:
        IntegrityError: it is none, or cannot be read.
    """
    return _json_object(_bounded(path), path)


def foreign_key(config: Mapping[str, object]) -> str | None:
    """Name the first key of a config.json or tokenizer_config.json that brings code, or files from outside its folder."""
    if "/" in str(config.get("attn_implementation", "")):  # a kernel on the Hub
        return "attn_implementation"
    return next((key for key in _FOREIGN if config.get(key)), None)


def _bounded(path: Path) -> bytes:
    most = _MAX_MANIFEST_BYTES if path.name == MANIFEST else _MAX_TEXT_BYTES
    try:
        if (size := path.stat().st_size) > most:
            raise IntegrityError(f"{path}: {size} bytes, and no such file has more than {most}")
        return path.read_bytes()
    except FileNotFoundError:
        raise IntegrityError(f"{path}: missing") from None
    except OSError as error:
        raise IntegrityError(f"{path}: cannot be read: {error.strerror}") from None


def _json_object(raw: bytes, path: Path) -> dict[str, object]:
    try:
        content = json.loads(raw, parse_int=_int64)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise IntegrityError(f"{path}: no JSON object, changed since it was written")
    return content


def _int64(digits: str) -> int:
    if len(digits) > 20 or not -(1 << 63) <= (value := int(digits)) < 1 << 63:
        raise ValueError(f"{digits[:20]}... has more than 64 bits")
    return value


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
    raw = _bounded(plain_file(path.parent, path.name))
    sealed = _json_object(raw, path)
    try:
        as_written = _canonical(sealed) == raw
    except (ValueError, RecursionError):  # a number that is none, a lone surrogate, too deep a nest
        as_written = False
    content = {key: value for key, value in sealed.items() if key != "sha256"}
    if not as_written or hashlib.sha256(_canonical(content)).hexdigest() != sealed.get("sha256"):
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
        IntegrityError: the manifest was changed, is of another schema, or says what no build of ours says.
    """
    if not folder.is_dir():
        raise RecipeError(f"{folder}: no such artifact folder; build it with `exporter export RECIPE`")
    if not os.path.lexists(folder / MANIFEST):
        raise RecipeError(f"{folder}: no artifact, it has no {MANIFEST}")
    content = read_sealed(folder / MANIFEST)
    if content.get("schema") != MANIFEST_SCHEMA:
        raise IntegrityError(
            f"{folder / MANIFEST}: schema {content.get('schema')}, this exporter reads {MANIFEST_SCHEMA}; build it with --replace"
        )
    try:
        manifest = TypeAdapter(Manifest).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        found = "" if isinstance(first["input"], dict | list) else f", found {str(first['input'])[:80]!a}"
        raise IntegrityError(f"{folder / MANIFEST}: {'.'.join(map(str, first['loc']))}: {first['msg']}{found}") from None
    if finding := next(chain(_odd_files(manifest), _odd_variants(manifest)), None):
        raise IntegrityError(f"{folder / MANIFEST}: {finding}")
    return manifest


def _odd_files(manifest: Manifest) -> Iterator[str]:
    """Say which files a manifest names that no artifact has."""
    if not is_name(manifest.name) or "/" in manifest.name:
        yield f"name: {manifest.name[:_MAX_NAME]!a} is no name of an artifact"
    names = [file.path for file in manifest.files]
    needed = {name for entry in manifest.variants for name in (entry.model, *entry.files)}
    for name in (*names, *needed):
        if not is_name(name):
            yield f"{name[:_MAX_NAME]!a} leaves the artifact's folder, or is no name for a file of one"
    for name in names:
        # A .bin is OpenVINO's, or a pickle: those lie at the top, where PyTorch's users look, or belong to no variant.
        suffix, is_pickle = Path(name).suffix, name not in needed or "/" not in name
        if _UNWANTED.fullmatch(suffix) or (suffix.lower() == ".bin" and is_pickle):
            yield f"{name} is no file an artifact needs: it runs code, or hides what it holds, when another tool opens it"
    folded = Counter(name.casefold() for name in (*names, *_UNLISTED))
    if twice := [name for name, n in folded.items() if n > 1]:
        yield f"{twice[0]} is listed twice, or in upper case and lower case"
    for file in manifest.files:
        if file.size_bytes > _MAX_TEXT_BYTES and Path(file.path).suffix in _TEXT:
            yield f"{file.path} has {file.size_bytes} bytes, and no such file has more than {_MAX_TEXT_BYTES}"
    if (n_bytes := sum(file.size_bytes for file in manifest.files)) > _MAX_BYTES:
        yield f"its files have {n_bytes} bytes, and no artifact has more than {_MAX_BYTES}"


def _odd_variants(manifest: Manifest) -> Iterator[str]:
    """Say what of a manifest's variants cannot be carried out."""
    names = {file.path for file in manifest.files}
    if len({entry.kind for entry in manifest.variants}) < len(manifest.variants):
        yield "a kind is there twice"
    for entry in manifest.variants:
        if unlisted := {entry.model, *entry.files} - names or {entry.model} - set(entry.files):
            yield f"{entry.kind} needs {min(unlisted)}, which is not among its files"
        for plan in entry.plans:
            if plan.workers * plan.threads > plan.n_cores:
                yield f"{entry.kind} has a plan of {plan.workers}x{plan.threads} for {plan.n_cores} cores"


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
            raise RecipeError(f"{final} already exists; pass --replace to put another in its place")
        if final.exists() and not (final / MANIFEST).is_file():
            raise RecipeError(f"{final} exists and is no artifact; it is left alone, choose another place")
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
