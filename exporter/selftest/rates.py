"""How often the gate is wrong: verdicts on recorded rounds and drawn queries with a known answer. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from exporter.gate import Outcome, judge_sampled, judge_speed, validity_problems
from exporter.measure.estimate import Estimate, ratio_of_means
from exporter.measure.quality import quality
from exporter.measure.speed import MIN_ROUNDS, speedup
from exporter.pairs import PairSet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from exporter.worker.job import Run

    Trial: TypeAlias = tuple[Outcome, bool]  # the verdict, and whether it is a false alarm

# The bar an artifact is held against when it is compared with itself, and a gain that it does not have: 3 %
# off either way.
SPEED_BAR, FALSE_GAIN = 0.97, 1.03
QUALITY_BAR = 0.99
# How far a bar is laid from the known truth, in shares of nDCG, where a wrong verdict counts as false.
QUALITY_STEP = 0.005
# Half the width of an interval over the speed-up: a bar 3 % away is as a rule told by one two thirds as wide.
PRECISION = 0.02
N_REPLAYS = 1_000
_SEED = 20_244
# Standard deviations of noise over a weight's own; beyond it nothing is left of a model.
_MOST_NOISE = 2.0
_N_HALVINGS = 4


@dataclass(frozen=True, slots=True)
class Rate:
    """How one kind of trial was judged, and the share of trials with an event, with its 95 % interval.

    The interval, `low` to `high`, is Clopper and Pearson's. `event` is `false alarm` or `caught`.
    """

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
        """The share of trials with the event, 0...1."""
        return self.n_events / self.n_trials


def rate_of(what: str, how: str, trials: Sequence[Trial], event: str) -> Rate:
    """Count the verdicts of trials, and the event in them.

    Source: https://docs.scipy.org/doc/scipy/reference/generated/scipy.stats.binomtest.html

    Args:
        what: what was judged.
        how: live, replayed, or drawn.
        trials: verdicts, each with whether it is a false alarm.
        event: `false alarm`, or `caught`: a fail of what is worse.
    """
    from scipy.stats import binomtest

    verdicts = [verdict for verdict, _ in trials]
    n_false = sum(is_false for _, is_false in trials)
    n_events = n_false if event == "false alarm" else verdicts.count("fail")
    interval = binomtest(n_events, max(1, len(trials))).proportion_ci(0.95, "exact")
    return Rate(
        what=what,
        how=how,
        n_pass=verdicts.count("pass"),
        n_invalid=verdicts.count("invalid"),
        n_fail=verdicts.count("fail"),
        event=event,
        n_events=n_events,
        low=float(interval.low),
        high=float(interval.high),
    )


def is_settled(ours: Sequence[Run], theirs: Sequence[Run]) -> bool:
    """Tell whether a speed-up is valid, and its interval narrow enough."""
    ratio = speedup(ours, theirs)
    return not validity_problems(ratio) and (ratio.high - ratio.low) / 2 <= PRECISION * ratio.value


def judge_against_itself(ours: Sequence[Run], theirs: Sequence[Run]) -> Trial:
    """Return the verdict on one artifact's runs on both sides.

    A false alarm is a fail, or a pass at a gain of 3 % of either side over the other.
    """
    verdict = _judge(ours, theirs, SPEED_BAR)
    gains = (_judge(ours, theirs, FALSE_GAIN), _judge(theirs, ours, FALSE_GAIN))
    return verdict, verdict == "fail" or "pass" in gains


def replay_verdicts(rounds: Sequence[tuple[Run, Run]], slowdown: float, n_most: int) -> list[Trial]:
    """Judge recorded rounds again from a random one on, either side as the candidate.

    Args:
        rounds: the artifact's runs on both sides, in the order they were run.
        slowdown: by how much the candidate is slowed, by calculation; a share of its seconds.
        n_most: rounds after which a trial ends in any case.
    """
    rng = np.random.default_rng(_SEED)
    trials = []
    for _ in range(N_REPLAYS):
        start, swap = int(rng.integers(len(rounds))), bool(rng.integers(2))
        drawn = [rounds[(start + i) % len(rounds)] for i in range(n_most)]
        ours, theirs = [pair[swap] for pair in drawn], [pair[not swap] for pair in drawn]
        ours = [replace(run, seconds=tuple(s * (1 + slowdown) for s in run.seconds)) for run in ours]
        n = next((n for n in range(MIN_ROUNDS, n_most) if is_settled(ours[:n], theirs[:n])), n_most)
        trials.append(judge_against_itself(ours[:n], theirs[:n]))
    return trials


def drawn_verdicts(
    reference: NDArray[np.float64],
    candidate: NDArray[np.float64],
    bar: float,
    *,
    wrong: Outcome,
    n_queries: int | None = None,
    n_trials: int = N_REPLAYS,
) -> list[Trial]:
    """Judge nDCG on queries drawn with replacement, again and again.

    Args:
        reference: float64[n_queries], the reference's nDCG.
        candidate: float64[n_queries], the candidate's.
        bar: what it is held against.
        wrong: the verdict that is a false alarm.
        n_queries: how many are drawn; as many as there are by default.
        n_trials: how often.
    """
    rng = np.random.default_rng(_SEED)
    trials: list[Trial] = []
    for _ in range(n_trials):
        rows = rng.integers(len(reference), size=n_queries or len(reference))
        verdict = _judge_ndcg(ratio_of_means(candidate[rows], reference[rows]), bar)
        trials.append((verdict, verdict == wrong))
    return trials


def random_verdicts(
    reference: NDArray[np.float32], pair_set: PairSet, n_trials: int = N_REPLAYS
) -> list[Trial]:
    """Judge candidates with random scores on labels that cannot tell; a pass is a false alarm.

    In each trial all labels are alike but those of at most three queries.

    Args:
        reference: float32[n_pairs], raw logits of the PyTorch model.
        pair_set: pairs with labels.
        n_trials: how many candidates.
    """
    labels = pair_set.labels
    assert labels is not None
    rng = np.random.default_rng(_SEED)
    trials: list[Trial] = []
    for _ in range(n_trials):
        kept = rng.choice(len(pair_set.query_ids), rng.integers(4), replace=False)
        blind = replace(pair_set, labels=np.where(np.isin(pair_set.query_of, kept), labels, 1))
        found = quality(reference, rng.standard_normal(len(reference)).astype(np.float32), blind)
        verdict = _judge_ndcg(found.ndcg_retained if found else None, QUALITY_BAR)
        trials.append((verdict, verdict == "pass"))
    return trials


def bisect_noise(loss: Callable[[float], float], wanted: float) -> float:
    """Return the noise whose loss is nearest to the one wanted, as far as a few halvings lead.

    Args:
        loss: the loss at a noise; grows with it.
        wanted: the loss.
    """
    low, high = 0.0, 0.1
    while loss(high) < wanted and high < _MOST_NOISE:
        low, high = high, 1.5 * high
    for _ in range(_N_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if loss(middle) < wanted else (low, middle)
    return min((low, high), key=lambda noise: abs(loss(noise) - wanted))


def _judge_ndcg(found: Estimate | None, bar: float) -> Outcome:
    return judge_sampled("min_ndcg_retained", found, bar).outcome


def _judge(ours: Sequence[Run], theirs: Sequence[Run], bar: float) -> Outcome:
    return judge_speed(speedup(ours, theirs), bar).outcome
