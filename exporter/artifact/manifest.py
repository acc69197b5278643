"""The manifest of an artifact: what it holds, what it was built from, and whether its files are intact.

Knows files and hashes; does not know what a model is. The folder may be untrusted input: names, numbers and
sizes are checked before a file is opened. A file swapped between its check and its use is not noticed: so
nobody else may be able to write it, see `exporter.owners`.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, ValidationError

from exporter.artifact.configs import CHECKED, FOREIGN, odd_key
from exporter.artifact.files import (
    MANIFEST,
    MAX_BYTES,
    MAX_FILES,
    MAX_TEXT_BYTES,
    TEXT,
    TOKENIZER,
    UNLISTED,
    UNWANTED,
    Bytes,
    Count,
    FileEntry,
    Line,
    Sha256,
    Tokens,
    from_python,
    listed,
    read_json_object,
    read_sealed,
    sha256_file,
    to_json,
    to_python,
    write_sealed,
)
from exporter.artifact.lfs import IS_POINTER, is_pointer
from exporter.artifact.names import MAX_NAME, beside, check_owner, is_name, kind_of, plain_file, shown
from exporter.artifact.place import check_text
from exporter.errors import IntegrityError, RecipeError
from exporter.invocation import command
from exporter.owners import folder_problem

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

# 5: a kind's traits; plans have a file of their own.
# 4: the pair sets by digest, and the platform.
# 3: a sweep's rows as numbers.
# 2: plans per CPU class with their sweeps, and the FLOPs of a pair.
# 1: first version.
MANIFEST_SCHEMA = 5
# What libraries are told by a folder's JSON: others of such files put an adapter on another's weights
# (adapter_config.json), or name modules to import (modules.json).
_JSON = frozenset((*CHECKED, TOKENIZER, "vocab.json"))
# What stands in a published manifest instead of local paths: the name of the source, and in the recipe the
# folder of model and pairs. Nothing lies there, so that whatever looks for them says that they are not here.
LOCAL_MODEL = "a local model"
NOT_PUBLISHED = "/not-published"

# The limits in the annotations of these dataclasses are checked on the way in only, when `read_manifest`
# validates a file;
# `Manifest(...)` in code checks nothing.


@dataclass(frozen=True, slots=True)
class FlopCount:
    """Floating-point operations of a graph's matrix products, for a pair of n tokens.

    Multiplications and additions are counted: per_pair + per_token * n + per_token_squared * n².
    """

    per_pair: Count
    per_token: Count
    per_token_squared: Count

    def flops(self, n_pairs: int, n_tokens: int, n_tokens_squared: int) -> int:
        """Return the operations for pairs, from the sums of their tokens and squared tokens, no padding."""
        return self.per_pair * n_pairs + self.per_token * n_tokens + self.per_token_squared * n_tokens_squared


@dataclass(frozen=True, slots=True)
class Traits:
    """What a reader has to know of a kind, carried along so that no table of kinds is needed to read it.

    `engine` is onnxruntime or openvino. `weights` is the precision in which matrix products' weights are
    stored, `activations` the one in which the products are computed: fp32, fp16, bf16 or int8. `calibrated`:
    the ranges of activations come from calibration pairs. `cpu_features`: a CPU needs one of these to run it;
    none means any CPU.
    """

    engine: Line
    weights: Line
    activations: Line
    calibrated: bool = False
    cpu_features: tuple[Line, ...] = ()

    @property
    def batch_invariant(self) -> bool:
        """Whether no range of activations is taken from a batch, which makes scores depend on it."""
        return self.calibrated or self.activations != "int8"

    @property
    def equal_widths(self) -> bool:
        """Whether pairs are scored with pairs of their own length only, so that a score depends on none.

        Padding moves sums by a float32's last digit, which turns the rounding of few-digit activations:
        scores of static int8 moved by up to 0.059 logits with the padded width, and not by a bit with the
        number of rows (onnxruntime 1.32, Intel Xeon 6/207).
        """
        return self.batch_invariant and self.activations in ("int8", "bf16")


@dataclass(frozen=True, slots=True)
class VariantEntry:
    """One runnable variant of an artifact.

    `kind` is the variant's id: its kind, or `kind@isa` where the recipe lists several instruction sets for
    it. `model` is the file the engine opens, `files` all the files it needs beside the tokenizer, `inputs`
    the graph's input names in order. `facts` are short statements on what the build did, for people.
    """

    kind: Line
    traits: Traits
    isa: Line | None
    model: str
    files: tuple[str, ...]
    inputs: tuple[Line, ...]
    flop_count: FlopCount
    facts: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """Where the weights came from; `digest` stands for weights, config and tokenizer.

    `weights_bytes` is the size of the parameters in float32. `notes` are lines for people: where the artifact
    reads the model otherwise than sentence-transformers does by itself.
    """

    source: Line
    revision: Line | None
    digest: Sha256
    weights_bytes: Bytes
    notes: tuple[Line, ...] = ()


@dataclass(frozen=True, slots=True)
class PairsEntry:
    """A pair set that was built with.

    `role` is its key in the recipe, `digest` the set's `PairSet.digest`, which does not depend on where its
    file lies.
    """

    role: Literal["verify", "calibrate"]
    name: Line
    digest: Sha256
    n_pairs: Count


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an artifact holds and what it was built from.

    `platform` is system, CPU class and Python, for people.
    """

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
    files: Annotated[tuple[FileEntry, ...], Field(max_length=MAX_FILES)]  # sorted by path

    @property
    def root(self) -> str:
        """One sha256 that stands for every file of the artifact; a report quotes it."""
        lines = (f"{f.path}\0{f.size_bytes}\0{f.sha256}\n" for f in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def variant(self, kind: str) -> VariantEntry:
        """Return the variant of an id.

        Raises:
            RecipeError: the artifact has none of that id.
        """
        for entry in self.variants:
            if entry.kind == kind:
                return entry
        raise self._lacks(kind)

    def named(self, name: str) -> tuple[VariantEntry, ...]:
        """Return the variant of an id, or all variants of a bare kind, in the manifest's order.

        Raises:
            RecipeError: the artifact has none.
        """
        found = [entry for entry in self.variants if entry.kind == name]
        if found := found or [entry for entry in self.variants if kind_of(entry.kind) == name]:
            return tuple(found)
        raise self._lacks(name)

    def _lacks(self, name: str) -> RecipeError:
        return RecipeError(
            f"{self.name} has no {name}; it has {', '.join(entry.kind for entry in self.variants)}"
        )

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
        """Return whether anything differs."""
        return bool(self.extra or self.missing or self.changed)


def compare_files(manifest: Manifest, folder: Path) -> ManifestDiff:
    """Compare a folder with its manifest; a file is hashed only where its size is right.

    Raises:
        IntegrityError: the folder holds a link or special file.
    """
    wanted, found = {f.path: f for f in manifest.files}, set(listed(folder))
    return ManifestDiff(
        extra=tuple(sorted(found - wanted.keys() - beside(folder, found))),
        missing=tuple(sorted(wanted.keys() - found)),
        changed=tuple(sorted(name for name in wanted.keys() & found if not _is_same(wanted[name], folder))),
    )


def check_files(manifest: Manifest, folder: Path) -> None:
    """Check that a folder holds exactly what its manifest names, and no configuration that brings code.

    Raises:
        IntegrityError: a file is extra, missing or changed, or asks for what lies outside the folder.
    """
    if diff := compare_files(manifest, folder):
        if pointers := tuple(name for name in diff.changed if is_pointer(folder / name)):
            raise IntegrityError(f"{folder / pointers[0]} {IS_POINTER}")
        parts = {"changed": diff.changed, "missing": diff.missing, "not in the manifest": diff.extra}
        text = "; ".join(f"{word}: {_listing(paths)}" for word, paths in parts.items() if paths)
        raise IntegrityError(
            f"{folder} is not what its manifest says: {text}; "
            "build it again with --replace, or fetch it again"
        )

    for name in sorted({*CHECKED} & {file.path for file in manifest.files}):
        config = read_json_object(folder / name, wide=True)
        key, why = odd_key(name, config) or ("chat_template", FOREIGN if "chat_template" in config else "")
        if why == FOREIGN:
            raise IntegrityError(f"{folder / name}: {key} {FOREIGN}, which no artifact does")
        if why:
            raise IntegrityError(f"{folder / name}: {key[:80]!a} {why}")


def check_needed(manifest: Manifest, folder: Path, names: Iterable[str]) -> None:
    """Check that the named files are those of the manifest; no other file is read.

    Raises:
        IntegrityError: one is missing, changed, a link, or not in the manifest.
    """
    entries = {file.path: file for file in manifest.files}
    for name in names:
        if name not in entries or not _is_same(entries[name], folder):
            other = "is not the file its manifest names; build the artifact again"
            raise IntegrityError(f"{folder / name} {IS_POINTER if is_pointer(folder / name) else other}")


def _is_same(entry: FileEntry, folder: Path) -> bool:
    """Compare sizes first: a terabyte of zeros is not hashed for hours."""
    path = plain_file(folder, entry.path)
    check_owner(path)
    for above in Path(entry.path).parents[:-1]:
        check_owner(folder / above)
    try:
        return path.stat().st_size == entry.size_bytes and sha256_file(path) == entry.sha256
    except OSError as error:
        raise IntegrityError(f"{path}: cannot be read: {error.strerror}") from None


def _listing(names: tuple[str, ...]) -> str:
    return ", ".join(map(shown, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def manifest_json(manifest: Manifest) -> bytes:
    """Return a manifest as JSON, without the sha256 that manifest.json carries."""
    return to_json(manifest)


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write manifest.json into a folder."""
    write_sealed(folder / MANIFEST, to_python(manifest))


def read_manifest(folder: Path) -> Manifest:
    """Read and check manifest.json of a folder; its files are not hashed here, see `check_files`.

    Raises:
        RecipeError: the folder is missing, or no artifact.
        IntegrityError: the manifest was changed, is of another schema, or says what no build of ours says; or
            another user could change the folder meanwhile.
    """
    if not os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir raises on a name that is too long
        raise RecipeError(f"{folder}: no such artifact folder; build it with `{command('export', 'RECIPE')}`")
    check_text(folder)
    if problem := folder_problem(folder):
        raise IntegrityError(problem)
    if not os.path.lexists(folder / MANIFEST):
        raise RecipeError(f"{folder}: no artifact, it has no {MANIFEST}")

    content = read_sealed(folder / MANIFEST)
    if content.get("schema") != MANIFEST_SCHEMA:
        raise IntegrityError(
            f"{folder / MANIFEST}: schema {content.get('schema')}, this exporter reads {MANIFEST_SCHEMA}; "
            "build it with --replace"
        )
    try:
        manifest = from_python(Manifest, content)
    except ValidationError as error:
        first = error.errors()[0]
        found = "" if isinstance(first["input"], dict | list) else f", found {str(first['input'])[:80]!a}"
        raise IntegrityError(
            f"{folder / MANIFEST}: {'.'.join(map(str, first['loc']))}: {first['msg']}{found}"
        ) from None
    if finding := next(chain(_odd_files(manifest), _odd_variants(manifest)), None):
        raise IntegrityError(f"{folder / MANIFEST}: {finding}")
    return manifest


def _odd_files(manifest: Manifest) -> Iterator[str]:
    """Return findings about the files a manifest names that no artifact has."""
    if not is_name(manifest.name) or "/" in manifest.name:
        yield f"name: {manifest.name[:MAX_NAME]!a} is no name of an artifact"

    names = [file.path for file in manifest.files]
    needed = {name for entry in manifest.variants for name in (entry.model, *entry.files)}
    for name in (*names, *needed):
        if not is_name(name):
            yield f"{name[:MAX_NAME]!a} leaves the artifact's folder, or is no name for a file of one"
    folded = Counter(name.casefold() for name in (*names, *UNLISTED))
    if twice := [name for name, n in folded.items() if n > 1]:
        yield f"{twice[0]} is listed twice, or in upper case and lower case"
    yield from _odd_names(names, needed)
    for file in manifest.files:
        if file.size_bytes > MAX_TEXT_BYTES and Path(file.path).suffix in TEXT:
            yield f"{file.path} has {file.size_bytes} bytes, and no such file has more than {MAX_TEXT_BYTES}"
    if (n_bytes := sum(file.size_bytes for file in manifest.files)) > MAX_BYTES:
        yield f"its files have {n_bytes} bytes, and no artifact has more than {MAX_BYTES}"


def _odd_names(names: Sequence[str], needed: Container[str]) -> Iterator[str]:
    """Return findings about names of files that another tool would open."""
    for name in names:
        # A .bin is OpenVINO's, or a pickle: those lie at the top, where PyTorch's users look, or belong to no
        # variant.
        suffix, is_pickle = Path(name).suffix, name not in needed or "/" not in name
        if UNWANTED.fullmatch(suffix) or (suffix.lower() == ".bin" and is_pickle):
            yield (
                f"{name} is no file an artifact needs: it runs code, or hides what it holds, "
                "when another tool opens it"
            )

        if suffix.lower() == ".json" and name not in _JSON:
            yield f"{name[:MAX_NAME]} is no JSON file an artifact has; known are {', '.join(sorted(_JSON))}"


def _odd_variants(manifest: Manifest) -> Iterator[str]:
    """Return findings about variants of a manifest that cannot be run."""
    names = {file.path for file in manifest.files}
    if len({entry.kind for entry in manifest.variants}) < len(manifest.variants):
        yield "a kind is there twice"
    for entry in manifest.variants:
        if unlisted := {entry.model, *entry.files} - names or {entry.model} - set(entry.files):
            yield f"{entry.kind} needs {min(unlisted)}, which is not among its files"
