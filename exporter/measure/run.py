"""Measure an artifact: from its files to every number of its report, without an opinion on any.

Scores first, then speed in rounds of all sides together, then latency and speed by length.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from exporter import worker
from exporter.artifact.plans import PlanEntry, keep_plans
from exporter.measure.doubt import doubts
from exporter.measure.fidelity import (
    EngineDefault,
    Fidelity,
    ReferenceScores,
    compare_scores,
    engine_default,
)
from exporter.measure.lengths import positions_by_length, token_counts
from exporter.measure.reference import (
    Bf16Difference,
    bf16_difference,
    device_for,
    forget_plan,
    reference_scores,
    tuned_reference,
)
from exporter.measure.rounds import measure_calls, measure_rounds
from exporter.measure.scores import VariantScores, score_variant
from exporter.measure.speed import (
    MAX_DEFAULT_FASTER,
    Latency,
    LengthSpeed,
    Ratio,
    Throughput,
    Utilization,
    faster,
    pool,
    speedup,
    speedup_over_plan,
    utilization,
)
from exporter.measure.tune import TunedTorch, default_torch, timed_pairs, with_plans
from exporter.worker.job import PEAK_DTYPES, ArtifactSpec, Call, PeakSpec, Run, Spec, TimeJob, TorchDtype

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from exporter.artifact.manifest import VariantEntry
    from exporter.context import Context
    from exporter.measure.settings import MeasureSettings
    from exporter.measure.workspace import Workspace
    from exporter.recipe.schema import SpeedOver

    # Asked with the candidates' runs by kind and those of the reference that speed bars are held against;
    # names the kinds to measure on.
    Unsettled = Callable[[Mapping[str, Sequence[Run]], Sequence[Run]], frozenset[str]]


@dataclass(frozen=True, slots=True)
class Side:
    """One of those timed beside each other: the reference in two ways, a variant, the machine's own peak."""

    role: Literal["torch", "variant", "peak"]
    name: str

    def __str__(self) -> str:
        """Format as reports name the side."""
        return self.name if self.role == "variant" else f"{self.role} {self.name}"


DEFAULT, TUNED, BF16 = Side("torch", "default"), Side("torch", "tuned"), Side("torch", "bfloat16")


@dataclass(frozen=True, slots=True)
class ReferenceMeasurement:
    """The PyTorch reference: device, scores, and speed with default arguments and at its own best plan.

    `notes` are what makes one doubt that it ranks these pairs at all.

    `bfloat16` is the same model in that type, also at its own best plan, and `bf16_difference` how far it is
    off; None where the CPU has no units for it. `speed_over` is the recipe's, `judged_over` the type that
    speed bars are held against.
    """

    device: str
    scores: ReferenceScores
    default: Throughput
    tuned: Throughput
    bfloat16: Throughput | None
    bf16_difference: Bf16Difference | None
    speed_over: SpeedOver
    judged_over: TorchDtype
    latency: tuple[Latency, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VariantMeasurement:
    """Everything measured of one variant; `plan` is what it was run by.

    `speedup_judged` is the speed-up that the recipe's bar is held against: over tuned PyTorch in float32, or
    over the faster of the two.
    """

    entry: VariantEntry
    plan: PlanEntry
    fidelity: Fidelity
    throughput: Throughput
    utilization: Utilization | None
    speedup_tuned: Ratio
    speedup_default: Ratio
    speedup_bf16: Ratio | None
    speedup_judged: Ratio
    latency: tuple[Latency, ...]
    length_speeds: tuple[LengthSpeed, ...]
    engine_default: EngineDefault | None

    @property
    def kind(self) -> str:
        """The variant's kind."""
        return self.entry.kind


@dataclass(frozen=True, slots=True)
class Measurements:
    """Everything measured of an artifact on one machine."""

    reference: ReferenceMeasurement
    variants: tuple[VariantMeasurement, ...]


def measure(
    workspace: Workspace, settings: MeasureSettings, context: Context, unsettled: Unsettled
) -> Measurements:
    """Measure every variant of an artifact that this CPU can run against the PyTorch reference.

    Plans that were not measured on a machine like this before are swept first, and kept in the artifact.

    Args:
        workspace: the artifact.
        settings: how much is measured, and for how long.
        context: told what goes on; its cache keeps what the reference scored.
        unsettled: decides after each round which variants' speed-ups are not known well enough yet.

    Raises:
        BackendError, BackendMissing: the reference or an engine fails.
    """
    workspace = _planned(workspace, settings, context)
    tuned, expected, difference = _reference(workspace, settings, context)
    notes = doubts(expected.scores, workspace.pair_set)
    for note in notes:
        context.progress.note(f"warning: {note}")
    specs = {entry.kind: workspace.spec(entry) for entry in workspace.runnable}
    scores = _scores(workspace, specs, expected, settings, context)
    runs = _rounds(workspace, specs, tuned, settings=settings, context=context, unsettled=unsettled)
    default = default_torch(tuned.float32, workspace.machine.n_cores)
    by_default = runs[TUNED if default == tuned.float32 else DEFAULT]  # a plan is not faster than itself
    over = speedup_over_plan(runs[TUNED], runs[TUNED], by_default)
    if over.default_faster > MAX_DEFAULT_FASTER:
        _forget_plan(workspace, tuned, over, settings, context)
    n_tokens = token_counts(workspace.folder, workspace.manifest, workspace.pair_set.pairs)
    buckets = positions_by_length(n_tokens, workspace.manifest.max_length)
    latency, by_length = _calls(workspace, specs, tuned, buckets, runs, settings=settings, context=context)
    defaults = _engine_defaults(specs, scores, expected, settings)

    judged = faster(runs, TUNED, BF16) if workspace.recipe.reference.speed_over == "best" else TUNED
    peaks = {dtype: runs[Side("peak", dtype)] for dtype in PEAK_DTYPES}
    variants = []
    for entry in workspace.runnable:
        kind, side = entry.kind, Side("variant", entry.kind)
        variants.append(
            VariantMeasurement(
                entry=entry,
                plan=_plan_here(workspace, kind),
                fidelity=compare_scores(
                    workspace.manifest,
                    entry,
                    workspace.folder,
                    expected,
                    scores=scores[kind],
                    lengths=n_tokens,
                ),
                throughput=pool(kind, str(specs[kind]), runs[side]),
                utilization=utilization(entry.traits, entry.flop_count, runs[side], peaks),
                speedup_tuned=speedup_over_plan(runs[side], runs[TUNED], by_default),
                speedup_default=speedup(runs[side], runs[DEFAULT]),
                speedup_bf16=(
                    speedup_over_plan(runs[side], runs[BF16], by_default) if BF16 in runs else None
                ),
                speedup_judged=speedup_over_plan(runs[side], runs[judged], by_default),
                latency=latency[side],
                length_speeds=tuple(
                    LengthSpeed(name, len(buckets[name]), rate, rate / by_length[TUNED][name])
                    for name, rate in by_length[side].items()
                ),
                engine_default=defaults.get(kind),
            )
        )
    reference = ReferenceMeasurement(
        device=tuned.float32.device,
        scores=expected,
        default=pool(str(DEFAULT), str(default), runs[DEFAULT]),
        tuned=pool(str(TUNED), str(tuned.float32), runs[TUNED]),
        bfloat16=pool(str(BF16), str(tuned.bfloat16), runs[BF16]) if BF16 in runs else None,
        bf16_difference=difference,
        speed_over=workspace.recipe.reference.speed_over,
        judged_over="bfloat16" if judged == BF16 else "float32",
        latency=latency[TUNED],
        notes=notes,
    )
    return Measurements(reference, tuple(variants))


def _planned(workspace: Workspace, settings: MeasureSettings, context: Context) -> Workspace:
    """Sweep what was not swept on a machine like this, and keep the plans beside the manifest."""
    plans = with_plans(
        workspace.plans,
        [entry.kind for entry in workspace.runnable],
        workspace.folder,
        workspace.pair_set,
        machine=workspace.machine,
        settings=settings,
        progress=context.progress,
    )
    if plans != workspace.plans:
        plans = keep_plans(plans, workspace.folder)
    return replace(workspace, plans=plans)


def _plan_here(workspace: Workspace, kind: str) -> PlanEntry:
    here = (workspace.machine.isa, workspace.machine.n_cores)
    return next(plan for plan in workspace.plans.of(kind) if (plan.isa, plan.n_cores) == here)


def _reference(
    workspace: Workspace, settings: MeasureSettings, context: Context
) -> tuple[TunedTorch, ReferenceScores, Bf16Difference | None]:
    recipe, source, pair_set = workspace.recipe, workspace.source, workspace.pair_set
    device = device_for(recipe.reference.device)
    tuned = tuned_reference(source, source.max_length, device, pair_set, settings=settings, context=context)
    scores = reference_scores(source, tuned, pair_set, context)
    difference = bf16_difference(source, tuned, pair_set, context)
    return tuned, ReferenceScores(pair_set, scores, source.weights_bytes), difference


def _scores(
    workspace: Workspace,
    specs: Mapping[str, ArtifactSpec],
    expected: ReferenceScores,
    settings: MeasureSettings,
    context: Context,
) -> dict[str, VariantScores]:
    found = {}
    for entry in workspace.runnable:
        with context.progress.stage(f"{entry.kind}: scores", len(expected.pair_set.pairs)) as step:
            found[entry.kind] = score_variant(
                entry.traits, specs[entry.kind], expected.pair_set, settings, step
            )
    return found


def _rounds(
    workspace: Workspace,
    specs: Mapping[str, ArtifactSpec],
    tuned: TunedTorch,
    *,
    settings: MeasureSettings,
    context: Context,
    unsettled: Unsettled,
) -> dict[Side, list[Run]]:
    """Time all sides in rounds; those without a speed bar in the first ones only."""
    n_cores = workspace.machine.n_cores
    variants = {Side("variant", kind): spec for kind, spec in specs.items()}
    peaks = {Side("peak", dtype): PeakSpec(dtype, n_cores, 1) for dtype in PEAK_DTYPES}
    torch: dict[Side, Spec] = {DEFAULT: default_torch(tuned.float32, n_cores), TUNED: tuned.float32}
    if tuned.bfloat16:
        torch[BF16] = tuned.bfloat16
    over = {TUNED, BF16} & set(torch) if workspace.recipe.reference.speed_over == "best" else {TUNED}
    ungated = {side for side in variants if workspace.bars[side.name].min_speedup is None}

    def going_on(runs: dict[Side, list[Run]]) -> frozenset[Side]:
        judged = faster(runs, TUNED, BF16) if BF16 in over else TUNED
        kinds = unsettled({side.name: runs[side] for side in variants}, runs[judged])
        return frozenset({Side("variant", kind) for kind in kinds} | (over if kinds else set()))

    return measure_rounds(
        {**torch, **variants, **peaks},
        timed_pairs(workspace.pair_set, n_cores, settings, tuned.float32.device),
        settings,
        context.progress,
        baselines=frozenset({*torch, *peaks, *ungated} - over),
        budget_s=workspace.recipe.measure.budget_s,
        unsettled=going_on,
    )


def _forget_plan(
    workspace: Workspace, tuned: TunedTorch, over: Ratio, settings: MeasureSettings, context: Context
) -> None:
    """Have PyTorch's plans swept anew next time: its default arguments were faster."""
    context.progress.note(
        f"torch: default arguments were {over.default_faster:.1%} faster, or more, than {tuned.float32}, "
        "which the sweep found best; the next `verify` sweeps again"
    )
    spec = tuned.float32
    forget_plan(
        workspace.source, spec.max_length, spec.device, workspace.pair_set, settings=settings, context=context
    )


def _calls(
    workspace: Workspace,
    specs: Mapping[str, ArtifactSpec],
    tuned: TunedTorch,
    buckets: Mapping[str, Sequence[int]],
    runs: Mapping[Side, Sequence[Run]],
    *,
    settings: MeasureSettings,
    context: Context,
) -> tuple[dict[Side, tuple[Latency, ...]], dict[Side, dict[str, float]]]:
    """Time single queries, and pairs of each length, with the tuned reference and every variant."""
    variants = {Side("variant", kind): spec for kind, spec in specs.items()}
    sides: dict[Side, Spec] = {TUNED: tuned.float32, **variants}
    latency, by_length = {}, {}
    with context.progress.stage("latency and lengths", len(sides)) as step:
        for done, (side, spec) in enumerate(sides.items(), 1):
            latency[side], by_length[side] = measure_calls(
                str(side),
                spec,
                workspace.pair_set,
                buckets,
                settings,
                pairs_per_s=pool(str(side), str(spec), runs[side]).pairs_per_s,
            )
            step(done)
    return latency, by_length


def _engine_defaults(
    specs: Mapping[str, ArtifactSpec],
    scores: Mapping[str, VariantScores],
    expected: ReferenceScores,
    settings: MeasureSettings,
) -> dict[str, EngineDefault | None]:
    """Time a few whole queries at the pinned numerics, then at the engine's own, in one process."""
    found = {}
    for kind, of_kind in scores.items():
        if of_kind.engine_default is None:
            continue
        pairs, pinned = of_kind.few.pairs, specs[kind]
        calls = (Call(tuple(range(len(pairs))), 1),)
        both = (pinned, replace(pinned, numerics="engine-default"))
        rates = [
            run.n_pairs / run.seconds[0]
            for run in worker.time(TimeJob(pairs, both, calls, n_warmup=settings.n_mixed_batch))
        ]
        found[kind] = engine_default(of_kind, expected, rates[1], rates[0])
    return found
