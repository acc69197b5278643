"""The PyTorch reference: where it runs, its scores and its best plan, kept for the next recipe."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import TypeAdapter

from exporter import worker
from exporter.errors import BackendError, BackendMissing, RecipeError
from exporter.machine import this_machine
from exporter.measure.parity import tells_apart
from exporter.measure.tune import TunedTorch, tune_torch
from exporter.pairs import whole_queries
from exporter.worker.job import ScoreJob, Scoring

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from exporter.context import Context
    from exporter.export.source import Source
    from exporter.measure.settings import MeasureSettings
    from exporter.pairs import PairSet

# Whole queries that are also scored in bfloat16: what the type costs shows on a few hundred pairs.
_N_BF16_QUERIES = 24


@dataclass(frozen=True, slots=True)
class Bf16Difference:
    """How far the same model in bfloat16 is from float32, in logits, on so many pairs."""

    n_pairs: int
    max_abs_diff: float


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
) -> TunedTorch:
    """Return the reference at its own best plan on this machine, swept once and remembered.

    Raises:
        BackendError: torch fails in float32.
    """
    machine = this_machine()

    def make(folder: Path) -> None:
        tuned = tune_torch(
            str(source.folder),
            max_length,
            device,
            pair_set,
            machine=machine,
            settings=settings,
            progress=context.progress,
        )
        (folder / "tuned.json").write_bytes(TypeAdapter(TunedTorch).dump_json(tuned))

    key = _plan_key(source, max_length, device, pair_set, settings)
    folder, reused = context.cache.get("torch-plan", key, make)
    tuned = TypeAdapter(TunedTorch).validate_json((folder / "tuned.json").read_bytes())
    if reused:
        plans = ", ".join(str(spec) for spec in (tuned.float32, tuned.bfloat16) if spec)
        context.progress.note(f"torch: sweep reused, best plan {plans}")
    return tuned


def reference_scores(
    source: Source, tuned: TunedTorch, pair_set: PairSet, context: Context
) -> NDArray[np.float32]:
    """Return the reference's raw logits, float32[n_pairs], scored once and remembered.

    Raises:
        BackendError: the reference fails, or gives scores that are not finite.
        RecipeError: it ranks nothing, so that there is nothing to compare with.
    """
    folder, reused = _scored(source, tuned, pair_set, context)
    if reused:
        context.progress.note(f"torch: reference scores reused, {len(pair_set.pairs)} pairs")
    scores = _read_scores(folder / "scores.npy")
    if not tells_apart(scores, pair_set):
        raise RecipeError(
            f"{source.name}: the model scores all passages of each query alike on {pair_set.name}; "
            "wanted a model, and pairs, whose passages it ranks"
        )
    return scores


def bf16_difference(
    source: Source, tuned: TunedTorch, pair_set: PairSet, context: Context
) -> Bf16Difference | None:
    """Return how far the model in bfloat16 is from float32 on a part of the pairs; None where it is not run.

    Raises:
        BackendError: the reference fails.
    """
    if tuned.bfloat16 is None:
        return None
    folder, _ = _scored(source, tuned, pair_set, context)
    exact, half = _read_scores(folder / "scores.npy"), _read_scores(folder / "bf16.npy")
    differences = np.abs(exact[whole_queries(pair_set, _N_BF16_QUERIES)] - half)
    return Bf16Difference(len(half), float(differences.max()))


def _scored(source: Source, tuned: TunedTorch, pair_set: PairSet, context: Context) -> tuple[Path, bool]:
    """Return a folder with the scores in float32, and of a few queries in bfloat16; whether it was there."""
    scorings, few = [Scoring(tuned.float32)], whole_queries(pair_set, _N_BF16_QUERIES)
    if tuned.bfloat16:
        scorings.append(Scoring(tuned.bfloat16, (tuple(few),)))

    def make(folder: Path) -> None:
        with context.progress.stage("torch: reference scores", len(pair_set.pairs)) as step:
            exact, *half = worker.score_each(ScoreJob(pair_set.pairs, tuple(scorings)), step)
        if not np.isfinite(exact).all():
            raise BackendError(f"{source.name}: the PyTorch reference gives scores that are not finite")
        for name, scores in zip(("scores.npy", "bf16.npy"), (exact, *half), strict=False):
            buffer = io.BytesIO()  # of a full disk, numpy's own file writing raises an error without a number
            np.save(buffer, scores)
            (folder / name).write_bytes(buffer.getvalue())

    spec = tuned.float32
    with_bf16 = tuned.bfloat16 is not None
    key = _scores_key(source, spec.max_length, spec.device, pair_set, with_bf16=with_bf16)
    return context.cache.get("torch-scores", key, make)


def forget_plan(
    source: Source,
    max_length: int,
    device: str,
    pair_set: PairSet,
    *,
    settings: MeasureSettings,
    context: Context,
) -> None:
    """Have the reference's plans swept anew when they are asked for next.

    Raises:
        BackendError: the cache cannot be written.
    """
    context.cache.forget("torch-plan", _plan_key(source, max_length, device, pair_set, settings))


def is_tuned(
    source: Source,
    max_length: int,
    device: str,
    pair_set: PairSet,
    *,
    settings: MeasureSettings,
    context: Context,
) -> bool:
    """Tell whether the reference's best plan is remembered, so that it is not swept again."""
    return context.cache.holds("torch-plan", _plan_key(source, max_length, device, pair_set, settings))


def is_scored(source: Source, max_length: int, device: str, pair_set: PairSet, context: Context) -> bool:
    """Tell whether the reference's scores are remembered, with or without those in bfloat16."""
    keys = (
        _scores_key(source, max_length, device, pair_set, with_bf16=with_bf16) for with_bf16 in (True, False)
    )
    return any(context.cache.holds("torch-scores", key) for key in keys)


def _read_scores(path: Path) -> NDArray[np.float32]:
    scores: NDArray[np.float32] = np.load(path, allow_pickle=False)
    return scores


def _plan_key(
    source: Source, max_length: int, device: str, pair_set: PairSet, settings: MeasureSettings
) -> dict[str, object]:
    machine = this_machine()
    return {
        **_key(source, max_length, device, pair_set),
        "n_cores": machine.n_cores,
        "bf16": machine.has_bf16,
        "tried": [settings.torch_batch_sizes, settings.torch_token_budgets, settings.gpu_batch_sizes],
        "for": [settings.n_timed_pairs, settings.sweep_s],
        "folder": str(source.folder),
    }


def _scores_key(
    source: Source, max_length: int, device: str, pair_set: PairSet, *, with_bf16: bool
) -> dict[str, object]:
    few = whole_queries(pair_set, _N_BF16_QUERIES) if with_bf16 else None
    return {**_key(source, max_length, device, pair_set), "bf16": few}


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
