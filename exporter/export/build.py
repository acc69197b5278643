"""Build every variant of a recipe into one folder: which file each kind becomes, and which steps make it.

Each step's result is cached under everything it was made from, so an unchanged recipe is built in seconds.
"""

from __future__ import annotations

import hashlib
import shutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, assert_never

from exporter import __version__
from exporter.artifact.files import from_json, list_files, to_json
from exporter.artifact.manifest import (
    MANIFEST_SCHEMA,
    FlopCount,
    Manifest,
    PairsEntry,
    SourceEntry,
    VariantEntry,
    read_manifest,
    write_manifest,
)
from exporter.errors import BackendMissing, RecipeError
from exporter.export.folder import write_config_and_tokenizer
from exporter.export.onnx import DEFAULT_OPSET
from exporter.machine import package_version, this_platform
from exporter.packages import install
from exporter.pairs import Pair, PairSet, spread_out
from exporter.progress import quiet
from exporter.recipe.kinds import KINDS
from exporter.recipe.schema import Onnx, OnnxInt8, OnnxInt8Static, OpenVino, OpenVinoInt8
from exporter.runtime.model_file import check_artifact

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from exporter.context import Context
    from exporter.export.source import Source
    from exporter.recipe.schema import Recipe, Variant

    _Feeds: TypeAlias = list[dict[str, NDArray[np.int64]]]


# Pairs of all lengths, on which a rewritten graph is held against the exported one.
N_PROOF_PAIRS = 64
# Rows of a batch of them: some batches then have padding and some have not, without taking long.
_PROOF_ROWS = 4
# The files of a cached step: its facts, the graph that every kind is made from, that graph's arithmetic, and
# the graph for onnxruntime alone, whose attention other engines do not know, with a fact about it.
_FACTS = "facts.txt"
_GRAPH = "graph.onnx"
_FLOPS = "flops.json"
_UNMASKED = "unmasked.onnx"
_ATTENTION = "attention.txt"
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
) -> Manifest:
    """Build all files of a recipe's artifact into an empty folder, and its manifest.

    Args:
        recipe: what to build.
        source: its model.
        verify_set: pairs on which rewritten graphs must score as the exported one.
        calibrate_set: pairs for static int8.
        into: the folder.
        context: told the name of each step; its cache keeps finished ones.

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
        RecipeError: the artifact was built from another recipe, model, pairs or packages; the message names
            which.
        IntegrityError: the artifact was built from this recipe, and its files were changed since.
    """
    manifest = read_manifest(folder)
    for what, old, new in (
        ("another recipe", manifest.recipe_digest, recipe.digest),
        ("another model", manifest.source.digest, source.digest),
        ("other pairs", manifest.pairs, pairs),
        ("other package versions", manifest.tools, tools()),
    ):
        if old != new:
            raise RecipeError(f"{folder} already exists, built from {what}; pass --replace to build it again")
    check_artifact(manifest, folder)
    return True


def build_variants(
    recipe: Recipe,
    source: Source,
    *,
    calibrate: Sequence[Pair],
    proof: Sequence[Pair],
    into: Path,
    context: Context,
) -> tuple[VariantEntry, ...]:
    """Build all variants of a recipe into a folder.

    Args:
        recipe: what to build.
        source: its model.
        calibrate: pairs for static int8; empty if no variant needs any.
        proof: pairs on which a rewritten graph must score as the exported one.
        into: the artifact's folder.
        context: its progress is told the name of each step, its cache keeps finished steps.

    Raises:
        BackendMissing: a package that builds one of the kinds is not installed.
        BackendError: a library refuses the model, or the disk is full.
        RecipeError: a variant asks for what the graph does not have.
    """
    for variant in recipe.variants:
        if missing := KINDS[variant.kind].missing_packages:
            raise BackendMissing(f"{variant.kind} needs {', '.join(missing)}; {install('build')}")
    graphs = {
        opset: _export(source, opset, proof, context)
        for opset in sorted({_opset(v) for v in recipe.variants})
    }
    return tuple(
        _build(variant, source, calibrate, graph=graphs[_opset(variant)], into=into, context=context)
        for variant in recipe.variants
    )


def _opset(variant: Variant) -> int:
    return variant.opset if isinstance(variant, Onnx | OnnxInt8 | OnnxInt8Static) else DEFAULT_OPSET


def _base(source: Source, opset: int) -> dict[str, object]:
    return {"source": source.digest, "tools": tools(), "code": _source_hash(), "opset": opset}


@cache
def _source_hash() -> str:
    """Return a hash of this package's source, part of every cache key: other code may build other bytes."""
    modules = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in modules)).hexdigest()


def _export(source: Source, opset: int, proof: Sequence[Pair], context: Context) -> Path:
    """Export and rewrite the graph that all variants of one opset are made from; return its folder."""

    def make(folder: Path) -> tuple[str, ...]:
        from exporter.export.flops import count_flops
        from exporter.export.folder import artifact_tokenizer, feeds_of
        from exporter.export.onnx import export_plain
        from exporter.export.rewrites.attention import absorb_kv_projections, add_unpadded_fast_path
        from exporter.export.rewrites.last_layer import first_token_only
        from exporter.export.rewrites.proof import keep_if_equivalent

        exported, narrowed, rewritten = folder / "exported.onnx", folder / "narrowed.onnx", folder / _GRAPH
        export_plain(source, opset, exported)

        tokenizer = artifact_tokenizer(source)
        feeds = feeds_of(proof, tokenizer, source.inputs, batch_size=_PROOF_ROWS)
        facts = (
            keep_if_equivalent(first_token_only(exported, narrowed), exported, narrowed, feeds),
            keep_if_equivalent(absorb_kv_projections(narrowed, rewritten), narrowed, rewritten, feeds),
        )
        exported.unlink()
        narrowed.unlink()

        unmasked = folder / _UNMASKED
        attention = add_unpadded_fast_path(rewritten, unmasked)
        feeds += feeds_of(proof, tokenizer, source.inputs)  # without padding
        attention = keep_if_equivalent(attention, rewritten, unmasked, feeds)
        (folder / _ATTENTION).write_text(attention, encoding="utf-8")
        (folder / _FLOPS).write_bytes(to_json(count_flops(rewritten, source.inputs)))
        return facts

    key = {**_base(source, opset), "max_length": source.max_length, "proof": [list(pair) for pair in proof]}
    return _step("export", key, make, f"export to ONNX, opset {opset}", context)


def _build(
    variant: Variant,
    source: Source,
    calibrate: Sequence[Pair],
    *,
    graph: Path,
    into: Path,
    context: Context,
) -> VariantEntry:
    row, isa = KINDS[variant.kind], getattr(variant, "isa", None)
    target = Path(row.path(isa))
    exported = tuple((graph / _FACTS).read_text(encoding="utf-8").splitlines())

    config = {
        **_base(source, _opset(variant)),
        "graph": exported,
        "variant": variant.model_dump(mode="json", exclude={"bars"}),
    }
    if row.traits.calibrated:
        config |= {"calibrate": [list(pair) for pair in calibrate], "max_length": source.max_length}

    def feeds() -> _Feeds:
        from exporter.export.folder import artifact_tokenizer, feeds_of

        return feeds_of(calibrate, artifact_tokenizer(source), source.inputs)

    def make(folder: Path) -> tuple[str, ...]:
        return _make(variant, graph, folder / target.name, feeds)

    built = _step("variant", config, make, f"build {variant.kind}", context)

    (into / target).parent.mkdir(exist_ok=True)
    files = []
    for path in sorted(built.iterdir()):
        if path.stem == target.stem and path.suffix in (".onnx", ".xml", ".bin"):
            shutil.copyfile(path, into / target.parent / path.name)
            files.append((target.parent / path.name).as_posix())

    return VariantEntry(
        kind=variant.kind,
        traits=row.traits,
        isa=isa,
        model=target.as_posix(),
        files=tuple(files),
        inputs=source.inputs,
        flop_count=from_json(FlopCount, (graph / _FLOPS).read_bytes()),
        facts=(*exported, *(built / _FACTS).read_text(encoding="utf-8").splitlines(), *row.notes),
    )


def _make(variant: Variant, exported: Path, path: Path, feeds: Callable[[], _Feeds]) -> tuple[str, ...]:
    """Turn the graph of an export's folder into a variant's file, and return facts for the manifest.

    `feeds` returns the calibration pairs as the graph's inputs, one pair a batch. The library that builds the
    kind is imported here and not before.
    """
    graph = exported / _GRAPH
    attention = (exported / _ATTENTION).read_text(encoding="utf-8")
    match variant:
        case Onnx():
            shutil.copyfile(exported / _UNMASKED, path)
            return (attention,)
        case OnnxInt8() | OnnxInt8Static():
            from exporter.export import int8
            from exporter.export.rewrites.attention import add_unpadded_fast_path

            int8_options = int8.Options(
                variant.isa, variant.keep_fp32, embeddings=variant.quantize_embeddings
            )
            if isinstance(variant, OnnxInt8):
                facts = int8.quantize_at_run_time(graph, path, int8_options)
            else:
                facts = int8.quantize_by_ranges(graph, path, int8_options, feeds())
            if (exported / _UNMASKED).read_bytes() == graph.read_bytes():
                return (*facts, attention)
            applied = add_unpadded_fast_path(path, path)
            return (*facts, attention if attention.startswith(applied) else applied)
        case OpenVino():
            from exporter.export.openvino import convert

            return convert(graph, path, fp16=KINDS[variant.kind].traits.weights == "fp16")
        case OpenVinoInt8():
            from exporter.export.openvino import quantize

            return quantize(graph, path, feeds(), isa=variant.isa, keep_fp32=variant.keep_fp32)
    assert_never(variant)


def _step(
    step: str, key: dict[str, object], make: Callable[[Path], tuple[str, ...]], name: str, context: Context
) -> Path:
    """Run a step, or find its result in the cache; return its folder."""

    def fill(folder: Path) -> None:
        with quiet():
            facts = make(folder)
        (folder / _FACTS).write_text("\n".join(facts), encoding="utf-8")

    with context.progress.stage(name):
        folder, reused = context.cache.get(step, key, fill)
    if reused:
        context.progress.note(f"{name}: reused, nothing it is made from has changed")
    return folder
