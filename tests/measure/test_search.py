"""The search for the fastest plan, against made-up plans whose times are known; nothing is timed."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.measure.search import Tried, contenders, fastest

Plan = tuple[int, int]  # family, and place in it

SIZES = 6


@dataclass
class Scorer:
    """Plans of some families; each family is fastest at `peaks`, and slower by `slope` a size beside it.

    A pass takes what its plan takes, times noise and a clock that wanders, and half as much again where a
    neighbour has one of the cores.
    """

    costs: tuple[float, ...]
    peaks: tuple[int, ...]
    slope: float = 0.1
    noise: float = 0.0
    spikes: float = 0.0
    wander: float = 0.0
    seed: int = 0
    asked: list[Plan] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Start the clock."""
        self._random, self._now = random.Random(self.seed), 0.0

    @property
    def families(self) -> list[list[Plan]]:
        """All plans."""
        return [[(family, size) for size in range(SIZES)] for family in range(len(self.costs))]

    def truth(self, plan: Plan) -> float:
        """Return what a pass takes, in seconds, without noise."""
        family, size = plan
        return self.costs[family] * (1 + self.slope * abs(size - self.peaks[family]))

    def seconds(self, plan: Plan) -> float:
        """Return what a pass takes now."""
        self.asked.append(plan)
        seconds = self.truth(plan) * math.exp(self._random.gauss(0, self.noise))
        seconds *= 1 + self.wander * math.sin(self._now / 15 + self.seed)
        if self._random.random() < self.spikes:
            seconds *= 1.5
        self._now += seconds
        return seconds

    def loss(self) -> float:
        """Search, and return by how much more the plan found takes than the best there is."""
        best = fastest(self.families, self.seconds, budget_s=16.0)[0].plan
        return self.truth(best) / min(self.truth(plan) for of in self.families for plan in of) - 1


@given(
    costs=st.lists(st.floats(0.5, 1.0), min_size=1, max_size=5),
    peaks=st.lists(st.integers(0, SIZES - 1), min_size=5, max_size=5),
    slope=st.floats(0.03, 0.6),
)
def test_finds_the_best_wherever_it_lies(costs: list[float], peaks: list[int], slope: float) -> None:
    """Without noise the plan found is the best of all, at any place of any family."""
    assert Scorer(tuple(costs), tuple(peaks), slope).loss() == pytest.approx(0)


@given(
    costs=st.lists(st.floats(0.5, 1.0), min_size=1, max_size=5),
    peaks=st.lists(st.integers(0, SIZES - 1), min_size=5, max_size=5),
    most=st.integers(1, 8),
)
def test_contenders_hold_the_best(costs: list[float], peaks: list[int], most: int) -> None:
    """After a pass of each plan the best comes first among those looked at again, and none comes twice."""
    scorer = Scorer(tuple(costs), tuple(peaks))
    found = contenders(scorer.families, scorer.seconds, most)
    assert len(set(found)) == len(found) <= most
    best = min((plan for family in scorer.families for plan in family), key=scorer.truth)
    assert scorer.truth(found[0]) == scorer.truth(best)


def test_contenders_through_noise() -> None:
    """Passes that are 6 % off leave the best, or one within 3 % of it, among six."""
    for seed in range(200):
        scorer = Scorer((0.94, 1.0, 1.1, 1.2), (4, 2, 5, 3), noise=0.06, seed=seed)
        found = contenders(scorer.families, scorer.seconds, 6)
        best = min(scorer.truth(plan) for family in scorer.families for plan in family)
        assert min(map(scorer.truth, found)) <= 1.03 * best


def test_finds_the_best_through_noise() -> None:
    """On a clock that wanders by 15 %, with noise and a neighbour, the plan found is the best, or all but.

    Seeds are fixed: of ten searches for each of 24 places one in fifty may be 3 % off.
    """
    losses = [
        Scorer(costs, (size,) * 4, noise=0.02, spikes=0.05, wander=0.15, seed=seed).loss()
        for family in range(4)
        for costs in (tuple(0.55 if of == family else 0.62 for of in range(4)),)
        for size in range(SIZES)
        for seed in range(10)
    ]
    assert sum(loss > 0.03 for loss in losses) <= len(losses) / 50
    assert max(losses) < 0.15


def test_repeated_searches_choose_plans_alike() -> None:
    """Thirty searches of one machine, of which two plans are all but equal, agree within 3 %."""
    costs, peaks = (0.55, 0.553, 0.6), (1, 3, 2)
    machine = Scorer(costs, peaks, slope=0.04)
    found = {
        fastest(machine.families, noisy.seconds, budget_s=16.0)[0].plan
        for seed in range(30)
        for noisy in (Scorer(costs, peaks, slope=0.04, noise=0.02, spikes=0.03, wander=0.1, seed=seed),)
    }
    assert len(found) > 1  # or nothing is shown
    assert max(map(machine.truth, found)) / min(map(machine.truth, found)) <= 1.03


def test_a_family_ends_where_it_falls() -> None:
    """Sizes beyond one that takes 1.4 times the best, in each of two passes, are not tried."""
    scorer = Scorer((1.0,), (0,), slope=0.25)  # 1, 1.25, 1.5 times
    tried = fastest(scorer.families, scorer.seconds, budget_s=0.0)
    assert [row.plan for row in tried] == [(0, 0), (0, 1), (0, 2)]
    assert scorer.asked[:4] == [(0, 0), (0, 1), (0, 2), (0, 2)]


def test_one_slow_pass_ends_no_family() -> None:
    """A pass that met a neighbour is run again before the larger sizes are given up."""
    times = {(0, size): [1.0 - 0.1 * size] * 99 for size in range(4)}
    times[0, 1] = [3.0, *times[0, 1]]
    tried = fastest([list(times)], lambda plan: times[plan].pop(0), budget_s=5.0)
    assert tried[0].plan == (0, 3)


def test_leaders_take_turns_there_and_back() -> None:
    """After the first passes, rounds go through those left in turn, so that a wandering clock hits all."""
    scorer = Scorer((1.0, 1.01), (0, 0), slope=0.9)
    fastest([family[:1] for family in scorer.families], scorer.seconds, budget_s=3.0)
    assert scorer.asked == [(0, 0), (1, 0), (0, 0), (1, 0), (1, 0), (0, 0)]


def test_time_is_kept() -> None:
    """No round is begun once the time is up; of two equal plans one wins by then."""
    scorer = Scorer((1.0, 1.0), (0, 0), slope=0.9)
    fastest([family[:1] for family in scorer.families], scorer.seconds, budget_s=9.0)
    assert len(scorer.asked) == 2 + 2 * 5  # rounds of two seconds, the fifth begun at eight


def test_what_was_tried_is_told_beside_the_fastest() -> None:
    """Every plan is compared by the rounds it shared with the fastest, at that one's median pass."""
    times = {"a": [1.0, 2.0, 1.0], "b": [3.0, 6.0, 3.0]}
    tried = fastest([["b"], ["a"]], lambda plan: times[plan].pop(0), budget_s=0.0)
    assert tried == (Tried("a", 1.0), Tried("b", 3.0))


def test_a_search_needs_a_plan() -> None:
    """Nothing to try is a mistake of the caller."""
    with pytest.raises(ValueError, match="needs a plan"):
        fastest([[]], lambda _plan: 1.0, budget_s=1.0)
    assert fastest([["only"]], lambda _plan: 1.0, budget_s=1.0) == (Tried("only", 1.0),)
