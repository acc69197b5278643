"""Find out from a consumer's scores what it applied to the logits and what it does not read. Pure."""

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
    """How far, in logits, a consumer may be from us, and why so far."""

    logits: float
    why: str


# --- what scores say ---


# Logits, for the same weights in float32. On the tests' small model seven libraries were off by 4.2e-7 at most (onnxruntime 1.32,
# OpenVINO 2026.4); a trained model's logits are sums of more, and larger.
_FLOAT32 = 1e-4


def bound_of(engine: str, traits: Traits, effect: float | None) -> Bound:
    """Say how far a consumer may be from us.

    Args:
        engine: the consumer's, as in `Consumer.engine`; `ours` for our own runtime.
        traits: the variant's.
        effect: what company does to a pair's score of this variant, in logits, as measured; None where it was not. It bounds
            int8 where rounding is not the same: in another onnxruntime, or in ours with other fusions.
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
    if traits.activations == "int8" and effect is not None and effect > _FLOAT32:
        why = f"int8 {whose}: a sum that rounds otherwise may end a step away, as it does in another batch, which was measured"
        return Bound(effect, why)
    return Bound(_FLOAT32, f"the same weights {whose}: only the order of sums differs")


def undo_activation(scores: Scores, ours: Scores) -> tuple[str, Scores, Scores]:
    """Find what was applied to the logits by which undoing brings scores nearest to ours, and undo it.

    Args:
        scores: float64[n_pairs], a consumer's.
        ours: float64[n_pairs], raw logits of the same pairs.

    Returns:
        `none`, `sigmoid` or `two sigmoids`; the logits; and how exactly each is known, in logits: a float32 near 1 stands for
        many of them, and 1 itself for all above 17.
    """
    found = [("none", scores, np.zeros(len(scores)))]
    if ((scores >= 0) & (scores <= 1)).all():
        once = _logit(scores)
        found.append(("sigmoid", *once))
        if ((once[0] >= 0) & (once[0] <= 1)).all():
            inner, outer = _logit(once[0]), _logit_step(once[0])
            found.append(("two sigmoids", inner[0], outer * once[1]))
    return min(found, key=lambda way: _middle(way[1] - ours))


def _middle(differences: Scores) -> float:
    return float(np.median(np.nan_to_num(np.abs(differences), nan=np.inf)))


def _logit(shares: Scores) -> tuple[Scores, Scores]:
    with np.errstate(divide="ignore", invalid="ignore"):
        logits = np.log(shares) - np.log1p(-shares)
        return logits, _logit_step(shares) * np.spacing(shares.astype(np.float32))


def _logit_step(shares: Scores) -> Scores:
    """Give the logit's derivative: how much of it a step of its argument is."""
    with np.errstate(divide="ignore"):
        return 1 / (shares * (1 - shares))


def losses(
    logits: Scores, ours: Scores, typeless: Scores | None, probe: Probe, bound: Scores
) -> tuple[str, ...]:
    """Say what a consumer whose scores are off does not read, from which of them are off.

    Args:
        logits: float64[n_pairs], the consumer's.
        ours: float64[n_pairs], of the same pairs.
        typeless: ours with every token's type 0; None where a model has no types, or they cannot be taken away.
        probe: the pairs' lengths.
        bound: float64[n_pairs], how far each may be off.

    Returns:
        Phrases, most important first; one that says so where nothing explains it. Empty when no score is off.
    """
    found = []
    off = ~(np.abs(logits - ours) <= bound)
    # By which of the two they are nearer to, since a wide bound would hide it.
    if typeless is not None and _middle(logits - typeless) < _middle(logits - ours):
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
