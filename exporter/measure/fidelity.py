"""Does a variant score like its reference: everything about it but its speed, measured the one way `verify` and `selftest` share.

Averages hide what matters to one user: a pair that scores otherwise in another batch, a length that is cut off wrongly, one query
that got another's scores. Each is measured here and judged in `gate.py`.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from exporter.artifact.manifest import Traits
from exporter.measure.batch_invariance import (
    COMPANY_PAIRS,
    N_COMPANY_QUERIES,
    BatchInvariance,
    batch_invariance,
)
from exporter.measure.contents import Contents, read_contents
from exporter.measure.lengths import (
    SHOWN_CHARACTERS,
    LengthBucket,
    PairScore,
    by_length,
    number,
    pair,
    token_counts,
)
from exporter.measure.parity import Parity, compare
from exporter.measure.quality import Quality, quality
from exporter.measure.saturation import Saturation, bound_sums
from exporter.pairs import PairSet, whole_queries
from exporter.worker.job import ArtifactSpec, Call, Job
from exporter.worker.process import run_job, score_job

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from exporter.artifact.manifest import Manifest, VariantEntry

_N_WORST_PAIRS = 10


@dataclass(frozen=True, slots=True)
class EngineDefault:
    """An engine at its own default precision instead of the stated one: parity, and pairs per second of both in one process."""

    max_abs_diff: float
    kendall_tau: float
    pairs_per_s: float
    pinned_pairs_per_s: float


@dataclass(frozen=True, slots=True)
class Fidelity:
    """One candidate against the reference, but for speed.

    `worst_query` is the text of the query that agrees least. `scores` are the raw logits, in the order of the pair set, None
    where not finite. `repeat_diff` is the largest |difference|, in logits, between two processes at one plan.
    """

    kind: str
    traits: Traits
    isa: str | None
    size_bytes: int
    size_ratio: float
    contents: Contents
    saturation: Saturation | None
    parity: Parity
    quality: Quality | None
    lengths: tuple[LengthBucket, ...]
    batches: BatchInvariance
    repeat_diff: float
    worst_query: str
    worst_pairs: tuple[PairScore, ...]
    scores: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class ReferenceScores:
    """What candidates are held against: the pairs, the reference's raw logits, float32[n_pairs], and its weights' bytes."""

    pair_set: PairSet
    scores: NDArray[np.float32]
    weights_bytes: int

    def picked(self, positions: Sequence[int]) -> ReferenceScores:
        """Give a part of it, in the order of `positions`."""
        return ReferenceScores(
            self.pair_set.picked(positions), self.scores[list(positions)], self.weights_bytes
        )


def measure_fidelity(
    manifest: Manifest,
    entry: VariantEntry,
    spec: ArtifactSpec,
    expected: ReferenceScores,
    progress: Callable[[int], None],
) -> Fidelity:
    """Score every pair with a variant, some of them in other company, and compare with the reference.

    Args:
        manifest: the artifact's.
        entry: the variant.
        spec: where the artifact is, and how the variant is run.
        expected: the pairs and what the reference says of them.
        progress: called with the number of pairs scored so far.

    Raises:
        BackendError: the engine fails.
        ValueError: see `parity.compare`.
    """
    pair_set, folder = expected.pair_set, Path(spec.folder)
    scores = score_job(Job("score", (spec,), pair_set.pairs), progress)
    few = pair_set.picked(whole_queries(pair_set, N_COMPANY_QUERIES))
    once, again = (score_job(Job("score", (spec,), few.pairs)) for _ in range(2))
    lengths = token_counts(folder, manifest, pair_set.pairs)
    parity = compare(expected.scores, scores, pair_set)
    worst = pair_set.query_of.tolist().index(pair_set.query_ids.index(parity.worst_query))
    size = manifest.size_bytes(entry)
    model = folder / entry.model
    return Fidelity(
        kind=entry.kind,
        traits=entry.traits,
        isa=entry.isa,
        size_bytes=size,
        size_ratio=size / expected.weights_bytes,
        contents=read_contents(model),
        saturation=_saturation(model, spec, few, once) if entry.traits.weights == "int8" else None,
        parity=parity,
        quality=quality(expected.scores, scores, pair_set),
        lengths=by_length(expected.scores, scores, lengths, manifest.max_length, pair_set),
        batches=batch_invariance(spec, few),
        repeat_diff=_largest_diff(once, again),
        worst_query=textwrap.shorten(pair_set.pairs[worst][0], SHOWN_CHARACTERS, placeholder=" …"),
        worst_pairs=_worst_pairs(expected.scores, scores, lengths, pair_set),
        scores=tuple(number(score) for score in scores),
    )


def engine_default(spec: ArtifactSpec, expected: ReferenceScores) -> EngineDefault:
    """Score some whole queries at the engine's own precision, and time it beside the stated one.

    Source: https://github.com/openvinotoolkit/openvino/issues/24501 (bf16 where the CPU has it)
    """
    positions = whole_queries(expected.pair_set, N_COMPANY_QUERIES)
    few = expected.pair_set.picked(positions)
    own = replace(spec, numerics="engine-default")
    parity = compare(expected.scores[positions], score_job(Job("score", (own,), few.pairs)), few)
    calls = (Call(tuple(range(len(few.pairs))), 1),)
    (stated_run, own_run), _ = run_job(Job("time", (spec, own), few.pairs, calls, n_warmup=COMPANY_PAIRS))
    rates = [len(few.pairs) / run.seconds[0] for run in (stated_run, own_run)]
    return EngineDefault(parity.max_abs_diff, parity.kendall_tau, rates[1], rates[0])


def _saturation(model: Path, spec: ArtifactSpec, few: PairSet, scores: NDArray[np.float32]) -> Saturation:
    if model.suffix != ".onnx":
        return bound_sums(model)
    unsaturated = score_job(Job("score", (replace(spec, numerics="no-saturation"),), few.pairs))
    return bound_sums(model, _largest_diff(scores, unsaturated))


def _worst_pairs(
    reference: NDArray[np.float32],
    candidate: NDArray[np.float32],
    lengths: NDArray[np.int64],
    pair_set: PairSet,
) -> tuple[PairScore, ...]:
    diff = np.abs(reference - candidate)
    order = np.argsort(-np.where(np.isfinite(diff), diff, np.inf), kind="stable")[:_N_WORST_PAIRS]
    return tuple(pair(int(i), reference, candidate, lengths, pair_set) for i in order)


def _largest_diff(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Give the largest |difference| of what is finite on both sides; the rest is counted elsewhere."""
    finite = np.isfinite(one) & np.isfinite(other)
    return float(np.abs(one[finite].astype(np.float64) - other[finite]).max(initial=0.0))
