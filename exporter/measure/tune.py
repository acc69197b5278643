"""Find the fastest execution plan of the PyTorch reference and of each variant on this machine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from exporter import worker
from exporter.artifact.plans import PlanEntry, Plans, SweepRow
from exporter.pairs import PairSet, spread_out
from exporter.worker.job import ArtifactSpec, Call, TimeJob, TorchSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from exporter.machine import Machine
    from exporter.measure.settings import MeasureSettings
    from exporter.progress import Progress

_Spec = TypeVar("_Spec", TorchSpec, ArtifactSpec)


def with_plans(
    plans: Plans,
    kinds: Iterable[str],
    folder: Path,
    pair_set: PairSet,
    *,
    machine: Machine,
    settings: MeasureSettings,
    progress: Progress,
) -> Plans:
    """Return an artifact's plans with those of this machine, sweeping those not measured on its like before.

    Args:
        plans: those measured so far.
        kinds: the variants that run here.
        folder: the artifact.
        pair_set: where the pairs come from that plans are timed on.
        machine: this one.
        settings: which plans are tried, and on how many pairs.
        progress: told the number of variants done.

    Raises:
        BackendError: an engine fails.
    """
    here = (machine.isa, machine.n_cores)
    found, kinds = dict(plans.plans), tuple(kinds)
    with progress.stage("plan: sweep", len(kinds)) as step:
        for done, kind in enumerate(kinds, 1):
            measured = plans.of(kind)
            if here not in {(plan.isa, plan.n_cores) for plan in measured}:
                found[kind] = (*measured, tune_artifact(str(folder), kind, pair_set, machine, settings))
            step(done)
    return replace(plans, plans=found)


def tune_torch(
    folder: str,
    max_length: int,
    device: str,
    pair_set: PairSet,
    *,
    n_cores: int,
    settings: MeasureSettings,
    progress: Progress,
) -> TorchSpec:
    """Find the reference's own best plan: batch sizes on one worker with all threads, and on a worker a core.

    Raises:
        BackendError: torch fails.
    """
    on_cpu = device == "cpu"
    layouts = [(1, n_cores), (n_cores, 1)] if n_cores > 1 and on_cpu else [(1, n_cores)]
    sizes = settings.torch_batch_sizes if on_cpu else settings.gpu_batch_sizes
    rows: list[tuple[float, TorchSpec]] = []
    with progress.stage("torch: sweep", len(layouts)) as step:
        for done, (workers, threads) in enumerate(layouts, 1):
            specs = [TorchSpec(folder, max_length, device, size, workers, threads) for size in sizes]
            rows += _sweep(specs, pair_set, settings, n_passes=1)
            step(done)
    return min(rows, key=lambda row: row[0])[1]


def tune_artifact(
    folder: str, kind: str, pair_set: PairSet, machine: Machine, settings: MeasureSettings
) -> PlanEntry:
    """Find a variant's best plan on this machine, and keep what was tried.

    Raises:
        BackendError: the engine fails.
    """
    n_cores, budgets = machine.n_cores, settings.token_budgets
    narrow = [ArtifactSpec(folder, kind, n_cores, 1, budget) for budget in budgets]
    rows = _sweep(narrow, pair_set, settings, n_passes=2)
    if n_cores > 1:
        wide = [ArtifactSpec(folder, kind, 1, n_cores, budget) for budget in budgets[1::2]]
        rows += _sweep(wide, pair_set, settings, n_passes=2)

    n = len(spread_out(pair_set, settings.n_sweep_pairs))
    sweep = tuple(
        SweepRow(spec.workers, spec.threads, spec.token_budget, round(n / seconds, 1))
        for seconds, spec in rows
    )
    best = min(rows, key=lambda row: row[0])[1]
    return PlanEntry(machine.isa, n_cores, best.workers, best.threads, best.token_budget, sweep)


def default_torch(tuned: TorchSpec, n_cores: int) -> TorchSpec:
    """Return `CrossEncoder.predict` with default arguments: batch 32, one worker, all cores allowed."""
    return replace(tuned, batch_size=32, workers=1, threads=n_cores)


def _sweep(
    specs: Sequence[_Spec], pair_set: PairSet, settings: MeasureSettings, *, n_passes: int
) -> list[tuple[float, _Spec]]:
    """Time a pass of each plan, in one process; the fastest of its passes counts."""
    pairs = spread_out(pair_set, settings.n_sweep_pairs)
    call = Call(tuple(range(len(pairs))), n_passes)
    runs = worker.time(TimeJob(pairs, tuple(specs), (call,), settings.n_warmup_pairs))
    return [(min(run.seconds), spec) for run, spec in zip(runs, specs, strict=True)]
