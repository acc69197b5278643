"""The trials of the gate: on artifacts that are wrong on purpose, and on an artifact against itself.

A gate's error rate is not derived but measured: the same artifact on both sides, and on one side made
slower or worse by a known amount, measured and judged like any other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from exporter import worker
from exporter.gate import Outcome, judge
from exporter.machine import Machine
from exporter.measure.fidelity import Fidelity, ReferenceScores, measure_fidelity
from exporter.measure.quality import per_query
from exporter.measure.rounds import measure_rounds
from exporter.measure.speed import MIN_ROUNDS
from exporter.pairs import spread_out
from exporter.scratch import Scratch
from exporter.selftest.mutants import MUTANTS, NotApplicable, Original, copy_variant, mutate, weaken
from exporter.selftest.rates import (
    QUALITY_BAR,
    QUALITY_STEP,
    Rate,
    bisect_noise,
    drawn_verdicts,
    is_settled,
    judge_against_itself,
    random_verdicts,
    rate_of,
    replay_verdicts,
)
from exporter.worker.job import ArtifactSpec, Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from exporter.artifact.manifest import Manifest
    from exporter.measure.settings import MeasureSettings
    from exporter.pairs import PairSet
    from exporter.progress import Progress
    from exporter.recipe.schema import Bars
    from exporter.selftest.rates import Trial


# 2: runs without the GPU's own events, the field's words. 1: first version.
SELFTEST_SCHEMA = 2
SLOWDOWNS = (0.05, 0.10, 0.20)
QUALITY_LOSSES = (0.005, 0.01, 0.02)
# Of a set's queries, as many as a user may have at first.
FEW_QUERIES = (5, 20, 100)
# Tokens a batch; of dynamic int8 each gives other scores.
OTHER_BUDGETS = (128, 512, 2048)
_BUDGET_S = 60.0
# Slowed sides take part in every eighth trial.
_SLOW_EVERY = 8
# The least share of planted 10 % slow-downs and 2 % losses that must be caught, and the largest share of
# false alarms.
MIN_CAUGHT, MAX_FALSE = 0.95, 0.01
_SAME = "the same artifact"


@dataclass(frozen=True, slots=True)
class MutantResult:
    """What became of one mutant: the checks that killed it, or why it was skipped."""

    name: str
    killed_by: tuple[str, ...]
    skipped: str

    @property
    def survived(self) -> bool:
        """Whether the mutant was made, and no check failed it."""
        return not self.killed_by and not self.skipped


@dataclass(frozen=True, slots=True)
class SelfTest:
    """All trials of one variant on one machine.

    `original_fails` are the checks that fail the unchanged artifact, which has to pass for mutants to tell
    anything. `rounds` are the raw runs of the trials, in order: of the artifact, and of the same artifact
    again.
    """

    schema: int
    name: str
    kind: str
    manifest_root: str
    started_at: str
    machine: Machine
    original_fails: tuple[str, ...]
    mutants: tuple[MutantResult, ...]
    rates: tuple[Rate, ...]
    rounds: tuple[tuple[Run, Run], ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the gate cannot be trusted, a line each; empty where it can."""
        found = [f"the artifact itself fails {name}" for name in self.original_fails]
        found += [f"{mutant.name}: survived" for mutant in self.mutants if mutant.survived]
        for rate in self.rates:
            if rate.event == "false alarm" and rate.share > MAX_FALSE:
                found.append(
                    f"{rate.what}, {rate.how}: {rate.share:.1%} false alarms, {MAX_FALSE:.0%} allowed"
                )
            if (
                rate.event == "caught"
                and rate.what in (_slower(0.10), _worse(0.02))
                and rate.share < MIN_CAUGHT
            ):
                found.append(f"{rate.what}, {rate.how}: {rate.share:.1%} caught, {MIN_CAUGHT:.0%} wanted")
        return tuple(found)


def try_mutants(
    original: Original,
    spec: ArtifactSpec,
    bars: Bars,
    expected: ReferenceScores,
    *,
    settings: MeasureSettings,
    progress: Progress,
) -> tuple[tuple[str, ...], tuple[MutantResult, ...]]:
    """Judge a copy of the artifact, and every mutant of it.

    Bars on speed and on nDCG are left out: nothing is timed, and only a part of the queries is scored.

    Args:
        original: what mutants are made of.
        spec: how the variant is run.
        bars: the recipe's.
        expected: the pairs, and the reference's scores of them.
        settings: how much is measured.
        progress: told the number of mutants done.

    Returns:
        The checks that fail the unchanged copy, and the mutants' results.
    """
    bars = bars.model_copy(update={"min_speedup": None, "min_ndcg_retained": None})

    def failed(manifest: Manifest, folder: str, pairs: PairSet) -> tuple[str, ...]:
        fidelity = measure_fidelity(
            manifest,
            original.entry,
            replace(spec, folder=folder),
            replace(expected, pair_set=pairs),
            settings=settings,
            progress=lambda _n: None,
        )
        return tuple(check.name for check in judge(bars, fidelity, None) if check.outcome == "fail")

    results = []
    with progress.stage("mutants", len(MUTANTS) + 1) as step:
        with Scratch("mutant") as scratch:
            unchanged = copy_variant(original, scratch)
            original_fails = failed(unchanged, str(scratch), expected.pair_set)
        step(1)

        for done, mutant in enumerate(MUTANTS, 2):
            with Scratch("mutant") as scratch:
                try:
                    manifest, pairs = mutate(mutant, original, scratch)
                except NotApplicable as why:
                    results.append(MutantResult(mutant.name, (), str(why)))
                else:
                    results.append(MutantResult(mutant.name, failed(manifest, str(scratch), pairs), ""))
            step(done)
    return original_fails, tuple(results)


def try_speeds(
    spec: ArtifactSpec, pair_set: PairSet, n_trials: int, settings: MeasureSettings, progress: Progress
) -> tuple[tuple[Rate, ...], tuple[tuple[Run, Run], ...]]:
    """Judge the artifact's speed against itself, in some trials slowed down, and replay the rounds.

    Args:
        spec: how the variant is run.
        pair_set: what is scored.
        n_trials: of the artifact against itself.
        settings: how long a round is.
        progress: told the rounds done.

    Returns:
        The rates, live and replayed, and the rounds of the artifact against itself.
    """
    pairs = spread_out(pair_set, settings.n_timed_pairs)
    slow = {_slower(by): replace(spec, slowdown=by) for by in SLOWDOWNS}
    same: list[Trial] = []
    slowed: dict[str, list[Trial]] = {name: [] for name in slow}
    rounds: list[tuple[Run, Run]] = []
    for trial in range(n_trials):
        progress.note(f"trial {trial + 1} of {n_trials}")
        sides = {"reference": spec, "again": spec, **(slow if trial % _SLOW_EVERY == 0 else {})}

        def unsettled(runs: dict[str, list[Run]]) -> frozenset[str]:
            theirs = runs["reference"]
            going = {side for side in runs if side != "reference" and not is_settled(runs[side], theirs)}
            return frozenset(going | {"reference"} if going else going)

        runs = measure_rounds(
            sides,
            pairs,
            settings,
            progress,
            baselines=frozenset(),
            budget_s=_BUDGET_S,
            unsettled=unsettled,
        )
        same.append(judge_against_itself(runs["again"], runs["reference"]))
        rounds += zip(runs["reference"], runs["again"], strict=False)
        for name in slow if trial % _SLOW_EVERY == 0 else ():
            slowed[name].append(judge_against_itself(runs[name], runs["reference"]))

    n_most = max(MIN_ROUNDS, len(rounds) // max(1, n_trials))
    rates = [
        rate_of(_SAME, "live", same, "false alarm"),
        rate_of(_SAME, "replayed", replay_verdicts(rounds, 0.0, n_most), "false alarm"),
    ]
    for by in SLOWDOWNS:
        rates.append(rate_of(_slower(by), "live", slowed[_slower(by)], "caught"))
        rates.append(rate_of(_slower(by), "replayed", replay_verdicts(rounds, by, n_most), "caught"))
    return tuple(rates), tuple(rounds)


def try_qualities(
    original: Original, spec: ArtifactSpec, fidelity: Fidelity, expected: ReferenceScores, progress: Progress
) -> tuple[Rate, ...]:
    """Judge nDCG where the answer is known: as it is, under other plans, weakened, on few queries, blind.

    Args:
        original: what is weakened; its pairs have labels.
        spec: how the variant is run.
        fidelity: the artifact's own.
        expected: the pairs, and the reference's scores of them.
        progress: told the number of copies scored.
    """
    pair_set = expected.pair_set
    theirs = per_query(expected.scores, pair_set)[:, 0]
    measured = {0.0: per_query(np.array(fidelity.scores, np.float32), pair_set)[:, 0]}
    with progress.stage("copies under other plans, weakened copies") as step:
        other_plans = {}
        for budget in OTHER_BUDGETS:
            scores = worker.score(replace(spec, token_budget=budget), pair_set.pairs)
            other_plans[budget] = per_query(scores, pair_set)[:, 0]
            step(len(other_plans))

        def loss(noise: float) -> float:
            if noise not in measured:
                with Scratch("weak") as scratch:
                    weaken(original, scratch, noise)
                    scores = worker.score(replace(spec, folder=str(scratch)), pair_set.pairs)
                measured[noise] = per_query(scores, pair_set)[:, 0]
                step(len(other_plans) + len(measured) - 1)
            return 1 - float(measured[noise].mean() / theirs.mean())

        noises = {wanted: bisect_noise(loss, wanted) for wanted in QUALITY_LOSSES}

    how = f"drawn, {loss(0.0):+.2%} measured"
    rates = [rate_of("nDCG as it is", how, _at_bar(theirs, measured[0.0]), "false alarm")]
    for budget, ndcg in other_plans.items():
        how = f"drawn, {1 - ndcg.mean() / measured[0.0].mean():+.2%} measured"
        what = f"the same at {budget} tokens a batch, against itself"
        rates.append(rate_of(what, how, _at_bar(measured[0.0], ndcg), "false alarm"))
    for wanted, noise in noises.items():
        how = f"drawn, {loss(noise):.2%} measured"
        rates.append(rate_of(_worse(wanted), how, _at_bar(theirs, measured[noise]), "caught"))
        rates += _beside_bars(_worse(wanted), theirs, measured[noise])
    blind = random_verdicts(expected.scores, pair_set)
    rates.append(rate_of("random scores, labels that cannot tell", "drawn", blind, "false alarm"))
    return tuple(rates)


def _at_bar(theirs: NDArray[np.float64], ours: NDArray[np.float64]) -> list[Trial]:
    return drawn_verdicts(theirs, ours, QUALITY_BAR, wrong="fail")


def _beside_bars(what: str, theirs: NDArray[np.float64], ours: NDArray[np.float64]) -> list[Rate]:
    """Judge on many and on few queries against bars just above and just below the known truth."""
    truth = float(ours.mean() / theirs.mean())
    rates = []
    for n in (*(n for n in FEW_QUERIES if n < len(theirs)), len(theirs)):
        beside: tuple[tuple[float, Outcome], ...] = (
            (truth + QUALITY_STEP, "pass"),
            (truth - QUALITY_STEP, "fail"),
        )
        for bar, wrong in beside:
            how = f"drawn, {n} queries, bar {bar:.4f}"
            trials = drawn_verdicts(theirs, ours, bar, wrong=wrong, n_queries=n)
            rates.append(rate_of(what, how, trials, "false alarm"))
    return rates


def _slower(by: float) -> str:
    return f"{by:.0%} slower"


def _worse(by: float) -> str:
    return f"nDCG {by:.1%} lower"
