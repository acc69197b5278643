"""Everything that workers are asked about a variant's scores, in two processes.

One process scores all pairs, and a few whole queries in every other way that is compared: alone, in mixed
batches, in kernels that cannot saturate, at the engine's own defaults. A second one scores the few once more,
since two processes must agree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from exporter import worker
from exporter.measure.batch_invariance import Composition, compositions
from exporter.pairs import PairSet, whole_queries
from exporter.worker.job import ArtifactSpec, ScoreJob, Scoring

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from exporter.artifact.manifest import Traits
    from exporter.measure.settings import MeasureSettings

# More than any batch has: nothing is split off.
_ONE_BATCH = 1 << 17


@dataclass(frozen=True, slots=True)
class VariantScores:
    """A variant's raw logits, float32, of all pairs and of a few whole queries scored in other ways.

    Attributes:
        every: [n_pairs], under the plan that ships.
        positions: which pairs the few are.
        few: the few as a set of their own; the arrays below are in its order.
        once: of the few, in the same process.
        again: of the few, in a second process.
        alone: of the few, each pair a batch, one worker with all threads.
        batched: each batch composition of the few, with the scores of its batches one after the other.
        unsaturated: of the few, in kernels that cannot saturate; None where there are none or nothing can.
        engine_default: of the few, at the engine's own numerics; None where those are not compared.
    """

    every: NDArray[np.float32]
    positions: tuple[int, ...]
    few: PairSet
    once: NDArray[np.float32]
    again: NDArray[np.float32]
    alone: NDArray[np.float32]
    batched: tuple[tuple[Composition, NDArray[np.float32]], ...]
    unsaturated: NDArray[np.float32] | None
    engine_default: NDArray[np.float32] | None


def score_variant(
    traits: Traits,
    spec: ArtifactSpec,
    pair_set: PairSet,
    settings: MeasureSettings,
    progress: Callable[[int], None],
) -> VariantScores:
    """Score all pairs with a variant, and a few whole queries in every way that is compared.

    Args:
        traits: the variant's.
        spec: where the artifact is, and how the variant is run.
        pair_set: the pairs.
        settings: how many queries are scored in other ways.
        progress: called with the number of pairs scored so far.

    Raises:
        BackendError: the engine fails.
    """
    positions = tuple(whole_queries(pair_set, settings.n_invariance_queries))
    few = pair_set.picked(positions)
    batched = compositions(few, settings.n_mixed_batch)
    one_worker = replace(spec, token_budget=1, workers=1, threads=spec.workers * spec.threads)
    unsplit = replace(spec, token_budget=_ONE_BATCH)

    scorings = [Scoring(spec), Scoring(spec, (positions,)), Scoring(one_worker, (positions,))]
    scorings += [Scoring(unsplit, _in_whole_set(composition, positions)) for composition in batched]
    if compares_unsaturated := traits.engine == "onnxruntime" and traits.weights == "int8":
        scorings.append(Scoring(replace(spec, numerics="no-saturation"), (positions,)))
    if compares_default := traits.engine == "openvino":
        scorings.append(Scoring(replace(spec, numerics="engine-default"), (positions,)))

    first = worker.score_each(ScoreJob(pair_set.pairs, tuple(scorings)), progress)
    (again,) = worker.score_each(ScoreJob(pair_set.pairs, (Scoring(spec, (positions,)),)))
    every, once, alone, *rest = first
    return VariantScores(
        every=every,
        positions=positions,
        few=few,
        once=once,
        again=again,
        alone=alone,
        batched=tuple(zip(batched, rest[: len(batched)], strict=True)),
        unsaturated=rest[-1] if compares_unsaturated else None,
        engine_default=rest[-1] if compares_default else None,
    )


def _in_whole_set(composition: Composition, positions: tuple[int, ...]) -> Composition:
    """Translate positions among the few into positions among all pairs."""
    return tuple(tuple(positions[i] for i in batch) for batch in composition)
