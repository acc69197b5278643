"""The tables and paragraphs of a report below its summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from exporter.gate import noise_problems
from exporter.report.table import Table
from exporter.report.words import milliseconds, not_judged, observed, reason

if TYPE_CHECKING:
    from exporter.measure.estimate import Estimate
    from exporter.measure.parity import Parity
    from exporter.report.report import Report, VariantReport


Part: TypeAlias = Table | str
WORST = "Worst query, worst pairs"


def sections(report: Report) -> list[tuple[str, list[Part]]]:
    """Return everything below the summary: titles, and under each its tables and paragraphs."""
    return [
        ("Checks", [checks(report), *not_judged(report)]),
        ("Intervals (95 %)", [_intervals(report)]),
        ("Speed and memory", [_speeds(report), _latencies(report), _ARITHMETIC, _utilizations(report)]),
        ("Parity", [_parity(report), _PARITY, _lengths(report), _BUCKETS, *_engine_defaults(report)]),
        ("Files", [_files(report), *_sums(report)]),
        *_worst(report),
        (
            "Builds",
            [
                Table(
                    ("variant", "what was done"),
                    [(row.kind, "; ".join(row.facts)) for row in report.variants],
                )
            ],
        ),
    ]


_ARITHMETIC = (
    "Matrix products, padding not counted, against onnxruntime's own rate on large ones, all cores, in the "
    "same run:"
)


_PARITY = (
    "Differences are in logits. rel. RMS: root mean square of the differences over the standard deviation of "
    "the reference's scores, of all pairs and of the query that has the largest. batch invariance: a pair "
    "scored alone, by one worker with all threads, against the same pair in three batch compositions under "
    "the plan that ships; inversions: passage pairs ranked strictly when scored alone, reversed or tied when "
    "batched. rerun diff: between two processes under one plan."
)


_BUCKETS = "Speed by length is of one process, a few pairs each, so it has no interval."


def checks(report: Report) -> Table:
    """Return the table of all checks."""
    return Table(
        ("variant", "check", "observed", "bar", "outcome"),
        [
            (
                row.kind,
                check.name,
                observed(check),
                check.bar,
                f"{check.outcome}{f': {reason(check)}' if reason(check) else ''}",
            )
            for row in report.variants
            for check in row.checks
        ],
    )


def tier(row: VariantReport) -> str:
    """Return the tier, as MLPerf has it: the share of nDCG that the interval's lower bound shows to be kept.

    Source: https://github.com/mlcommons/inference_policies/blob/master/inference_rules.adoc
    (99 % and 99.9 % of fp32)
    """
    low = row.fidelity.quality.ndcg_retained.low if row.fidelity.quality else 0.0
    return next((f"{tier:.1%}" for tier in (0.999, 0.99) if low >= tier), "none")


def _intervals(report: Report) -> Table:
    return Table(
        (
            "variant",
            "nDCG@10 retained",
            "tier",
            "tau-b",
            "top-1",
            "top-10",
            "queries that can tell",
            "speed-up over tuned",
            "over default",
            *(("over bf16",) if report.reference.bfloat16 else ()),
            "rounds",
            "spread",
            "drift",
            "clock",
        ),
        [
            (
                row.kind,
                _interval(quality.ndcg_retained) if (quality := row.fidelity.quality) else "no labels",
                tier(row),
                _interval(row.fidelity.parity.kendall_tau),
                _interval(row.fidelity.parity.top1_agreement),
                _interval(row.fidelity.parity.top10_overlap),
                f"{quality.n_queries if quality else 0} by labels, {row.fidelity.parity.n_queries} by order",
                f"{row.speedup_tuned.low:.2f} to {row.speedup_tuned.high:.2f}{_doubt(row)}",
                f"{row.speedup_default.low:.2f} to {row.speedup_default.high:.2f}",
                *(
                    (f"{row.speedup_bf16.low:.2f} to {row.speedup_bf16.high:.2f}",)
                    if row.speedup_bf16
                    else ()
                ),
                str(row.speedup_tuned.n_rounds),
                f"{row.speedup_tuned.spread:.1%}",
                f"{row.speedup_tuned.drift:+.1%}",
                f"{row.speedup_tuned.clock:.1%}",
            )
            for row in report.variants
        ],
    )


def _doubt(row: VariantReport) -> str:
    return " (invalid)" if noise_problems(row.speedup_tuned) else ""


def _interval(found: Estimate | None) -> str:
    return f"{found.low:.4f} to {found.high:.4f}" if found else "no query can tell"


def _speeds(report: Report) -> Table:
    reference = report.reference
    return Table(
        (
            "side",
            "plan",
            "pairs/s",
            "tokens/s",
            "spread",
            "CPU",
            "contention",
            "steal",
            "tokenizing",
            "load s",
            "peak RSS MB",
        ),
        [
            (
                side.side,
                side.plan,
                f"{side.pairs_per_s:.1f}",
                f"{side.tokens_per_s:.0f}",
                f"{side.spread:.1%}",
                f"{side.cpu_share:.0%}",
                f"{side.cpu_contention:.1%}",
                f"{side.steal:.1%}",
                f"{side.tokenize_share:.1%}",
                f"{side.load_s:.2f}",
                f"{side.peak_rss_bytes / 1e6:.0f}",
            )
            for side in (
                *(side for side in (reference.default, reference.tuned, reference.bfloat16) if side),
                *(row.throughput for row in report.variants),
            )
        ],
    )


def _latencies(report: Report) -> Table:
    return Table(
        ("side", "candidates", "p50 ms", "p95 ms", "p99 ms", "calls"),
        [
            (
                x.side,
                str(x.n_documents),
                *(milliseconds(x.at(percentile)) for percentile in (50, 95, 99)),
                str(x.n_calls),
            )
            for x in (*report.reference.latency, *(x for row in report.variants for x in row.latency))
        ],
    )


def _utilizations(report: Report) -> Table:
    rows: list[tuple[str, ...]] = []
    for row in report.variants:
        if (found := row.utilization) is None:
            rows.append((row.kind, "", "", "not measured in its precision", ""))
            continue
        rates = (f"{rate / 1e9:.0f}" for rate in (found.flops_per_s, found.peak_flops_per_s))
        rows.append((row.kind, *rates, found.peak_dtype, f"{found.share_of_peak:.0%}"))
    return Table(("variant", "GFLOP/s", "peak GFLOP/s", "of", "utilisation"), rows)


def _parity(report: Report) -> Table:
    titles = (
        "variant",
        "mean / p99 / max |diff|",
        "rel. RMS: all, worst query",
        "batch invariance: p99, max, inversions",
        "rerun diff",
        "Pearson",
        "tau-b",
        "worst query",
        "top-1",
        "top-10",
        "nDCG@10 ref → cand",
        "MRR@10",
    )
    rows = []
    for row in report.variants:
        parity, quality, batches = row.fidelity.parity, row.fidelity.quality, row.fidelity.batches
        worst = f"{parity.worst_query}: " if parity.worst_query else ""
        rows.append(
            (
                row.kind,
                f"{parity.mean_abs_diff:.3g} / {parity.p99_abs_diff:.3g} / {parity.max_abs_diff:.3g}",
                f"{parity.relative_rms:.2g}, {_farthest(parity)}",
                f"{batches.p99_delta:.2g}, {batches.max_delta:.2g}, "
                f"{batches.n_inversions} of {batches.n_pairs_ordered}",
                f"{row.fidelity.repeat_diff:.2g}",
                f"{parity.pearson:.5f}",
                f"{parity.kendall_tau.value:.4f}",
                f"{worst}{parity.worst_query_tau:.3f}",
                f"{parity.top1_agreement.value:.4f}",
                f"{parity.top10_overlap.value:.4f}" if parity.top10_overlap else "",
                f"{quality.reference_ndcg:.4f} → {quality.candidate_ndcg:.4f}" if quality else "no labels",
                f"{quality.reference_mrr:.4f} → {quality.candidate_mrr:.4f}" if quality else "no labels",
            )
        )
    return Table(titles, rows)


def _farthest(parity: Parity) -> str:
    """Return the largest relative root mean square of one query, with the query."""
    if parity.worst_query_relative_rms is None:
        return "too few pairs a query"
    query = f" ({parity.farthest_query})" if parity.farthest_query else ""
    return f"{parity.worst_query_relative_rms:.2g}{query}"


def _lengths(report: Report) -> Table:
    rows = []
    for row in report.variants:
        speeds = {speed.name: speed for speed in row.length_speeds}
        for bucket in row.fidelity.lengths:
            speed = speeds.get(bucket.name)
            rows.append(
                (
                    row.kind,
                    bucket.name,
                    str(bucket.n_pairs),
                    f"{bucket.mean_abs_diff:.3g} / {bucket.p99_abs_diff:.3g} / {bucket.max_abs_diff:.3g}",
                    f"{bucket.relative_rms:.2g}",
                    f"{bucket.worst.query_id}: {bucket.worst.passage[:60]}" if bucket.worst else "",
                    f"{speed.pairs_per_s:.1f}" if speed else "",
                    f"{speed.over_tuned:.2f}" if speed else "",
                )
            )
    return Table(
        (
            "variant",
            "tokens",
            "pairs",
            "mean / p99 / max |diff|",
            "rel. RMS",
            "worst pair",
            "pairs/s",
            "vs tuned",
        ),
        rows,
    )


def _engine_defaults(report: Report) -> list[Table]:
    rows = [
        (
            row.kind,
            f"{default.max_abs_diff:.2g}",
            f"{default.kendall_tau:.4f}",
            f"{default.pairs_per_s:.1f}",
            f"{default.pinned_pairs_per_s:.1f}",
        )
        for row in report.variants
        if (default := row.engine_default)
    ]
    titles = (
        "at the engine's default numerics",
        "max |diff|",
        "tau-b",
        "pairs/s",
        "pairs/s pinned, in the same process",
    )
    return [Table(titles, rows)] if rows else []


def _files(report: Report) -> Table:
    return Table(
        ("variant", "MB", "constants", "products' weights in int8, fp16", "operators"),
        [
            (
                row.kind,
                f"{row.fidelity.size_bytes / 1e6:.1f}",
                ", ".join(
                    f"{name} {size / 1e6:.1f} MB" for name, size in contents.stored_bytes if size > 1e4
                ),
                f"{contents.int8_share:.1%}, {contents.fp16_share:.1%} of {contents.n_products} products",
                ", ".join(f"{count} {name}" for name, count in contents.operators),
            )
            for row in report.variants
            for contents in (row.fidelity.contents,)
        ],
    )


def _sums(report: Report) -> list[Table]:
    rows = []
    for row in report.variants:
        if (sums := row.fidelity.saturation) is None:
            continue
        diff = "" if sums.unsaturated_diff is None else f"{sums.unsaturated_diff:.2g}"
        rows.append(
            (
                row.kind,
                "proven" if sums.proven else "NOT proven",
                f"{sums.lowest} to {sums.highest}",
                sums.worst,
                diff,
            )
        )
    titles = (
        "variant",
        "no int16 sum saturates",
        "sums from the weights",
        "worst pair",
        "max |diff| to kernels that cannot",
    )
    return [Table(titles, rows)] if rows else []


def _worst(report: Report) -> list[tuple[str, list[Part]]]:
    """Return the section with the worst query and pairs of each variant, if the report names any."""
    if not any(row.fidelity.worst_pairs for row in report.variants):
        return []
    queries = [
        (row.kind, found.parity.worst_query, f"{found.parity.worst_query_tau:.3f}", found.worst_query)
        for row in report.variants
        for found in (row.fidelity,)
    ]
    pairs = [
        (
            row.kind,
            pair.query_id,
            str(pair.n_tokens),
            f"{pair.reference:.2f}",
            "not finite" if pair.candidate is None else f"{pair.candidate:.2f}",
            f"{pair.query} / {pair.passage[:120]}",
        )
        for row in report.variants
        for pair in row.fidelity.worst_pairs[:3]
    ]
    tables: list[Part] = [
        Table(("variant", "query", "tau-b", "text"), queries),
        Table(("variant", "query", "tokens", "reference", "candidate", "text"), pairs),
    ]
    return [(WORST, tables)]
