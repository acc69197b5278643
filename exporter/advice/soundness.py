"""Tips on the checks that no recipe can switch off: what each failure means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.advice.accuracy import static_tip
from exporter.advice.tip import Case, Row, Tip

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.gate import Check

# What each of these checks means where it fails.
MEANS = {
    "nonfinite_scores": (
        "some scores are NaN or infinite and PyTorch's are not: a value left the range of the precision "
        "(16-bit floats end at 65,504); take a kind whose products are fp32 (onnx, openvino) or int8"
    ),
    "max_int16_sum": (
        "weights of 8 bits can saturate 16-bit sums on this CPU, silently: build for it with 7 bits"
    ),
    "repeat_diff": (
        "two processes scored the same pairs differently, which no engine here does on sound memory: measure "
        "again, and if it stays report it with the CPU's name"
    ),
    "promised_weight_share": (
        "most weights are not in the precision that the kind promises: shorten keep_fp32, or take an fp32 "
        "kind"
    ),
    "lower_precision_share": "an fp32 kind holds weights of lower precision: build it again from the model",
}
BATCHES = ("max_batch_delta", "batch_relative_rms")


def meaning(case: Case, row: Row, check: Check) -> Iterator[Tip]:
    """Yield what a failed check means, and what mends it."""
    yaml = "isa: avx2" if check.name == "max_int16_sum" else ""
    measure_again = case.commands.of("verify")
    command = measure_again if check.name == "repeat_diff" else case.commands.rebuild
    yield Tip(row.kind, f"{check.name}: {MEANS[check.name]}", yaml, command)


def batch_tips(case: Case, row: Row, check: Check) -> Iterator[Tip]:
    """Yield what ends that a score depends on the batch."""
    traits = row.fidelity.traits
    if traits.weights == "int8" and not traits.calibrated:
        text = (
            f"{check.name}: ranges are taken from each batch, so a pair's score moves with its neighbours; "
            "fixed ranges end that"
        )
        other = case.row("onnx-int8-static")
        if other is None:
            yield static_tip(case, row, f"{text}: try onnx-int8-static")
        elif other.verdict == "pass":
            yield Tip(row.kind, f"{text}: deploy onnx-int8-static, which passed in this run")
        return
    text = (
        f"{check.name}: a pair's score changes with its batch by more than the order of sums explains: "
        "padding is counted as text; build again, and if it stays report it"
    )
    yield Tip(row.kind, text, "", case.commands.rebuild)
