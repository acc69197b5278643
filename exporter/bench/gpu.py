"""PyTorch on a GPU: is float32 there the same reference as on the CPU, and what do half precisions cost?

Needs torch, sentence-transformers and a CUDA device, and nothing that exports.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter import worker
from exporter.artifact.files import to_json, write_together
from exporter.errors import BackendError
from exporter.escape import markdown as escaped
from exporter.export.source import find_source
from exporter.machine import Machine, this_machine
from exporter.measure.parity import Parity, compare
from exporter.measure.quality import Quality, quality
from exporter.measure.reference import device_for, reference_scores, tuned_reference
from exporter.measure.settings import MeasureSettings
from exporter.pairs import load_pair_sets, spread_out
from exporter.recipe.schema import Recipe
from exporter.report.table import md_table
from exporter.worker.job import Call, TimeJob, TorchDtype, TorchSpec

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from exporter.context import Context
    from exporter.pairs import PairSet
    from exporter.progress import Progress


# 2: without the GPU's own events. 1: first version.
GPU_SCHEMA = 2
DTYPES: tuple[TorchDtype, ...] = ("float32", "float16", "bfloat16")
# float32 sums in another order; TF32, which must be off, would differ by 1e-2.
# Source: https://docs.pytorch.org/docs/stable/notes/numerical_accuracy.html
MAX_FLOAT32_DIFF = 1e-3


@dataclass(frozen=True, slots=True)
class GpuSettings:
    """The circumstances of a check.

    `n_pairs` are timed in a pass: two of the largest batches, which take a good part of a second. `measure`
    says how the reference on the CPU is tuned.
    """

    batch_sizes: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    n_pairs: int = 1024
    n_passes: int = 5
    measure: MeasureSettings = field(default_factory=MeasureSettings)


@dataclass(frozen=True, slots=True)
class BatchRow:
    """Pairs per second at one batch size, by the clock around synchronised passes."""

    batch_size: int
    pairs_per_s: float


@dataclass(frozen=True, slots=True)
class TypeRow:
    """PyTorch in one type on the GPU, compared with float32 on the CPU."""

    dtype: TorchDtype
    parity: Parity
    quality: Quality | None
    batches: tuple[BatchRow, ...]

    @property
    def best(self) -> BatchRow:
        """The fastest batch size."""
        return max(self.batches, key=lambda row: row.pairs_per_s)


@dataclass(frozen=True, slots=True)
class GpuReport:
    """All types on one device."""

    schema: int
    device: str
    started_at: str
    machine: Machine
    pairs: str
    rows: tuple[TypeRow, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """Why float32 on the GPU is not the reference, or a type is of no use; empty where all is well."""
        exact = next(row for row in self.rows if row.dtype == "float32")
        found = [
            f"{row.dtype}: {row.parity.n_nonfinite} scores are not finite"
            for row in self.rows
            if row.parity.n_nonfinite
        ]
        if exact.parity.max_abs_diff > MAX_FLOAT32_DIFF:
            diff = exact.parity.max_abs_diff
            found.append(
                f"float32 on the GPU is {diff:.2g} off the CPU, {MAX_FLOAT32_DIFF:g} allowed; is TF32 on?"
            )
        return tuple(found)


def measure_types(
    reference: NDArray[np.float32],
    spec: TorchSpec,
    pair_set: PairSet,
    settings: GpuSettings,
    progress: Progress,
) -> tuple[TypeRow, ...]:
    """Return scores of all pairs in every type, compared, and the speed at every batch size.

    Args:
        reference: float32[n_pairs], raw logits of the model in float32 on the CPU.
        spec: the model, and the device.
        pair_set: what is scored.
        settings: batch sizes and passes.
        progress: told the number of types done.

    Raises:
        BackendError: torch fails.
    """
    pairs = spread_out(pair_set, settings.n_pairs)
    call = Call(tuple(range(len(pairs))), settings.n_passes)
    rows = []
    with progress.stage("types", len(DTYPES)) as step:
        for done, dtype in enumerate(DTYPES, 1):
            specs = [
                TorchSpec(spec.folder, spec.max_length, spec.device, size, 1, spec.threads, dtype)
                for size in settings.batch_sizes
            ]
            scores = worker.score(specs[-1], pair_set.pairs)
            runs = worker.time(TimeJob(pairs, tuple(specs), (call,), n_warmup=len(pairs)))
            batches = tuple(
                BatchRow(
                    batch_size=of.batch_size,
                    pairs_per_s=run.n_pairs * len(run.seconds) / sum(run.seconds),
                )
                for of, run in zip(specs, runs, strict=True)
            )
            rows.append(
                TypeRow(
                    dtype, compare(reference, scores, pair_set), quality(reference, scores, pair_set), batches
                )
            )
            step(done)
    return tuple(rows)


def markdown(report: GpuReport) -> str:
    """Return the report as a page: problems, one row a type, one column a batch size."""
    machine = report.machine
    types = [
        (
            row.dtype,
            f"{row.parity.max_abs_diff:.2g}",
            f"{row.parity.kendall_tau.value:.4f}",
            f"{row.parity.top1_agreement.value:.4f}",
            f"{row.quality.ndcg_retained.value:.2%}" if row.quality else "no labels",
            f"{row.best.pairs_per_s:.0f}",
            str(row.best.batch_size),
        )
        for row in report.rows
    ]
    sizes = [str(batch.batch_size) for batch in report.rows[0].batches]
    swept = [(row.dtype, *(f"{batch.pairs_per_s:.0f}" for batch in row.batches)) for row in report.rows]
    titles = ("type", "max diff", "tau-b", "top-1", "nDCG kept", "pairs/s", "batch")
    lines = [
        f"# PyTorch on {escaped(report.device)}",
        "",
        escaped(
            f"Measured {report.started_at}, {machine.cpu}, {machine.n_cores} cores; {report.pairs}. Against "
            "float32 on the CPU, in logits; TF32 off."
        ),
        "",
        *(
            [f"- {escaped(problem)}" for problem in report.problems]
            or ["float32 on the GPU gives the reference's scores."]
        ),
        "",
        *md_table(titles, types),
        "",
        "Pairs per second by batch size:",
        "",
        *md_table(("type", *sizes), swept),
        "",
        escaped(", ".join(f"{name} {version}" for name, version in machine.packages) + "."),
        "",
    ]
    return "\n".join(lines)


def write_gpu_report(report: GpuReport, folder: Path) -> Path:
    """Write gpu-DEVICE.md and gpu-DEVICE.json, and return the former's path.

    Raises:
        BackendError: the disk refuses.
    """
    name = "gpu-" + "".join(c if c.isalnum() else "-" for c in report.device.lower())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BackendError(f"{folder}: cannot be written: {error.strerror}") from error
    files = {f"{name}.json": to_json(report, indent=1), f"{name}.md": markdown(report).encode()}
    write_together(folder, files)
    return folder / f"{name}.md"


def gpu_check(
    recipe: Recipe, context: Context, settings: GpuSettings | None = None, *, device: str = "cuda"
) -> GpuReport:
    """Score and time a recipe's pairs with PyTorch on a GPU in every type, against float32 on the CPU.

    Args:
        recipe: names model and pairs; nothing is built.
        context: told what goes on.
        settings: batch sizes and passes.
        device: where; other than `cuda` it is for trying the command out.

    Raises:
        BackendMissing: torch sees no CUDA device.
        RecipeError: the model or the pairs are not there.
        BackendError: torch fails.
    """
    import torch

    settings = settings or GpuSettings()
    found = device_for(device) if device == "cuda" else device
    pair_set, _ = load_pair_sets(recipe)
    with context.progress.stage("model"):
        source = find_source(recipe.model, context.cache)
    machine = this_machine()
    tuned = tuned_reference(
        source, source.max_length, "cpu", pair_set, settings=settings.measure, context=context
    )
    scores = reference_scores(source, tuned, pair_set, context)
    spec = TorchSpec(str(source.folder), source.max_length, found, 1, 1, machine.n_cores)
    return GpuReport(
        schema=GPU_SCHEMA,
        device=torch.cuda.get_device_name() if found == "cuda" else found,
        started_at=context.started_at,
        machine=machine,
        pairs=f"{len(pair_set.pairs)} pairs of {pair_set.name}",
        rows=measure_types(scores, spec, pair_set, settings, context.progress),
    )
