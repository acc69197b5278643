"""The story in one file: recipe → build → verify → gate → publish, each one call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.artifact.files import REPORT, list_files
from exporter.artifact.manifest import MANIFEST_SCHEMA, Manifest, SourceEntry, read_manifest, write_manifest
from exporter.artifact.plans import no_plans, plans_sha256, read_plans, write_plans
from exporter.artifact.staging import staged
from exporter.errors import RecipeError
from exporter.export.build import N_PROOF_PAIRS, build_variants, is_current, pair_entries, tools
from exporter.export.folder import write_config_and_tokenizer
from exporter.export.source import find_source
from exporter.gate import judge, outcome, unsettled
from exporter.machine import this_machine, this_platform
from exporter.measure.fidelity import ReferenceScores, engine_default, measure_fidelity
from exporter.measure.lengths import positions_by_length
from exporter.measure.reference import device_for, reference_scores, tuned_reference
from exporter.measure.rounds import measure, measure_latency, measure_lengths
from exporter.measure.speed import LengthSpeed, pool, speedup, utilization
from exporter.measure.tune import default_torch, with_plans
from exporter.measure.workspace import bars_of, open_artifact, recipe_of, spec_of
from exporter.pairs import N_TIMED_PAIRS, load_pair_sets, spread_out
from exporter.publish.folder import Publication, passed_kinds, staged_publication
from exporter.publish.signature import sign
from exporter.recipe.schema import Recipe
from exporter.remote.send import destination, send
from exporter.report.report import (
    REPORT_SCHEMA,
    ReferenceReport,
    Report,
    VariantReport,
    pairs_info,
    read_report,
    rejudge,
)
from exporter.report.write import write_report
from exporter.runtime.model_file import check_artifact
from exporter.worker.job import PEAK_DTYPES, PeakSpec, Spec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.context import Context
    from exporter.recipe.schema import Bars
    from exporter.remote.difference import Sent


@dataclass(frozen=True, slots=True)
class Published:
    """What was delivered, and the kinds left out because they did not pass or were not asked for."""

    sent: Sent
    left: tuple[str, ...]


def export(recipe: Recipe, out: Path, context: Context, *, replace_old: bool = False) -> Report:
    """Do the main job: build a recipe's artifact, verify it, judge it. What is already there and unchanged is reused.

    Args:
        recipe: what to build.
        out: the folder that holds artifacts.
        context: told what goes on.
        replace_old: build again over an artifact of the same name that differs.

    Raises:
        ExporterError: see `build` and `verify`.
    """
    folder = build(recipe, out, context, replace_old=replace_old)
    if (folder / REPORT).is_file():
        report = gate(folder)
        if not report.machine.differences(this_machine()):
            context.progress.note(
                f"verify: report of {report.started_at} reused; `exporter verify {folder}` measures again"
            )
            return report
        context.progress.note(
            "verify: the report was made on another machine or with other packages; measuring again"
        )
    return verify(folder, context)


def build(recipe: Recipe, out: Path, context: Context, *, replace_old: bool = False) -> Path:
    """Build a recipe's artifact folder, every variant with its best plan on this machine; nothing is judged.

    Raises:
        RecipeError: the recipe cannot be carried out, or another artifact of this name exists.
        BackendError: a library, the hub or the disk failed.
        IntegrityError: an artifact of this recipe exists, and its files were changed.
    """
    final = out / recipe.name
    verify_set, calibrate_set = load_pair_sets(recipe)
    with context.progress.stage("model"):
        source = find_source(recipe.model, context.cache)
    pairs = pair_entries(verify_set, calibrate_set)
    if final.exists() and not replace_old and is_current(final, recipe, source, pairs):
        context.progress.note(f"build: {final} reused, recipe, model, pairs and tools have not changed")
        return final
    with staged(final, replace=replace_old) as scratch:
        variants = build_variants(
            recipe,
            source,
            calibrate=calibrate_set.pairs if calibrate_set else (),
            proof=spread_out(verify_set, N_PROOF_PAIRS),
            into=scratch,
            context=context,
        )
        write_config_and_tokenizer(source, recipe.model.max_length, scratch)
        manifest = Manifest(
            schema=MANIFEST_SCHEMA,
            name=recipe.name,
            recipe_digest=recipe.digest,
            recipe=recipe.model_dump_json(),
            source=SourceEntry(source.name, source.revision, source.digest, source.weights_bytes),
            pairs=pairs,
            platform=this_platform(),
            max_length=recipe.model.max_length,
            pad_id=source.pad_id,
            tools=tools(),
            variants=variants,
            files=list_files(scratch),
        )
        write_manifest(manifest, scratch)
        write_plans(with_plans(manifest, no_plans(manifest), scratch, verify_set, context.progress), scratch)
    return final


def verify(folder: Path, context: Context) -> Report:
    """Measure every variant of an artifact against the PyTorch reference, judge it, and write the report.

    Raises:
        RecipeError: the folder is no artifact, or its model or pairs are gone.
        IntegrityError: its files, or its model, are not what its manifest says.
        BackendError: the reference or an engine fails.
    """
    manifest, recipe, pair_set, source = open_artifact(folder, context)
    machine = this_machine()
    before = read_plans(folder, manifest)
    plans = with_plans(manifest, before, folder, pair_set, context.progress)
    if plans != before:
        write_plans(plans, folder)
    device = device_for(recipe.reference.device)
    tuned = tuned_reference(source, recipe.model.max_length, device, pair_set, context)
    reference = reference_scores(source, tuned, pair_set, context)
    expected = ReferenceScores(pair_set, reference, source.weights_bytes)
    candidates = {entry.kind: spec_of(folder, entry, plans, machine) for entry in manifest.variants}
    fidelity = {}
    for entry in manifest.variants:
        with context.progress.stage(f"{entry.kind}: scores", len(pair_set.pairs)) as step:
            fidelity[entry.kind] = measure_fidelity(manifest, entry, candidates[entry.kind], expected, step)

    bars = bars_of(recipe)
    peaks = {f"peak {dtype}": PeakSpec(dtype, machine.n_cores, 1) for dtype in PEAK_DTYPES}
    sides: dict[str, Spec] = {
        "torch default": default_torch(tuned, machine.n_cores),
        "torch tuned": tuned,
        **candidates,
        **peaks,
    }
    runs = measure(
        sides,
        spread_out(pair_set, N_TIMED_PAIRS),
        context.progress,
        baselines=frozenset(
            {
                "torch default",
                *peaks,
                *(kind for kind, of_kind in bars.items() if of_kind.min_speedup is None),
            }
        ),
        budget_s=recipe.measure.budget_s,
        unsettled=lambda runs: unsettled(runs, bars, recipe.measure.precision),
    )
    pooled = {side: pool(side, str(spec), runs[side]) for side, spec in sides.items() if side not in peaks}
    peak_runs = {dtype: runs[f"peak {dtype}"] for dtype in PEAK_DTYPES}
    buckets = positions_by_length(folder, manifest, pair_set)
    with context.progress.stage("latency and lengths", len(candidates) + 1) as step:
        latency, by_length = {}, {}
        for done, side in enumerate(("torch tuned", *candidates), 1):
            latency[side] = measure_latency(side, sides[side], pair_set)
            by_length[side] = measure_lengths(sides[side], pair_set, buckets)
            step(done)

    rows = []
    for entry in manifest.variants:
        kind, spec = entry.kind, candidates[entry.kind]
        ratio = speedup(runs[kind], runs["torch tuned"])
        checks = judge(bars[kind], fidelity[kind], ratio)
        rows.append(
            VariantReport(
                kind=kind,
                facts=entry.facts,
                fidelity=fidelity[kind],
                plan=next(p for p in plans.of(kind) if (p.isa, p.n_cores) == (machine.isa, machine.n_cores)),
                throughput=pooled[kind],
                utilization=utilization(entry.traits, entry.flop_count, runs[kind], peak_runs),
                speedup_tuned=ratio,
                speedup_default=speedup(runs[kind], runs["torch default"]),
                latency=latency[kind],
                length_speeds=tuple(
                    LengthSpeed(name, len(buckets[name]), rate, rate / by_length["torch tuned"][name])
                    for name, rate in by_length[kind].items()
                ),
                engine_default=engine_default(spec, expected) if entry.traits.engine == "openvino" else None,
                checks=checks,
                verdict=outcome(checks),
            )
        )
    report = Report(
        schema=REPORT_SCHEMA,
        name=manifest.name,
        manifest_root=manifest.root,
        plans_sha256=plans_sha256(folder),
        recipe_digest=manifest.recipe_digest,
        started_at=context.started_at,
        machine=machine,
        pairs=pairs_info(pair_set),
        reference=ReferenceReport(
            source=source.name,
            revision=source.revision,
            device=device,
            weights_bytes=source.weights_bytes,
            default=pooled["torch default"],
            tuned=pooled["torch tuned"],
            latency=latency["torch tuned"],
            scores=tuple(map(float, reference)),
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
    check_artifact(manifest, folder)
    recipe = recipe_of(manifest, folder)
    return rejudge(read_report(folder, manifest), bars or bars_of(recipe))


def publish(folder: Path, address: str, context: Context, options: Publication = Publication()) -> Published:
    """Lay out what passed with its card and proof, sign and deliver it; readers see all of it or nothing.

    Args:
        folder: the artifact.
        address: a folder, `hf://org/name[@branch]`, `oci://registry/name:tag` or `s3://bucket/prefix`.
        context: told what goes on.
        options: which variants, in which form, signed by whom.

    Raises:
        GateRefused, NoVerdict: no variant passed, or one asked for did not; or another library scores
            wrongly.
        RecipeError: the address cannot be parsed, it holds another artifact, or the recipe demands a
            signature.
        IntegrityError: files, manifest or report are not what they were.
        BackendError, BackendMissing: the place, the disk or a library failed.
    """
    place = destination(address, pull_request=options.pull_request)
    if place.kind == "dir" and Path(place.where).resolve().is_relative_to(folder.resolve()):
        raise RecipeError(f"{place.where} lies in the artifact {folder} itself; choose another folder")

    report = gate(folder)
    manifest = read_manifest(folder)
    if recipe_of(manifest, folder).publish.signed and options.signer is None:
        raise RecipeError(
            f"{folder}: its recipe demands a signature (publish.signed); "
            "sign it, for example with --sign-key FILE"
        )
    kinds = passed_kinds(folder, report, options.kinds)

    repo_id = place.where if place.kind == "hf" else None
    with staged_publication(folder, report, kinds, options, context, repo_id=repo_id) as staged_copy:
        if options.signer:
            sign(staged_copy, options.signer, ask=options.ask)
        sent = send(
            staged_copy,
            address,
            context.progress,
            replace=options.replace,
            pull_request=options.pull_request,
        )
    return Published(sent, tuple(entry.kind for entry in manifest.variants if entry.kind not in kinds))
