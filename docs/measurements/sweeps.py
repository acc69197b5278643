"""Repeat the sweeps for the best plans, and time the plans that they chose in turns.

Usage: `sweeps.py RECIPE [TIMES [ROUNDS]]`, by default 5 sweeps of every side and 12 rounds.

Sweeps PyTorch in every type that a report has, and each variant of the recipe's artifact in `artifacts/` that
runs here. Nothing is taken from the cache, and nothing kept. What it prints last is the largest difference in
speed between two plans that sweeps of one side chose, by the median of paired rounds.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.artifact.cpus import runs_on
from exporter.artifact.manifest import read_manifest
from exporter.cli.screen import watched
from exporter.export.source import find_source
from exporter.machine import this_machine
from exporter.measure.rounds import measure_rounds
from exporter.measure.settings import MeasureSettings
from exporter.measure.speed import pool, speedup
from exporter.measure.tune import tune_artifact, tune_torch
from exporter.pairs import load_pair_sets, spread_out
from exporter.recipe.load import load_recipe
from exporter.worker.job import ArtifactSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.context import Context
    from exporter.pairs import PairSet
    from exporter.recipe.schema import Recipe
    from exporter.worker.job import Spec


def main() -> None:
    """Sweep, time, and print."""
    if len(sys.argv) < 2:
        sys.exit("usage: sweeps.py RECIPE [TIMES [ROUNDS]]")
    times, rounds = (int(given) if given else usual for given, usual in zip(_given(), (5, 12), strict=True))
    recipe = load_recipe(Path(sys.argv[1]))
    pair_set, _ = load_pair_sets(recipe)
    settings = replace(MeasureSettings(), min_rounds=rounds)
    with watched() as context:
        chosen: dict[str, list[Spec]] = {}
        for _ in range(times):
            for side, spec in _swept(recipe, pair_set, settings, context).items():
                chosen.setdefault(side, []).append(spec)
        largest = {side: _largest(side, of, pair_set, settings, context) for side, of in chosen.items()}
    worst = max(largest, key=largest.__getitem__)
    print(f"largest difference: {largest[worst]:.1%}, {worst}")


def _given() -> list[str]:
    return [*sys.argv[2:4], "", ""][:2]


def _swept(recipe: Recipe, pair_set: PairSet, settings: MeasureSettings, context: Context) -> dict[str, Spec]:
    """Return the plan that one sweep of each side chooses."""
    machine, source = this_machine(), find_source(recipe.model, context.cache)
    tuned = tune_torch(
        str(source.folder),
        source.max_length,
        "cpu",
        pair_set,
        machine=machine,
        settings=settings,
        progress=context.progress,
    )
    found: dict[str, Spec] = {"torch tuned": tuned.float32}
    if tuned.bfloat16:
        found["torch bfloat16"] = tuned.bfloat16
    folder = Path("artifacts") / recipe.name
    if folder.is_dir():
        for entry in read_manifest(folder).variants:
            if runs_on(entry.traits, machine):
                plan = tune_artifact(str(folder), entry.kind, pair_set, machine, settings)
                found[entry.kind] = ArtifactSpec(
                    str(folder), entry.kind, plan.workers, plan.threads, plan.token_budget
                )
    return found


def _largest(
    side: str, chosen: Sequence[Spec], pair_set: PairSet, settings: MeasureSettings, context: Context
) -> float:
    """Time the plans that a side's sweeps chose in turns, print them, and return the largest difference."""
    sides = {spec: spec for spec in chosen}
    if len(sides) == 1:
        print(f"{side}: {chosen[0]} in all of {len(chosen)} sweeps")
        return 0.0
    runs = measure_rounds(
        sides,
        spread_out(pair_set, settings.n_on(this_machine().n_cores, settings.n_timed_pairs)),
        settings,
        context.progress,
        baselines=frozenset(),
        budget_s=0.0,
        unsettled=lambda _runs: frozenset(),
        what=side,
    )
    rates = {spec: pool(side, str(spec), of) for spec, of in runs.items()}
    best = max(rates, key=lambda spec: rates[spec].pairs_per_s)
    differences = []
    for spec, rate in sorted(rates.items(), key=lambda row: -row[1].pairs_per_s):
        ratio = speedup(runs[best], runs[spec])
        differences.append(ratio.value - 1)
        found = (
            f"{side}: {spec} in {chosen.count(spec)} of {len(chosen)} sweeps, {rate.pairs_per_s:.1f} pairs/s"
        )
        print(
            f"{found}, {ratio.value - 1:+.1%} from the best ({ratio.low - 1:+.1%} to {ratio.high - 1:+.1%})"
        )
    return max(differences)


if __name__ == "__main__":
    main()
