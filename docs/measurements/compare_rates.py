"""Measure how often `exporter compare` calls an artifact worse than itself: its reports in, rates out.

    python docs/measurements/compare_rates.py runs/*/report.json

Prints every pair of reports, compared both ways round (pairs share runs, so they are not independent), and
1,000 comparisons of two random reports whose rounds and queries are drawn with replacement. All reports have
to be of the same files on one machine; to hide that from `compare`, which knows equal bytes, each is given a
digest of its own.
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import binomtest

from exporter.measure.speed import speedup
from exporter.report.compare import compare_reports
from exporter.report.read import read_report_file

if TYPE_CHECKING:
    from exporter.report.report import Report, VariantReport

N_REPLAYS = 1_000


def drawn(report: Report, queries: np.ndarray, rng: np.random.Generator) -> Report:
    """Return a report with its rounds drawn with replacement, and the queries given."""
    tuned = report.reference.tuned.runs
    rounds = rng.integers(len(tuned), size=len(tuned))

    def row_of(row: VariantReport) -> VariantReport:
        own = [i for i in rounds if i < len(row.throughput.runs)]
        runs = tuple(row.throughput.runs[i] for i in own)
        parity, quality = row.fidelity.parity, row.fidelity.quality
        parity = replace(parity, query_taus=tuple(np.array(parity.query_taus)[queries]))
        if quality:
            ndcgs = np.array(quality.query_ndcgs)
            kept = ndcgs[queries % len(ndcgs)]
            quality = replace(quality, query_ndcgs=tuple(kept), candidate_ndcg=float(kept.mean()))
        return replace(
            row,
            fidelity=replace(row.fidelity, parity=parity, quality=quality),
            throughput=replace(row.throughput, runs=runs),
            speedup_tuned=speedup(runs, [tuned[i] for i in own]),
        )

    reference = replace(report.reference.tuned, runs=tuple(tuned[i] for i in rounds))
    return replace(
        report,
        reference=replace(report.reference, tuned=reference),
        variants=tuple(map(row_of, report.variants)),
    )


def disguised(report: Report, name: str) -> Report:
    """Return the report as if each of its files were another."""
    return replace(report, variants=tuple(replace(row, files_digest=name) for row in report.variants))


def main() -> None:
    """Print both rates."""
    reports = [disguised(read_report_file(Path(path)), path) for path in sys.argv[1:]]
    found: Counter[str] = Counter()
    for (i, old), (j, new) in itertools.permutations(enumerate(reports), 2):
        comparison = compare_reports(old, new)
        found[comparison.outcome] += 1
        if comparison.outcome == "worse":
            print(f"{sys.argv[1 + i]} -> {sys.argv[1 + j]}: {comparison.why}")
    print(f"{len(reports)} reports pairwise, both ways: {dict(found)}")

    rng = np.random.default_rng(20_245)
    n_queries = len(reports[0].variants[0].fidelity.parity.query_taus)
    found = Counter()
    why: Counter[str] = Counter()
    for _ in range(N_REPLAYS):
        i, j = rng.choice(len(reports), 2, replace=False)
        queries = rng.integers(n_queries, size=n_queries)
        comparison = compare_reports(drawn(reports[i], queries, rng), drawn(reports[j], queries, rng))
        found[comparison.outcome] += 1
        if comparison.outcome == "worse":
            why[comparison.why] += 1
    interval = binomtest(found["worse"], N_REPLAYS).proportion_ci(0.95, "exact")
    print(f"{N_REPLAYS} replayed: {dict(found)}, worse {interval.low:.2%} to {interval.high:.2%}")
    for text, n in why.most_common():
        print(f"  {n} {text}")


if __name__ == "__main__":
    main()
