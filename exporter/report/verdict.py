"""The verdict as a short document for machines: what a pipeline decides by, and where the rest lies."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from exporter.gate import Outcome, noise_problems
from exporter.report.machines import report_path
from exporter.report.words import reason, speedup_judged

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.gate import Check
    from exporter.measure.estimate import Estimate
    from exporter.measure.speed import Ratio
    from exporter.report.machines import Reports
    from exporter.report.report import Report, VariantReport


# 1: first version. Keys are added without raising it; it is raised where one goes or means something else.
VERDICT_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class SpeedUp:
    """A speed-up with its 95 % interval, and over what.

    `problems` say why the machine was too restless to believe it; empty where it was not.
    """

    over: str
    value: float
    low: float
    high: float
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckFound:
    """A check that did not pass: what was observed, the bar, and why; `outcome` is `fail` or `invalid`."""

    check: str
    outcome: Outcome
    observed: float
    low: float | None
    high: float | None
    bar: str
    why: str


@dataclass(frozen=True, slots=True)
class VariantVerdict:
    """One variant; `speedup` is the one that speed bars are held against, `n_checks` by outcome."""

    id: str
    verdict: Outcome
    size_mb: float
    pairs_per_s: float
    speedup: SpeedUp
    speedup_default: SpeedUp
    ndcg_kept: Interval | None
    kendall_tau: Interval
    n_checks: dict[str, int]
    failed: tuple[CheckFound, ...]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A variant that was not judged on this machine."""

    id: str
    why: str


@dataclass(frozen=True, slots=True)
class MachineFound:
    """Where it was measured."""

    cpu: str
    isa: str
    n_cores: int


@dataclass(frozen=True, slots=True)
class MachineVerdict:
    """What was found on one type of machine; `report` is its report.json, with every measurement."""

    machine: MachineFound
    measured_at: str
    report: str
    verdict: Outcome
    variants: tuple[VariantVerdict, ...]
    not_judged: tuple[Skipped, ...]


@dataclass(frozen=True, slots=True)
class VerdictDocument:
    """An artifact's verdict in short; `exit_code` is what the command ends with.

    `verdict` is that of all `machines` it names. `machine`, `variants` and `not_judged` are those of the one
    that was measured last, which is the first of `machines`. Of an artifact that was not verified yet,
    `verdict` says so, and what is not known is None.
    """

    schema: int
    name: str
    verdict: Outcome | Literal["not verified"]
    exit_code: int | None
    folder: str
    report: str | None
    measured_at: str | None
    machine: MachineFound | None
    variants: tuple[VariantVerdict, ...]
    not_judged: tuple[Skipped, ...]
    machines: tuple[MachineVerdict, ...] = ()


def verdict_document(reports: Reports, folder: Path, exit_code: int) -> VerdictDocument:
    """Return the verdict of reports in short.

    Args:
        reports: of the machines that are judged.
        folder: the artifact they lie in.
        exit_code: that of their verdict.
    """
    report, machines = reports.newest, tuple(_on_machine(one, folder) for one in reports)
    return VerdictDocument(
        schema=VERDICT_SCHEMA,
        name=report.name,
        verdict=reports.verdict,
        exit_code=exit_code,
        folder=str(folder),
        report=str(folder / "report.html"),
        measured_at=report.started_at,
        machine=machines[0].machine,
        variants=machines[0].variants,
        not_judged=machines[0].not_judged,
        machines=machines,
    )


def _on_machine(report: Report, folder: Path) -> MachineVerdict:
    machine = report.machine
    return MachineVerdict(
        machine=MachineFound(machine.cpu, machine.isa, machine.n_cores),
        measured_at=report.started_at,
        report=str(folder / report_path(machine)),
        verdict=report.verdict,
        variants=tuple(_variant(row, report) for row in report.variants),
        not_judged=tuple(Skipped(row.kind, row.why) for row in report.not_judged),
    )


def not_verified(name: str, folder: Path) -> VerdictDocument:
    """Return the document of an artifact that has no report."""
    return VerdictDocument(VERDICT_SCHEMA, name, "not verified", None, str(folder), None, None, None, (), ())


def _variant(row: VariantReport, report: Report) -> VariantVerdict:
    found, over = row.fidelity, report.reference.judged_over
    return VariantVerdict(
        id=row.kind,
        verdict=row.verdict,
        size_mb=round(found.size_bytes / 1e6, 1),
        pairs_per_s=row.throughput.pairs_per_s,
        speedup=_speedup(f"torch {over} at its best plan", speedup_judged(report, row)),
        speedup_default=_speedup("torch with default arguments", row.speedup_default),
        ndcg_kept=_interval(found.quality.ndcg_retained) if found.quality else None,
        kendall_tau=_interval(found.parity.kendall_tau),
        n_checks=dict(Counter(check.outcome for check in row.checks)),
        failed=tuple(map(_check, (one for one in row.checks if one.outcome in ("fail", "invalid")))),
    )


def _speedup(over: str, ratio: Ratio) -> SpeedUp:
    return SpeedUp(over, ratio.value, ratio.low, ratio.high, noise_problems(ratio))


def _interval(found: Estimate) -> Interval:
    return Interval(found.value, found.low, found.high)


def _check(check: Check) -> CheckFound:
    return CheckFound(
        check.name, check.outcome, check.observed, check.low, check.high, check.bar, reason(check)
    )
