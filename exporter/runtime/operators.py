"""Read how long every operator of a graph ran, and how many floating-point operations it did."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    """One operator's run.

    `flops` counts multiplications and additions of matrix products; 0 for other operators, or where not
    known.
    """

    op: str
    name: str
    seconds: float
    flops: int


def recorded_by_onnxruntime(profile: Path) -> list[Operation]:
    """Read the operators' runs from a profile that onnxruntime wrote.

    Source: https://onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html
    """
    found = []
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
    return found
