"""The story in one file: recipe → build → verify → gate → publish, each one call."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from pydantic import TypeAdapter

from exporter import __version__
from exporter.artifact import (
    MANIFEST_SCHEMA,
    REPORT,
    Manifest,
    SourceEntry,
    VariantEntry,
    check_files,
    list_files,
    read_manifest,
    staged,
    write_manifest,
)
from exporter.errors import IntegrityError, RecipeError
from exporter.export.build import build_variants, tools
from exporter.export.source import Source, find_source, write_config_and_tokenizer, write_reference
from exporter.machine import Machine, this_machine
from exporter.publish.folder import publish_to_folder
from exporter.recipe import Model, Recipe
from exporter.runtime import Reranker, choose_plan
from exporter.verify.bench import (
    BENCH_SCHEMA,
    N_QUALITY_QUERIES,
    N_QUERIES,
    OURS,
    Bench,
    Side,
    measure_mixes,
    measure_rows,
    measure_scaling,
    peer_sides,
    whole_queries,
)
from exporter.verify.gate import MAX_CROWDING, MAX_SPREAD, judge, outcome
from exporter.verify.pairs import PairSet, load_pair_sets
from exporter.verify.parity import compare, quality
from exporter.verify.peers import PEERS, prepare_peers
from exporter.verify.profile import Profile
from exporter.verify.profile import profile as profile_variant
from exporter.verify.reference import device_for, reference_scores, tuned_reference
from exporter.verify.report import (
    REPORT_SCHEMA,
    PairSetInfo,
    ReferenceReport,
    Report,
    VariantReport,
    read_report,
    rejudge,
    write_report,
)
from exporter.verify.throughput import (
    N_TIMED_PAIRS,
    PRECISION,
    arithmetic,
    default_torch,
    measure,
    measure_latency,
    pool,
    speedup,
    spread_out,
    spread_out_positions,
    tune_artifact,
)
from exporter.verify.worker import PEAK_DTYPES, ArtifactSpec, Job, PeakSpec, Run, Spec, run_job

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from exporter.progress import Progress
    from exporter.recipe import Bars

# Pairs of all lengths, on which a rewritten graph is held against the exported one.
N_PROOF_PAIRS = 64
# The kind that stands for us in a benchmark.
OURS_KIND = "onnx-int8"
# Pairs of all lengths that are scored one by one too, to see what batches do to a score.
N_ALONE_PAIRS = 128


def export(recipe: Recipe, out: Path, progress: Progress, *, started_at: str, replace_old: bool = False) -> Report:
    """Do the main job: build a recipe's artifact, verify it, judge it. What is already there and unchanged is reused.

    Args:
        recipe: what to build.
        out: the folder that holds artifacts.
        progress: told what is going on.
        started_at: now, ISO 8601 in UTC; stands in the report.
        replace_old: build again over an artifact of the same name that differs.

    Raises:
        ExporterError: see `build` and `verify`.
    """
    folder = build(recipe, out, progress, replace_old=replace_old)
    if (folder / REPORT).is_file():
        report = gate(folder)
        if not report.machine.differences(this_machine()):
            progress.note(f"verify: report of {report.started_at} reused; `exporter verify {folder}` measures again")
            return report
        progress.note("verify: the report was made on another machine or with other packages; measuring again")
    return verify(folder, progress, started_at=started_at)


def build(recipe: Recipe, out: Path, progress: Progress, *, replace_old: bool = False) -> Path:
    """Build a recipe's artifact folder, every variant with its best plan on this machine; nothing is judged.

    Raises:
        RecipeError: the recipe cannot be carried out, or another artifact of this name exists.
        BackendError: a library, the hub or the disk failed.
        IntegrityError: an artifact of this recipe exists, and its files were changed.
    """
    final = out / recipe.name
    verify_set, calibrate_set = load_pair_sets(recipe)
    with progress.stage("model"):
        source = find_source(recipe.model)
    if final.exists() and not replace_old and _is_current(final, recipe, source):
        progress.note(f"build: {final} reused, recipe, model and tools have not changed")
        return final
    with staged(final, replace=replace_old) as scratch:
        variants = build_variants(
            recipe,
            source,
            calibrate=calibrate_set.pairs if calibrate_set else (),
            proof=spread_out(verify_set, N_PROOF_PAIRS),
            into=scratch,
            progress=progress,
        )
        write_config_and_tokenizer(source, recipe.model.max_length, scratch)
        manifest = Manifest(
            schema=MANIFEST_SCHEMA,
            name=recipe.name,
            recipe_digest=recipe.digest,
            recipe=recipe.model_dump_json(),
            source=SourceEntry(source.name, source.revision, source.digest, source.weights_bytes),
            max_length=recipe.model.max_length,
            pad_id=source.pad_id,
            tools=tools(),
            variants=variants,
            files=list_files(scratch),
        )
        write_manifest(manifest, scratch)
        write_manifest(_with_plans(manifest, scratch, verify_set, progress), scratch)
    return final


def verify(folder: Path, progress: Progress, *, started_at: str) -> Report:
    """Measure every variant of an artifact against the PyTorch reference, judge it, and write the report.

    Raises:
        RecipeError: the folder is no artifact, or its model or pairs are gone.
        IntegrityError: its files, or its model, are not what its manifest says.
        BackendError: the reference or an engine fails.
    """
    manifest, recipe, pair_set, source = _checked(folder, progress)
    machine = this_machine()
    if (planned := _with_plans(manifest, folder, pair_set, progress)) != manifest:
        manifest = planned
        write_manifest(manifest, folder)
    device = device_for(recipe.reference.device)
    tuned = tuned_reference(source, recipe.model.max_length, device, pair_set, progress)
    reference = reference_scores(source, tuned, pair_set, progress)

    candidates = {entry.kind: _spec(folder, entry, machine) for entry in manifest.variants}
    scores, alone = {}, {}
    few_at = spread_out_positions(pair_set, N_ALONE_PAIRS)
    few = tuple(pair_set.pairs[i] for i in few_at)
    for kind, spec in candidates.items():
        with progress.stage(f"{kind}: scores", len(pair_set.pairs)) as step:
            _, scores[kind] = run_job(Job("score", (spec,), pair_set.pairs), step)
            _, alone[kind] = run_job(Job("score", (replace(spec, token_budget=1),), few))

    bars = _bars(recipe)
    peaks = {f"peak {dtype}": PeakSpec(dtype, machine.n_cores, 1) for dtype in PEAK_DTYPES}
    sides: dict[str, Spec] = {
        "torch default": default_torch(tuned, machine.n_cores),
        "torch tuned": tuned,
        **candidates,
        **peaks,
    }
    runs = measure(
        sides,
        pair_set,
        progress,
        seldom=frozenset({"torch default", *peaks, *(kind for kind, of_kind in bars.items() if of_kind.min_speedup is None)}),
        unsettled=lambda runs: _unsettled(runs, bars),
    )
    pooled = {side: pool(side, str(spec), runs[side]) for side, spec in sides.items() if side not in peaks}
    peak_runs = {dtype: runs[f"peak {dtype}"] for dtype in PEAK_DTYPES}
    with progress.stage("latency", len(candidates) + 1) as step:
        latency = {}
        for done, side in enumerate(("torch tuned", *candidates), 1):
            latency[side] = measure_latency(side, sides[side], pair_set)
            step(done)

    rows = []
    for entry in manifest.variants:
        kind, size = entry.kind, manifest.size_bytes(entry)
        found, found_alone = scores[kind], alone[kind]
        assert found is not None
        assert found_alone is not None
        parity, kept = compare(reference, found, pair_set), quality(reference, found, pair_set)
        ratio = speedup(runs[kind], runs["torch tuned"])
        checks = judge(bars[kind], parity, kept, ratio, size / source.weights_bytes)
        rows.append(
            VariantReport(
                kind=kind,
                isa=entry.isa,
                size_bytes=size,
                size_ratio=size / source.weights_bytes,
                facts=entry.facts,
                parity=parity,
                batch_diff=float(np.abs(found[few_at] - found_alone).max()),
                quality=kept,
                throughput=pooled[kind],
                arithmetic=arithmetic(kind, entry.work, runs[kind], peak_runs),
                speedup_tuned=ratio,
                speedup_default=speedup(runs[kind], runs["torch default"]),
                latency=latency[kind],
                checks=checks,
                verdict=outcome(checks),
            )
        )
    report = Report(
        schema=REPORT_SCHEMA,
        name=manifest.name,
        manifest_root=manifest.root,
        recipe_digest=manifest.recipe_digest,
        started_at=started_at,
        machine=machine,
        pairs=_pairs_info(pair_set),
        reference=ReferenceReport(
            source=source.name,
            revision=source.revision,
            device=device,
            weights_bytes=source.weights_bytes,
            default=pooled["torch default"],
            tuned=pooled["torch tuned"],
            latency=latency["torch tuned"],
        ),
        variants=tuple(rows),
        verdict=outcome(rows),
    )
    write_report(report, folder)
    return report


def gate(folder: Path, bars: Mapping[str, Bars] | None = None) -> Report:
    """Judge an artifact's stored report again, against its recipe's bars or others; no model is run, nothing is written.

    Raises:
        RecipeError: the folder is no artifact, was not verified, or the bars are for none of its variants.
        IntegrityError: files, manifest or report are not what they were.
    """
    manifest = read_manifest(folder)
    check_files(manifest, folder)
    recipe = TypeAdapter(Recipe).validate_json(manifest.recipe)
    return rejudge(read_report(folder, manifest), bars or _bars(recipe))


def publish(folder: Path, dest: Path, *, replace_dest: bool = False) -> tuple[str, ...]:
    """Copy the variants that passed to a folder and give the kinds left behind.

    Raises:
        GateRefused, NoVerdict: no variant passed.
        RecipeError, IntegrityError: see `gate`; or `dest` stands in the way.
    """
    report = gate(folder)
    return publish_to_folder(folder, read_manifest(folder), report, dest, replace_dest=replace_dest)


def profile(folder: Path, kind: str | None = None) -> Profile:
    """Record each operator's time over the pairs that speed is measured on; needs no PyTorch.

    Raises:
        RecipeError: the folder is no artifact, has no such variant, or its pairs are gone.
        IntegrityError: its files are not what its manifest says.
    """
    manifest = read_manifest(folder)
    check_files(manifest, folder)
    pair_set, _ = load_pair_sets(TypeAdapter(Recipe).validate_json(manifest.recipe))
    return profile_variant(folder, kind, spread_out(pair_set, N_TIMED_PAIRS))


def bench(folder: Path, progress: Progress, *, started_at: str, only: Sequence[str] = (), lengths: bool, scaling: bool) -> Bench:
    """Time an artifact's ONNX kinds beside other libraries on the same weights and pairs.

    Args:
        folder: the artifact; onnx-int8 must be among its kinds.
        progress: told what is going on.
        started_at: now, ISO 8601 in UTC.
        only: names of peers, by default all of them.
        lengths: also on short, medium and long pairs.
        scaling: also how our cost grows with tokens, cores and pairs.

    Raises:
        RecipeError: the folder is no artifact, has no onnx-int8, its model or pairs are gone, or there is no such peer.
        IntegrityError: its files, or its model, are not what its manifest says.
        BackendError: the reference or an engine fails.
    """
    manifest, recipe, pair_set, source = _checked(folder, progress)
    ours = manifest.variant(OURS_KIND)
    if unknown := [name for name in only if name not in PEERS]:
        raise RecipeError(f"{unknown[0]!r} is no peer; they are {', '.join(PEERS)}")
    machine = this_machine()
    tuned = tuned_reference(source, recipe.model.max_length, "cpu", pair_set, progress)
    scores = reference_scores(source, tuned, pair_set, progress)

    ours_first = sorted(manifest.variants, key=lambda entry: entry.kind != OURS_KIND)
    specs = {entry.kind: _spec(folder, entry, machine) for entry in ours_first if entry.engine == "onnxruntime"}
    sides = [Side(f"exporter {kind}", f"exporter {__version__}", {OURS: spec}) for kind, spec in specs.items()]
    folders, skipped = prepare_peers(source, recipe.model.max_length, only or tuple(PEERS), progress)
    sweep_pairs = [pair_set.pairs[i] for i in whole_queries(pair_set, N_QUERIES // 2)]
    peers, failed = peer_sides(folders, machine.n_cores, sweep_pairs, progress)
    sides += peers
    name = f"exporter {ours.kind}"
    tokenizer = Reranker.load(folder, ours.kind)

    def count(pairs: Sequence[tuple[str, str]]) -> list[int]:
        return [len(encoding) for encoding in tokenizer.tokenize(pairs)]

    works = {entry.kind: entry.work for entry in manifest.variants}
    return Bench(
        schema=BENCH_SCHEMA,
        name=manifest.name,
        manifest_root=manifest.root,
        started_at=started_at,
        machine=machine,
        pairs=f"{N_QUERIES} queries with all their candidates of {pair_set.name}, nDCG and r on {N_QUALITY_QUERIES}",
        ours=name,
        rows=measure_rows(sides, name, pair_set, scores, progress),
        mixes=measure_mixes(sides, name, pair_set, count, progress) if lengths else (),
        scaling=measure_scaling(specs, works, pair_set, count, progress) if scaling else (),
        skipped=(*skipped, *failed),
    )


def reference(model: Model, dest: Path, progress: Progress, *, replace_dest: bool = False) -> Source:
    """Write a recipe's PyTorch reference as an ordinary sentence-transformers folder.

    Raises:
        RecipeError: there is no such model, or `dest` exists.
    """
    with progress.stage("model"):
        source = find_source(model)
    if dest.exists() and not replace_dest:
        raise RecipeError(f"{dest} already exists; choose another folder")
    with staged(dest) as scratch:
        write_reference(source, model.max_length, scratch)
    return source


def _checked(folder: Path, progress: Progress) -> tuple[Manifest, Recipe, PairSet, Source]:
    """Read an artifact, check its files, and find the pairs and the model it is measured against."""
    manifest = read_manifest(folder)
    check_files(manifest, folder)
    recipe = TypeAdapter(Recipe).validate_json(manifest.recipe)
    pair_set, _ = load_pair_sets(recipe)
    with progress.stage("model"):
        source = find_source(recipe.model.model_copy(update={"revision": manifest.source.revision}))
    if source.digest != manifest.source.digest:
        raise IntegrityError(f"{source.name} is not the model {folder} was built from; build it again with --replace")
    return manifest, recipe, pair_set, source


def _spec(folder: Path, entry: VariantEntry, machine: Machine) -> ArtifactSpec:
    """Say how a variant is run on this machine."""
    plan = choose_plan(entry.plans, machine.isa, machine.n_cores)
    return ArtifactSpec(str(folder), entry.kind, plan.workers, plan.threads, plan.token_budget)


def _is_current(folder: Path, recipe: Recipe, source: Source) -> bool:
    """Tell whether an artifact is what this recipe would build here and now.

    Raises:
        RecipeError: it was built from something else; says from what.
        IntegrityError: it was built from this recipe, and changed since.
    """
    manifest = read_manifest(folder)
    for what, old, new in (
        ("another recipe", manifest.recipe_digest, recipe.digest),
        ("another model", manifest.source.digest, source.digest),
        ("other package versions", manifest.tools, tools()),
    ):
        if old != new:
            raise RecipeError(f"{folder} already exists, built from {what}; pass --replace to build it again")
    check_files(manifest, folder)
    return True


def _with_plans(manifest: Manifest, folder: Path, pair_set: PairSet, progress: Progress) -> Manifest:
    """Sweep each variant's plans on this machine, unless its like was measured before, and note the best in the manifest."""
    isa, n_cores = this_machine().isa, this_machine().n_cores
    variants = []
    with progress.stage("plan: sweep", len(manifest.variants)) as step:
        for done, entry in enumerate(manifest.variants, 1):
            plans = entry.plans
            if (isa, n_cores) not in {(plan.isa, plan.n_cores) for plan in plans}:
                plans = (*plans, tune_artifact(str(folder), entry.kind, pair_set, isa, n_cores))
            variants.append(replace(entry, plans=plans))
            step(done)
    return replace(manifest, variants=tuple(variants))


def _unsettled(runs: dict[str, list[Run]], bars: Mapping[str, Bars]) -> frozenset[str]:
    """Name the sides to measure on: variants with a speed bar whose speed-up is not known well enough, and what it is over."""
    going = set()
    for kind in (kind for kind, of_kind in bars.items() if of_kind.min_speedup is not None):
        ratio = speedup(runs[kind], runs["torch tuned"])
        noisy = ratio.spread > MAX_SPREAD or ratio.crowding > MAX_CROWDING
        if noisy or (ratio.high - ratio.low) / 2 > PRECISION * ratio.value:
            going |= {kind, "torch tuned"}
    return frozenset(going)


def _bars(recipe: Recipe) -> dict[str, Bars]:
    return {variant.kind: variant.bars for variant in recipe.variants}


def _pairs_info(pair_set: PairSet) -> PairSetInfo:
    return PairSetInfo(pair_set.name, pair_set.digest, len(pair_set.pairs), len(pair_set.query_ids), pair_set.labels is not None)
