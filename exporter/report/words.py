"""What reports say of single values: a check, a speed-up, what was left out, what was not judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.gate import noise_problems

if TYPE_CHECKING:
    from exporter.gate import Check
    from exporter.measure.speed import Ratio
    from exporter.report.report import Report, VariantReport


TERMS = "Terms: docs/glossary.md"


def left_out(report: Report) -> list[str]:
    """Return a line that names what was left out of a published report, if anything was."""
    return [f"Not published: {', '.join(report.left_out)}."] if report.left_out else []


LEGEND = (
    "nDCG kept: nDCG@10 over the reference's. max diff: in logits. vs default, vs tuned: times the pairs per "
    "second of CrossEncoder.predict with default arguments, and at its own best plan. "
    "(invalid): the machine was too restless meanwhile to believe it."
)


def reference_lines(report: Report) -> list[str]:
    """Return what there is to say of PyTorch in bfloat16, and of what speed bars are held against."""
    reference, lines = report.reference, []
    if half := reference.bf16_difference:
        lines.append(
            "torch bfloat16: the same model in that type at its own best plan, up to "
            f"{half.max_abs_diff:.2g} logits off float32 on {half.n_pairs} pairs; parity is held against "
            "float32 only."
        )
    if reference.speed_over == "best" and reference.bfloat16:
        lines.append(f"min_speedup is over the faster of float32 and bfloat16, here {reference.judged_over}.")
    elif reference.speed_over == "best":
        why = "torch fails in it" if report.machine.has_bf16 else "this CPU has no units for it"
        lines.append(f"min_speedup is over float32: bfloat16 was not measured, {why}.")
    return lines


def speedup_judged(report: Report, row: VariantReport) -> Ratio:
    """Return the speed-up that speed bars are held against: over the tuned PyTorch that the recipe wants."""
    over_bf16 = report.reference.judged_over == "bfloat16"
    return row.speedup_bf16 if over_bf16 and row.speedup_bf16 else row.speedup_tuned


# Behind a speed-up, in short.
DOUBT = "?"


def speedup_in_short(ratio: Ratio) -> str:
    """Return a speed-up, with a mark where the machine was too restless to believe it."""
    return f"{ratio.value:.2f}{DOUBT if noise_problems(ratio) else ''}"


def milliseconds(value: float | None) -> str:
    """Return a percentile of latencies; a dash where too few calls were made to tell it."""
    return "–" if value is None else f"{value:.0f}"


def speedup_text(ratio: Ratio) -> str:
    """Return a speed-up, marked where the machine was too restless to believe it."""
    return f"{ratio.value:.2f}{' (invalid)' if noise_problems(ratio) else ''}"


def observed(check: Check) -> str:
    """Return what a check observed, with the interval that was held against its bar; empty if not judged."""
    if check.outcome == "not judged":
        return ""
    interval = "" if check.low is None else f" ({check.low:.4g} to {check.high:.4g})"
    return f"{check.observed:.4g}{interval}"


def reason(check: Check) -> str:
    """Return why a check came out as it did, and what its measurement rests on."""
    return "; ".join(part for part in (check.why, check.note) if part)


def not_judged(report: Report) -> list[str]:
    """Return a line for each variant that was not judged, with the reason."""
    return [f"{row.kind}: not judged, {row.why}" for row in report.not_judged]
