"""Count the floating-point operations a graph does for a pair; utilisation is reckoned from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from exporter.artifact.manifest import FlopCount
from exporter.backend import backend
from exporter.runtime.operators import recorded_by_onnxruntime
from exporter.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Sequence


# A transformer's arithmetic is quadratic in the tokens; three lengths give its three coefficients.
_LENGTHS = (8, 16, 24)


def count_flops(graph: Path, inputs: Sequence[str]) -> FlopCount:
    """Run one pair of three lengths and count the multiplications and additions of all matrix products.

    Args:
        graph: the .onnx file all variants are made from.
        inputs: its input names.

    Raises:
        BackendError: it does not run.
    """
    with backend(f"the graph does not run at {', '.join(map(str, _LENGTHS))} tokens"):
        counts = [_flops(graph, inputs, n_tokens) for n_tokens in _LENGTHS]
    per_pair, per_token, per_token_squared = np.linalg.solve(np.vander(_LENGTHS, 3, increasing=True), counts)
    return FlopCount(round(per_pair), round(per_token), round(per_token_squared))


def _flops(graph: Path, inputs: Sequence[str], n_tokens: int) -> int:
    import onnxruntime as ort

    options = ort.SessionOptions()
    # A fused operator would hide its products.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4  # what it says on stderr, it raises too
    options.enable_profiling = True
    with Scratch("profile") as folder:
        options.profile_file_prefix = f"{folder}/ort"
        session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        ones = np.ones((1, n_tokens), np.int64)
        session.run(
            None, {name: np.zeros_like(ones) if name == "token_type_ids" else ones for name in inputs}
        )
        return sum(operation.flops for operation in recorded_by_onnxruntime(Path(session.end_profiling())))
