"""Build every variant of a recipe into one folder: which file each kind becomes, and which steps make it.

Each step's result is cached under everything it was made from, so an unchanged recipe is built in seconds.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, assert_never

from pydantic import ValidationError

from exporter import __version__
from exporter.artifact.files import list_files
from exporter.artifact.manifest import (
    MANIFEST_SCHEMA,
    Manifest,
    PairsEntry,
    SourceEntry,
    VariantEntry,
    read_manifest,
    write_manifest,
)
from exporter.backend import backend
from exporter.errors import BackendMissing, RecipeError
from exporter.export.external_data import INLINE_BYTES, SUFFIX
from exporter.export.folder import write_config_and_tokenizer
from exporter.export.graph import CommonGraph, make_graph
from exporter.export.onnx import DEFAULT_OPSET
from exporter.machine import package_version, this_platform
from exporter.packages import install
from exporter.pairs import Pair, PairSet, spread_out
from exporter.progress import quiet
from exporter.recipe.difference import differences
from exporter.recipe.kinds import KINDS
from exporter.recipe.schema import (
    Onnx,
    OnnxInt8,
    OnnxInt8Static,
    OpenVino,
    OpenVinoInt8,
    Recipe,
    int8_isa_of,
    isa_of,
    path_of,
)
from exporter.runtime.model_file import check_artifact

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from exporter.context import Context
    from exporter.export.source import Source
    from exporter.recipe.schema import Variant

    _Feeds: TypeAlias = list[dict[str, NDArray[np.int64]]]


# Pairs of all lengths, on which a rewritten graph is held against the exported one.
N_PROOF_PAIRS = 64
# The step that makes the common graph.
_GRAPH = "export"
# A cached step's facts for the manifest.
_FACTS = "facts.txt"
_TOOLS = (
    "torch",
    "transformers",
    "optimum",
    "optimum-onnx",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "openvino",
    "nncf",
    "numpy",
    "tokenizers",
    "safetensors",
)


def tools() -> tuple[tuple[str, str], ...]:
    """Return the packages that decide the bytes of a build, each with its version here."""
    return (
        ("exporter", __version__),
        *((name, version) for name in _TOOLS if (version := package_version(name))),
    )


def build_artifact(
    recipe: Recipe,
    source: Source,
    verify_set: PairSet,
    calibrate_set: PairSet | None,
    *,
    into: Path,
    context: Context,
    inline_bytes: int = INLINE_BYTES,
) -> Manifest:
    """Build all files of a recipe's artifact into an empty folder, and its manifest.

    Args:
        recipe: what to build.
        source: its model.
        verify_set: pairs on which rewritten graphs must score as the exported one.
        calibrate_set: pairs for static int8.
        into: the folder.
        context: told the name of each step; its cache keeps finished ones.
        inline_bytes: weights of a graph beyond which they lie in a file beside it.

    Raises:
        BackendError, BackendMissing, RecipeError: see `build_variants`.
    """
    variants = build_variants(
        recipe,
        source,
        calibrate=calibrate_set.pairs if calibrate_set else (),
        proof=spread_out(verify_set, N_PROOF_PAIRS),
        into=into,
        context=context,
        inline_bytes=inline_bytes,
    )
    write_config_and_tokenizer(source, into)
    manifest = Manifest(
        schema=MANIFEST_SCHEMA,
        name=recipe.name,
        recipe_digest=recipe.digest,
        recipe=recipe.model_dump_json(),
        source=source_entry(source),
        pairs=pair_entries(verify_set, calibrate_set),
        platform=this_platform(),
        max_length=source.max_length,
        pad_id=source.pad_id,
        tools=tools(),
        variants=variants,
        files=list_files(into),
    )
    write_manifest(manifest, into)
    return manifest


def source_entry(source: Source) -> SourceEntry:
    """Return what a manifest records of the model of a build."""
    return SourceEntry(source.name, source.revision, source.digest, source.weights_bytes, source.notes)


def pair_entries(verify_set: PairSet, calibrate_set: PairSet | None) -> tuple[PairsEntry, ...]:
    """Return what a manifest records of the pair sets of a build."""
    verify_entry = PairsEntry("verify", verify_set.name, verify_set.digest, len(verify_set.pairs))
    if calibrate_set is None:
        return (verify_entry,)
    return (
        verify_entry,
        PairsEntry("calibrate", calibrate_set.name, calibrate_set.digest, len(calibrate_set.pairs)),
    )


def is_current(folder: Path, recipe: Recipe, source: Source, pairs: tuple[PairsEntry, ...]) -> bool:
    """Check that an artifact is what this recipe would build here and now; return True, or raise.

    Args:
        folder: the artifact.
        recipe: what would be built.
        source: its model.
        pairs: its pair sets, see `pair_entries`.

    Raises:
        RecipeError: the artifact was built from another recipe, bars and how it is measured aside, or from
            another model, pairs or packages; the message names which.
        IntegrityError: the artifact was built from this recipe, and its files were changed since.
    """
    manifest = read_manifest(folder)
    if differs := _built_differently(manifest, recipe):
        raise RecipeError(
            f"{folder} already exists, built from another recipe; pass --replace to build it again "
            f"(it differs in {', '.join(differs)})"
        )
    for what, old, new in (
        ("another model", manifest.source.digest, source.digest),
        ("other pairs", manifest.pairs, pairs),
        ("other package versions", manifest.tools, tools()),
    ):
        if old != new:
            raise RecipeError(f"{folder} already exists, built from {what}; pass --replace to build it again")
    check_artifact(manifest, folder)
    return True


def _built_differently(manifest: Manifest, recipe: Recipe) -> tuple[str, ...]:
    """Return the keys of a recipe that ask for another build than the manifest's; bars are none of them."""
    try:
        recorded = Recipe.model_validate_json(manifest.recipe)
    except ValidationError:
        return ("all",)
    return differences(recorded, recipe).built


def build_variants(
    recipe: Recipe,
    source: Source,
    *,
    calibrate: Sequence[Pair],
    proof: Sequence[Pair],
    into: Path,
    context: Context,
    inline_bytes: int = INLINE_BYTES,
    only: Collection[str] | None = None,
) -> tuple[VariantEntry, ...]:
    """Build all variants of a recipe into a folder.

    Args:
        recipe: what to build.
        source: its model.
        calibrate: pairs for static int8; empty if no variant needs any.
        proof: pairs on which a rewritten graph must score as the exported one.
        into: the artifact's folder.
        context: its progress is told the name of each step, its cache keeps finished steps.
        inline_bytes: weights of a graph beyond which they lie in a file beside it.
        only: the ids of the variants to build, by default all.

    Raises:
        BackendMissing: a package that builds one of the kinds is not installed.
        BackendError: a library refuses the model, or the disk is full.
        RecipeError: a variant asks for what the graph does not have.
    """
    wanted = {name: one for name, one in recipe.by_id.items() if only is None or name in only}
    for variant in wanted.values():
        if missing := KINDS[variant.kind].missing_packages:
            raise BackendMissing(f"{variant.kind} needs {', '.join(missing)}; {install('build')}")
    steps = _Steps(recipe, source, calibrate, proof, context, inline_bytes)
    graphs = {opset: steps.graph(opset) for opset in sorted({_opset(v) for v in wanted.values()})}
    return tuple(steps.variant(name, one, graphs[_opset(one)], into) for name, one in wanted.items())


def common_graph(
    recipe: Recipe,
    source: Source,
    verify_set: PairSet,
    variant: Variant,
    context: Context,
    *,
    make: bool,
) -> CommonGraph | None:
    """Return the fp32 graph that a variant is made from, from the cache.

    Args:
        recipe: what the artifact was built from.
        source: its model.
        verify_set: pairs on which rewritten graphs must score as the exported one.
        variant: one of the recipe's.
        context: see `build_variants`.
        make: whether it is made where the cache has none; else None is returned.

    Raises:
        BackendError, BackendMissing: see `build_variants`.
    """
    proof = spread_out(verify_set, N_PROOF_PAIRS)
    steps = _Steps(recipe, source, (), proof, context, INLINE_BYTES)
    if make:
        return steps.graph(_opset(variant))
    found = context.cache.find(_GRAPH, steps.graph_key(_opset(variant)))
    return None if found is None else CommonGraph(found)


def _opset(variant: Variant) -> int:
    return variant.opset if isinstance(variant, Onnx | OnnxInt8 | OnnxInt8Static) else DEFAULT_OPSET


@cache
def _source_hash() -> str:
    """Return a hash of this package's source, part of every cache key: other code may build other bytes."""
    modules = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in modules)).hexdigest()


@dataclass(frozen=True, slots=True)
class _Steps:
    """The cached steps of a build."""

    recipe: Recipe
    source: Source
    calibrate: Sequence[Pair]
    proof: Sequence[Pair]
    context: Context
    inline_bytes: int

    def graph(self, opset: int) -> CommonGraph:
        """Export and rewrite the graph that all variants of one opset are made from."""

        def make(folder: Path) -> tuple[str, ...]:
            return make_graph(self.source, opset, self.proof, folder, inline_bytes=self.inline_bytes)

        instead = "docs/how-to/your-own-model.md says which architectures build"
        return CommonGraph(
            self._step(_GRAPH, self.graph_key(opset), make, f"export to ONNX, opset {opset}", instead)
        )

    def graph_key(self, opset: int) -> dict[str, object]:
        """Return everything that the graph of an opset is made from."""
        max_length, proof = self.source.max_length, [list(pair) for pair in self.proof]
        return {**self._base(opset), "max_length": max_length, "proof": proof}

    def variant(self, name: str, variant: Variant, graph: CommonGraph, into: Path) -> VariantEntry:
        """Build a variant's files into the artifact's folder; `name` is its id."""
        row, target = KINDS[variant.kind], Path(path_of(name, variant))
        exported = _facts(graph.folder)
        config = {
            **self._base(_opset(variant)),
            "graph": exported,
            "variant": variant.model_dump(mode="json", exclude={"bars"}),
        }
        if row.traits.calibrated:
            max_length = self.source.max_length
            config |= {"calibrate": [list(pair) for pair in self.calibrate], "max_length": max_length}

        def make(folder: Path) -> tuple[str, ...]:
            return _make(variant, graph, folder / target.name, self._feeds(graph), self.inline_bytes)

        instead = f"take {name} out of the recipe to build the others"
        built = self._step("variant", config, make, f"build {name}", instead)

        (into / target).parent.mkdir(exist_ok=True)
        files = []
        for path in sorted(built.iterdir()):
            if path.name.startswith(f"{target.stem}."):
                shutil.copyfile(path, into / target.parent / path.name)
                files.append((target.parent / path.name).as_posix())
        beside = [f"weights in {name}" for name in files if name.endswith(SUFFIX)]
        return VariantEntry(
            kind=name,
            traits=row.traits,
            isa=isa_of(variant),
            model=target.as_posix(),
            files=tuple(files),
            inputs=graph.inputs,
            flop_count=graph.flop_count,
            facts=(*exported, *_facts(built), *beside, *row.notes),
        )

    def _feeds(self, graph: CommonGraph) -> Callable[[], _Feeds]:
        def feeds() -> _Feeds:
            from exporter.export.folder import artifact_tokenizer, feeds_of

            tokenizer = artifact_tokenizer(self.source)
            return feeds_of(self.calibrate, tokenizer, graph.inputs)

        return feeds

    def _base(self, opset: int) -> dict[str, object]:
        return {
            "source": self.source.digest,
            "tools": tools(),
            "code": _source_hash(),
            "opset": opset,
            "inline_bytes": self.inline_bytes,
        }

    def _step(
        self,
        step: str,
        key: dict[str, object],
        make: Callable[[Path], tuple[str, ...]],
        name: str,
        instead: str,
    ) -> Path:
        """Run a step, or find its result in the cache; return its folder.

        Where a library fails, the error's line begins with the step's `name` and ends with `instead`.
        """

        def fill(folder: Path) -> None:
            with quiet(), backend(name, instead):
                facts = make(folder)
            (folder / _FACTS).write_text("\n".join(facts), encoding="utf-8")

        with self.context.progress.stage(name):
            folder, reused = self.context.cache.get(step, key, fill)
        if reused:
            self.context.progress.note(f"{name}: reused, nothing it is made from has changed")
        return folder


def _facts(step: Path) -> tuple[str, ...]:
    return tuple((step / _FACTS).read_text(encoding="utf-8").splitlines())


def _make(
    variant: Variant, exported: CommonGraph, path: Path, feeds: Callable[[], _Feeds], inline_bytes: int
) -> tuple[str, ...]:
    """Turn the exported graph into a variant's file, and return facts for the manifest.

    `feeds` returns the calibration pairs as the graph's inputs, one pair a batch. The library that builds the
    kind is imported here and not before.
    """
    match variant:
        case Onnx():
            from exporter.export.external_data import pack

            pack(exported.unmasked, path, inline_bytes)
            return (exported.attention,)
        case OnnxInt8() | OnnxInt8Static():
            from exporter.export import int8
            from exporter.export.rewrites.attention import add_unpadded_fast_path

            int8_options = int8.Options(
                int8_isa_of(variant), variant.keep_fp32, variant.quantize_embeddings, inline_bytes
            )
            if isinstance(variant, OnnxInt8):
                facts = int8.quantize_at_run_time(exported.path, path, int8_options)
            else:
                facts = int8.quantize_by_ranges(exported.path, path, int8_options, feeds())
            if exported.unmasked.read_bytes() == exported.path.read_bytes():
                return (*facts, exported.attention)
            applied = add_unpadded_fast_path(path, path)
            kept = exported.attention.startswith(applied)
            return (*facts, exported.attention if kept else applied)
        case OpenVino():
            from exporter.export.openvino import convert

            return convert(exported.path, path, fp16=KINDS[variant.kind].traits.weights == "fp16")
        case OpenVinoInt8():
            from exporter.export.openvino import quantize

            return quantize(
                exported.path, path, feeds(), isa=int8_isa_of(variant), keep_fp32=variant.keep_fp32
            )
    assert_never(variant)
