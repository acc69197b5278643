"""Derive how many pairs of a group its root mean square needs: reports of good int8 variants in, a table out.

    python docs/measurements/group_sizes.py artifacts/sample-int8 artifacts/sample-all

For every int8 variant of the artifacts, 10,000 random groups of each size are drawn from its own pairs, and
the share of groups is printed whose root mean square of the differences, over the standard deviation of the
reference's scores, is above the limits of `gate`: of a length, and of a query.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from exporter.artifact.manifest import read_manifest
from exporter.gate import MAX_QUERY_RELATIVE_RMS, MAX_RELATIVE_RMS
from exporter.report.read import read_report

N_GROUPS = 10_000
SIZES = (1, 2, 3, 4, 6, 8, 12)


def main() -> None:
    """Print a row per variant and group size."""
    rng = np.random.default_rng(0)
    print(f"| variant | pairs a group | above {MAX_RELATIVE_RMS} | above {MAX_QUERY_RELATIVE_RMS} |")
    print("| --- | --- | --- | --- |")
    for folder in map(Path, sys.argv[1:]):
        report = read_report(folder, read_manifest(folder))
        reference = np.array(report.reference.scores)
        for row in report.variants:
            if row.fidelity.traits.weights != "int8":
                continue
            diff = (np.array(row.fidelity.scores, np.float64) - reference) / reference.std()
            for size in SIZES:
                drawn = diff[rng.integers(len(diff), size=(N_GROUPS, size))]
                rms = np.sqrt((drawn**2).mean(axis=1))
                shares = (
                    f"{(rms > limit).mean():.2%}" for limit in (MAX_RELATIVE_RMS, MAX_QUERY_RELATIVE_RMS)
                )
                print(f"| {report.name} {row.kind} | {size} | {' | '.join(shares)} |")


if __name__ == "__main__":
    main()
