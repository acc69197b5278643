"""The verdict as a short document for machines: what a pipeline decides by, and where the rest lies."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from exporter.gate import Outcome, noise_problems
from exporter.report.words import reason

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.gate import Check
    from exporter.measure.estimate import Estimate
    from exporter.measure.speed import Ratio
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
class VerdictDocument:
    """A report's verdict in short; `exit_code` is what `gate` ends with.

    Of an artifact that was not verified yet, `verdict` says so, and what is not known is None.
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


def verdict_document(report: Report, folder: Path, exit_code: int) -> VerdictDocument:
    """Return a report's verdict in short.

    Args:
        report: the report.
        folder: the artifact it lies in.
        exit_code: that of its verdict.
    """
    machine = report.machine
    return VerdictDocument(
        schema=VERDICT_SCHEMA,
        name=report.name,
        verdict=report.verdict,
        exit_code=exit_code,
        folder=str(folder),
        report=str(folder / "report.html"),
        measured_at=report.started_at,
        machine=MachineFound(machine.cpu, machine.isa, machine.n_cores),
        variants=tuple(_variant(row, report) for row in report.variants),
        not_judged=tuple(Skipped(row.kind, row.why) for row in report.not_judged),
    )


def not_verified(name: str, folder: Path) -> VerdictDocument:
    """Return the document of an artifact that has no report."""
    return VerdictDocument(VERDICT_SCHEMA, name, "not verified", None, str(folder), None, None, None, (), ())


def _variant(row: VariantReport, report: Report) -> VariantVerdict:
    found, over = row.fidelity, report.reference.judged_over
    judged = row.speedup_bf16 if over == "bfloat16" and row.speedup_bf16 else row.speedup_tuned
    return VariantVerdict(
        id=row.kind,
        verdict=row.verdict,
        size_mb=round(found.size_bytes / 1e6, 1),
        pairs_per_s=row.throughput.pairs_per_s,
        speedup=_speedup(f"torch {over} at its best plan", judged),
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
