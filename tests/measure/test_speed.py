"""Speed as arithmetic on recorded runs: nothing here is timed."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.artifact.manifest import FlopCount
from exporter.measure import rounds as throughput
from exporter.measure.rounds import measure
from exporter.measure.speed import MIN_ROUNDS, pool, speedup, utilization
from exporter.measure.tune import default_torch
from exporter.pairs import spread_out
from exporter.progress import Silent
from exporter.worker.job import ArtifactSpec, TorchSpec, peak_flops
from exporter.worker.timing import _cpu_contention
from tests.factories import a_pair_set, a_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.worker.job import Run, Spec

SECONDS = st.floats(0.01, 100)
TORCH = TorchSpec("model", 512, "cpu", batch_size=8, workers=2, threads=1)
ONNX = ArtifactSpec("artifact", "onnx", workers=2, threads=1, token_budget=512)


def runs(*seconds: float) -> list[Run]:
    """Give runs that took so long."""
    return [a_run(seconds=(s,)) for s in seconds]


# --- pool ---


def test_pool_by_hand() -> None:
    """100 pairs of 1000 tokens in 1, 2 and 4 seconds: 100, 50, 25 pairs/s, the middle is 50, or 500 tokens/s."""
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


# --- cpu_contention ---


@pytest.mark.parametrize(
    ("others", "cores", "of_machine", "cpu_contention"),
    [
        (0.0, 2, 2, 0.0),
        (1.0, 2, 2, 0.5),  # one of our two cores is gone
        (1.0, 1, 2, 0.0),  # we want one, and there is another
        (30.0, 2, 64, 0.0),  # a neighbour on a large machine
        (63.0, 2, 64, 0.5),
        (9.0, 2, 2, 1.0),
        (-0.01, 2, 2, 0.0),  # clocks of different grain
    ],
)
def test_crowding_by_hand(others: float, cores: int, of_machine: int, cpu_contention: float) -> None:
    """What others took counts where it left us less than we were to use."""
    assert _cpu_contention(others, cores, of_machine) == cpu_contention


def test_speedup_has_the_crowding_of_the_worse_side() -> None:
    """In each round the side that suffered more counts, over rounds the median."""
    ours = [a_run(cpu_contention=c) for c in (0.0, 0.3, 0.0)]
    theirs = [a_run(cpu_contention=c) for c in (0.1, 0.0, 0.2)]
    assert speedup(ours, theirs).cpu_contention == 0.2


# --- arithmetic ---


def test_arithmetic_by_hand() -> None:
    """100 pairs of 1000 tokens and 11,000 of their squares: 3 * 100 + 2 * 1000 + 1 * 11,000 = 13,300 in 1 s, in 2 s the half."""
    work = FlopCount(per_pair=3, per_token=2, per_token_squared=1)
    peaks = {"float32": [a_run(n_pairs=10, seconds=(2.0,))], "int8": [a_run(n_pairs=10, seconds=(0.5, 1.5))]}
    found = utilization("onnx", work, runs(1, 2, 4), peaks)
    assert (found.flops_per_s, found.peak_dtype) == (6650, "float32")
    assert found.peak_flops_per_s == 5 * peak_flops("float32")
    assert found.share_of_peak == 6650 / (5 * peak_flops("float32"))


@pytest.mark.parametrize(
    ("kind", "dtype"), [("openvino-int8", "int8"), ("onnx-int8", "int8"), ("openvino-fp16", "float32")]
)
def test_int8_kinds_are_held_against_the_int8_peak(kind: str, dtype: str) -> None:
    """An int8 kind against the int8 peak; fp16 is the file's, the arithmetic is float32."""
    peaks = {"float32": [a_run(seconds=(1.0,))], "int8": [a_run(seconds=(0.25,))]}
    assert utilization(kind, FlopCount(1, 1, 1), runs(1), peaks).peak_dtype == dtype


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


def test_speedup_is_the_median_of_rounds() -> None:
    """Of six rounds one of which a neighbour spoilt, the median does not move, and the extremes are the interval."""
    ratio = speedup(runs(1, 1, 1, 1, 1, 1), runs(2, 2, 2, 2, 2, 8))
    assert ratio.value == pytest.approx(2)
    assert (ratio.low, ratio.high) == (pytest.approx(2), pytest.approx(8))
    assert ratio.spread == pytest.approx(0)


def test_nine_rounds_leave_the_extremes_out() -> None:
    """The second lowest and second highest of nine hold the median with 96 %: 1 - 2 (1 + 9) / 2^9."""
    ratio = speedup(runs(*[1] * 9), runs(1, 2, 3, 4, 5, 6, 7, 8, 9))
    assert (ratio.low, ratio.value, ratio.high) == (pytest.approx(2), pytest.approx(5), pytest.approx(8))


def test_rounds_are_paired() -> None:
    """A machine that slows both sides down in one round does not change the speed-up, nor widen its interval."""
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


# --- spread_out ---


def test_spread_out_by_hand() -> None:
    """Of passages 1 to 9 letters long, three are the shortest, the middle one and the longest."""
    picked = spread_out(a_pair_set((9,)), 3)
    assert [len(passage) for _, passage in picked] == [1, 5, 9]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(1, 40))
def test_spread_out_laws(sizes: list[int], n: int) -> None:
    """As many as asked for if there are, each once, in the set's order, and the same every time."""
    pair_set = a_pair_set(sizes)
    picked = spread_out(pair_set, n)
    assert len(picked) == min(n, len(pair_set.pairs))
    places = [pair_set.pairs.index(pair) for pair in picked]
    assert places == sorted(set(places))
    assert spread_out(pair_set, n) == picked


def test_spread_out_of_fewer() -> None:
    """A set with fewer pairs is taken whole."""
    pair_set = a_pair_set((2, 2))
    assert spread_out(pair_set, 100) == pair_set.pairs


# --- the reference's plans ---


def test_default_torch() -> None:
    """The reference as it comes runs batches of 32 on one worker with all cores."""
    default = default_torch(TORCH, 4)
    assert (default.batch_size, default.workers, default.threads) == (32, 1, 4)
    assert (default.folder, default.max_length, default.device) == ("model", 512, "cpu")


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (TORCH, "2x1, batch 8"),
        (TorchSpec("m", 512, "cuda", 64, 1, 2), "cuda, 1x2, batch 64"),
        (ONNX, "2x1, 512 tokens"),
    ],
)
def test_specs_as_people_write_them(spec: object, text: str) -> None:
    """A plan prints as workers x threads and size of a batch, with the device if it is not the CPU."""
    assert str(spec) == text


# --- rounds ---


def recorded(monkeypatch: pytest.MonkeyPatch, *, pass_s: dict[str, float] | None = None) -> list[str]:
    """Replace the workers by ones that note whose turn it is and how many passes; a pass takes a second, or as long as said."""
    turns: list[str] = []

    class Noted(AbstractContextManager["Noted"]):
        def __init__(self, spec: Spec, _pairs: object) -> None:
            self.name = spec.kind if isinstance(spec, ArtifactSpec) else "torch"
            self.warm_s = (pass_s or {}).get(self.name, 1.0)

        def __exit__(self, *_: object) -> None:
            """Leave nothing."""

        def passes(self, n: int) -> None:
            turns.append(f"{self.name} {n}" if n > 1 else self.name)

        def end(self) -> Run:
            return a_run()

    monkeypatch.setattr(throughput, "TimedWorker", Noted)
    monkeypatch.setattr(throughput, "MIN_RUN_S", 1.0)
    monkeypatch.setattr(throughput, "_REST_S", 0.0)
    return turns


def measured(
    sides: dict[str, Spec],
    unsettled: Callable[[dict[str, list[Run]]], frozenset[str]],
    *,
    baselines: frozenset[str] = frozenset(),
    budget_s: float = 100.0,
) -> dict[str, list[Run]]:
    """Measure sides on three pairs."""
    return measure(
        sides, a_pair_set((3,)).pairs, Silent(), baselines=baselines, budget_s=budget_s, unsettled=unsettled
    )


def test_sides_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every side has its turn in every round, there and back, for as many rounds as the gate asks at least."""
    order = recorded(monkeypatch)
    found = measured({"torch": TORCH, "onnx": ONNX}, lambda _runs: frozenset())
    assert order == ["torch", "onnx", "onnx", "torch"] * (MIN_ROUNDS // 2)
    assert {side: len(of_side) for side, of_side in found.items()} == {
        "torch": MIN_ROUNDS,
        "onnx": MIN_ROUNDS,
    }


def test_turns_are_as_long_as_the_slowest_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six seconds in turns of two: three turns there, back and there; the side that is four times as fast passes four times."""
    turns = recorded(monkeypatch, pass_s={"torch": 2.0, "onnx": 0.5})
    monkeypatch.setattr(throughput, "MIN_RUN_S", 6.0)
    monkeypatch.setattr(throughput, "MIN_ROUNDS", 1)
    measured({"torch": TORCH, "onnx": ONNX}, lambda _runs: frozenset())
    assert turns == ["torch", "onnx 4", "onnx 4", "torch", "torch", "onnx 4"]


def test_slow_seldom_side_has_one_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A side nobody gates on does not make the turns of the others longer."""
    turns = recorded(monkeypatch, pass_s={"torch": 9.0, "onnx": 0.5})
    monkeypatch.setattr(throughput, "MIN_ROUNDS", 1)
    measured({"torch": TORCH, "onnx": ONNX}, lambda _runs: frozenset(), baselines=frozenset({"torch"}))
    assert turns == ["torch", "onnx", "onnx"]


def test_seldom_sides_are_run_in_the_first_rounds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A side nobody gates on does not cost every round."""
    recorded(monkeypatch)
    found = measured(
        {"default": TORCH, "onnx": ONNX}, lambda _runs: frozenset(), baselines=frozenset({"default"})
    )
    assert (len(found["default"]), len(found["onnx"])) == (3, MIN_ROUNDS)


def test_rounds_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers that never settle are given up when the time is up, but not before the rounds that the gate asks at least."""
    order = recorded(monkeypatch)
    measured({"torch": TORCH, "onnx": ONNX}, frozenset, budget_s=0.0)
    assert len(order) == 2 * MIN_ROUNDS


def test_only_what_has_not_settled_is_measured_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A side that is known well enough does not pay for one that is not."""
    recorded(monkeypatch)

    def unsettled(runs: dict[str, list[Run]]) -> frozenset[str]:
        return frozenset({"torch"}) if len(runs["torch"]) <= MIN_ROUNDS else frozenset()

    found = measured({"torch": TORCH, "onnx": ONNX}, unsettled)
    assert {side: len(of_side) for side, of_side in found.items()} == {
        "torch": MIN_ROUNDS + 1,
        "onnx": MIN_ROUNDS,
    }
