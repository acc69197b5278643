"""Run a benchmark: an artifact's ONNX kinds beside other libraries on the same weights and pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter import __version__
from exporter.bench.measure import (
    BENCH_SCHEMA,
    OURS,
    TUNED,
    Bench,
    Side,
    measure_mixes,
    measure_rows,
    peer_sides,
)
from exporter.bench.scaling import measure_scaling
from exporter.bench.settings import BenchSettings
from exporter.errors import RecipeError
from exporter.libraries.peers import PEERS, prepare_peers
from exporter.machine import package_version
from exporter.measure.reference import reference_scores, tuned_reference
from exporter.measure.workspace import open_artifact
from exporter.packages import require
from exporter.pairs import whole_queries
from exporter.runtime import PairTokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from exporter.artifact.manifest import Manifest, VariantEntry
    from exporter.context import Context
    from exporter.pairs import Pair


def bench(
    folder: Path,
    context: Context,
    *,
    only: Sequence[str] = (),
    lengths: bool,
    scaling: bool,
    settings: BenchSettings | None = None,
) -> Bench:
    """Time an artifact's ONNX kinds beside other libraries on the same weights and pairs.

    Args:
        folder: the artifact, with an int8 ONNX kind, the first of which stands for us.
        context: told what goes on.
        only: names of peers, by default all of them.
        lengths: also on short, medium and long pairs.
        scaling: also how our cost grows with tokens, cores and pairs.
        settings: how much is measured.

    Raises:
        RecipeError: the folder is no artifact or has no int8 ONNX kind, its model or pairs are gone, or
            there is no such peer.
        IntegrityError: its files, or its model, are not what its manifest says.
        BackendError: the reference or an engine fails.
    """
    settings = settings or BenchSettings()
    require("verify")
    workspace = open_artifact(folder, context)
    manifest, pair_set, machine = workspace.manifest, workspace.pair_set, workspace.machine
    ours_first = _ours_first(manifest)
    if unknown := [name for name in only if name not in PEERS]:
        raise RecipeError(f"{unknown[0]!r} is no peer; they are {', '.join(PEERS)}")

    tuned = tuned_reference(
        workspace.source,
        workspace.source.max_length,
        "cpu",
        pair_set,
        settings=settings.rounds,
        context=context,
    )
    scores = reference_scores(workspace.source, tuned, pair_set, context)
    specs = {entry.kind: workspace.spec(entry) for entry in ours_first}
    sides = [Side(_side(kind), _side(__version__), {OURS: spec}) for kind, spec in specs.items()]

    chosen = {name: PEERS[name] for name in only or PEERS}
    folders, skipped = prepare_peers(workspace.source, chosen, context)
    sweep_at = whole_queries(pair_set, settings.n_queries // 2)
    sweep_pairs = tuple(pair_set.pairs[i] for i in sweep_at)
    peers, failed = peer_sides(folders, machine.n_cores, sweep_pairs, settings, context.progress)
    torch = f"sentence-transformers {package_version('sentence-transformers')}"
    sides.append(Side("torch tuned", torch, {TUNED: tuned.float32}))
    if tuned.bfloat16:
        sides.append(Side("torch bfloat16", torch, {TUNED: tuned.bfloat16}))
    sides += peers

    ours, progress = _side(ours_first[0].kind), context.progress
    tokenizer = PairTokenizer.load(folder, manifest)

    def count(pairs: Sequence[Pair]) -> list[int]:
        n_tokens: list[int] = tokenizer.count(pairs).tolist()
        return n_tokens

    flop_counts = {entry.kind: entry.flop_count for entry in ours_first}
    what = f"{settings.n_queries} queries with all their candidates of {pair_set.name}"
    return Bench(
        schema=BENCH_SCHEMA,
        name=manifest.name,
        manifest_root=manifest.root,
        started_at=context.started_at,
        machine=machine,
        pairs=f"{what}, nDCG and r on {settings.n_quality_queries}",
        ours=ours,
        rows=measure_rows(sides, ours, pair_set, scores, settings=settings, progress=progress),
        mixes=measure_mixes(sides, ours, pair_set, count, settings=settings, progress=progress)
        if lengths
        else (),
        scaling=measure_scaling(specs, flop_counts, pair_set, count, settings=settings, progress=progress)
        if scaling
        else (),
        skipped=(*skipped, *failed),
    )


def _ours_first(manifest: Manifest) -> list[VariantEntry]:
    """Return the ONNX variants, the one that stands for us first: the first int8 one."""
    variants = [entry for entry in manifest.variants if entry.traits.engine == "onnxruntime"]
    if not any(entry.traits.weights == "int8" for entry in variants):
        has = ", ".join(entry.kind for entry in manifest.variants)
        raise RecipeError(f"{manifest.name} has no int8 ONNX kind to hold others against; it has {has}")
    first = next(entry for entry in variants if entry.traits.weights == "int8")
    return [first, *(entry for entry in variants if entry is not first)]


def _side(what: str) -> str:
    return f"exporter {what}"
