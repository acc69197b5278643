"""The report: every measurement of an artifact with the checks it was held against, as data, JSON and Markdown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from exporter.artifact import REPORT, REPORT_MD, Manifest, read_sealed, write_sealed
from exporter.errors import BackendError, IntegrityError, RecipeError
from exporter.machine import Machine
from exporter.verify.gate import Check, Outcome, judge, outcome
from exporter.verify.parity import Parity, Quality
from exporter.verify.throughput import Arithmetic, Latency, Ratio, Throughput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from exporter.recipe import Bars

# 1: first version. 2: arithmetic against the machine's peak.
REPORT_SCHEMA = 2


@dataclass(frozen=True, slots=True)
class PairSetInfo:
    """Which pairs were scored."""

    name: str
    digest: str
    n_pairs: int
    n_queries: int
    labelled: bool


@dataclass(frozen=True, slots=True)
class ReferenceReport:
    """The PyTorch reference: as it comes, at its own best plan, and its latency there."""

    source: str
    revision: str | None
    device: str
    weights_bytes: int
    default: Throughput
    tuned: Throughput
    latency: tuple[Latency, ...]


@dataclass(frozen=True, slots=True)
class VariantReport:
    """One candidate: measurements, checks, verdict. Speed-ups are over the reference's `tuned` and `default`.

    `batch_diff` is the largest |difference|, in logits, between a pair's score alone and among others.
    """

    kind: str
    isa: str | None
    size_bytes: int
    size_ratio: float
    facts: tuple[str, ...]
    parity: Parity
    batch_diff: float
    quality: Quality | None
    throughput: Throughput
    arithmetic: Arithmetic
    speedup_tuned: Ratio
    speedup_default: Ratio
    latency: tuple[Latency, ...]
    checks: tuple[Check, ...]
    verdict: Outcome

    @property
    def outcome(self) -> Outcome:
        """The verdict, under the name `gate.outcome` reduces."""
        return self.verdict


@dataclass(frozen=True, slots=True)
class Report:
    """All measurements of one artifact on one machine. A verdict holds for that machine's instruction set only."""

    schema: int
    name: str
    manifest_root: str
    recipe_digest: str
    started_at: str  # ISO 8601, UTC
    machine: Machine
    pairs: PairSetInfo
    reference: ReferenceReport
    variants: tuple[VariantReport, ...]
    verdict: Outcome


def rejudge(report: Report, bars: Mapping[str, Bars]) -> Report:
    """Hold a report's measurements against bars again; a kind without bars of its own keeps its old checks.

    Raises:
        RecipeError: none of the bars is for a variant of the report.
    """
    if not set(bars) & {row.kind for row in report.variants}:
        raise RecipeError(f"bars for {', '.join(bars)}, but the report is of {', '.join(r.kind for r in report.variants)}")
    rows = []
    for row in report.variants:
        if row.kind in bars:
            checks = judge(bars[row.kind], row.parity, row.quality, row.speedup_tuned, row.size_ratio)
            row = replace(row, checks=checks, verdict=outcome(checks))  # noqa: PLW2901 - the row judged anew
        rows.append(row)
    return replace(report, variants=tuple(rows), verdict=outcome(rows))


def write_report(report: Report, folder: Path) -> None:
    """Write report.json, sealed, and report.md into an artifact.

    Raises:
        BackendError: the disk refuses.
    """
    write_sealed(folder / REPORT, TypeAdapter(Report).dump_python(report, mode="json"))
    try:
        (folder / REPORT_MD).write_text(markdown(report), encoding="utf-8")
    except OSError as error:
        raise BackendError(f"{folder / REPORT_MD}: cannot be written: {error.strerror}") from error


def read_report(folder: Path, manifest: Manifest) -> Report:
    """Read an artifact's report and check that it is about these files.

    Raises:
        RecipeError: there is none yet.
        IntegrityError: it was changed, is of another schema, or of other files than the manifest's.
    """
    if not (folder / REPORT).is_file():
        raise RecipeError(f"{folder} was not verified yet, it has no {REPORT}; run `exporter verify {folder}`")
    content = read_sealed(folder / REPORT)
    if content.get("schema") != REPORT_SCHEMA:
        raise IntegrityError(f"{folder / REPORT}: schema {content.get('schema')}, this exporter reads {REPORT_SCHEMA}")
    try:
        report = TypeAdapter(Report).validate_python(content)
    except ValidationError as error:
        raise IntegrityError(f"{folder / REPORT}: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from None
    if report.manifest_root != manifest.root:
        raise IntegrityError(
            f"{folder / REPORT} is about other files (root {report.manifest_root[:12]}, the manifest's is "
            f"{manifest.root[:12]}); run `exporter verify {folder}`"
        )
    return report


def to_json(report: Report) -> bytes:
    """Give the report as JSON, for machines."""
    return TypeAdapter(Report).dump_json(report, indent=1)


# The columns of the table people read: title, and how a variant fills it.
def table(report: Report) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Give the summary as titles and rows of text: both reference rows, then each variant."""
    titles = ("variant", "MB", "nDCG kept", "tau-b", "max diff", "pairs/s", "x default", "x tuned", "verdict")
    reference = report.reference
    mb = f"{reference.weights_bytes / 1e6:.1f}"
    rows: list[tuple[str, ...]] = []
    for side, versus in (
        (reference.default, ("1.00", f"{reference.default.pairs_per_s / reference.tuned.pairs_per_s:.2f}")),
        (reference.tuned, (f"{reference.tuned.pairs_per_s / reference.default.pairs_per_s:.2f}", "1.00")),
    ):
        rows.append((side.side, mb, "", "", "", f"{side.pairs_per_s:.1f}", *versus, ""))
    for row in report.variants:
        kept = f"{row.quality.ndcg_retained:.1%}" if row.quality else "no labels"
        rows.append(
            (
                row.kind,
                f"{row.size_bytes / 1e6:.1f}",
                kept,
                f"{row.parity.kendall_tau:.4f}",
                f"{row.parity.max_abs_diff:.2g}",
                f"{row.throughput.pairs_per_s:.1f}",
                f"{row.speedup_default.value:.2f}",
                f"{row.speedup_tuned.value:.2f}",
                row.verdict.upper(),
            )
        )
    return titles, rows


def markdown(report: Report) -> str:
    """Write the report for a pull request: verdict, table, checks, machine."""
    machine, reference, pairs = report.machine, report.reference, report.pairs
    titles, rows = table(report)
    lines = [
        f"# {report.name}: {report.verdict}",
        "",
        f"Measured {report.started_at} on {machine.cpu}, {machine.isa}, {machine.n_cores} cores. The verdict holds for this "
        "instruction set only.",
        f"{pairs.n_pairs} pairs of {pairs.n_queries} queries ({pairs.name}, sha256 {pairs.digest[:12]}). "
        f"Reference: {reference.source}{f' at {reference.revision}' if reference.revision else ''}, PyTorch float32 on "
        f"{reference.device}.",
        "",
        *md_table(titles, rows),
        "",
        "nDCG kept: nDCG@10 over the reference's. max diff: in logits. x default, x tuned: times the pairs per second of "
        "`CrossEncoder.predict` as it comes, and at its own best plan.",
        "",
        "## Checks",
        "",
        *md_table(
            ("variant", "check", "observed", "bar", "outcome"),
            [
                (
                    row.kind,
                    check.name,
                    f"{check.observed:.4g}",
                    check.bar,
                    f"{check.outcome}{f': {check.why}' if check.why else ''}",
                )
                for row in report.variants
                for check in row.checks
            ],
        ),
        "",
        "## Intervals (95 %)",
        "",
        *md_table(
            ("variant", "nDCG@10 retained", "speed-up over tuned", "over default", "rounds", "spread"),
            [
                (
                    row.kind,
                    f"{row.quality.ndcg_retained_low:.4f} to {row.quality.ndcg_retained_high:.4f}"
                    if row.quality
                    else "no labels",
                    f"{row.speedup_tuned.low:.2f} to {row.speedup_tuned.high:.2f}",
                    f"{row.speedup_default.low:.2f} to {row.speedup_default.high:.2f}",
                    str(row.speedup_tuned.n_rounds),
                    f"{row.speedup_tuned.spread:.1%}",
                )
                for row in report.variants
            ],
        ),
        "",
        "## Speed and memory",
        "",
        *md_table(
            ("side", "plan", "pairs/s", "tokens/s", "spread", "CPU", "others", "tokenizing", "load s", "peak RSS MB"),
            [
                (
                    side.side,
                    side.plan,
                    f"{side.pairs_per_s:.1f}",
                    f"{side.tokens_per_s:.0f}",
                    f"{side.spread:.1%}",
                    f"{side.cpu_share:.0%}",
                    f"{side.crowding:.1%}",
                    f"{side.tokenize_share:.1%}",
                    f"{side.load_s:.2f}",
                    f"{side.peak_rss_bytes / 1e6:.0f}",
                )
                for side in (reference.default, reference.tuned, *(row.throughput for row in report.variants))
            ],
        ),
        "",
        *md_table(
            ("side", "candidates", "p50 ms", "p95 ms", "p99 ms", "calls"),
            [
                (x.side, str(x.n_documents), f"{x.p50_ms:.0f}", f"{x.p95_ms:.0f}", f"{x.p99_ms:.0f}", str(x.n_calls))
                for x in (*reference.latency, *(x for row in report.variants for x in row.latency))
            ],
        ),
        "",
        "Matrix products, padding not counted, against onnxruntime's own rate on large ones, all cores, in the same run:",
        "",
        *md_table(
            ("variant", "GFLOP/s", "peak GFLOP/s", "of", "share"),
            [
                (
                    row.kind,
                    f"{row.arithmetic.flops_per_s / 1e9:.0f}",
                    f"{row.arithmetic.peak_flops_per_s / 1e9:.0f}",
                    row.arithmetic.peak_dtype,
                    f"{row.arithmetic.peak_share:.0%}",
                )
                for row in report.variants
            ],
        ),
        "",
        "## Parity",
        "",
        *md_table(
            (
                "variant",
                "mean / p99 / max |diff|",
                "alone or batched",
                "Pearson",
                "tau-b",
                "worst query",
                "top-1",
                "top-10",
                "nDCG@10 ref → cand",
                "MRR@10",
            ),
            [
                (
                    row.kind,
                    f"{row.parity.mean_abs_diff:.3g} / {row.parity.p99_abs_diff:.3g} / {row.parity.max_abs_diff:.3g}",
                    f"{row.batch_diff:.2g}",
                    f"{row.parity.pearson:.5f}",
                    f"{row.parity.kendall_tau:.4f}",
                    f"{row.parity.worst_query}: {row.parity.worst_query_tau:.3f}",
                    f"{row.parity.top1_agreement:.4f}",
                    f"{row.parity.top10_overlap:.4f}",
                    f"{row.quality.reference_ndcg:.4f} → {row.quality.candidate_ndcg:.4f}" if row.quality else "no labels",
                    f"{row.quality.reference_mrr:.4f} → {row.quality.candidate_mrr:.4f}" if row.quality else "no labels",
                )
                for row in report.variants
            ],
        ),
        "",
        "Differences are in logits. Alone or batched: the largest between a pair scored alone and among others.",
        "",
        "## Builds",
        "",
        *(f"- {row.kind}: {'; '.join(row.facts)}" for row in report.variants),
        "",
        f"Manifest root {report.manifest_root}. Packages: {', '.join(f'{n} {v}' for n, v in machine.packages)}.",
        "",
    ]
    return "\n".join(lines)


def md_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Give the lines of a Markdown table; bars and line breaks in cells are made harmless."""

    def plain(cell: str) -> str:
        return cell.replace("|", "\\|").replace("\n", " ")

    return [f"| {' | '.join(map(plain, cells))} |" for cells in (titles, ("---",) * len(titles), *rows)]
