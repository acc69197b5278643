"""Speed as arithmetic on recorded runs: nothing here is timed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.artifact.manifest import FlopCount
from exporter.measure.settings import MeasureSettings
from exporter.measure.speed import (
    Latency,
    faster,
    percentiles,
    pool,
    rounds_at_like_clock,
    speedup,
    speedup_over_plan,
    utilization,
)
from exporter.measure.tune import default_torch, layouts, torch_families
from exporter.recipe.kinds import KINDS
from exporter.worker.job import ArtifactSpec, TorchSpec, peak_flops
from tests.factories import a_run

if TYPE_CHECKING:
    from exporter.worker.job import Run

SECONDS = st.floats(0.01, 100)
TORCH = TorchSpec("model", 512, "cpu", batch_size=8, workers=2, threads=1)
ONNX = ArtifactSpec("artifact", "onnx", workers=2, threads=1, token_budget=512)


def runs(*seconds: float) -> list[Run]:
    """Give runs that took so long."""
    return [a_run(seconds=(s,)) for s in seconds]


# --- pool ---


def test_pool_by_hand() -> None:
    """100 pairs of 1000 tokens in 1, 2 and 4 seconds: 100, 50, 25 pairs/s, the middle is 50.

    That is 500 tokens/s.
    """
    pooled = pool("onnx", "2x1", runs(1, 4, 2))
    assert pooled.pairs_per_s == 50
    assert pooled.tokens_per_s == 500
    assert (pooled.side, pooled.plan) == ("onnx", "2x1")
    assert pooled.runs == tuple(runs(1, 4, 2))


def test_pool_takes_the_mean_of_a_runs_passes() -> None:
    """Two passes of 1 and 3 seconds are 50 pairs/s."""
    assert pool("onnx", "", [a_run(seconds=(1.0, 3.0))]).pairs_per_s == 50


def test_pool_spread() -> None:
    """Rates of 90 and 110: standard deviation 14.1 over mean 100. A single run has none."""
    assert pool("onnx", "", runs(100 / 90, 100 / 110)).spread == pytest.approx(math.sqrt(200) / 100)
    assert pool("onnx", "", runs(1)).spread == 0


def test_pool_of_the_rest() -> None:
    """Shares and load time are in the middle of the runs, memory is the most that any took."""
    measured = [
        a_run(
            seconds=(2.0,), tokenize_s=0.2, cpu_share=0.5, cpu_contention=0.1, load_s=1.0, peak_rss_bytes=30
        ),
        a_run(
            seconds=(2.0,), tokenize_s=0.4, cpu_share=0.6, cpu_contention=0.3, load_s=9.0, peak_rss_bytes=10
        ),
        a_run(
            seconds=(2.0,), tokenize_s=0.6, cpu_share=0.9, cpu_contention=0.2, load_s=2.0, peak_rss_bytes=20
        ),
    ]
    pooled = pool("onnx", "", measured)
    assert pooled.tokenize_share == pytest.approx(0.2)
    assert (pooled.cpu_share, pooled.cpu_contention, pooled.load_s, pooled.peak_rss_bytes) == (
        0.6,
        0.2,
        2.0,
        30,
    )


@pytest.mark.parametrize("mixed", [[], [a_run(), a_run(n_pairs=99)], [a_run(), a_run(n_tokens=999)]])
def test_pool_refuses(mixed: list[Run]) -> None:
    """Runs of different pairs are not one number, and no runs are none."""
    with pytest.raises(ValueError, match="onnx: runs cannot be pooled"):
        pool("onnx", "", mixed)


def test_speedup_has_the_contention_of_the_worse_side() -> None:
    """In each round the side that suffered more counts, over rounds the median."""
    ours = [a_run(cpu_contention=c) for c in (0.0, 0.3, 0.0)]
    theirs = [a_run(cpu_contention=c) for c in (0.1, 0.0, 0.2)]
    assert speedup(ours, theirs).cpu_contention == 0.2


# --- utilisation ---


def test_utilization_by_hand() -> None:
    """3 * 100 + 2 * 1000 + 1 * 11,000 = 13,300 in 1 s, in 2 s the half.

    100 pairs of 1000 tokens, whose squares sum to 11,000.
    """
    work = FlopCount(per_pair=3, per_token=2, per_token_squared=1)
    peaks = {"float32": [a_run(n_pairs=10, seconds=(2.0,))], "int8": [a_run(n_pairs=10, seconds=(0.5, 1.5))]}
    found = utilization(KINDS["onnx"].traits, work, runs(1, 2, 4), peaks)
    assert found is not None
    assert (found.flops_per_s, found.peak_dtype) == (6650, "float32")
    assert found.peak_flops_per_s == 5 * peak_flops("float32")
    assert found.share_of_peak == 6650 / (5 * peak_flops("float32"))


@pytest.mark.parametrize(
    ("kind", "dtype"), [("openvino-int8", "int8"), ("onnx-int8", "int8"), ("openvino-fp16", "float32")]
)
def test_int8_kinds_are_held_against_the_int8_peak(kind: str, dtype: str) -> None:
    """An int8 kind against the int8 peak; fp16 is the file's, the arithmetic is float32."""
    peaks = {"float32": [a_run(seconds=(1.0,))], "int8": [a_run(seconds=(0.25,))]}
    found = utilization(KINDS[kind].traits, FlopCount(1, 1, 1), runs(1), peaks)
    assert found is not None
    assert found.peak_dtype == dtype


def test_no_peak_for_a_precision_that_is_not_measured() -> None:
    """Products in a precision whose peak nobody measured are held against none."""
    traits = replace(KINDS["openvino"].traits, activations="fp8")
    assert utilization(traits, FlopCount(1, 1, 1), runs(1), {"float32": runs(1), "int8": runs(1)}) is None


def test_peak_flops_by_hand() -> None:
    """A product of m x k and k x n is m n sums of k products: 2 m k n, 2 * 256 * 1536 * 384."""
    assert peak_flops("float32") == 301_989_888


# --- speedup ---


def test_speedup_by_hand() -> None:
    """Twice as fast in every round is a speed-up of exactly 2."""
    ratio = speedup(runs(1, 2, 3), runs(2, 4, 6))
    assert ratio.value == pytest.approx(2)
    assert (ratio.low, ratio.high) == (pytest.approx(2), pytest.approx(2))
    assert ratio.spread == pytest.approx(0)
    assert ratio.n_rounds == 3


def test_plan_that_default_arguments_beat() -> None:
    """Default arguments faster by 25, 30, 20 % in three rounds: surely by 20; slower in one: not surely."""
    ours, planned = runs(1.0, 1.0, 1.0), runs(3.0, 3.0, 3.0)
    found = speedup_over_plan(ours, planned, runs(3 / 1.25, 3 / 1.3, 3 / 1.2))
    assert found.value == pytest.approx(3.0)
    assert found.default_faster == pytest.approx(0.2)
    assert speedup_over_plan(ours, planned, runs(2.0, 2.0, 3.1)).default_faster == 0
    assert speedup_over_plan(ours, planned, runs(6.0, 6.0, 6.0)).default_faster == 0


def test_speedup_is_the_median_of_rounds() -> None:
    """One spoilt round of six does not move the median; the extremes are the interval."""
    ratio = speedup(runs(1, 1, 1, 1, 1, 1), runs(2, 2, 2, 2, 2, 8))
    assert ratio.value == pytest.approx(2)
    assert (ratio.low, ratio.high) == (pytest.approx(2), pytest.approx(8))
    assert ratio.spread == pytest.approx(0)


def test_nine_rounds_leave_the_extremes_out() -> None:
    """The second lowest and second highest of nine hold the median with 96 %: 1 - 2 (1 + 9) / 2^9."""
    ratio = speedup(runs(*[1] * 9), runs(1, 2, 3, 4, 5, 6, 7, 8, 9))
    assert (ratio.low, ratio.value, ratio.high) == (pytest.approx(2), pytest.approx(5), pytest.approx(8))


def test_rounds_are_paired() -> None:
    """A round that slows both sides does not change the speed-up, nor widen its interval."""
    ratio = speedup(runs(1, 1, 5), runs(3, 3, 15))
    assert ratio.value == pytest.approx(3)
    assert ratio.high - ratio.low == pytest.approx(0, abs=1e-9)


def test_single_round_says_nothing() -> None:
    """One round gives a value and says that it is but one; the gate takes six."""
    ratio = speedup(runs(1), runs(2))
    assert (ratio.value, ratio.n_rounds) == (pytest.approx(2), 1)


@given(st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=9))
def test_there_and_back_is_one(rounds: list[tuple[float, float]]) -> None:
    """The speed-up of a over b times that of b over a is one."""
    a, b = (runs(*side) for side in zip(*rounds, strict=True))
    assert speedup(a, b).value * speedup(b, a).value == pytest.approx(1)


@given(st.lists(st.tuples(SECONDS, SECONDS), min_size=3, max_size=9))
def test_interval_turns_with_the_sides(rounds: list[tuple[float, float]]) -> None:
    """The value lies in its interval, and the interval of b over a is that of a over b turned round."""
    a, b = (runs(*side) for side in zip(*rounds, strict=True))
    there, back = speedup(a, b), speedup(b, a)
    assert there.low <= there.value * (1 + 1e-9)
    assert there.value <= there.high * (1 + 1e-9)
    assert there.low * back.high == pytest.approx(1)


@given(st.lists(SECONDS, min_size=2, max_size=9))
def test_itself_is_one(seconds: list[float]) -> None:
    """A side is as fast as itself, without doubt."""
    ratio = speedup(runs(*seconds), runs(*seconds))
    assert (ratio.value, ratio.low, ratio.high, ratio.spread) == (1, 1, 1, 0)


@pytest.mark.parametrize(("candidate", "reference"), [([], []), (runs(1), [])])
def test_speedup_refuses(candidate: list[Run], reference: list[Run]) -> None:
    """Sides of which one never ran cannot be compared."""
    with pytest.raises(ValueError, match="no rounds"):
        speedup(candidate, reference)


def test_rounds_of_one_side_only_are_left_out() -> None:
    """The reference's third round, run for another variant's sake, does not count."""
    ratio = speedup(runs(1, 1), runs(2, 2, 9))
    assert (ratio.value, ratio.high, ratio.n_rounds) == (pytest.approx(2), pytest.approx(2), 2)


def test_rounds_at_another_clock_are_left_out() -> None:
    """Of eight rounds, two at 80 % of the clock: six are left, whatever the two would have said."""
    ours, theirs = runs(*[1] * 6, 9, 1), runs(*[2] * 8)
    ours[6], theirs[7] = (
        replace(side[i], clock=side[i].clock / 1.25) for side, i in ((ours, 6), (theirs, 7))
    )
    ratio = speedup(ours, theirs)
    assert (ratio.n_rounds, ratio.n_left_out, ratio.clock) == (6, 2, 0)
    assert (ratio.value, ratio.low, ratio.high) == (pytest.approx(2),) * 3


def test_too_few_rounds_at_a_like_clock_are_no_choice() -> None:
    """With five rounds at one clock and two at another all count, and the change of 25 % is told."""
    ours = [replace(run, clock=run.clock / 1.25) if i < 2 else run for i, run in enumerate(runs(*[1] * 7))]
    ratio = speedup(ours, runs(*[2] * 7))
    assert (ratio.n_rounds, ratio.n_left_out) == (7, 0)
    assert ratio.clock == pytest.approx(0.25)


@given(st.lists(st.tuples(st.floats(0.5, 2), st.floats(0.5, 2)), min_size=1, max_size=12))
def test_clocks_alone_choose_the_rounds(clocks: list[tuple[float, float]]) -> None:
    """Which rounds count does not depend on their seconds; those chosen are alike, and no more would be."""
    ours, theirs = ([replace(a_run(), clock=clock) for clock in of] for of in zip(*clocks, strict=True))
    chosen = rounds_at_like_clock(ours, theirs)
    slower = rounds_at_like_clock([replace(run, seconds=(i + 1.0,)) for i, run in enumerate(ours)], theirs)
    assert [(a.clock, b.clock) for a, b in chosen] == [(a.clock, b.clock) for a, b in slower]
    change = max(run.clock for pair in chosen for run in pair) / min(
        run.clock for pair in chosen for run in pair
    )
    assert change <= 1.15 * (1 + 1e-12) or len(chosen) == len(clocks)


def test_faster_is_told_round_by_round() -> None:
    """Of two sides the one that is faster in most rounds; the first where the second was not run."""
    assert faster({"a": runs(2, 2, 2), "b": runs(1, 1, 9)}, "a", "b") == "b"
    assert faster({"a": runs(2, 2, 2), "b": runs(3, 3, 1)}, "a", "b") == "a"
    assert faster({"a": runs(2)}, "a", "b") == "a"


# --- the reference's plans ---


@pytest.mark.parametrize(
    ("n_cores", "found"),
    [
        (1, [(1, 1)]),
        (2, [(2, 1), (1, 2)]),
        (4, [(4, 1), (2, 2), (1, 4)]),
        (6, [(6, 1), (3, 2), (1, 6)]),
        (8, [(8, 1), (4, 2), (2, 4), (1, 8)]),
        (16, [(16, 1), (4, 4), (1, 16)]),
        (64, [(64, 1), (16, 4), (4, 16), (1, 64)]),
    ],
)
def test_layouts(n_cores: int, found: list[tuple[int, int]]) -> None:
    """A worker a core, one worker with all, and a few in between."""
    assert layouts(n_cores) == found


@given(st.integers(1, 512))
def test_layouts_fit_the_cores(n_cores: int) -> None:
    """No layout has more threads than cores, or is tried twice; few are tried."""
    found = layouts(n_cores)
    assert all(1 <= workers * threads <= n_cores for workers, threads in found)
    assert len(set(found)) == len(found) <= 6


def test_torch_is_tried_on_every_layout_from_one_pair_up() -> None:
    """On a CPU both layouts and batches from 1 to 32, and batches by tokens; on a GPU large batches only."""
    families = torch_families("m", 512, "cpu", 2, MeasureSettings())
    tried = {(spec.workers, spec.threads, spec.batch_size) for of in families for spec in of}
    assert {(*layout, size) for layout in ((2, 1), (1, 2)) for size in (1, 2, 4, 8, 16, 32)} <= tried
    by_tokens = {(spec.workers, spec.token_budget) for of in families for spec in of if spec.token_budget}
    assert {(2, 512), (1, 512)} <= by_tokens
    (on_gpu,) = torch_families("m", 512, "cuda", 2, MeasureSettings())
    assert [spec.batch_size for spec in on_gpu] == [32, 64, 128, 256]


def test_passes_grow_with_the_cores() -> None:
    """48 pairs keep four cores busy; on more each has as many."""
    assert [MeasureSettings().n_on(n_cores, 48) for n_cores in (1, 4, 8, 64)] == [48, 48, 96, 768]


def test_default_torch() -> None:
    """The reference with default arguments runs batches of 32 on one worker with all cores."""
    default = default_torch(replace(TORCH, token_budget=512), 4)
    assert default.token_budget is None
    assert (default.batch_size, default.workers, default.threads) == (32, 1, 4)
    assert (default.folder, default.max_length, default.device) == ("model", 512, "cpu")


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (TORCH, "2x1, batch 8"),
        (replace(TORCH, token_budget=512, dtype="bfloat16"), "bfloat16, 2x1, 512 tokens"),
        (TorchSpec("m", 512, "cuda", 64, 1, 2), "cuda, 1x2, batch 64"),
        (ONNX, "2x1, 512 tokens"),
    ],
)
def test_specs_as_people_write_them(spec: object, text: str) -> None:
    """A plan prints as workers x threads and size of a batch, with the device if it is not the CPU."""
    assert str(spec) == text


@pytest.mark.parametrize(
    ("n_calls", "told"), [(4, ()), (5, (50,)), (19, (50,)), (20, (50, 95)), (100, (50, 95, 99))]
)
def test_percentiles_need_calls(n_calls: int, told: tuple[int, ...]) -> None:
    """A percentile stands only where the calls tell it: the median from 5, p95 from 20, p99 from 100."""
    found = percentiles("onnx", a_run(seconds=tuple(0.01 * (i + 1) for i in range(n_calls))))
    assert tuple(p for p in (50, 95, 99) if found.at(p) is not None) == told
    assert (found.p99_ms is None) == (99 not in told)
    if 50 in told:
        assert found.at(50) == pytest.approx(10 * (n_calls + 1) / 2)


def test_percentiles_of_older_reports_are_not_told() -> None:
    """A report of before may hold a 99th percentile of one call; it is not shown."""
    assert Latency("onnx", 100, 1, p50_ms=20.0, p95_ms=20.0, p99_ms=20.0).at(99) is None
