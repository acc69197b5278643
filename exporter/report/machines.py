"""The reports of an artifact, one of each type of machine, and what they say together.

A machine type is CPU, instruction set, features and cores (`Machine.type`). Each has its report in
`reports/`, under a name made of its type, and the one that was measured last is `report.json` too. An
artifact that was verified on one machine is the case of one report.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.artifact.choice import choose_variant
from exporter.artifact.files import REPORTS
from exporter.artifact.plans import VerdictEntry
from exporter.errors import BackendError
from exporter.gate import noise_problems, outcome
from exporter.machine import Cpu
from exporter.report.table import Table
from exporter.report.words import observed, speedup_judged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from exporter.artifact.manifest import Manifest
    from exporter.artifact.plans import Plans
    from exporter.gate import Outcome
    from exporter.machine import Machine
    from exporter.report.report import Report, VariantReport

WHICH_FILE = "Which file on which CPU"
# Of a name that people read; what tells two types apart is the hash behind it.
_MAX_CPU, _MAX_ISA = 60, 20


@dataclass(frozen=True, slots=True)
class Reports:
    """The reports of an artifact, of one machine type each and of the same files; `newest` is report.json."""

    newest: Report
    others: tuple[Report, ...] = ()

    def __iter__(self) -> Iterator[Report]:
        """Yield every report, the newest first."""
        yield from (self.newest, *self.others)

    @property
    def verdict(self) -> Outcome:
        """The verdict over all machines: fail before invalid before pass."""
        return outcome(self)

    def of(self, machine: Machine) -> Report | None:
        """Return the report of a machine's type, if there is one."""
        return next((report for report in self if report.machine.type == machine.type), None)


def report_path(machine: Machine) -> str:
    """Return the path of a machine type's report in an artifact: `reports/CPU-ISA-CORES.json`.

    CPU are words of its name and the first 8 digits of a SHA-256 over the type, since two CPUs may have the
    same words. Equal types have equal paths, whatever the names of their CPUs hold.
    """
    digest = hashlib.sha256(json.dumps(machine.type).encode()).hexdigest()[:8]
    cpu, isa = _words(machine.cpu, "-")[:_MAX_CPU].strip("-"), _words(machine.isa, "_")[:_MAX_ISA]
    return f"{REPORTS}/{cpu or 'cpu'}-{digest}-{isa or 'other'}-{machine.n_cores}.json"


def _words(text: str, between: str) -> str:
    """Return the words of a text in lower case, without the marks of trade that CPUs' names have."""
    plain = re.sub(r"\((?:r|tm|c)\)", " ", text.lower())
    return re.sub(r"[^a-z0-9]+", between, plain).strip(between)


def verdicts_of(reports: Iterable[Report]) -> dict[str, tuple[VerdictEntry, ...]]:
    """Return what plans.json says of verdicts: by variant, one for each instruction set and number of cores.

    Of several CPUs with the same of both the worst verdict counts, and the lowest speed.
    """
    found: dict[str, dict[tuple[str, int], list[VariantReport]]] = {}
    for report in reports:
        for row in report.variants:
            at = (report.machine.isa, report.machine.n_cores)
            found.setdefault(row.kind, {}).setdefault(at, []).append(row)
    return {
        kind: tuple(
            VerdictEntry(*at, outcome(rows), min(row.throughput.pairs_per_s for row in rows))
            for at, rows in sorted(by_class.items())
        )
        for kind, by_class in sorted(found.items())
    }


def other_plan(report: Report, plans: Plans) -> str:
    """Return a variant that was measured with another plan than plans.json has for such machines, or ''."""
    at = (report.machine.isa, report.machine.n_cores)
    for row in report.variants:
        if row.plan not in plans.of(row.kind) or (row.plan.isa, row.plan.n_cores) != at:
            return row.kind
    return ""


def other_verdict(reports: Iterable[Report], plans: Plans) -> str:
    """Return a variant of which plans.json has other verdicts than the reports give, or ''.

    A plans.json without any verdict is of before there were any.
    """
    wanted = verdicts_of(reports)
    for kind in {**plans.verdicts, **wanted} if plans.verdicts else ():
        if set(plans.verdicts.get(kind, ())) != set(wanted.get(kind, ())):
            return kind
    return ""


def outcomes(reports: Iterable[Report]) -> dict[str, Outcome]:
    """Return every variant's verdict over all machines that judged it."""
    rows: dict[str, list[VariantReport]] = {}
    for report in reports:
        for row in report.variants:
            rows.setdefault(row.kind, []).append(row)
        for skipped in report.not_judged:
            rows.setdefault(skipped.kind, [])
    return {kind: outcome(found) for kind, found in rows.items()}


def chosen(reports: Iterable[Report], manifest: Manifest, plans: Plans) -> dict[str, str]:
    """Return by `report_path` which variant `Reranker.load` takes on each machine where none is named."""
    found = {}
    for report in reports:
        machine = report.machine
        cpu = Cpu(machine.isa, machine.cpu_features, machine.n_cores)
        try:
            found[report_path(machine)] = choose_variant(manifest, plans, cpu).entry.kind
        except BackendError:  # nothing of it is safe there
            continue
    return found


def not_passed(reports: Iterable[Report]) -> list[str]:
    """Return a line for each check that did not pass, with its machine and the file of its report."""
    return [
        f"{row.kind} on {report.machine}: {check.outcome.upper()} {check.name} {observed(check)}, "
        f"bar {check.bar}; see {report_path(report.machine)}"
        for report in reports
        for row in report.variants
        for check in row.checks
        if check.outcome in ("fail", "invalid")
    ]


def which_file(
    reports: Iterable[Report], loaded: Mapping[str, str], files: Mapping[str, str] | None = None
) -> Table:
    """Return which variant is worth what on which CPU: measured figures, verdict, and which one is loaded.

    Args:
        reports: the artifact's.
        loaded: see `chosen`.
        files: the file of each variant, which then has a column.
    """
    titles = ("machine", "variant", "pairs/s", "speed-up, 95 %", "nDCG kept", "verdict", "loaded there")
    rows: list[Sequence[str]] = []
    for report in reports:
        takes = loaded.get(report_path(report.machine))
        for row in report.variants:
            quality, ratio = row.fidelity.quality, speedup_judged(report, row)
            invalid = " (invalid)" if noise_problems(ratio) else ""
            cells = (
                f"{row.throughput.pairs_per_s:.1f}",
                f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f}){invalid}",
                f"{quality.ndcg_retained.value:.1%}" if quality else "no labels",
                row.verdict.upper(),
                "yes" if row.kind == takes else "",
            )
            rows.append((str(report.machine), row.kind, *cells))
        for skipped in report.not_judged:
            is_loaded = "yes" if skipped.kind == takes else ""
            rows.append((str(report.machine), skipped.kind, "", "", "", "NOT JUDGED", is_loaded))
    if files is None:
        return Table(titles, rows)
    with_files = [(cpu, kind, files.get(kind, ""), *rest) for cpu, kind, *rest in rows]
    return Table((*titles[:2], "file", *titles[2:]), with_files)
