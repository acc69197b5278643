"""The gate's error rates, on recorded rounds whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.selftest.rates import (
    bisect_noise,
    drawn_verdicts,
    random_verdicts,
    rate_of,
    replay_verdicts,
)
from exporter.selftest.report import markdown
from exporter.selftest.trials import SELFTEST_SCHEMA, MutantResult, SelfTest
from tests.factories import a_machine, a_pair_set, a_run


def rounds(n: int, spread: float) -> list[tuple[object, object]]:
    """Return rounds of two sides that differ by noise only, `spread` in the logarithm."""
    rng = np.random.default_rng(0)
    return [tuple(a_run(seconds=(float(np.exp(rng.normal(0, spread))),)) for _ in range(2)) for _ in range(n)]


def count(trials: list[tuple[str, bool]]) -> dict[str, int]:
    """Count verdicts, and false alarms."""
    found = [verdict for verdict, _ in trials]
    return {
        **{name: found.count(name) for name in ("pass", "fail", "invalid")},
        "wrong": sum(wrong for _, wrong in trials),
    }


def test_quiet_rounds_pass() -> None:
    """With hardly any noise the same artifact passes in every replay, and nothing is read into it."""
    assert count(replay_verdicts(rounds(40, 0.002), 0.0, 12)) == {
        "pass": 1000,
        "fail": 0,
        "invalid": 0,
        "wrong": 0,
    }


@pytest.mark.parametrize("slowdown", [0.05, 0.10, 0.20])
def test_planted_slowdown_is_caught_where_it_is_quiet(slowdown: float) -> None:
    """With hardly any noise every planted slow-down fails."""
    assert count(replay_verdicts(rounds(40, 0.002), slowdown, 12))["fail"] == 1000


def test_noisy_rounds_are_invalid() -> None:
    """With noise beyond what is allowed there is no verdict, right or wrong."""
    found = count(replay_verdicts(rounds(40, 0.3), 0.0, 12))
    assert found["invalid"] > 900
    assert found["wrong"] < 100


def test_quality_drawn_by_hand() -> None:
    """A candidate that loses a tenth on every query fails on any draw; one that loses nothing passes.

    Of 30 queries neither is known.
    """
    theirs = np.linspace(0.5, 1.0, 300)
    assert count(drawn_verdicts(theirs, 0.9 * theirs, 0.99, wrong="pass", n_trials=40))["fail"] == 40
    assert count(drawn_verdicts(theirs, theirs, 0.99, wrong="fail", n_trials=40))["pass"] == 40
    assert (
        count(drawn_verdicts(theirs, theirs, 0.99, wrong="fail", n_queries=30, n_trials=40))["invalid"] == 40
    )
    few = drawn_verdicts(theirs, 0.986 * theirs, 0.99, wrong="fail", n_queries=5, n_trials=40)
    assert count(few) == {"pass": 0, "fail": 0, "invalid": 40, "wrong": 0}


def test_random_scores_never_pass_where_labels_cannot_tell() -> None:
    """A candidate with random scores may fail on the few queries that can tell, and never passes."""
    pairs = a_pair_set((4,) * 20, [1, 0, 0, 2] * 20)
    reference = np.tile(np.array([3, 2, 1, 4], np.float32), 20)
    found = count(random_verdicts(reference, pairs, n_trials=40))
    assert (found["pass"], found["wrong"]) == (0, 0)
    assert found["invalid"] > 0


def test_rate_by_hand() -> None:
    """No event in a thousand trials leaves up to 0.37 % with 95 % (Clopper-Pearson: 1 - 0.025^(1/1000))."""
    rate = rate_of("x", "live", [("pass", False)] * 1000, "false alarm")
    assert (rate.n_trials, rate.share, rate.low) == (1000, 0.0, 0.0)
    assert rate.high == pytest.approx(1 - 0.025 ** (1 / 1000))


def test_noise_is_found_for_a_loss() -> None:
    """The noise that costs a wanted share is found where the loss grows with it."""
    assert bisect_noise(lambda noise: noise**2, 0.02) == pytest.approx(0.02**0.5, rel=0.15)


def a_selftest(**changes: object) -> SelfTest:
    """Return a self-test in which all is well."""
    given: dict[str, object] = {
        "schema": SELFTEST_SCHEMA,
        "name": "tiny",
        "kind": "onnx",
        "manifest_root": "0" * 64,
        "started_at": "2026-01-01T00:00:00Z",
        "machine": a_machine(),
        "original_fails": (),
        "mutants": (
            MutantResult("sigmoid added", ("max_abs_diff",), ""),
            MutantResult("x", (), "no int8 weights"),
        ),
        "rates": (rate_of("10% slower", "live", [("fail", False)] * 20, "caught"),),
        "rounds": (),
    }
    return SelfTest(**{**given, **changes})  # type: ignore[arg-type] # fields by name


def test_all_is_well() -> None:
    """Killed and skipped mutants, and rates within their limits, are no problem."""
    assert a_selftest().problems == ()
    assert "Every mutant was killed" in markdown(a_selftest())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mutants": (MutantResult("NaN at one length", (), ""),)}, "NaN at one length: survived"),
        ({"original_fails": ("min_kendall_tau",)}, "the artifact itself fails min_kendall_tau"),
        (
            {
                "rates": (
                    rate_of(
                        "the same artifact", "live", [("pass", False)] * 9 + [("fail", True)], "false alarm"
                    ),
                )
            },
            "the same artifact, live: 10.0% false alarms, 1% allowed",
        ),
        (
            {
                "rates": (
                    rate_of("nDCG 2.0% lower", "drawn", [("fail", True)] * 9 + [("pass", False)], "caught"),
                )
            },
            "nDCG 2.0% lower, drawn: 90.0% caught, 95% wanted",
        ),
    ],
)
def test_problems_are_said(changes: dict[str, object], said: str) -> None:
    """A gate that is wrong too often, or lets a mutant through, says so in a line."""
    found = a_selftest(**changes)
    assert found.problems == (said,)
    assert said in markdown(found)
