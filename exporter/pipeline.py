"""The story in one file: recipe → build → verify → gate → publish, each one call."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from exporter import __version__
from exporter.artifact import (
    MANIFEST_SCHEMA,
    REPORT,
    Manifest,
    PairsEntry,
    SourceEntry,
    VariantEntry,
    list_files,
    read_manifest,
    staged,
    write_manifest,
)
from exporter.errors import IntegrityError, RecipeError
from exporter.export.build import build_variants, tools
from exporter.export.source import Source, find_source, write_config_and_tokenizer, write_reference
from exporter.machine import Machine, package_version, this_machine, this_platform
from exporter.publish.attest import LOCAL_BUILDER, read_statements
from exporter.publish.card import licence_of
from exporter.publish.consumers import ConsumerReport, check_consumers
from exporter.publish.destinations import destination, send
from exporter.publish.folder import make_publication, passed_kinds
from exporter.publish.reproduce import Reproduction
from exporter.publish.reproduce import reproduce as build_again
from exporter.publish.signature import sign, verify_signature
from exporter.recipe import Model, Onnx, OnnxInt8, Recipe
from exporter.runtime import Reranker, choose_plan
from exporter.runtime.inspect import check_artifact
from exporter.verify.bench import (
    BENCH_SCHEMA,
    N_QUALITY_QUERIES,
    N_QUERIES,
    OURS,
    TUNED,
    Bench,
    Side,
    measure_mixes,
    measure_rows,
    measure_scaling,
    peer_sides,
)
from exporter.verify.compare import Finding, compare_reports
from exporter.verify.fidelity import Expected, bucket_names, measure_fidelity, own_precision, token_counts
from exporter.verify.gate import doubts, judge, outcome
from exporter.verify.gpu import GPU_SCHEMA, GpuReport, measure_types
from exporter.verify.mutants import Good
from exporter.verify.pairs import PairSet, load_pair_sets, whole_queries
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
    read_report_file,
    rejudge,
    write_report,
)
from exporter.verify.selftest import SELFTEST_SCHEMA, Rate, SelfTest, try_mutants, try_qualities, try_speeds
from exporter.verify.throughput import (
    N_TIMED_PAIRS,
    LengthSpeed,
    arithmetic,
    default_torch,
    measure,
    measure_latency,
    measure_lengths,
    pool,
    speedup,
    spread_out,
    tune_artifact,
)
from exporter.verify.worker import PEAK_DTYPES, ArtifactSpec, PeakSpec, Run, Spec, TorchSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from exporter.progress import Progress
    from exporter.publish.difference import Sent
    from exporter.publish.layout import Profile as Layout
    from exporter.publish.signature import Signed, Signer, Verifier
    from exporter.recipe import Bars

# Pairs of all lengths, on which a rewritten graph is held against the exported one.
N_PROOF_PAIRS = 64
# Queries that mutants are judged on: a wrong model shows on far fewer than small losses need.
N_MUTANT_QUERIES = 100
# The kind that stands for us in a benchmark.
OURS_KIND = "onnx-int8"


@dataclass(frozen=True, slots=True)
class Published:
    """What was delivered, and the kinds left behind because they did not pass or were not asked for."""

    sent: Sent
    left: tuple[str, ...]


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
    pairs = _pair_entries(verify_set, calibrate_set)
    if final.exists() and not replace_old and _is_current(final, recipe, source, pairs):
        progress.note(f"build: {final} reused, recipe, model, pairs and tools have not changed")
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
            pairs=pairs,
            platform=this_platform(),
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
    expected = Expected(pair_set, reference, source.weights_bytes)
    candidates = {entry.kind: _spec(folder, entry, machine) for entry in manifest.variants}
    fidelity = {}
    for entry in manifest.variants:
        with progress.stage(f"{entry.kind}: scores", len(pair_set.pairs)) as step:
            fidelity[entry.kind] = measure_fidelity(manifest, entry, candidates[entry.kind], expected, step)

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
        spread_out(pair_set, N_TIMED_PAIRS),
        progress,
        seldom=frozenset({"torch default", *peaks, *(kind for kind, of_kind in bars.items() if of_kind.min_speedup is None)}),
        budget_s=recipe.measure.budget_s,
        unsettled=lambda runs: _unsettled(runs, bars, recipe.measure.precision),
    )
    pooled = {side: pool(side, str(spec), runs[side]) for side, spec in sides.items() if side not in peaks}
    peak_runs = {dtype: runs[f"peak {dtype}"] for dtype in PEAK_DTYPES}
    buckets = _buckets(folder, manifest, pair_set)
    with progress.stage("latency and lengths", len(candidates) + 1) as step:
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
                plan=next(p for p in entry.plans if (p.isa, p.n_cores) == (machine.isa, machine.n_cores)),
                throughput=pooled[kind],
                arithmetic=arithmetic(kind, entry.work, runs[kind], peak_runs),
                speedup_tuned=ratio,
                speedup_default=speedup(runs[kind], runs["torch default"]),
                latency=latency[kind],
                length_speeds=tuple(
                    LengthSpeed(name, len(buckets[name]), rate, rate / by_length["torch tuned"][name])
                    for name, rate in by_length[kind].items()
                ),
                own_precision=own_precision(spec, expected) if entry.engine == "openvino" else None,
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
    recipe = _recipe(manifest, folder)
    return rejudge(read_report(folder, manifest), bars or _bars(recipe))


def publish(
    folder: Path,
    address: str,
    progress: Progress,
    *,
    started_at: str,
    kinds: Sequence[str] = (),
    layout: Layout = "hub",
    signer: Signer | None = None,
    ask: Callable[[str], str] | None = None,
    builder: str = LOCAL_BUILDER,
    with_consumers: bool = False,
    pull_request: bool = False,
    replace_there: bool = False,
) -> Published:
    """Lay out what passed with its card and its proof, sign it, and deliver it; nothing is seen there before it is whole.

    Args:
        folder: the artifact.
        address: a folder, `hf://org/name[@branch]`, `oci://registry/name:tag` or `s3://bucket/prefix`.
        progress: told what is going on.
        started_at: now, ISO 8601 in UTC.
        kinds: the variants, by default all that passed.
        layout: `hub` or `flat`.
        signer: what to sign with.
        ask: called with a prompt for a key's password.
        builder: who built it, a URI.
        with_consumers: first load the folder in other libraries, and put what comes of it into the card.
        pull_request: open a pull request on the Hub instead of committing.
        replace_there: over another artifact.

    Raises:
        GateRefused, NoVerdict: no variant passed, or one asked for did not; or another library scores wrongly.
        RecipeError: the address is none, another artifact is there, or the recipe demands a signature.
        IntegrityError: files, manifest or report are not what they were.
        BackendError, BackendMissing: the place, the disk or a library failed.
    """
    place = destination(address, pull_request=pull_request)
    if place.kind == "dir" and Path(place.where).resolve().is_relative_to(folder.resolve()):
        raise RecipeError(f"{place.where} lies in the artifact {folder} itself; choose another folder")
    report = gate(folder)
    manifest = read_manifest(folder)
    recipe = _recipe(manifest, folder)
    if recipe.publish.signed and signer is None:
        raise RecipeError(f"{folder}: its recipe demands a signature (publish.signed); sign it, for example with --sign-key FILE")
    chosen = passed_kinds(folder, report, kinds)

    def check(staged: Path, published: Manifest) -> ConsumerReport:
        pair_set, _ = load_pair_sets(recipe)
        effects = _company_effects(recipe, report)
        return check_consumers(staged, published, pair_set, progress, started_at=started_at, effects=effects)

    with tempfile.TemporaryDirectory(prefix="exporter-publish-") as scratch:
        staged_copy = Path(scratch, manifest.name)  # a signature holds the name of the folder it was made in
        staged_copy.mkdir()
        make_publication(
            folder,
            manifest,
            report,
            staged_copy,
            kinds=chosen,
            profile=layout,
            licence=licence_of(manifest.source),
            repo_id=place.where if place.kind == "hf" else None,
            builder=builder,
            check=check if with_consumers else None,
        )
        if signer:
            sign(staged_copy, signer, ask=ask)
        sent = send(staged_copy, address, progress, replace=replace_there, pull_request=pull_request)
    return Published(sent, tuple(entry.kind for entry in manifest.variants if entry.kind not in chosen))


def consumers(folder: Path, progress: Progress, *, started_at: str, only: Sequence[str] = ()) -> ConsumerReport:
    """Load a published folder in the libraries that are expected to load it, and compare their scores with ours.

    Raises:
        RecipeError: the folder is no artifact, its pairs are gone, or there is no such consumer.
        IntegrityError: its files are not what its manifest says.
        BackendError: our own runtime cannot score.
    """
    manifest = read_manifest(folder)
    check_artifact(manifest, folder)
    recipe = _recipe(manifest, folder)
    pair_set, _ = load_pair_sets(recipe)
    report = read_report(folder, manifest) if (folder / REPORT).is_file() else None
    effects = _company_effects(recipe, report)
    return check_consumers(folder, manifest, pair_set, progress, started_at=started_at, only=only, effects=effects)


def check_signature(folder: Path, verifier: Verifier) -> Signed:
    """Check who signed a published folder, that nothing in it changed since, and that its statements say what its report says.

    Raises:
        RecipeError: it is no published artifact, or what to check with is missing.
        IntegrityError: it is not signed, by somebody else, or changed since.
        BackendMissing: model-signing is not installed.
    """
    signed = verify_signature(folder, verifier)
    read_statements(folder)
    return signed


def reproduce(
    folder: Path,
    progress: Progress,
    *,
    model: str | None = None,
    verify_pairs: Path | None = None,
    calibrate_pairs: Path | None = None,
) -> Reproduction:
    """Build an artifact again from its manifest, and compare files and, where they differ, scores; see `publish.reproduce`."""
    return build_again(
        folder,
        progress,
        n_proof_pairs=N_PROOF_PAIRS,
        model=model,
        verify_pairs=verify_pairs,
        calibrate_pairs=calibrate_pairs,
    )


def profile(folder: Path, kind: str | None = None) -> Profile:
    """Record each operator's time over the pairs that speed is measured on; needs no PyTorch.

    Raises:
        RecipeError: the folder is no artifact, has no such variant, or its pairs are gone.
        IntegrityError: its files are not what its manifest says.
    """
    manifest = read_manifest(folder)
    check_artifact(manifest, folder)
    pair_set, _ = load_pair_sets(_recipe(manifest, folder))
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
    sides += [Side("torch tuned", f"sentence-transformers {package_version('sentence-transformers')}", {TUNED: tuned}), *peers]
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


def selftest(folder: Path, progress: Progress, *, started_at: str, kind: str | None = None, n_trials: int = 0) -> SelfTest:
    """Try the gate on artifacts that are wrong on purpose, and measure how often it is wrong.

    Args:
        folder: a good artifact with an ONNX variant.
        progress: told what is going on.
        started_at: now, ISO 8601 in UTC.
        kind: the ONNX variant, by default the first.
        n_trials: of the artifact's speed against itself; 0 tries mutants only.

    Raises:
        RecipeError: the folder is no artifact, or has no such ONNX variant; its model or pairs are gone.
        IntegrityError: its files, or its model, are not what its manifest says.
        BackendError: the reference or an engine fails.
    """
    manifest, recipe, pair_set, source = _checked(folder, progress)
    machine = this_machine()
    kinds = [entry.kind for entry in manifest.variants if entry.engine == "onnxruntime"]
    if not kinds or (kind and kind not in kinds):
        raise RecipeError(f"{folder} has no ONNX variant {kind or ''}; it has {', '.join(e.kind for e in manifest.variants)}")
    entry = manifest.variant(kind or kinds[0])
    spec, bars = _spec(folder, entry, machine), _bars(recipe)[entry.kind]
    tuned = tuned_reference(source, recipe.model.max_length, device_for(recipe.reference.device), pair_set, progress)
    expected = Expected(pair_set, reference_scores(source, tuned, pair_set, progress), source.weights_bytes)

    other = (OnnxInt8 if entry.kind == "onnx" else Onnx).model_validate(
        {"kind": "onnx-int8" if entry.kind == "onnx" else "onnx", "bars": bars}
    )
    with tempfile.TemporaryDirectory(prefix="exporter-other-") as scratch:
        (built,) = build_variants(
            recipe.model_copy(update={"variants": (other,)}),
            source,
            calibrate=(),
            proof=spread_out(pair_set, N_PROOF_PAIRS),
            into=Path(scratch),
            progress=progress,
        )
        few = expected.picked(whole_queries(pair_set, N_MUTANT_QUERIES))
        n_tokens = token_counts(folder, entry.kind, few.pair_set.pairs, manifest.max_length)
        good = Good(folder, manifest, entry, few.pair_set, n_tokens, Path(scratch) / built.model)
        fails, mutants = try_mutants(good, spec, bars, few, progress)
    rates: tuple[Rate, ...] = ()
    rounds: tuple[tuple[Run, Run], ...] = ()
    if n_trials:
        rates, rounds = try_speeds(spec, pair_set, n_trials, progress)
        if pair_set.labels is not None:
            with progress.stage(f"{entry.kind}: scores", len(pair_set.pairs)) as step:
                fidelity = measure_fidelity(manifest, entry, spec, expected, step)
            rates += try_qualities(good, spec, fidelity, expected, progress)
    return SelfTest(
        schema=SELFTEST_SCHEMA,
        name=manifest.name,
        kind=entry.kind,
        manifest_root=manifest.root,
        started_at=started_at,
        machine=machine,
        good_fails=fails,
        mutants=mutants,
        rates=rates,
        rounds=rounds,
    )


def gpu_check(recipe: Recipe, progress: Progress, *, started_at: str, device: str = "cuda") -> GpuReport:
    """Score a recipe's pairs with PyTorch on a GPU in float32, float16 and bfloat16, against float32 on the CPU, and time them.

    Args:
        recipe: names model and pairs; nothing is built.
        progress: told what is going on.
        started_at: now, ISO 8601 in UTC.
        device: where; other than `cuda` it is for trying the command out.

    Raises:
        BackendMissing: torch sees no CUDA device.
        RecipeError: the model or the pairs are not there.
        BackendError: torch fails.
    """
    import torch

    found = device_for(device) if device == "cuda" else device
    pair_set, _ = load_pair_sets(recipe)
    with progress.stage("model"):
        source = find_source(recipe.model)
    machine = this_machine()
    tuned = tuned_reference(source, recipe.model.max_length, "cpu", pair_set, progress)
    scores = reference_scores(source, tuned, pair_set, progress)
    spec = TorchSpec(str(source.folder), recipe.model.max_length, found, 1, 1, machine.n_cores)
    return GpuReport(
        schema=GPU_SCHEMA,
        device=torch.cuda.get_device_name() if found == "cuda" else found,
        started_at=started_at,
        machine=machine,
        pairs=f"{len(pair_set.pairs)} pairs of {pair_set.name}",
        rows=measure_types(scores, spec, pair_set, progress),
    )


def compare_with(old: Path, new: Path) -> tuple[Finding, ...]:
    """Say what got better or worse between two artifacts' reports, or two report files.

    Raises:
        RecipeError: one has no report.
        IntegrityError: one was changed since it was written.
    """
    return compare_reports(_report_of(old), _report_of(new))


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
    check_artifact(manifest, folder)
    recipe = _recipe(manifest, folder)
    pair_set, _ = load_pair_sets(recipe)
    with progress.stage("model"):
        source = find_source(recipe.model.model_copy(update={"revision": manifest.source.revision}))
    if source.digest != manifest.source.digest:
        raise IntegrityError(f"{source.name} is not the model {folder} was built from; build it again with --replace")
    return manifest, recipe, pair_set, source


def _recipe(manifest: Manifest, folder: Path) -> Recipe:
    """Give the recipe an artifact was built from.

    Raises:
        IntegrityError: it is none.
    """
    try:
        return Recipe.model_validate_json(manifest.recipe)
    except ValidationError as error:
        raise IntegrityError(f"{folder}: its manifest's recipe is none: {error.errors()[0]['msg']}") from None


def _report_of(place: Path) -> Report:
    return read_report(place, read_manifest(place)) if place.is_dir() else read_report_file(place)


def _spec(folder: Path, entry: VariantEntry, machine: Machine) -> ArtifactSpec:
    """Say how a variant is run on this machine."""
    plan = choose_plan(entry.plans, machine.isa, machine.n_cores)
    return ArtifactSpec(str(folder), entry.kind, plan.workers, plan.threads, plan.token_budget)


def _pair_entries(verify_set: PairSet, calibrate_set: PairSet | None) -> tuple[PairsEntry, ...]:
    verify_entry = PairsEntry("verify", verify_set.name, verify_set.digest, len(verify_set.pairs))
    if calibrate_set is None:
        return (verify_entry,)
    return (verify_entry, PairsEntry("calibrate", calibrate_set.name, calibrate_set.digest, len(calibrate_set.pairs)))


def _is_current(folder: Path, recipe: Recipe, source: Source, pairs: tuple[PairsEntry, ...]) -> bool:
    """Tell whether an artifact is what this recipe would build here and now.

    Raises:
        RecipeError: it was built from something else; says from what.
        IntegrityError: it was built from this recipe, and changed since.
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


def _unsettled(runs: dict[str, list[Run]], bars: Mapping[str, Bars], precision: float) -> frozenset[str]:
    """Name the sides to measure on: variants with a speed bar whose speed-up is not known well enough, and what it is over."""
    going = set()
    for kind in (kind for kind, of_kind in bars.items() if of_kind.min_speedup is not None):
        ratio = speedup(runs[kind], runs["torch tuned"])
        if doubts(ratio) or (ratio.high - ratio.low) / 2 > precision * ratio.value:
            going |= {kind, "torch tuned"}
    return frozenset(going)


def _buckets(folder: Path, manifest: Manifest, pair_set: PairSet) -> dict[str, list[int]]:
    """Sort the pairs' positions by token length, shortest bucket first."""
    lengths = token_counts(folder, manifest.variants[0].kind, pair_set.pairs, manifest.max_length)
    names = bucket_names(lengths, manifest.max_length)
    buckets: dict[str, list[int]] = {}
    for i in np.argsort(lengths, kind="stable").tolist():
        buckets.setdefault(names[i], []).append(i)
    return buckets


def _bars(recipe: Recipe) -> dict[str, Bars]:
    return {variant.kind: variant.bars for variant in recipe.variants}


def _company_effects(recipe: Recipe, report: Report | None) -> dict[str, float]:
    """Say by kind what company may do to a score, in logits: as measured, or, where nothing was, up to the recipe's bar."""
    bars = {kind: bars.max_batch_delta for kind, bars in _bars(recipe).items() if bars.max_batch_delta is not None}
    return bars | {row.kind: row.fidelity.batches.max_delta for row in (report.variants if report else ())}


def _pairs_info(pair_set: PairSet) -> PairSetInfo:
    return PairSetInfo(
        name=pair_set.name,
        digest=pair_set.digest,
        n_pairs=len(pair_set.pairs),
        n_queries=len(pair_set.query_ids),
        query_ids=pair_set.query_ids,
        query_of=tuple(pair_set.query_of.tolist()),
        labels=None if pair_set.labels is None else tuple(pair_set.labels.tolist()),
    )
