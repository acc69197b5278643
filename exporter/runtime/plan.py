"""The execution plan: how a batch of pairs is laid over the cores.

`workers` threads score batches side by side on one shared session, each using `threads` of the engine's own;
a batch holds at most `token_budget` tokens, padding counted. Small batches and one thread a worker win on
CPUs: large intermediate tensors are page-faulted anew on every operator, and threads inside an operator wait
for each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.machine import cores_allowed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from exporter.artifact.plans import PlanEntry


# Where pairs per second stop rising on two cores, over the kinds of this project: `exporter export` prints
# its sweep.
_TOKEN_BUDGET = 512


@dataclass(frozen=True, slots=True)
class Plan:
    """How a variant is run: `workers` x `threads` cores, batches of at most `token_budget` padded tokens."""

    workers: int
    threads: int
    token_budget: int

    def __str__(self) -> str:
        """Format as `WORKERSxTHREADS, N tokens`."""
        return f"{self.workers}x{self.threads}, {self.token_budget} tokens"

    def for_cores(self, n_cores: int) -> Plan:
        """Return the plan for another number of cores: the same threads a worker, as many workers as fit."""
        threads = min(self.threads, n_cores)
        return Plan(n_cores // threads, threads, self.token_budget)


def default_plan(n_cores: int | None = None) -> Plan:
    """Return the plan for a variant that was not measured: one worker of one thread per core allowed."""
    return Plan(n_cores or cores_allowed(), 1, _TOKEN_BUDGET)


def choose_plan(measured: Iterable[PlanEntry], isa: str, n_cores: int) -> Plan:
    """Return the plan measured on the machine most like this one, or the default if none was measured.

    Most like is the same instruction set before the same number of cores: the set decides which batch fits
    the caches best, while one thread a worker serves any number of cores.

    Args:
        measured: the plans an artifact brings.
        isa: the machine's instruction set.
        n_cores: the cores to use.
    """
    nearest = min(measured, key=lambda entry: (entry.isa != isa, abs(entry.n_cores - n_cores)), default=None)
    if nearest is None:
        return default_plan(n_cores)
    plan = Plan(nearest.workers, nearest.threads, nearest.token_budget)
    return plan if nearest.n_cores == n_cores else plan.for_cores(n_cores)


def batches(
    n_tokens: NDArray[np.int64] | Sequence[int],
    plan: Plan,
    rows: Callable[[int], int] = int,
    *,
    equal_widths: bool = False,
) -> list[list[int]]:
    """Cut pairs into batches within the plan's token budget: longest first, neighbours in length together.

    A job smaller than one full batch per worker is cut finer, so that no worker idles while another has it
    all.

    Args:
        n_tokens: int64[n_pairs], tokens of each pair.
        plan: the plan.
        rows: how many pairs a batch had better have where so many fit; at least one, and no more than fit.
        equal_widths: put only pairs of one length into a batch, so that none is padded for another.

    Returns:
        Indices into `n_tokens`, each exactly once. A pair longer than the budget is a batch of its own.
    """
    order = sorted(range(len(n_tokens)), key=lambda i: -int(n_tokens[i]))
    share = -(-sum(int(n) for n in n_tokens) // plan.workers)
    budget = min(plan.token_budget, max(share, 1))
    cut: list[list[int]] = []
    start = 0
    while start < len(order):
        width = max(int(n_tokens[order[start]]), 1)  # longest first: the first pair of a batch is its width
        fit = order[start : start + max(budget // width, 1)]
        n_rows = rows(sum(max(int(n_tokens[i]), 1) == width for i in fit) if equal_widths else len(fit))
        cut.append(order[start : start + n_rows])
        start += n_rows
    return cut
