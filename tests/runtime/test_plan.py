"""The execution plan: batches within a token budget, laid over the cores there are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.artifact.plans import PlanEntry
from exporter.runtime import Plan, default_plan
from exporter.runtime.plan import batches, choose_plan

LENGTHS = st.lists(st.integers(1, 600), max_size=60)
PLANS = st.builds(Plan, st.integers(1, 8), st.integers(1, 4), st.integers(1, 2048))


@given(LENGTHS, PLANS)
def test_each_pair_once(n_tokens: list[int], plan: Plan) -> None:
    """Every pair is in exactly one batch, and no batch is empty."""
    cut = batches(n_tokens, plan)
    assert sorted(i for batch in cut for i in batch) == list(range(len(n_tokens)))
    assert all(cut)


@given(LENGTHS, PLANS)
def test_within_the_budget(n_tokens: list[int], plan: Plan) -> None:
    """A batch, padded to its longest pair, holds no more than the budget, unless it is a single pair."""
    for batch in batches(n_tokens, plan):
        padded = len(batch) * max(n_tokens[i] for i in batch)
        assert padded <= plan.token_budget or len(batch) == 1


@given(LENGTHS, PLANS)
def test_longest_first(n_tokens: list[int], plan: Plan) -> None:
    """Pairs come longest first: the last batch to end is a short one, and neighbours need little padding."""
    lengths = [n_tokens[i] for batch in batches(n_tokens, plan) for i in batch]
    assert lengths == sorted(n_tokens, reverse=True)


@given(LENGTHS, PLANS)
def test_the_same_every_time(n_tokens: list[int], plan: Plan) -> None:
    """The cut depends on nothing but lengths and plan; an array does as well as a list."""
    assert batches(n_tokens, plan) == batches(np.array(n_tokens, np.int64), plan)


@given(LENGTHS, PLANS)
def test_equal_widths(n_tokens: list[int], plan: Plan) -> None:
    """Asked for, a batch holds pairs of one length, still each pair once and within the budget."""
    cut = batches(n_tokens, plan, equal_widths=True)
    assert sorted(i for batch in cut for i in batch) == list(range(len(n_tokens)))
    for batch in cut:
        assert len({n_tokens[i] for i in batch}) == 1
        assert len(batch) * n_tokens[batch[0]] <= plan.token_budget or len(batch) == 1


def test_equal_widths_by_hand() -> None:
    """40, then 30, then both of 10: what would fit beside another length starts a batch of its own."""
    assert batches([10, 40, 10, 30], Plan(1, 1, 100), equal_widths=True) == [[1], [3], [0, 2]]


def test_cut_by_hand() -> None:
    """40 and 30 pad to 80 of 100 tokens, a third would make it 120; 20, 10 and 10 pad to 60."""
    assert batches([10, 40, 20, 30, 10], Plan(1, 1, 100)) == [[1, 3], [2, 0, 4]]


def test_no_pairs() -> None:
    """Nothing to score is no batch."""
    assert batches([], Plan(2, 1, 512)) == []


def test_longer_than_the_budget() -> None:
    """A pair longer than the budget is a batch of its own."""
    assert batches([600, 600, 5], Plan(1, 1, 512)) == [[0], [1], [2]]


def test_small_job_keeps_all_workers_busy() -> None:
    """Four pairs that would fit one batch are cut in two where there are two workers."""
    assert [len(batch) for batch in batches([10] * 4, Plan(1, 1, 512))] == [4]
    assert [len(batch) for batch in batches([10] * 4, Plan(2, 1, 512))] == [2, 2]


@given(LENGTHS, PLANS)
def test_batches_of_sizes_that_an_engine_asks_for(n_tokens: list[int], plan: Plan) -> None:
    """Where batches shall hold a power of two of pairs they do, within the same budget."""
    cut = batches(n_tokens, plan, lambda n_rows: 1 << (n_rows.bit_length() - 1))
    assert sorted(i for batch in cut for i in batch) == list(range(len(n_tokens)))
    assert all(len(batch) in {1, 2, 4, 8, 16, 32, 64} for batch in cut)
    assert all(len(batch) * n_tokens[batch[0]] <= plan.token_budget or len(batch) == 1 for batch in cut)


@given(PLANS, st.integers(1, 64))
def test_for_cores_fits(plan: Plan, n_cores: int) -> None:
    """A plan for other cores asks for no more than there are, and leaves none that a worker could use."""
    fitted = plan.for_cores(n_cores)
    assert fitted.workers >= 1
    assert fitted.threads >= 1
    assert n_cores - fitted.threads < fitted.workers * fitted.threads <= n_cores
    assert fitted.token_budget == plan.token_budget


@pytest.mark.parametrize(
    ("plan", "n_cores", "fitted"),
    [
        (Plan(2, 1, 512), 8, Plan(8, 1, 512)),
        (Plan(1, 4, 512), 8, Plan(2, 4, 512)),
        (Plan(1, 4, 512), 2, Plan(1, 2, 512)),
    ],
)
def test_for_cores_by_hand(plan: Plan, n_cores: int, fitted: Plan) -> None:
    """Threads a worker stay, at most all cores; as many workers as then fit."""
    assert plan.for_cores(n_cores) == fitted


def test_default_plan() -> None:
    """A variant that was not measured runs one worker of one thread per core."""
    assert (default_plan(6).workers, default_plan(6).threads) == (6, 1)
    assert default_plan().workers >= 1


def test_as_people_write_it() -> None:
    """A plan prints as workers x threads and tokens."""
    assert str(Plan(2, 1, 512)) == "2x1, 512 tokens"


MEASURED = [
    PlanEntry("avx2", 2, 2, 1, 256, ()),
    PlanEntry("avx2", 16, 8, 2, 1024, ()),
    PlanEntry("avx512_vnni", 2, 2, 1, 128, ()),
]


@pytest.mark.parametrize(
    ("isa", "n_cores", "plan"),
    [
        ("avx512_vnni", 2, Plan(2, 1, 128)),  # measured on its like
        ("avx2", 12, Plan(6, 2, 1024)),  # the nearest number of cores, laid over twelve
        ("avx2", 4, Plan(4, 1, 256)),
        ("avx512_vnni", 16, Plan(16, 1, 128)),  # the same instruction set before the same number of cores
        ("arm64", 2, Plan(2, 1, 256)),  # an unknown set: the number of cores decides
    ],
)
def test_plan_of_the_nearest_machine(isa: str, n_cores: int, plan: Plan) -> None:
    """The plan measured on the machine's like, else the nearest laid over its cores."""
    assert choose_plan(MEASURED, isa, n_cores) == plan


def test_plan_where_none_was_measured() -> None:
    """Without a measured plan it is the default's."""
    assert choose_plan([], "avx2", 3) == default_plan(3)
