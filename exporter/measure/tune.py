"""Find the fastest execution plan of the PyTorch reference and of each variant on this machine.

Both sides go through one search: layouts over the cores, and batches from one pair up.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from exporter import worker
from exporter.artifact.plans import PlanEntry, Plans, SweepRow
from exporter.errors import BackendError
from exporter.measure.search import contenders, fastest
from exporter.pairs import PairSet, spread_out
from exporter.worker.job import ArtifactSpec, SweepJob, TorchSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from exporter.machine import Machine
    from exporter.measure.settings import MeasureSettings
    from exporter.progress import Progress


# A process that has run large batches keeps memory that one which runs only its own plan asks for anew: 1,024
# tokens a batch were as fast as 512 in a process that tries all plans, and 8.6 % slower alone (5.9 to 15.1;
# PyTorch 2.13, Intel Xeon 6/207). So a pass of each finds the first few, and each of those has a process.
_MOST_ALONE = 5
# Passes of a second each, so that eight seconds were two rounds of them: one sweep of four took a plan 6.6 %
# slower than what the others took.
TIMES_SWEEP = 2
# A process takes its weights, perhaps in another type than the file's, and what it computes.
_TIMES_WEIGHTS = 3


@dataclass(frozen=True, slots=True)
class TunedTorch:
    """The reference at its own best plan; `bfloat16` is None where the CPU has no units for it."""

    float32: TorchSpec
    bfloat16: TorchSpec | None


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
    machine: Machine,
    settings: MeasureSettings,
    progress: Progress,
) -> TunedTorch:
    """Find the reference's own best plan, and on a CPU with bf16 units that of the same model in bfloat16.

    Args:
        folder: the model.
        max_length: tokens of a pair that it reads.
        device: where it runs.
        pair_set: where the pairs come from that plans are timed on.
        machine: this one.
        settings: which plans are tried, on how many pairs, and for how long.
        progress: told what goes on, and of a model that cannot be run in bfloat16.

    Raises:
        BackendError: torch fails in float32.
    """
    specs = {"float32": torch_families(folder, max_length, device, machine.n_cores, settings)}
    if device == "cpu" and machine.has_bf16:
        specs["bfloat16"] = [[replace(spec, dtype="bfloat16") for spec in of] for of in specs["float32"]]
    pairs = timed_pairs(pair_set, machine.n_cores, settings, device)
    every = tuple(spec for families in specs.values() for family in families for spec in family)
    job = SweepJob(pairs, every, settings.n_warmup_pairs, settings.sweep_pass_s)
    found: dict[str, TorchSpec] = {}
    with progress.stage("torch: sweep", 2 * len(specs)) as step:
        closer: dict[str, list[TorchSpec]] = {}
        with worker.SweepWorker(job) as sweep:
            for done, (dtype, families) in enumerate(specs.items(), 1):
                try:
                    closer[dtype] = contenders(families, sweep.seconds, _most_alone(folder, machine))
                except BackendError as error:
                    if dtype == "float32":
                        raise
                    progress.note(f"torch: not measured in {dtype}: {str(error).splitlines()[0]}")
                step(done)
        for done, (dtype, plans) in enumerate(closer.items(), 1):
            found[dtype] = _fastest_alone(plans, job, settings)
            step(len(specs) + done)
    return TunedTorch(found["float32"], found.get("bfloat16"))


def _most_alone(folder: str, machine: Machine) -> int:
    """Return how many processes with a model of their own half of the memory has room for, two at least."""
    n_bytes = sum(file.stat().st_size for file in Path(folder).glob("*.safetensors"))
    return min(_MOST_ALONE, max(2, int(machine.memory_gb * 2**30 / 2 / max(_TIMES_WEIGHTS * n_bytes, 1))))


def _fastest_alone(plans: Sequence[TorchSpec], job: SweepJob, settings: MeasureSettings) -> TorchSpec:
    """Return the fastest of few plans, each in a process of its own, as it is measured and used."""
    with ExitStack() as stack:
        own = {plan: stack.enter_context(worker.SweepWorker(replace(job, specs=(plan,)))) for plan in plans}
        tried = fastest(
            [[plan] for plan in plans], lambda plan: own[plan].seconds(plan), TIMES_SWEEP * settings.sweep_s
        )
    return tried[0].plan


def torch_families(
    folder: str, max_length: int, device: str, n_cores: int, settings: MeasureSettings
) -> list[list[TorchSpec]]:
    """Return the plans tried for PyTorch in float32: on every layout, batches by pairs and by tokens."""
    base = TorchSpec(folder, max_length, device, 1, 1, n_cores)
    if device != "cpu":
        return [[replace(base, batch_size=size) for size in settings.gpu_batch_sizes]]
    found = []
    for workers, threads in layouts(n_cores):
        of = replace(base, workers=workers, threads=threads)
        found.append([replace(of, batch_size=size) for size in settings.torch_batch_sizes])
        found.append([replace(of, token_budget=budget) for budget in settings.torch_token_budgets])
    return found


def layouts(n_cores: int) -> list[tuple[int, int]]:
    """Return (workers, threads of each) to try: a worker a core, one worker with all, and some in between.

    In between threads double on up to eight cores, and grow fourfold on more.
    """
    factor, threads, found = 2 if n_cores <= 8 else 4, 1, []
    while n_cores // threads > 1:
        found.append((n_cores // threads, threads))
        threads *= factor
    return [*found, (1, n_cores)]


def tune_artifact(
    folder: str, kind: str, pair_set: PairSet, machine: Machine, settings: MeasureSettings
) -> PlanEntry:
    """Find a variant's best plan on this machine, and keep what was tried.

    Raises:
        BackendError: the engine fails.
    """
    families = [
        [ArtifactSpec(folder, kind, workers, threads, budget) for budget in settings.token_budgets]
        for workers, threads in layouts(machine.n_cores)
    ]
    pairs = timed_pairs(pair_set, machine.n_cores, settings)
    every = tuple(spec for family in families for spec in family)
    job = SweepJob(pairs, every, len(pairs), settings.sweep_pass_s)  # engines prepare for every new shape
    with worker.SweepWorker(job) as sweep:
        tried = fastest(families, sweep.seconds, settings.sweep_s)
    rows = {row.plan: row for row in tried}
    best = tried[0].plan
    return PlanEntry(
        isa=machine.isa,
        n_cores=machine.n_cores,
        workers=best.workers,
        threads=best.threads,
        token_budget=best.token_budget,
        sweep=tuple(
            SweepRow(spec.workers, spec.threads, spec.token_budget, round(len(pairs) / rows[spec].seconds, 1))
            for spec in every
            if spec in rows
        ),
    )


def default_torch(tuned: TorchSpec, n_cores: int) -> TorchSpec:
    """Return `CrossEncoder.predict` with default arguments: batch 32, one worker, all cores allowed."""
    return replace(tuned, batch_size=32, token_budget=None, workers=1, threads=n_cores)


def timed_pairs(
    pair_set: PairSet, n_cores: int, settings: MeasureSettings, device: str = "cpu"
) -> tuple[tuple[str, str], ...]:
    """Return the pairs of a pass on so many cores, beside PyTorch on a device.

    On a GPU a pass has four of the largest batches: on 192 pairs, less than one of those, 32 a batch looked
    best, and a GPU that waited in between ran at a lower clock, 10 % slower (H200, torch 2.11).

    Args:
        pair_set: where they come from.
        n_cores: the cores to use.
        settings: how many there are, and the batches tried on a GPU.
        device: where PyTorch runs.
    """
    n_pairs = settings.n_on(n_cores, settings.n_timed_pairs)
    return spread_out(
        pair_set, n_pairs if device == "cpu" else max(n_pairs, 4 * max(settings.gpu_batch_sizes))
    )
