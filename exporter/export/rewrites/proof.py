"""Prove a rewrite on real pairs, or take it back."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


# How far rounding in another order may move a float32 score, relative to the largest one.
_MAX_CHANGE = 1e-5


def keep_if_equivalent(
    fact: str, before: Path, after: Path, feeds: Sequence[Mapping[str, NDArray[np.int64]]]
) -> str:
    """Keep a rewritten graph if its scores match the old one's within tolerance, else put the old one back.

    Args:
        fact: what was rewritten.
        before: the exported graph.
        after: the rewritten one, replaced by the other if they differ.
        feeds: int64[n_rows, n_tokens] per input and batch, of real pairs.

    Returns:
        The fact, with the largest change seen.
    """
    import onnxruntime as ort

    if before.read_bytes() == after.read_bytes():
        return fact
    what = fact.partition(":")[0]

    def scores(path: Path) -> NDArray[np.float32]:
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return np.concatenate([session.run(["logits"], dict(feed))[0] for feed in feeds])

    was = scores(before)
    try:
        change = float(np.abs(was - scores(after)).max())
    except Exception as error:  # noqa: BLE001 # onnxruntime raises its own classes, which share no base but Exception
        shutil.copyfile(before, after)
        return f"{what}: taken back, it does not run: {str(error).splitlines()[0]}"
    if not change <= _MAX_CHANGE * max(1.0, float(np.abs(was).max())):
        shutil.copyfile(before, after)
        return f"{what}: taken back, it moved a score by {change:.1g}"
    return f"{fact}; moves no score of {len(was)} pairs by more than {change:.0e}"
