"""Find the fastest execution plan of the PyTorch reference and of each variant on this machine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from exporter.artifact.manifest import Manifest
from exporter.artifact.plans import PlanEntry, Plans, SweepRow
from exporter.machine import this_machine
from exporter.measure.rounds import N_WARMUP_PAIRS
from exporter.pairs import PairSet, spread_out
from exporter.worker.job import ArtifactSpec, Call, Job, TorchSpec
from exporter.worker.process import run_job

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from exporter.progress import Progress


def with_plans(
    manifest: Manifest, plans: Plans, folder: Path, pair_set: PairSet, progress: Progress
) -> Plans:
    """Return an artifact's plans with those of this machine, sweeping what was not measured on its like before.

    Args:
        manifest: the artifact's.
        plans: those measured so far.
        folder: the artifact.
        pair_set: where the pairs come from that plans are timed on.
        progress: told the number of variants done.

    Raises:
        BackendError: an engine fails.
    """
    isa, n_cores = this_machine().isa, this_machine().n_cores
    found = dict(plans.plans)
    with progress.stage("plan: sweep", len(manifest.variants)) as step:
        for done, entry in enumerate(manifest.variants, 1):
            measured = plans.of(entry.kind)
            if (isa, n_cores) not in {(plan.isa, plan.n_cores) for plan in measured}:
                swept = tune_artifact(str(folder), entry.kind, pair_set, isa, n_cores)
                found[entry.kind] = (*measured, swept)
            step(done)
    return replace(plans, plans=found)


_S = TypeVar("_S", TorchSpec, ArtifactSpec)
_N_SWEEP_PAIRS = 32
_TORCH_BATCH_SIZES = (4, 8, 16)
_TOKEN_BUDGETS = (128, 256, 512, 1024)


def tune_torch(
    folder: str, max_length: int, device: str, pair_set: PairSet, *, n_cores: int, progress: Progress
) -> TorchSpec:
    """Find the reference's own best plan: every small batch size on one worker with all threads, and one worker a core."""
    layouts = [(1, n_cores), (n_cores, 1)] if n_cores > 1 and device == "cpu" else [(1, n_cores)]
    sizes = _TORCH_BATCH_SIZES if device == "cpu" else (32, 64, 128, 256)
    best: list[tuple[float, TorchSpec]] = []
    with progress.stage("torch: sweep", len(layouts)) as step:
        for done, (workers, threads) in enumerate(layouts):
            specs = tuple(TorchSpec(folder, max_length, device, size, workers, threads) for size in sizes)
            best += _sweep(specs, pair_set, n_passes=1)
            step(done + 1)
    return min(best, key=lambda row: row[0])[1]


def tune_artifact(folder: str, kind: str, pair_set: PairSet, isa: str, n_cores: int) -> PlanEntry:
    """Find a variant's best plan on this machine, `n_cores` of `isa`, and keep what was tried."""
    rows = _sweep(
        [ArtifactSpec(folder, kind, n_cores, 1, budget) for budget in _TOKEN_BUDGETS], pair_set, n_passes=2
    )
    if n_cores > 1:
        wide = [ArtifactSpec(folder, kind, 1, n_cores, budget) for budget in _TOKEN_BUDGETS[1::2]]
        rows += _sweep(wide, pair_set, n_passes=2)
    n = len(spread_out(pair_set, _N_SWEEP_PAIRS))
    best = min(rows, key=lambda row: row[0])[1]
    sweep = tuple(
        SweepRow(spec.workers, spec.threads, spec.token_budget, round(n / seconds, 1))
        for seconds, spec in rows
    )
    return PlanEntry(isa, n_cores, best.workers, best.threads, best.token_budget, sweep)


def _sweep(specs: Sequence[_S], pair_set: PairSet, *, n_passes: int) -> list[tuple[float, _S]]:
    pairs = spread_out(pair_set, _N_SWEEP_PAIRS)
    runs, _ = run_job(
        Job("time", tuple(specs), pairs, (Call(tuple(range(len(pairs))), n_passes),), N_WARMUP_PAIRS)
    )
    return [(min(run.seconds), spec) for run, spec in zip(runs, specs, strict=True)]


def default_torch(tuned: TorchSpec, n_cores: int) -> TorchSpec:
    """Give `CrossEncoder.predict` as it comes: batch 32, one worker, all cores allowed."""
    return replace(tuned, batch_size=32, workers=1, threads=n_cores)
