"""Find from a consumer's scores what it applied to the logits and what it does not read. Pure.

An activation is found by undoing it: scores are taken as they are, as a sigmoid of logits, and as a sigmoid
of a sigmoid, where they lie between 0 and 1; of these readings the one counts whose logits have the smallest
median distance to our own logits. A median, since a consumer that loses something is far off on some pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from exporter.consumers.probe import Probe
from exporter.libraries.consumers import TRUNCATION

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from exporter.artifact.manifest import Traits


Scores: TypeAlias = "NDArray[np.float64]"


@dataclass(frozen=True, slots=True)
class Bound:
    """How far a consumer's logits may be from ours, and why so far."""

    logits: float
    why: str


# Logits, for the same weights in float32. On the tests' small model seven libraries were off by 4.2e-7 at
# most (onnxruntime 1.32, OpenVINO 2026.4); a trained model's logits are sums of more, and larger.
_FLOAT32 = 1e-4


def bound_of(engine: str, traits: Traits, tolerance: float | None) -> Bound:
    """Return how far a consumer's logits may be from ours.

    Args:
        engine: the consumer's, as in `Consumer.engine`; `ours` for our own runtime.
        traits: the variant's.
        tolerance: allowed score change of this variant from batching, in logits; None where it is not known.
            The bound of int8 where rounding is not the same: in another onnxruntime, or in ours with other
            fusions.
    """
    if engine == "openvino":
        return Bound(
            _FLOAT32, "the same file in the same OpenVINO, at its own default precision on both sides"
        )
    if engine == "onnxruntime":
        return Bound(_FLOAT32, "the same file in the same onnxruntime, at its own defaults on both sides")
    whose = {
        "torch": "in PyTorch",
        "another onnxruntime": "in an onnxruntime of its own",
        "ours": "with other fusions",
    }[engine]
    if traits.activations == "int8" and tolerance is not None and tolerance > _FLOAT32:
        why = (
            f"int8 {whose}: a sum that rounds otherwise may end a step away, as it does in another batch, "
            "which was measured"
        )
        return Bound(tolerance, why)
    return Bound(_FLOAT32, f"the same weights {whose}: only the order of sums differs")


def undo_activation(scores: Scores, ours: Scores) -> tuple[str, Scores, Scores]:
    """Find the activation whose undoing brings scores nearest to our logits, and undo it.

    Args:
        scores: float64[n_pairs], a consumer's.
        ours: float64[n_pairs], raw logits of the same pairs.

    Returns:
        `none`, `sigmoid` or `two sigmoids`; float64[n_pairs], the logits; and float64[n_pairs], how exactly
        each logit is known, in logits: a float32 near 1 stands for many logits, and 1 for all above 17.
    """
    readings = [("none", scores, np.zeros(len(scores)))]
    if ((scores >= 0) & (scores <= 1)).all():
        once, resolution = _logit(scores)
        readings.append(("sigmoid", once, resolution))
        if ((once >= 0) & (once <= 1)).all():
            twice, _ = _logit(once)
            readings.append(("two sigmoids", twice, _logit_slope(once) * resolution))
    return min(readings, key=lambda reading: _median_distance(reading[1], ours))


def _median_distance(logits: Scores, ours: Scores) -> float:
    return float(np.median(np.nan_to_num(np.abs(logits - ours), nan=np.inf)))


def _logit(shares: Scores) -> tuple[Scores, Scores]:
    """Return the logits of shares, and how much of a logit one step of a float32 share is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logits = np.log(shares) - np.log1p(-shares)
        return logits, _logit_slope(shares) * np.spacing(shares.astype(np.float32))


def _logit_slope(shares: Scores) -> Scores:
    """Return the derivative of the logit function."""
    with np.errstate(divide="ignore"):
        return 1 / (shares * (1 - shares))


def losses(
    logits: Scores, ours: Scores, typeless: Scores | None, probe: Probe, bound: Scores
) -> tuple[str, ...]:
    """Find what a consumer does not read, from which of its scores are off.

    Args:
        logits: float64[n_pairs], the consumer's.
        ours: float64[n_pairs], of the same pairs.
        typeless: float64[n_pairs], ours with every token's type 0; None where they cannot be computed.
        probe: the pairs' lengths.
        bound: float64[n_pairs], in logits, how far each may be off.

    Returns:
        Phrases, most important first, `something unknown` among them where nothing explains a score that is
        off. Empty when no score is off.
    """
    found = []
    off = ~(np.abs(logits - ours) <= bound)  # true for NaN, as it must be
    # Which of the two scores are nearer to decides, since a wide bound would hide missing types.
    if typeless is not None and _median_distance(logits, typeless) < _median_distance(logits, ours):
        found.append("token types")
        off = ~(np.abs(logits - typeless) <= bound)
    if not off.any():
        return tuple(found)

    longest_right = int(probe.n_tokens[~off].max(initial=0))
    shortest_off = int(probe.n_tokens[off].min())
    if longest_right > shortest_off or longest_right == 0:
        return (*found, "something unknown")
    if longest_right <= probe.max_length < shortest_off:
        return (*found, TRUNCATION)
    return (*found, f"what is beyond some {longest_right} tokens")
