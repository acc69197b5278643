"""The report as text: the summary table, and Markdown for a pull request. Words what `report.py` holds.

A pull request's page is read by many and is no place for what strangers wrote: see `exporter.escape`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from exporter.escape import markdown as escaped
from exporter.gate import outcome
from exporter.report.machines import WHICH_FILE, not_passed, which_file
from exporter.report.sections import sections
from exporter.report.table import Table, md_table
from exporter.report.words import (
    LEGEND,
    TERMS,
    left_out,
    milliseconds,
    reference_lines,
    speedup_in_short,
    speedup_judged,
    speedup_text,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exporter.report.compare import Comparison
    from exporter.report.report import Report


def table(report: Report) -> Table:
    """Return the summary: the reference's rows, each variant, then those that were not judged.

    Where PyTorch was measured in bfloat16 too, that is a row and a column.
    """
    reference = report.reference
    versus = ("vs default", "vs tuned", *(("vs bf16",) if reference.bfloat16 else ()))
    titles = ("variant", "MB", "nDCG kept", "tau-b", "max diff", "pairs/s", *versus, "verdict")
    mb = f"{reference.weights_bytes / 1e6:.1f}"
    rows: list[tuple[str, ...]] = []
    sides = [side for side in (reference.default, reference.tuned, reference.bfloat16) if side]
    for side in sides:
        ratios = (f"{side.pairs_per_s / other.pairs_per_s:.2f}" for other in sides)
        half = reference.bf16_difference if side is reference.bfloat16 else None
        diff = f"{half.max_abs_diff:.2g}" if half else ""
        rows.append((side.side, mb, "", "", diff, f"{side.pairs_per_s:.1f}", *ratios, ""))
    for row in report.variants:
        found = row.fidelity
        kept = f"{found.quality.ndcg_retained.value:.1%}" if found.quality else "no labels"
        rows.append(
            (
                row.kind,
                f"{found.size_bytes / 1e6:.1f}",
                kept,
                f"{found.parity.kendall_tau.value:.4f}",
                f"{found.parity.max_abs_diff:.2g}",
                f"{row.throughput.pairs_per_s:.1f}",
                speedup_text(row.speedup_default),
                speedup_text(row.speedup_tuned),
                *((speedup_text(row.speedup_bf16),) if row.speedup_bf16 else ()),
                row.verdict.upper(),
            )
        )

    blank = ("",) * (len(titles) - 2)
    rows += [(row.kind, *blank, "NOT JUDGED") for row in report.not_judged]
    return Table(titles, rows)


def short_table(report: Report) -> Table:
    """Return the summary in 80 columns: what a variant keeps, its speed, and over what speed is judged."""
    reference = report.reference
    over_bf16 = reference.judged_over == "bfloat16"
    judged = reference.bfloat16 if over_bf16 and reference.bfloat16 else reference.tuned
    rows: list[tuple[str, ...]] = []
    for side in (reference.default, reference.tuned, reference.bfloat16):
        if side:
            mb, ratio = f"{reference.weights_bytes / 1e6:.1f}", side.pairs_per_s / judged.pairs_per_s
            rows.append((side.side, mb, "", "", f"{side.pairs_per_s:.1f}", f"{ratio:.2f}", ""))
    for row in report.variants:
        found = row.fidelity
        rows.append(
            (
                row.kind,
                f"{found.size_bytes / 1e6:.1f}",
                f"{found.quality.ndcg_retained.value:.1%}" if found.quality else "no labels",
                f"{found.parity.kendall_tau.value:.4f}",
                f"{row.throughput.pairs_per_s:.1f}",
                speedup_in_short(speedup_judged(report, row)),
                row.verdict.upper(),
            )
        )
    rows += [(row.kind, "", "", "", "", "", "NOT JUDGED") for row in report.not_judged]
    versus = "vs bf16" if over_bf16 else "vs tuned"
    return Table(("variant", "MB", "nDCG kept", "tau-b", "pairs/s", versus, "verdict"), rows)


def memory_table(report: Report) -> Table:
    """Return what each side takes: its most memory, its start, and latencies by candidates of one query."""
    reference = report.reference
    sides = [(side, ()) for side in (reference.default, reference.bfloat16) if side]
    measured = [*sides, (reference.tuned, reference.latency)]
    measured += [(row.throughput, row.latency) for row in report.variants]
    counts = sorted({one.n_documents for _, latency in measured for one in latency})
    rows = []
    for side, latency in measured:
        of = {one.n_documents: one for one in latency}
        cells = [
            milliseconds(of[n].at(percentile)) if n in of else "" for n in counts for percentile in (50, 95)
        ]
        rows.append((side.side, f"{side.peak_rss_bytes / 1e6:.0f}", f"{side.load_s:.2f}", *cells))
    titles = [f"p{percentile} ms of {n}" for n in counts for percentile in (50, 95)]
    return Table(("side", "peak RSS MB", "load s", *titles), rows)


def findings(comparison: Comparison) -> str:
    """Return a comparison of two reports for a pull request: what came of it, and every finding."""
    rows = []
    for row in comparison.findings:
        old, new = ("" if value is None else f"{value:.4g}" for value in (row.old, row.new))
        rows.append((row.kind, row.what, old, new, row.change, row.explained))
    titles = ("variant", "what", "old", "new", "change", "detail")
    said = f"{comparison.outcome}: {comparison.why}" if comparison.why else comparison.outcome
    return "\n".join([f"## Compared: {escaped(said)}", "", *md_table(titles, rows), ""])


def markdown(
    report: Report, others: Sequence[Report] = (), loaded: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Return the reports for a pull request: verdict, table, checks, and every number behind them.

    Args:
        report: the newest, whose numbers are all shown.
        others: those of other machines: their figures, and their checks that did not pass.
        loaded: which variant is loaded where, see `exporter.report.machines.chosen`.
    """
    machine, reference, pairs = report.machine, report.reference, report.pairs
    revision = f" at {reference.revision}" if reference.revision else ""
    lines = [
        f"# {escaped(report.name)}: {outcome((report, *others))}",
        "",
        escaped(
            f"Measured {report.started_at} on {machine}. Its verdict, {report.verdict}, holds for this "
            "instruction set only."
        ),
        escaped(
            f"{pairs.n_pairs} pairs of {pairs.n_queries} queries ({pairs.name}, sha256 {pairs.digest[:12]}). "
            f"Reference: {reference.source}{revision}, PyTorch float32 on {reference.device}."
        ),
        *map(escaped, left_out(report)),
        *(f"\n**Note on the reference**: {escaped(f'{note}.')}" for note in reference.notes),
        "",
        *md_table(*table(report)),
        "",
        " ".join((LEGEND, *reference_lines(report))),
        "",
        f"## {WHICH_FILE}",
        "",
        *md_table(*which_file((report, *others), loaded)),
        *(f"\n{escaped(line)}" for line in not_passed(others)),
    ]
    for title, parts in sections(report):
        lines += ["", f"## {title}"]
        for part in parts:
            lines += ["", *(md_table(*part) if isinstance(part, Table) else [escaped(part)])]

    packages = ", ".join(f"{name} {version}" for name, version in machine.packages)
    lines += ["", escaped(f"Manifest root {report.manifest_root}. Packages: {packages}."), "", TERMS, ""]
    return "\n".join(lines)
