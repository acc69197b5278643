"""Read how long every operator of a graph ran, and how many floating-point operations it did."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Operators whose first input is [..., m, k] and first output [..., m, n].
_PRODUCTS = frozenset(
    (
        "MatMul",
        "FusedMatMul",
        "Gemm",
        "FusedGemm",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul",
        "QLinearMatMul",
    )
)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operator's run; `seconds` is its own time, without that of the operators inside it.

    `flops` counts multiplications and additions of matrix products; 0 for other operators, or where not
    known.
    """

    op: str
    name: str
    seconds: float
    flops: int


def recorded_by_onnxruntime(profile: Path) -> list[Operation]:
    """Read the operators' runs from a profile that onnxruntime wrote.

    The run of an `If`, `Loop` or `Scan` holds those of the graph inside it, which are recorded too.
    Source: https://onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html
    """
    found = []
    spans = []
    for event in json.loads(profile.read_bytes()):
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            arguments, op, flops = event["args"], event["args"]["op_name"], 0
            if op == "MultiHeadAttention":
                # Of projections [n_rows, n_tokens, hidden]: every query with every key, then shares with
                # values.
                query, key = (next(iter(shape.values())) for shape in arguments["input_type_shape"][:2])
                flops = 4 * math.prod(query) * key[1]
            elif op in _PRODUCTS:
                (left,), (out,) = (
                    next(iter(arguments[key])).values() for key in ("input_type_shape", "output_type_shape")
                )
                flops = 2 * math.prod(out) * left[-1]
            found.append(Operation(op, event["name"].removesuffix("_kernel_time"), event["dur"] / 1e6, flops))
            spans.append((event["tid"], event["ts"], event["dur"]))
    own = own_durations(spans)
    return [replace(operation, seconds=us / 1e6) for operation, us in zip(found, own, strict=True)]


def own_durations(spans: Sequence[tuple[int, int, int]]) -> list[int]:
    """Return how long each span was without the spans inside it.

    Args:
        spans: (thread, start, duration) in any order; spans of one thread lie in each other or apart.
    """
    own = [duration for _, _, duration in spans]
    open_spans: list[int] = []
    # The outer one first, also where both start in the same microsecond.
    for i in sorted(range(len(spans)), key=lambda i: (spans[i][0], spans[i][1], -spans[i][2])):
        thread, start, duration = spans[i]
        while open_spans and not _holds(spans[open_spans[-1]], thread, start + duration):
            open_spans.pop()
        if open_spans:
            own[open_spans[-1]] -= duration
        open_spans.append(i)
    return own


def _holds(span: tuple[int, int, int], thread: int, end: int) -> bool:
    return span[0] == thread and end <= span[1] + span[2]
