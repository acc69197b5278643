"""Which file of an artifact becomes which file of a published folder, for consumers that find files by name.

`hub` is the layout of sentence-transformers: every variant under the name it has, and int8 once more as
`onnx/model_quantized.onnx`, which transformers.js and infinity look for. `flat` is one variant as
`onnx/model.onnx`, for text-embeddings-inference and other consumers that cannot choose a file; its own rules
are in `consumers/tei.py`.

Knows names only; whether a consumer scores the files rightly is for `consumers/check.py`.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal, get_args

from exporter.artifact.cpus import saturates
from exporter.artifact.files import CARD, FLAT, PLOTS, QUANTIZED
from exporter.artifact.names import link_or_copy
from exporter.errors import BackendError, RecipeError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from exporter.artifact.manifest import Manifest, VariantEntry


LayoutProfile = Literal["hub", "flat"]
PROFILES: tuple[LayoutProfile, ...] = get_args(LayoutProfile)


@dataclass(frozen=True, order=True, slots=True)
class Placed:
    """A file of a published folder, and the artifact's file it is; both relative, with forward slashes."""

    path: str
    source: str


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of a published folder, sorted by path, without those written anew, such as card and report.

    `variants` are those of the new manifest, with the names that their files get.
    """

    profile: LayoutProfile
    files: tuple[Placed, ...]
    variants: tuple[VariantEntry, ...]


def lay_out(manifest: Manifest, kinds: Collection[str], profile: LayoutProfile = "hub") -> Layout:
    """Return which files a published folder consists of; nothing is read or written.

    Args:
        manifest: the artifact's.
        kinds: the variants to be published.
        profile: `hub`, or `flat`, which holds exactly one ONNX variant.

    Raises:
        RecipeError: `kinds` names none of the artifact's variants, or `flat` is to hold none or several.
    """
    variants = tuple(entry for entry in manifest.variants if entry.kind in kinds)
    if not variants:
        raise RecipeError(
            f"{manifest.name} has no {' or '.join(kinds)}; "
            f"it has {', '.join(e.kind for e in manifest.variants)}"
        )

    owned = {path for entry in manifest.variants for path in entry.files}
    shared = {file.path for file in manifest.files if file.path not in owned and not _is_made_anew(file.path)}
    places = {path: path for path in shared}
    if profile == "flat":
        variants = (_only_onnx(manifest, variants),)
        renamed = {path: FLAT if path == variants[0].model else path for path in variants[0].files}
        places |= {path: source for source, path in renamed.items()}
        if len(places) != len(shared) + len(renamed):
            raise RecipeError(f"{manifest.name}: two files of {variants[0].kind} would be {FLAT}")
        variants = (replace(variants[0], model=FLAT, files=tuple(sorted(renamed.values()))),)
    else:
        places |= {path: path for entry in variants for path in entry.files}
        # One that is right everywhere, if there is one: who opens it by this name asks for no CPU.
        int8 = sorted(filter(_is_int8_onnx, variants), key=lambda entry: not saturates(entry.isa or ""))
        quantized = next(iter(int8), None)
        # Who looks for weights beside the second name finds none there.
        if quantized and len(quantized.files) == 1 and QUANTIZED not in places:
            places[QUANTIZED] = quantized.model
    return Layout(profile, tuple(sorted(Placed(path, source) for path, source in places.items())), variants)


def place(layout: Layout, folder: Path, into: Path) -> None:
    """Copy an artifact's files to where a layout places them; a second name is a hard link if possible.

    Args:
        layout: the path of each file.
        folder: the artifact, whose files were checked against its manifest.
        into: the staged folder.

    Raises:
        BackendError: the disk refuses.
    """
    done: dict[str, Path] = {}
    for placed in layout.files:
        target = into / placed.path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if placed.source in done:
                link_or_copy(done[placed.source], target)
            else:
                shutil.copyfile(folder / placed.source, target)
        except OSError as error:
            raise BackendError(f"{target}: cannot be written: {error.strerror}") from error
        done[placed.source] = target


def _is_made_anew(path: str) -> bool:
    """Return whether a file is one that every publication makes itself, left by an earlier publication."""
    return path in (CARD, QUANTIZED) or PurePosixPath(path).parts[0] == PLOTS


def _is_int8_onnx(entry: VariantEntry) -> bool:
    return entry.traits.engine == "onnxruntime" and entry.traits.weights == "int8"


def _only_onnx(manifest: Manifest, variants: tuple[VariantEntry, ...]) -> VariantEntry:
    found = [entry for entry in variants if entry.traits.engine == "onnxruntime"]
    if len(found) != 1:
        has = (
            ", ".join(entry.kind for entry in found)
            or f"none of {', '.join(entry.kind for entry in variants)}"
        )
        raise RecipeError(
            f"{manifest.name}: flat holds one ONNX variant, found {has}; name one with --variant KIND"
        )
    return found[0]
