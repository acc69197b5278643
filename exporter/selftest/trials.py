"""How often the gate itself is wrong: artifacts that are wrong on purpose, and the rates of its wrong answers on known ones.

A gate's error rate is not derived but measured: the same artifact against itself, and against itself made slower or worse by a
known amount, judged as any other by `throughput.measure` and `gate.judge`. Recorded rounds are then judged again in many other
orders.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from exporter import worker
from exporter.gate import judge, judge_speed, validity_problems
from exporter.machine import Machine
from exporter.measure.fidelity import Fidelity, ReferenceScores, measure_fidelity
from exporter.measure.quality import per_query, retained
from exporter.measure.rounds import measure_rounds
from exporter.measure.speed import MIN_ROUNDS, speedup
from exporter.pairs import spread_out
from exporter.recipe.schema import Bars
from exporter.selftest.mutants import MUTANTS, NotApplicable, Original, copy_variant, mutate, weaken
from exporter.worker.job import ArtifactSpec, Run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from exporter.gate import Check
    from exporter.measure.settings import MeasureSettings
    from exporter.pairs import PairSet
    from exporter.progress import Progress


SELFTEST_SCHEMA = 1
# What the gate is asked of an artifact against itself, and what would be a wrong answer: 3 % either way.
SPEED_BAR, FALSE_GAIN = 0.97, 1.03
SLOWDOWNS = (0.05, 0.10, 0.20)
QUALITY_BAR = 0.99
QUALITY_LOSSES = (0.005, 0.01, 0.02)
# A bar 3 % away is told by an interval two thirds as wide, as a rule.
PRECISION = 0.02
_BUDGET_S = 60.0
# Slowed-down sides take part in every so many trials.
_SLOW_EVERY = 8
_N_REPLAYS = 1_000
_SEED = 20_244
# Of a weight's standard deviation; beyond it nothing is left of a model.
_MOST_NOISE = 2.0
_N_HALVINGS = 4
# The share of planted 10 % slow-downs and 2 % losses that must be caught, and of false alarms at most.
MIN_CAUGHT, MAX_FALSE = 0.95, 0.01


@dataclass(frozen=True, slots=True)
class MutantResult:
    """What became of one mutant: the checks that failed it, or why it could not be made."""

    name: str
    killed_by: tuple[str, ...]
    skipped: str

    @property
    def survived(self) -> bool:
        """Whether it was made, and passed."""
        return not self.killed_by and not self.skipped


@dataclass(frozen=True, slots=True)
class Rate:
    """How a kind of trial was judged, and how often an event came about: share with its 95 % interval (Clopper-Pearson)."""

    what: str
    how: str
    n_pass: int
    n_invalid: int
    n_fail: int
    event: str
    n_events: int
    low: float
    high: float

    @property
    def n_trials(self) -> int:
        """All trials."""
        return self.n_pass + self.n_invalid + self.n_fail

    @property
    def share(self) -> float:
        """How often the event came about, 0...1."""
        return self.n_events / self.n_trials


@dataclass(frozen=True, slots=True)
class SelfTest:
    """All of it, on one machine. `original_fails` are checks that failed the artifact itself, which has to be original for this.

    `rounds` are the raw runs of the trials: the artifact and itself again, in order.
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
        """Say what is not as it must be; empty where the gate can be trusted."""
        found = [f"the artifact itself fails {name}" for name in self.original_fails]
        found += [f"{mutant.name}: not caught" for mutant in self.mutants if mutant.survived]
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

    Bars on speed and on nDCG are left out: nothing is timed, and few queries are scored.

    Args:
        original: what mutants are made of.
        spec: how the variant is run.
        bars: the recipe's.
        expected: the pairs, and what the reference says of them.
        settings: how much is measured.
        progress: told the number of mutants done.

    Returns:
        The checks that fail the unchanged copy, and the mutants' results.
    """
    bars = bars.model_copy(update={"min_speedup": None, "min_ndcg_retained": None})
    results = []
    with progress.stage("mutants", len(MUTANTS) + 1) as step:
        with tempfile.TemporaryDirectory(prefix="exporter-mutant-") as scratch:
            manifest = copy_variant(original, Path(scratch))
            unchanged = measure_fidelity(
                manifest,
                original.entry,
                replace(spec, folder=scratch),
                expected,
                settings=settings,
                progress=lambda _n: None,
            )
            fails = _failed(judge(bars, unchanged, None))
        step(1)
        for done, mutant in enumerate(MUTANTS, 2):
            with tempfile.TemporaryDirectory(prefix="exporter-mutant-") as scratch:
                try:
                    manifest, pairs = mutate(mutant, original, Path(scratch))
                    changed = replace(expected, pair_set=pairs)
                    found = measure_fidelity(
                        manifest,
                        original.entry,
                        replace(spec, folder=scratch),
                        changed,
                        settings=settings,
                        progress=lambda _n: None,
                    )
                    results.append(MutantResult(mutant.name, _failed(judge(bars, found, None)), ""))
                except NotApplicable as why:
                    results.append(MutantResult(mutant.name, (), str(why)))
            step(done)
    return fails, tuple(results)


def try_speeds(
    spec: ArtifactSpec, pair_set: PairSet, n_trials: int, settings: MeasureSettings, progress: Progress
) -> tuple[tuple[Rate, ...], tuple[tuple[Run, Run], ...]]:
    """Judge the artifact's speed against itself, live, and now and then against itself slowed down; then replay the rounds.

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
    same: list[tuple[str, bool]] = []
    slowed: dict[str, list[tuple[str, bool]]] = {name: [] for name in slow}
    rounds: list[tuple[Run, Run]] = []
    for trial in range(n_trials):
        progress.note(f"trial {trial + 1} of {n_trials}")
        sides = {"reference": spec, "again": spec, **(slow if trial % _SLOW_EVERY == 0 else {})}

        def unsettled(runs: dict[str, list[Run]]) -> frozenset[str]:
            going = {
                side for side in runs if side != "reference" and not _settled(runs[side], runs["reference"])
            }
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
        same.append(_verdict_and_alarm(runs["again"], runs["reference"]))
        rounds += zip(runs["reference"], runs["again"], strict=False)
        for name in slow if trial % _SLOW_EVERY == 0 else ():
            slowed[name].append(_verdict_and_alarm(runs[name], runs["reference"]))
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
    """Weaken the weights until nDCG falls by known amounts, and judge each on many sets of queries drawn from the pair set.

    Args:
        original: what is weakened.
        spec: how the variant is run.
        fidelity: the artifact's own.
        expected: the pairs, and what the reference says of them.
        progress: told the number of weakened copies made.
    """
    labels = expected.pair_set.labels
    assert labels is not None
    theirs = per_query(expected.scores, expected.pair_set, labels)[:, 0]
    measured = {0.0: per_query(np.array(fidelity.scores, np.float32), expected.pair_set, labels)[:, 0]}
    with progress.stage("weakened copies") as step:

        def loss(noise: float) -> float:
            if noise not in measured:
                with tempfile.TemporaryDirectory(prefix="exporter-weak-") as scratch:
                    weaken(original, Path(scratch), noise)
                    scores = worker.score(replace(spec, folder=scratch), expected.pair_set.pairs)
                measured[noise] = per_query(scores, expected.pair_set, labels)[:, 0]
                step(len(measured) - 1)
            return 1 - float(measured[noise].mean() / theirs.mean())

        noises = {wanted: bisect_noise(loss, wanted) for wanted in QUALITY_LOSSES}
    rates = [
        rate_of(
            "nDCG as it is",
            f"drawn, {loss(0.0):+.2%} measured",
            bootstrap_verdicts(theirs, measured[0.0], fidelity),
            "false alarm",
        )
    ]
    for wanted, noise in noises.items():
        trials = bootstrap_verdicts(theirs, measured[noise], fidelity)
        rates.append(rate_of(_worse(wanted), f"drawn, {loss(noise):.2%} measured", trials, "caught"))
    return tuple(rates)


def bisect_noise(loss: Callable[[float], float], wanted: float) -> float:
    """Find the noise whose loss is nearest to the one wanted, as far as a few steps lead."""
    low, high = 0.0, 0.1
    while loss(high) < wanted and high < _MOST_NOISE:
        low, high = high, 1.5 * high
    for _ in range(_N_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if loss(middle) < wanted else (low, middle)
    return min((low, high), key=lambda noise: abs(loss(noise) - wanted))


_SAME = "the same artifact"


def _slower(by: float) -> str:
    return f"{by:.0%} slower"


def _worse(by: float) -> str:
    return f"nDCG {by:.1%} lower"


def _failed(checks: Sequence[Check]) -> tuple[str, ...]:
    return tuple(check.name for check in checks if check.outcome == "fail")


def _settled(ours: Sequence[Run], theirs: Sequence[Run]) -> bool:
    ratio = speedup(ours, theirs)
    return not validity_problems(ratio) and (ratio.high - ratio.low) / 2 <= PRECISION * ratio.value


def _verdict_and_alarm(ours: Sequence[Run], theirs: Sequence[Run]) -> tuple[str, bool]:
    """Give the verdict at the bar, and whether anything 3 % off is read with a pass, or fails."""
    found = _speed_outcome(ours, theirs, SPEED_BAR)
    gains = (_speed_outcome(ours, theirs, FALSE_GAIN), _speed_outcome(theirs, ours, FALSE_GAIN))
    return found, found == "fail" or "pass" in gains


def _speed_outcome(ours: Sequence[Run], theirs: Sequence[Run], bar: float) -> str:
    """Give what the gate says of one side's speed over another's."""
    return judge_speed(speedup(ours, theirs), bar).outcome


def replay_verdicts(
    rounds: Sequence[tuple[Run, Run]], slowdown: float, n_most: int
) -> list[tuple[str, bool]]:
    """Judge recorded rounds again: from a round drawn at random on, in the order they were run, either side as the candidate."""
    rng = np.random.default_rng(_SEED)
    trials = []
    for _ in range(_N_REPLAYS):
        start, swap = int(rng.integers(len(rounds))), bool(rng.integers(2))
        drawn = [rounds[(start + i) % len(rounds)] for i in range(n_most)]
        ours, theirs = [pair[swap] for pair in drawn], [pair[not swap] for pair in drawn]
        ours = [replace(run, seconds=tuple(s * (1 + slowdown) for s in run.seconds)) for run in ours]
        n = next((n for n in range(MIN_ROUNDS, n_most) if _settled(ours[:n], theirs[:n])), n_most)
        trials.append(_verdict_and_alarm(ours[:n], theirs[:n]))
    return trials


def bootstrap_verdicts(
    theirs: NDArray[np.float64], ours: NDArray[np.float64], fidelity: Fidelity
) -> list[tuple[str, bool]]:
    """Judge nDCG on as many queries as there are, drawn with replacement, again and again."""
    rng = np.random.default_rng(_SEED)
    bars = Bars.model_validate({"min_ndcg_retained": QUALITY_BAR})
    assert fidelity.quality is not None
    trials: list[tuple[str, bool]] = []
    for _ in range(_N_REPLAYS):
        rows = rng.integers(len(theirs), size=len(theirs))
        point, low, high = retained(theirs[rows], ours[rows])
        drawn = replace(fidelity.quality, ndcg_retained=point, ndcg_retained_low=low, ndcg_retained_high=high)
        checks = judge(bars, replace(fidelity, quality=drawn), None)
        (found,) = (check.outcome for check in checks if check.name.startswith("min_ndcg"))
        trials.append((found, found == "fail"))
    return trials


def rate_of(what: str, how: str, trials: Sequence[tuple[str, bool]], event: str) -> Rate:
    """Count; an event is a trial's flag for a false alarm, a fail for what had to be caught."""
    from scipy.stats import binomtest

    found = [verdict for verdict, _ in trials]
    n_events = sum(wrong for _, wrong in trials) if event == "false alarm" else found.count("fail")
    interval = binomtest(n_events, max(1, len(trials))).proportion_ci(0.95, "exact")
    return Rate(
        what=what,
        how=how,
        n_pass=found.count("pass"),
        n_invalid=found.count("invalid"),
        n_fail=found.count("fail"),
        event=event,
        n_events=n_events,
        low=float(interval.low),
        high=float(interval.high),
    )
