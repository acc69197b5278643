"""Run the self-test on an artifact: mutants first, then, where trials are asked for, the error rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.artifact.cpus import why_not_judged
from exporter.errors import RecipeError
from exporter.export.build import N_PROOF_PAIRS, build_variants
from exporter.measure.fidelity import ReferenceScores, measure_fidelity
from exporter.measure.lengths import token_counts
from exporter.measure.reference import device_for, reference_scores, tuned_reference
from exporter.measure.settings import MeasureSettings
from exporter.measure.workspace import open_artifact
from exporter.packages import require
from exporter.pairs import spread_out, whole_queries
from exporter.recipe.kinds import KINDS
from exporter.recipe.schema import default_variant
from exporter.scratch import Scratch
from exporter.selftest.mutants import Original
from exporter.selftest.rates import Rate
from exporter.selftest.trials import SELFTEST_SCHEMA, SelfTest, try_mutants, try_qualities, try_speeds
from exporter.worker.job import Run

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.context import Context

# Queries that mutants are judged on: a wrong model shows on far fewer than small losses need.
N_MUTANT_QUERIES = 100


def selftest(
    folder: Path,
    context: Context,
    settings: MeasureSettings | None = None,
    *,
    kind: str | None = None,
    n_trials: int = 0,
) -> SelfTest:
    """Try the gate on artifacts that are wrong on purpose, and measure how often the gate is wrong.

    Args:
        folder: an artifact with an ONNX variant; it has to pass.
        context: told what goes on.
        settings: how much is measured, and for how long.
        kind: the ONNX variant, by default the first.
        n_trials: of the artifact's speed against itself; 0 tries mutants only.

    Raises:
        RecipeError: the folder is no artifact, or has no such ONNX variant; its model or pairs are gone.
        IntegrityError: its files, or its model, are not what its manifest says.
        BackendError: the reference or an engine fails.
    """
    settings = settings or MeasureSettings()
    require("verify")
    workspace = open_artifact(folder, context)
    manifest, recipe, pair_set = workspace.manifest, workspace.recipe, workspace.pair_set
    entries = [
        entry
        for entry in (manifest.named(kind) if kind else manifest.variants)
        if entry.traits.engine == "onnxruntime" and not why_not_judged(entry, workspace.machine)
    ]
    if not entries:
        has = ", ".join(entry.kind for entry in manifest.variants)
        raise RecipeError(f"{folder} has no ONNX variant {kind or ''}; it has {has}")
    entry = entries[0]
    spec, bars = workspace.spec(entry), workspace.bars[entry.kind]
    device, source = device_for(recipe.reference.device), workspace.source
    tuned = tuned_reference(source, source.max_length, device, pair_set, settings=settings, context=context)
    scores = reference_scores(source, tuned, pair_set, context)
    expected = ReferenceScores(pair_set, scores, source.weights_bytes)

    # A file of the other precision, from the same engine: what a mix-up of files would bring.
    other = next(
        row.name
        for row in KINDS.values()
        if row.traits.engine == entry.traits.engine
        and row.traits.weights != entry.traits.weights
        and not row.traits.calibrated
    )
    with Scratch("other") as scratch:
        (built,) = build_variants(
            recipe.model_copy(update={"variants": (default_variant(other, bars),)}),
            source,
            calibrate=(),
            proof=spread_out(pair_set, N_PROOF_PAIRS),
            into=scratch,
            context=context,
        )
        few = expected.picked(whole_queries(pair_set, N_MUTANT_QUERIES))
        n_tokens = token_counts(folder, manifest, few.pair_set.pairs)
        original = Original(folder, manifest, entry, few.pair_set, n_tokens, scratch / built.model)
        fails, mutants = try_mutants(original, spec, bars, few, settings=settings, progress=context.progress)

    rates: tuple[Rate, ...] = ()
    rounds: tuple[tuple[Run, Run], ...] = ()
    if n_trials:
        rates, rounds = try_speeds(spec, pair_set, n_trials, settings, context.progress)
        if pair_set.labels is not None:
            with context.progress.stage(f"{entry.kind}: scores", len(pair_set.pairs)) as step:
                fidelity = measure_fidelity(manifest, entry, spec, expected, settings=settings, progress=step)
            rates += try_qualities(original, spec, fidelity, expected, context.progress)

    return SelfTest(
        schema=SELFTEST_SCHEMA,
        name=manifest.name,
        kind=entry.kind,
        manifest_root=manifest.root,
        started_at=context.started_at,
        machine=workspace.machine,
        original_fails=fails,
        mutants=mutants,
        rates=rates,
        rounds=rounds,
    )
