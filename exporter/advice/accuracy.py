"""Tips where a variant is too far from PyTorch."""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING, get_args

from exporter.advice.evidence import SAMPLED, supported
from exporter.advice.tip import Case, Row, Tip, bars_line
from exporter.artifact.cpus import fits, runs_on, saturates
from exporter.artifact.names import kind_of
from exporter.machine import Isa
from exporter.recipe.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.export.product_error import ProductError
    from exporter.gate import Check
    from exporter.machine import Machine

ACCURACY = (
    *SAMPLED,
    "max_abs_diff",
    "relative_rms",
    "worst_query_relative_rms",
    "worst_length_relative_rms",
)
# A product stands out that loses so many times what the middle one does. Of the sample's 34 the worst loses
# 3.3 times as much (dynamic ranges, 7-bit weights), and the sample ranks well.
STANDS_OUT = 4.0
_STATIC = "onnx-int8-static"


def accuracy_tips(case: Case, row: Row, failed: Sequence[Check]) -> Iterator[Tip]:
    """Yield what keeps more of PyTorch's scores, and, last, which bars these support."""
    yield from _passed(case, row)
    traits = row.fidelity.traits
    if traits.weights == "int8":
        if traits.engine == "onnxruntime":
            yield from _products(case, row)
        yield from _static(case, row)
        yield from _wider_weights(case, row)
        yield from _other_kinds(case, row, ("openvino-int8", "openvino-bf16", "onnx"))
    elif traits.weights == "fp32" and traits.activations == "fp32":
        text = (
            f"{row.kind} only adds up in another order, which moves a score by less than 0.001: scores this "
            f"far off come of a wrong graph; build again, and if it stays report it with "
            f"{case.commands.artifact}/report.json"
        )
        yield Tip(row.kind, text, "", case.commands.rebuild)
    else:
        yield from _other_kinds(case, row, ("openvino", "onnx"))
    for check in failed:
        if check.name in SAMPLED:
            yield from supported(case, row, check)


def standing_out(products: Sequence[ProductError]) -> tuple[ProductError, ...]:
    """Return the products that lose far more than the others, a quarter of them at most."""
    if not products:
        return ()
    middle = statistics.median(product.error for product in products)
    found = [product for product in products if product.error > STANDS_OUT * middle]
    return tuple(found[: max(2, len(products) // 4)])


def own_isa(machine: Machine) -> str | None:
    """Return a recipe's `isa` of 8-bit weights for a machine; None where int8 sums have 16 bits there."""
    if saturates(machine.isa):
        return None
    known: tuple[str, ...] = get_args(Isa)
    exact = (machine.isa,) if machine.isa in known else known
    return next(isa for isa in exact if not saturates(isa) and fits(isa, machine.isa))


def _passed(case: Case, row: Row) -> Iterator[Tip]:
    """Yield the variants of the same weights that passed in the same run, the fastest first."""
    others = [
        other
        for other in case.report.variants
        if other.verdict == "pass" and other.fidelity.traits.weights == row.fidelity.traits.weights
    ]
    for other in sorted(others, key=lambda one: -one.throughput.pairs_per_s):
        tau = other.fidelity.parity.kendall_tau.value
        yield Tip(row.kind, f"deploy {other.kind}, which passed in this run (tau-b {tau:.4f})")


def _products(case: Case, row: Row) -> Iterator[Tip]:
    products = case.products.get(row.kind, ())
    if not products:
        text = "measure which products lose most, for a keep_fp32 line to paste"
        yield Tip(row.kind, text, "", case.commands.of("advise"))
        return
    found = standing_out(products)
    middle = statistics.median(product.error for product in products)
    if not found:
        yield Tip(
            row.kind,
            f"no product stands out (the worst loses {products[0].error:.1%} of its output, the middle one "
            f"{middle:.1%}), so keeping some in fp32 would help little",
        )
        return
    variant = case.variant(row)
    names = [*getattr(variant, "keep_fp32", ()), *(_pattern(product.name) for product in found)]
    lost = " and ".join(f"{error:.1%}" for error in dict.fromkeys((found[0].error, found[-1].error)))
    share = sum(product.share for product in found)
    where = "activations" if found[0].of_activations > found[0].of_weights else "weights"
    text = (
        f"keep {len(found)} of {len(products)} products in fp32, {share:.0%} of the int8 weights: they lose "
        f"{lost} of their output, mostly by their {where}, the middle one {middle:.1%}"
    )
    yield Tip(row.kind, text, f"keep_fp32: {json.dumps(names, ensure_ascii=False)}", case.commands.rebuild)


def _pattern(name: str) -> str:
    """Return a shell pattern that matches a name and no other."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)


def _static(case: Case, row: Row) -> Iterator[Tip]:
    if kind_of(row.kind) == _STATIC or case.row(_STATIC):
        return
    text = f"try {_STATIC}: ranges measured on calibration pairs keep more, at the same speed"
    yield static_tip(case, row, text)


def static_tip(case: Case, row: Row, text: str) -> Tip:
    """Return the tip to add `onnx-int8-static`, for the reason that `text` gives."""
    return _variant_tip(case, row, _STATIC, text)


def _wider_weights(case: Case, row: Row) -> Iterator[Tip]:
    wide, isa = own_isa(case.report.machine), row.fidelity.isa
    if wide is None or isa is None or not saturates(isa) or kind_of(row.kind) != row.kind:
        return
    text = (
        f"set isa: {wide} in the variant: weights of 8 bits instead of 7 keep more, on CPUs like this one "
        f"only (this file is for {isa}, right on every CPU)"
    )
    yield Tip(row.kind, text, f"isa: {wide}", case.commands.rebuild)


def _other_kinds(case: Case, row: Row, kinds: Sequence[str]) -> Iterator[Tip]:
    """Yield the kinds that the report has not, and that this machine runs."""
    machine = case.report.machine
    said = {
        "openvino-int8": "try openvino-int8, quantized by NNCF with calibration pairs",
        "openvino-bf16": "try openvino-bf16: this CPU multiplies bfloat16, which keeps far more than int8",
        "openvino": "try openvino, fp32: nothing is rounded",
        "onnx": "onnx, fp32, keeps every score, at four times int8's size",
    }
    for kind in kinds:
        unwanted = kind == "openvino-int8" and saturates(machine.isa)  # slower than fp32 there
        if case.row(kind) is None and runs_on(KINDS[kind].traits, machine) and not unwanted:
            yield _variant_tip(case, row, kind, said[kind])


def _variant_tip(case: Case, row: Row, kind: str, text: str) -> Tip:
    """Return the tip to try another kind under the same bars, with the lines for the recipe."""
    traits = KINDS[kind].traits
    isa = row.fidelity.isa
    lines = [f"  - kind: {kind}"]
    if isa is not None and traits.weights == "int8":
        lines.append(f"    isa: {isa}")
    bars = case.bars(row)
    # A size that int8 was to have, no other weights can have.
    changes = {} if traits.weights == "int8" else {"max_size_ratio": None}
    lines.append(f"    {bars_line(bars, **changes)}" if bars else "    bars: {min_kendall_tau: 0.95}")
    calibrated = case.recipe is not None and case.recipe.pairs.calibrate is not None
    if traits.calibrated and not calibrated:
        text += ", with some hundred pairs (none of pairs.verify's, no labels) as FILE"
        lines = ["pairs:", "  calibrate: FILE", "variants:", *lines]
    return Tip(row.kind, text, "\n".join(lines), case.commands.rebuild)
