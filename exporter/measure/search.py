"""Find the fastest of many plans from few passes on a noisy machine. Pure: what a pass takes is asked for.

First every plan has a pass, which tells the slow ones. Then the leaders and their neighbours take turns,
there and back, and fewer of them go on the longer it lasts (successive halving). Plans are compared within a
round only: a clock that wanders, or a neighbour that comes and stays, slows all plans of a round alike.
Source: https://proceedings.mlr.press/v51/jamieson16.html (successive halving)
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

_Plan = TypeVar("_Plan", bound="Hashable")

# A size this many times slower than the best of its family, in each of two passes, ends the family: larger
# ones are slower still. Between neighbouring sizes that are not past the best, the most seen is 1.3 (PyTorch,
# batch 2 and 4, Intel Xeon 6/207).
_FALLS = 1.4
# The first pass may have met a neighbour on the machine; what lies beside a leader is tried again with it.
_N_LEADERS = 4
# How many plans go on after so many rounds; from four rounds on, none that is so many times slower than the
# leader.
_GOING_ON = {1: 5, 2: 4, 4: 3, 8: 2}
_BEHIND, _ROUNDS_TO_TELL = 1.1, 4
_MAX_ROUNDS = 16
# Fewer say nothing on a shared machine; they are run though the time is up.
_MIN_ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Tried(Generic[_Plan]):
    """A plan that was timed; `seconds` is what a pass takes, at the clock the fastest had."""

    plan: _Plan
    seconds: float


def fastest(
    families: Sequence[Sequence[_Plan]], seconds_of: Callable[[_Plan], float], budget_s: float
) -> tuple[Tried[_Plan], ...]:
    """Return every plan that was tried, the fastest first, the rest as they were first tried.

    Args:
        families: plans that differ in one size only, in its order; speed rises with it to one best size, and
            falls from there on.
        seconds_of: runs a pass of a plan and says how long it took, in seconds.
        budget_s: seconds of passes, those of the first ones not counted, after which no round is begun; two
            are run in any case.

    Raises:
        ValueError: there is no plan.
    """
    search = _Search(families, seconds_of)
    search.screen()
    alive = search.race(search.contenders(), budget_s)
    return search.ranked(alive)


def contenders(
    families: Sequence[Sequence[_Plan]], seconds_of: Callable[[_Plan], float], most: int
) -> list[_Plan]:
    """Return the plans that are worth a closer look after a pass of each, at most so many, the fastest first.

    Args:
        families: see `fastest`.
        seconds_of: see `fastest`.
        most: how many at most.

    Raises:
        ValueError: there is no plan.
    """
    search = _Search(families, seconds_of)
    search.screen()
    return search.contenders()[:most]


class _Search(Generic[_Plan]):
    """One search: what each plan took, by round; the first pass is everybody's round 0."""

    def __init__(self, families: Sequence[Sequence[_Plan]], seconds_of: Callable[[_Plan], float]) -> None:
        if not any(families):
            raise ValueError("a search needs a plan to try")
        self._families, self._seconds_of = families, seconds_of
        self._rounds: dict[_Plan, list[float]] = {}

    def screen(self) -> None:
        """Time a pass of every plan, size by size, each family until it falls."""
        best = {i: float("inf") for i, family in enumerate(self._families) if family}
        for step in range(max(map(len, self._families))):
            for i in list(best):
                if step == len(self._families[i]):
                    del best[i]
                    continue
                plan = self._families[i][step]
                seconds = self._seconds_of(plan)
                if seconds > _FALLS * best[i]:
                    seconds = min(seconds, self._seconds_of(plan))
                self._rounds[plan] = [seconds]
                if seconds > _FALLS * best[i]:
                    del best[i]
                else:
                    best[i] = min(best[i], seconds)

    def contenders(self) -> list[_Plan]:
        """Return the leaders of the first pass, and what lies beside them in their families."""
        leaders = sorted(self._rounds, key=lambda plan: self._rounds[plan][0])[:_N_LEADERS]
        found = list(leaders)
        for family in self._families:
            tried = [plan for plan in family if plan in self._rounds]
            for i, plan in enumerate(tried):
                if plan in leaders:
                    found += tried[max(0, i - 1) : i + 2]
        return list(dict.fromkeys(found))

    def race(self, alive: list[_Plan], budget_s: float) -> list[_Plan]:
        """Let plans take turns until one is left, or the time is up; return those left, the fastest first."""
        done, spent_s = 0, 0.0
        while len(alive) > 1 and done < _MAX_ROUNDS and (done < _MIN_ROUNDS or spent_s < budget_s):
            for plan in alive[::-1] if done % 2 else alive:
                seconds = self._seconds_of(plan)
                self._rounds[plan].append(seconds)
                spent_s += seconds
            done += 1
            alive = self._going_on(alive, done)
        return alive

    def ranked(self, alive: Sequence[_Plan]) -> tuple[Tried[_Plan], ...]:
        """Return what every plan takes beside the fastest, in seconds of the fastest's median pass."""
        best = alive[0]
        pass_s = statistics.median(self._rounds[best])
        others = [plan for plan in self._rounds if plan != best]
        # What won counts as the fastest, though another may be a hair faster in the rounds they shared.
        over = (max(1.0, self._over(plan, best)) for plan in others)
        return (
            Tried(best, pass_s),
            *(Tried(plan, pass_s * ratio) for plan, ratio in zip(others, over, strict=True)),
        )

    def _going_on(self, alive: Sequence[_Plan], done: int) -> list[_Plan]:
        """Return those that have another round, the fastest first, by their typical share of a round."""
        rounds = zip(*(self._rounds[plan] for plan in alive), strict=True)
        typical = [statistics.geometric_mean(of_round) for of_round in rounds]
        # The lower median: others' work on the machine makes a pass longer, and never shorter.
        share = {
            plan: statistics.median_low(
                seconds / of_all for seconds, of_all in zip(self._rounds[plan], typical, strict=True)
            )
            for plan in alive
        }
        by_speed = sorted(alive, key=share.__getitem__)[: _GOING_ON.get(done, len(alive))]
        most = _BEHIND * share[by_speed[0]] if done >= _ROUNDS_TO_TELL else float("inf")
        return [plan for plan in by_speed if share[plan] <= most]

    def _over(self, plan: _Plan, best: _Plan) -> float:
        # A plan that fell out early had fewer rounds; the best was in all of them.
        ratios = [
            seconds / best_s for seconds, best_s in zip(self._rounds[plan], self._rounds[best], strict=False)
        ]
        return statistics.median_low(ratios)
