"""Prove a graph on real pairs: the exported one against PyTorch, a rewrite against it, or take it back."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np

from exporter.backend import backend
from exporter.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


# How far rounding in another order may move a float32 score, relative to the largest one.
_MAX_CHANGE = 1e-5
# The same between two libraries; a graph that computes something else moves scores by far more. How exact a
# variant is, is measured later and judged by the recipe's bars.
# Source: https://github.com/huggingface/optimum-onnx/blob/main/optimum/exporters/onnx/model_configs.py
# (ATOL_FOR_VALIDATION, of up to 1e-3)
_MAX_EXPORT_CHANGE = 1e-3


def check_exported(
    graph: Path, feeds: Sequence[Mapping[str, NDArray[np.int64]]], scores: NDArray[np.float32]
) -> None:
    """Check that an exported graph gives one finite score a pair, and the one that PyTorch gives.

    A tracer keeps the one path that its example took: where a model's Python decides by length or content,
    the graph may be another model's.

    Args:
        graph: the .onnx file.
        feeds: int64[n_rows, n_tokens] per input and batch, of real pairs.
        scores: float32[n_pairs, 1], PyTorch's.

    Raises:
        BackendError: it does not run, or scores otherwise.
    """
    with backend("the exported graph does not run"):
        found = _scores(graph, feeds)
    n_pairs = sum(len(feed["input_ids"]) for feed in feeds)
    for which, values in (("PyTorch", scores), ("the exported graph", found)):
        if values.shape != (n_pairs, 1):
            raise BackendError(
                f"{which} gives logits of shape {list(values.shape)} for {n_pairs} pairs; "
                f"wanted [{n_pairs}, 1], one score a pair"
            )
        if n_odd := int((~np.isfinite(values)).sum()):
            raise BackendError(
                f"{which} gives no finite number for {n_odd} of {n_pairs} pairs; the model's weights, "
                "or numbers too large for float32, are at fault"
            )
    change = float(np.abs(found - scores).max())
    if change > _MAX_EXPORT_CHANGE * max(1.0, float(np.abs(scores).max())):
        raise BackendError(
            f"the exported graph does not compute what PyTorch does: a score of {n_pairs} pairs differs by "
            f"{change:.2g}"
        )


def rewrite_if_equivalent(
    what: str,
    rewrite: Callable[[Path, Path], str],
    before: Path,
    after: Path,
    feeds: Sequence[Mapping[str, NDArray[np.int64]]],
) -> str:
    """Rewrite a graph, and keep the result if its scores match; else, or where that fails, the old one.

    Args:
        what: the rewrite's name, first words of its fact.
        rewrite: reads the first path, writes the second, and returns a fact.
        before: the graph.
        after: the .onnx file to write.
        feeds: int64[n_rows, n_tokens] per input and batch, of real pairs.

    Returns:
        A fact for the manifest.
    """
    try:
        with backend(what):
            fact = rewrite(before, after)
    except BackendError as error:  # a graph of a form that nobody thought of
        shutil.copyfile(before, after)
        return f"{what}: does not apply, {str(error).removeprefix(f'{what}: ')}"
    return keep_if_equivalent(fact, before, after, feeds)


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

    Raises:
        BackendError: the exported graph does not run.
    """
    if before.read_bytes() == after.read_bytes():
        return fact
    what = fact.partition(":")[0]

    with backend("the exported graph does not run"):
        was = _scores(before, feeds)
    try:
        with backend(f"{what}: taken back, it does not run"):
            change = float(np.abs(was - _scores(after, feeds)).max())
    except BackendError as error:
        shutil.copyfile(before, after)
        return str(error)
    if not change <= _MAX_CHANGE * max(1.0, float(np.abs(was).max())):
        shutil.copyfile(before, after)
        return f"{what}: taken back, it moved a score by {change:.1g}"
    return f"{fact}; moves no score of {len(was)} pairs by more than {change:.0e}"


def _scores(graph: Path, feeds: Sequence[Mapping[str, NDArray[np.int64]]]) -> NDArray[np.float32]:
    """Return float32[n_pairs, n_labels] of onnxruntime."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4  # what it says on stderr, it raises too
    session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["logits"], dict(feed))[0] for feed in feeds])
