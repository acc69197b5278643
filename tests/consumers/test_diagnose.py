"""Diagnosis: what a consumer's scores show of its activation and losses, and how far they may be off."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.consumers.diagnose import bound_of, losses, undo_activation
from exporter.consumers.probe import Probe
from exporter.libraries.consumers import TRUNCATION
from exporter.recipe.kinds import KINDS

OURS = np.array([-4.0, -1.0, 0.5, 2.0, 3.0])
PROBE = Probe((("q", "p"),) * 5, np.array([10, 40, 90, 200, 600]), 512)
BOUND = np.full(5, 1e-4)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


@pytest.mark.parametrize(
    ("applied", "name"),
    [(lambda x: x, "none"), (sigmoid, "sigmoid"), (lambda x: sigmoid(sigmoid(x)), "two sigmoids")],
)
def test_activation_is_found_and_undone(applied, name: str) -> None:
    """What was applied is what, undone, gives our logits."""
    found, logits, resolution = undo_activation(applied(OURS), OURS)
    assert found == name
    assert np.allclose(logits, OURS)
    assert (resolution < 1e-4).all()


def test_logits_between_0_and_1_are_logits() -> None:
    """Scores that could be shares are logits if they are ours."""
    assert undo_activation(np.array([0.1, 0.9]), np.array([0.1, 0.9]))[0] == "none"


def test_saturated_sigmoid_is_not_compared() -> None:
    """A float32 of 1 stands for every logit above 17, and the resolution shows it; small shares are exact."""
    ours = np.array([20.0, 9.0, 0.0, -20.0])
    _, _, resolution = undo_activation(sigmoid(ours).astype(np.float32).astype(np.float64), ours)
    assert (resolution > 1e-4).tolist() == [True, True, False, False]


def test_nothing_lost() -> None:
    """Scores within the bound lose nothing."""
    assert losses(OURS + 5e-5, OURS, OURS - 1, PROBE, BOUND) == ()


def test_token_types_lost() -> None:
    """Scores that are ours without token types say what is missing."""
    assert losses(OURS - 1, OURS, OURS - 1, PROBE, BOUND) == ("token types",)


def test_truncation_differs() -> None:
    """Only the pairs that are too long are off."""
    assert losses(OURS + np.array([0, 0, 0, 0, 1]), OURS, None, PROBE, BOUND) == (TRUNCATION,)


def test_long_pairs_cut_short() -> None:
    """All pairs over some length are off, though the model reads more."""
    assert losses(OURS + np.array([0, 0, 0, 1, 1]), OURS, None, PROBE, BOUND) == (
        "what is beyond some 90 tokens",
    )


def test_two_losses_at_once() -> None:
    """Token types and truncation are told apart also when both are lost."""
    assert losses(OURS - np.array([1, 1, 1, 1, 2]), OURS, OURS - 1, PROBE, BOUND) == (
        "token types",
        TRUNCATION,
    )


@pytest.mark.parametrize("off", [[0, 1, 0, 0, 0], [1, 1, 1, 1, 1], [0, np.nan, 0, 0, 0]])
def test_unexplained(off: list[float]) -> None:
    """What nothing explains is not explained away."""
    assert losses(OURS + off, OURS, OURS - 5, PROBE, BOUND) == ("something unknown",)


def test_token_types_lost_within_a_wide_bound() -> None:
    """A bound as wide as int8's does not hide that scores are those without token types."""
    assert losses(OURS - 0.2, OURS, OURS - 0.2, PROBE, BOUND * 5000) == ("token types",)


@pytest.mark.parametrize(
    ("engine", "kind", "tolerance", "bound"),
    [
        ("onnxruntime", "onnx", 0.3, 1e-4),
        ("onnxruntime", "onnx-int8", 0.3, 1e-4),
        ("another onnxruntime", "onnx-int8", 0.3, 0.3),
        ("ours", "onnx-int8", 0.3, 0.3),
        ("another onnxruntime", "onnx-int8", 1e-7, 1e-4),
        ("onnxruntime", "onnx-int8-static", None, 1e-4),
        ("openvino", "openvino-int8", 0.3, 1e-4),
    ],
)
def test_bound_has_a_reason(engine: str, kind: str, tolerance: float | None, bound: float) -> None:
    """Float32 has one bound; int8 that of its own measured noise; each says why."""
    found = bound_of(engine, KINDS[kind].traits, tolerance)
    assert found.logits == bound
    assert len(found.why.split()) > 5
