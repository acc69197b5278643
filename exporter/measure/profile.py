"""Where a variant's time goes: every operator's share, on one thread, over real pairs."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.artifact.choice import choose_variant
from exporter.artifact.manifest import read_manifest
from exporter.artifact.plans import read_plans
from exporter.errors import BackendError
from exporter.machine import this_cpu, this_isa
from exporter.measure.settings import MeasureSettings
from exporter.measure.workspace import recipe_of
from exporter.pairs import Pair, load_pair_sets, spread_out
from exporter.runtime import PairTokenizer, Plan, Reranker, choose_plan
from exporter.runtime.model_file import check_artifact

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """All runs of one operator type; `share` is of all operators' time, `flops` 0 where unknown."""

    op: str
    n_runs: int
    seconds: float
    share: float
    flops: int


@dataclass(frozen=True, slots=True)
class Profile:
    """Operators of a variant, the slowest first; `wall_s` counts tokenizing and recording too."""

    kind: str
    plan: str
    n_pairs: int
    n_tokens: int
    wall_s: float
    operators: tuple[OperatorTime, ...]


def profile_variant(folder: Path, kind: str | None, pairs: Sequence[Pair]) -> Profile:
    """Score pairs with one worker of one thread and add up each operator's time.

    Args:
        folder: the artifact.
        kind: as `Reranker.load` takes it.
        pairs: what to score.

    Raises:
        RecipeError: the folder is no artifact, or has no such variant.
        IntegrityError: a file is not the one the manifest names.
        BackendError: the engine cannot load the file, or recorded nothing.
    """
    manifest = read_manifest(folder)
    plans = read_plans(folder, manifest)
    entry = choose_variant(manifest, plans, this_cpu(), kind).entry
    plan = Plan(1, 1, choose_plan(plans.of(entry.kind), this_isa(), 1).token_budget)
    reranker = Reranker.load(folder, entry.kind, plan=plan, profiled=True)
    started = time.perf_counter()
    reranker.score(pairs)
    wall_s = time.perf_counter() - started
    runs = defaultdict(list)
    for operation in reranker.operations():
        runs[operation.op].append(operation)
    if not runs:
        raise BackendError(f"{entry.kind}: {entry.traits.engine} recorded no operators")
    total = sum(operation.seconds for of_op in runs.values() for operation in of_op)
    rows = []
    for op, of_op in runs.items():
        seconds = sum(operation.seconds for operation in of_op)
        rows.append(
            OperatorTime(
                op, len(of_op), seconds, seconds / total, sum(operation.flops for operation in of_op)
            )
        )
    n_tokens = int(PairTokenizer.load(folder, manifest).count(pairs).sum())
    slowest_first = tuple(sorted(rows, key=lambda row: -row.seconds))
    return Profile(entry.kind, str(plan), len(pairs), n_tokens, wall_s, slowest_first)


def profile(folder: Path, kind: str | None = None) -> Profile:
    """Record each operator's time over the pairs that speed is measured on; needs no PyTorch.

    Raises:
        RecipeError: the folder is no artifact, has no such variant, or its pairs are gone.
        IntegrityError: its files are not what its manifest says.
    """
    manifest = read_manifest(folder)
    check_artifact(manifest, folder)
    pair_set, _ = load_pair_sets(recipe_of(manifest, folder))
    return profile_variant(folder, kind, spread_out(pair_set, MeasureSettings().n_timed_pairs))
