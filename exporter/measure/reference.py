"""The PyTorch reference: where it runs, its scores and its best plan, kept for the next recipe."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from pydantic import TypeAdapter

from exporter import worker
from exporter.errors import BackendError, BackendMissing
from exporter.machine import this_machine
from exporter.measure.tune import tune_torch
from exporter.worker.job import TorchSpec

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from exporter.context import Context
    from exporter.export.source import Source
    from exporter.measure.settings import MeasureSettings
    from exporter.pairs import PairSet


def device_for(wanted: str) -> str:
    """Return the device that `cpu`, `cuda` or `auto` means here.

    Raises:
        BackendMissing: cuda is asked for and torch sees none.
    """
    if wanted == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise BackendMissing(
            f"reference.device is cuda, but torch {torch.__version__} sees no CUDA device; "
            "use `--set reference.device=cpu`, or a CUDA build of torch on a machine with an NVIDIA GPU"
        )
    return "cpu"


def tuned_reference(
    source: Source,
    max_length: int,
    device: str,
    pair_set: PairSet,
    *,
    settings: MeasureSettings,
    context: Context,
) -> TorchSpec:
    """Return the reference at its own best plan on this machine, swept once and remembered.

    Raises:
        BackendError: torch fails.
    """
    machine = this_machine()

    def make(folder: Path) -> None:
        spec = tune_torch(
            str(source.folder),
            max_length,
            device,
            pair_set,
            n_cores=machine.n_cores,
            settings=settings,
            progress=context.progress,
        )
        (folder / "spec.json").write_bytes(TypeAdapter(TorchSpec).dump_json(spec))

    key = {
        **_key(source, max_length, device, pair_set),
        "n_cores": machine.n_cores,
        "tried": [settings.torch_batch_sizes, settings.gpu_batch_sizes, settings.n_sweep_pairs],
        "folder": str(source.folder),
    }
    folder, reused = context.cache.get("torch-plan", key, make)
    spec = TypeAdapter(TorchSpec).validate_json((folder / "spec.json").read_bytes())
    if reused:
        context.progress.note(f"torch: sweep reused, best plan {spec}")
    return spec


def reference_scores(
    source: Source, spec: TorchSpec, pair_set: PairSet, context: Context
) -> NDArray[np.float32]:
    """Return the reference's raw logits, float32[n_pairs], scored once and remembered.

    Raises:
        BackendError: the reference fails, or gives scores that are not finite.
    """

    def make(folder: Path) -> None:
        with context.progress.stage("torch: reference scores", len(pair_set.pairs)) as step:
            scores = worker.score(spec, pair_set.pairs, step)
        if not np.isfinite(scores).all():
            raise BackendError(f"{source.name}: the PyTorch reference gives scores that are not finite")
        buffer = io.BytesIO()  # of a full disk, numpy's own file writing raises an error without a number
        np.save(buffer, scores)
        (folder / "scores.npy").write_bytes(buffer.getvalue())

    folder, reused = context.cache.get(
        "torch-scores", _key(source, spec.max_length, spec.device, pair_set), make
    )
    if reused:
        context.progress.note(f"torch: reference scores reused, {len(pair_set.pairs)} pairs")
    scores: NDArray[np.float32] = np.load(folder / "scores.npy", allow_pickle=False)
    return scores


def _key(source: Source, max_length: int, device: str, pair_set: PairSet) -> dict[str, object]:
    machine = this_machine()
    packages = [
        list(pair)
        for pair in machine.packages
        if pair[0] in ("torch", "transformers", "sentence-transformers")
    ]
    return {
        "source": source.digest,
        "pairs": pair_set.digest,
        "max_length": max_length,
        "device": device,
        "cpu": machine.cpu,
        "packages": packages,
    }
