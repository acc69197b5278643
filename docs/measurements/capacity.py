"""Print core-hours for 10^6, 10^9 and 10^12 pairs from a measured rate.

Usage: `capacity.py REPORT.json [VARIANT]`: the rate is the report's, by default of its fastest variant that
passed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from exporter.report.read import read_report_file


def main() -> None:
    """Read the report, and print the table."""
    if not sys.argv[1:]:
        sys.exit("usage: capacity.py REPORT.json [VARIANT]")
    report = read_report_file(Path(sys.argv[1]))
    rows = {row.kind: row.throughput for row in report.variants if row.verdict == "pass" or sys.argv[2:]}
    kind = sys.argv[2] if sys.argv[2:] else max(rows, key=lambda name: rows[name].pairs_per_s)
    a_core = rows[kind].pairs_per_s / report.machine.n_cores
    print(f"{kind}: {a_core:.1f} pairs/s and core on {report.machine.cpu}, {report.machine.n_cores} cores")
    for exponent in (6, 9, 12):
        core_hours = 10**exponent / a_core / 3600
        print(f"10^{exponent} pairs: {core_hours:,.1f} core-hours, {core_hours / 24:,.2f} cores for one day")


if __name__ == "__main__":
    main()
