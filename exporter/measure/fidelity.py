"""Does a variant score like its reference? All about it but its speed, as `verify` and `selftest` share it.

Averages hide what matters to one user: a pair that scores otherwise in another batch, a length that is cut
off wrongly, one query that got another's scores. Each is measured here and judged in `gate.py`.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from exporter.artifact.manifest import Traits
from exporter.measure.batch_invariance import BatchInvariance, batch_invariance
from exporter.measure.contents import Contents, read_contents
from exporter.measure.lengths import (
    SHOWN_CHARACTERS,
    LengthBucket,
    PairScore,
    by_length,
    number,
    pair_score,
    token_counts,
)
from exporter.measure.parity import Parity, compare, tells_apart
from exporter.measure.quality import Quality, quality
from exporter.measure.saturation import Saturation, bound_sums
from exporter.measure.scores import VariantScores, score_variant
from exporter.pairs import PairSet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from exporter.artifact.manifest import Manifest, VariantEntry
    from exporter.measure.settings import MeasureSettings
    from exporter.worker.job import ArtifactSpec

_N_WORST_PAIRS = 10


@dataclass(frozen=True, slots=True)
class EngineDefault:
    """Accuracy and speed at the engine's own default numerics, with the speed at the pinned ones.

    Both speeds are of one process, one after the other.
    """

    max_abs_diff: float
    kendall_tau: float
    pairs_per_s: float
    pinned_pairs_per_s: float


@dataclass(frozen=True, slots=True)
class Fidelity:
    """One candidate against the reference, but for speed.

    `worst_query` is the text of the query that agrees least. `scores` are the raw logits, in the order of the
    pair set, None where not finite. `repeat_diff` is the largest |difference|, in logits, between two
    processes at one plan.
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
    """The reference's raw logits, float32[n_pairs], of these pairs, and the bytes of its weights."""

    pair_set: PairSet
    scores: NDArray[np.float32]
    weights_bytes: int

    def picked(self, positions: Sequence[int]) -> ReferenceScores:
        """Return the scores of a part of the pairs, in the order of `positions`."""
        return ReferenceScores(
            self.pair_set.picked(positions), self.scores[list(positions)], self.weights_bytes
        )


def measure_fidelity(
    manifest: Manifest,
    entry: VariantEntry,
    spec: ArtifactSpec,
    expected: ReferenceScores,
    *,
    settings: MeasureSettings,
    progress: Callable[[int], None],
) -> Fidelity:
    """Score a variant in every way that is compared, and compare.

    Args:
        manifest: the artifact's.
        entry: the variant.
        spec: where the artifact is, and how the variant is run.
        expected: the pairs and the reference's scores of them.
        settings: how much is measured.
        progress: called with the number of pairs scored so far.

    Raises:
        BackendError: the engine fails, or the files cannot be read.
        ValueError: see `parity.compare`.
    """
    folder = Path(spec.folder)
    scores = score_variant(entry.traits, spec, expected.pair_set, settings, progress)
    lengths = token_counts(folder, manifest, expected.pair_set.pairs)
    return compare_scores(manifest, entry, folder, expected, scores=scores, lengths=lengths)


def compare_scores(
    manifest: Manifest,
    entry: VariantEntry,
    folder: Path,
    expected: ReferenceScores,
    *,
    scores: VariantScores,
    lengths: NDArray[np.int64],
) -> Fidelity:
    """Compare a variant's scores with the reference's, and read what its files hold.

    Args:
        manifest: the artifact's.
        entry: the variant.
        folder: the artifact.
        expected: the pairs and the reference's scores of them.
        scores: the variant's.
        lengths: int64[n_pairs], see `lengths.token_counts`.

    Raises:
        BackendError: the files cannot be read.
        ValueError: see `parity.compare`.
    """
    pair_set, theirs, ours = expected.pair_set, expected.scores, scores.every
    parity = compare(theirs, ours, pair_set)
    worst = pair_set.query_of.tolist().index(pair_set.query_ids.index(parity.worst_query))
    size = manifest.size_bytes(entry)
    model = folder / entry.model
    saturation = None
    if entry.traits.weights == "int8":
        unsaturated = scores.unsaturated
        saturation = bound_sums(
            model, None if unsaturated is None else largest_diff(scores.once, unsaturated)
        )
    return Fidelity(
        kind=entry.kind,
        traits=entry.traits,
        isa=entry.isa,
        size_bytes=size,
        size_ratio=size / expected.weights_bytes,
        contents=read_contents(model),
        saturation=saturation,
        parity=parity,
        quality=quality(theirs, ours, pair_set),
        lengths=by_length(theirs, ours, lengths, manifest.max_length, pair_set),
        batches=batch_invariance(scores.alone, scores.batched, scores.few),
        repeat_diff=largest_diff(scores.once, scores.again),
        worst_query=textwrap.shorten(pair_set.pairs[worst][0], SHOWN_CHARACTERS, placeholder=" …"),
        worst_pairs=_worst_pairs(theirs, ours, lengths, pair_set),
        scores=tuple(number(score) for score in ours),
    )


def engine_default(
    scores: VariantScores, expected: ReferenceScores, default_pairs_per_s: float, pinned_pairs_per_s: float
) -> EngineDefault | None:
    """Compare whole queries scored at the engine's own numerics with the reference.

    None where none were scored, or the reference ranks none of them.

    Source: https://github.com/openvinotoolkit/openvino/issues/24501 (bf16 where the CPU has it)

    Args:
        scores: the variant's.
        expected: the reference's scores of all pairs.
        default_pairs_per_s: how fast the few were scored at the engine's own numerics.
        pinned_pairs_per_s: and at the pinned ones, in the same process.
    """
    reference = expected.scores[list(scores.positions)]
    if scores.engine_default is None or not tells_apart(reference, scores.few):
        return None
    parity = compare(reference, scores.engine_default, scores.few)
    return EngineDefault(
        parity.max_abs_diff, parity.kendall_tau.value, default_pairs_per_s, pinned_pairs_per_s
    )


def _worst_pairs(
    reference: NDArray[np.float32],
    candidate: NDArray[np.float32],
    lengths: NDArray[np.int64],
    pair_set: PairSet,
) -> tuple[PairScore, ...]:
    diff = np.abs(reference - candidate)
    order = np.argsort(-np.where(np.isfinite(diff), diff, np.inf), kind="stable")[:_N_WORST_PAIRS]
    return tuple(pair_score(int(i), reference, candidate, lengths, pair_set) for i in order)


def largest_diff(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the largest |difference| of what is finite on both sides; the rest is counted elsewhere."""
    finite = np.isfinite(one) & np.isfinite(other)
    return float(np.abs(one[finite].astype(np.float64) - other[finite]).max(initial=0.0))
