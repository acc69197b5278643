"""What got better or worse between two reports, beyond noise. Pure: two reports in, findings out.

Only what is comparable is compared: rankings on the same pairs, speed and memory measured validly, all of it
on machines of one class. A difference counts where its interval holds no change, at a level that all findings
of a comparison share, and where it is at least as large as a least effect; byte-identical files are equal,
whatever batching did to their scores. A finding on what cannot be compared has the reason in its `detail`.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from exporter.artifact.manifest import read_manifest
from exporter.artifact.names import AT
from exporter.errors import RecipeError, did_you_mean
from exporter.gate import noise_problems
from exporter.measure.estimate import mean_interval, ratio_interval
from exporter.measure.speed import log_ratios, mean_difference
from exporter.report.machines import Reports
from exporter.report.read import read_report_file, read_reports

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from exporter.report.report import Report, VariantReport


Change = Literal["better", "worse", "same", "unknown"]
Outcome = Literal["worse", "no verdict", "no worse"]
_WORST_FIRST: tuple[Outcome, ...] = get_args(Outcome)

# The chance of any false finding in a comparison of two equal artifacts: each of m findings has 1/m of it.
_LEVEL = 0.01
# Below these a difference is of no consequence, however certain it is: shares of nDCG, of speed, of memory
# and of size, and a difference of tau. Speed and memory vary that much from one measurement of an artifact
# to the next, which no interval of a single measurement holds; bytes do not, but headers.
MIN_EFFECTS = {"ndcg": 0.005, "tau": 0.005, "speed": 0.10, "rss": 0.10, "size": 0.005}
_TITLES = {
    "ndcg": "nDCG@10",
    "tau": "Kendall tau-b",
    "speed": "speed-up over tuned torch",
    "rss": "peak RSS, MB",
    "size": "size, MB",
}
# What a machine's type is made of; memory, kernel and packages may differ.
_TYPE = ("cpu", "isa", "cpu_features", "n_cores")
_SAME_BYTES = "the same bytes"


@dataclass(frozen=True, slots=True)
class Finding:
    """One metric of one variant in both reports; `detail` holds the interval, or why it is missing.

    `machine` is named where several are compared.
    """

    kind: str
    what: str
    old: float | None
    new: float | None
    change: Change
    detail: str
    machine: str = ""

    @property
    def explained(self) -> str:
        """The detail, with the machine if it is named."""
        return "; on ".join(filter(None, (self.detail, self.machine)))


@dataclass(frozen=True, slots=True)
class Comparison:
    """All findings of two reports.

    `outcome` is worse where anything is, else no verdict where nothing could be compared or a side is
    invalid.
    """

    outcome: Outcome
    why: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Metric:
    """A metric of one variant in both reports: its values, and how its change is found at a level.

    `why_not` is the reason why it cannot be compared, `equal` the reason why it needs not be.
    """

    key: str
    old: float | None = None
    new: float | None = None
    why_not: str = ""
    equal: str = ""
    # Gain of new over old and its interval at a level: shares, or a difference of tau; more is better.
    gain: Callable[[float], tuple[float, float, float]] | None = field(default=None, repr=False)


def min_effects(changes: Sequence[str] = ()) -> dict[str, float]:
    """Return the least effects with `METRIC=SHARE` changes applied.

    Raises:
        RecipeError: there is no such metric, or the share is not from 0 to below 1.
    """
    effects = dict(MIN_EFFECTS)
    for change in changes:
        name, _, value = change.partition("=")
        if name not in effects:
            hint = did_you_mean(name, tuple(effects)) or f"; known are {', '.join(effects)}"
            raise RecipeError(f"--min-effect {change}: unknown metric {name!r}{hint}")
        try:
            effects[name] = float(value)
        except ValueError:
            effects[name] = -1.0
        if not 0 <= effects[name] < 1:
            raise RecipeError(f"--min-effect {change}: wanted METRIC=SHARE, a share from 0 to below 1")
    return effects


def compare_reports(
    old: Report, new: Report, effects: Mapping[str, float] = MIN_EFFECTS, level: float = _LEVEL
) -> Comparison:
    """Compare every kind that both reports have.

    A kind that is gone from a recipe of the same name is worse; one that is new, that only one of two recipes
    has, or that was not judged in one of the reports, is named and not compared.

    Args:
        old: the report to compare with.
        new: the report that may be worse.
        effects: the least effect of each metric, see `MIN_EFFECTS`.
        level: the chance of any false finding.
    """
    old, new = _under_ids(old, new), _under_ids(new, old)
    before = {row.kind: row for row in old.variants}
    after = {row.kind: row for row in new.variants}
    both = [kind for kind in after if kind in before]
    metrics = {kind: _metrics(old, before[kind], new, after[kind]) for kind in both}
    n = sum(metric.gain is not None for of_kind in metrics.values() for metric in of_kind)

    found: list[Finding] = []
    for kind in both:
        found.append(_verdict(old, before[kind], new, after[kind]))
        found += [_judged(kind, metric, effects[metric.key], level / max(1, n)) for metric in metrics[kind]]
    found += _in_one_only(old, new)
    outcome, why = _outcome(old, new, both, found)
    return Comparison(outcome, why, tuple(found))


def _under_ids(report: Report, other: Report) -> Report:
    """Return a report whose kinds have the ids that the other has for them.

    A recipe may list more instruction sets for a kind than before: its id changes, and not what it is.
    """
    ids, rows = {row.kind for row in other.variants}, []
    for row in report.variants:
        own = f"{row.kind}{AT}{row.fidelity.isa}"
        rows.append(replace(row, kind=own) if row.kind not in ids and own in ids else row)
    return replace(report, variants=tuple(rows))


def _outcome(old: Report, new: Report, both: Sequence[str], found: Sequence[Finding]) -> tuple[Outcome, str]:
    if worse := [f"{one.kind} {one.what}" for one in found if one.change == "worse"]:
        return "worse", f"worse: {', '.join(worse)}"
    compared = [one for one in found if one.what in _TITLES.values() and one.change != "unknown"]
    if not compared:
        return "no verdict", "nothing could be compared"
    for name, report in (("old", old), ("new", new)):
        invalid = [row.kind for row in report.variants if row.kind in both and row.verdict == "invalid"]
        if invalid:
            return "no verdict", f"the {name} report is invalid for {', '.join(invalid)}; measure again"
    return "no worse", ""


def _verdict(old: Report, before: VariantReport, new: Report, after: VariantReport) -> Finding:
    """Return how a verdict changed; to or from invalid is no change for better or worse."""
    detail = f"{before.verdict} → {after.verdict}"
    change: Change = "same"
    if before.verdict != after.verdict:
        change = {"fail": "worse", "pass": "better"}.get(after.verdict, "unknown")  # type: ignore[assignment] # of literals
        if before.verdict not in ("pass", "fail"):
            change = "unknown"
        elif why := _other_pairs(old, new) or _other_machine(old, new) or _other_bars(before, after):
            change, detail = "unknown", f"{detail}, {why}"
    return Finding(after.kind, "verdict", None, None, change, detail)


def _metrics(old: Report, before: VariantReport, new: Report, after: VariantReport) -> list[_Metric]:
    return [*_rankings(old, before, new, after), *_speeds(old, before, new, after), _size(before, after)]


def _rankings(old: Report, before: VariantReport, new: Report, after: VariantReport) -> list[_Metric]:
    """Return nDCG and tau, query by query."""
    taus = [np.array(row.fidelity.parity.query_taus) for row in (before, after)]
    tau = _Metric("tau", float(taus[0].mean()), float(taus[1].mean()))
    qualities = [row.fidelity.quality for row in (before, after)]
    ndcgs = [np.array(found.query_ndcgs if found else ()) for found in qualities]
    means = [found.candidate_ndcg if found else None for found in qualities]
    ndcg = _Metric("ndcg", means[0], means[1])
    if before.files_digest == after.files_digest:
        return [replace(metric, equal=_SAME_BYTES) for metric in (ndcg, tau)]
    if why := _other_pairs(old, new) or _other_machine(old, new):
        return [replace(metric, why_not=why) for metric in (ndcg, tau)]

    def gain_of_ndcg(level: float) -> tuple[float, float, float]:
        value, low, high = ratio_interval(ndcgs[1], ndcgs[0], 1 - level)
        return value - 1, low - 1, high - 1

    if not len(ndcgs[0]) or len(ndcgs[0]) != len(ndcgs[1]) or not ndcgs[0].any():
        ndcg = replace(ndcg, why_not="no query can tell")
    else:
        ndcg = replace(ndcg, gain=gain_of_ndcg)
    if len(taus[0]) != len(taus[1]):
        return [ndcg, replace(tau, why_not="other references: they tell apart the passages of other queries")]
    return [ndcg, replace(tau, gain=lambda level: mean_interval(taus[1] - taus[0], 1 - level))]


def _speeds(old: Report, before: VariantReport, new: Report, after: VariantReport) -> list[_Metric]:
    """Return speed-up and peak memory, over the runs of both sides."""
    speed = _Metric("speed", before.speedup_tuned.value, after.speedup_tuned.value)
    peaks = [[run.peak_rss_bytes / 1e6 for run in row.throughput.runs] for row in (before, after)]
    rss = _Metric("rss", statistics.median(peaks[0]), statistics.median(peaks[1]))
    if why := _other_pairs(old, new) or _other_machine(old, new):
        return [replace(metric, why_not=why) for metric in (speed, rss)]
    for name, row in (("old", before), ("new", after)):
        # Noise also chooses another plan, and with it how much memory is used.
        if problems := noise_problems(row.speedup_tuned):
            why = f"{name} is invalid: {'; '.join(problems)}"
            return [replace(metric, why_not=why) for metric in (speed, rss)]
    logs = [[math.log(peak) for peak in of_side] for of_side in peaks]

    def gain_of_rss(level: float) -> tuple[float, float, float]:
        value, low, high = (-math.expm1(end) for end in mean_difference(logs[0], logs[1], 1 - level))
        return value, high, low  # more memory is a loss, so the ends change places

    rss = replace(rss, gain=gain_of_rss)
    if why := _other_reference(old, new):
        return [replace(speed, why_not=why), rss]
    ratios = [
        log_ratios(row.throughput.runs, report.reference.tuned.runs)
        for report, row in ((old, before), (new, after))
    ]

    def gain_of_speed(level: float) -> tuple[float, float, float]:
        value, low, high = (math.expm1(end) for end in mean_difference(ratios[0], ratios[1], 1 - level))
        return value, low, high

    return [replace(speed, gain=gain_of_speed), rss]


def _size(before: VariantReport, after: VariantReport) -> _Metric:
    a, b = before.fidelity.size_bytes, after.fidelity.size_bytes
    size = _Metric("size", a / 1e6, b / 1e6)
    if before.files_digest == after.files_digest:
        return replace(size, equal=_SAME_BYTES)
    gain = 1 - b / a
    return replace(size, gain=lambda _level: (gain, gain, gain))


def _judged(kind: str, metric: _Metric, least: float, level: float) -> Finding:
    """Return a metric's finding: a change where its interval excludes none and the effect is large enough."""
    what = _TITLES[metric.key]
    if metric.why_not:
        return Finding(kind, what, metric.old, metric.new, "unknown", metric.why_not)
    if metric.equal or metric.gain is None:
        return Finding(kind, what, metric.old, metric.new, "same", metric.equal)
    gain, low, high = metric.gain(level)
    change: Change = "same"
    if abs(gain) >= least and not low <= 0 <= high:
        change = "better" if gain > 0 else "worse"
    detail = f"gain {gain:+.4f} ({low:+.4f} to {high:+.4f}), least effect {least:g}"
    return Finding(kind, what, metric.old, metric.new, change, detail)


def _in_one_only(old: Report, new: Report) -> list[Finding]:
    """Return what only one of the reports measured."""
    before = {row.kind: row for row in old.variants}
    after = {row.kind: row for row in new.variants}
    skipped_before = {row.kind: row.why for row in old.not_judged}
    skipped_after = {row.kind: row.why for row in new.not_judged}
    same_recipe = old.name == new.name
    found: list[Finding] = []
    for kind in dict.fromkeys((*after, *skipped_after, *before, *skipped_before)):
        if kind in before and kind in after:
            continue
        change: Change = "unknown"
        if kind in before and kind in skipped_after:
            detail = f"{before[kind].verdict} → not judged: {skipped_after[kind]}"
        elif kind in skipped_before and kind in after:
            detail = f"not judged before: {skipped_before[kind]} → {after[kind].verdict}"
        elif kind in skipped_before and kind in skipped_after:
            change, detail = "same", "judged in neither"
        elif kind in after or kind in skipped_after:
            change, detail = ("same", "new") if same_recipe else ("unknown", "only in the new report")
        else:
            change, detail = ("worse", "gone") if same_recipe else ("unknown", "only in the old report")
        found.append(Finding(kind, "variant", None, None, change, detail))
    return found


def _other_pairs(old: Report, new: Report) -> str:
    return "" if old.pairs.digest == new.pairs.digest else "measured on other pairs"


def _other_machine(old: Report, new: Report) -> str:
    names = [name for name in _TYPE if getattr(old.machine, name) != getattr(new.machine, name)]
    return f"measured on another machine ({', '.join(names)})" if names else ""


def _other_reference(old: Report, new: Report) -> str:
    """Return why two speed-ups are of other kinds: over PyTorch elsewhere, or a model of another size."""
    a, b = old.reference, new.reference
    if a.device != b.device:
        return f"over PyTorch on another device ({a.device}, {b.device})"
    if a.weights_bytes != b.weights_bytes:
        return (
            f"over a model of another size ({a.weights_bytes / 1e6:.1f} MB, {b.weights_bytes / 1e6:.1f} MB)"
        )
    return ""


def _other_bars(before: VariantReport, after: VariantReport) -> str:
    bars = [{(check.name, check.bar) for check in row.checks} for row in (before, after)]
    return "" if bars[0] == bars[1] else "held against other bars"


def compare_machines(old: Reports, new: Reports, effects: Mapping[str, float] = MIN_EFFECTS) -> Comparison:
    """Compare what was measured on the same type of machine, type by type.

    Where the two have no type in common, their newest reports are compared, as far as that goes. A type that
    only one of them has is named and not compared.
    """
    both = [(before, after) for after in new if (before := old.of(after.machine)) is not None]
    pairs = both or [(old.newest, new.newest)]
    found: list[Finding] = []
    outcomes: list[tuple[Outcome, str]] = []
    for before, after in pairs:
        machine = str(after.machine) if len(pairs) > 1 else ""
        one = compare_reports(before, after, effects, _LEVEL / len(pairs))
        found += [replace(finding, machine=machine) for finding in one.findings]
        outcomes.append((one.outcome, f"{machine}: {one.why}" if machine and one.why else one.why))
    compared = {after.machine.type for _, after in both}
    for which, reports in (("old", old), ("new", new)) if both else ():
        found += [
            Finding(
                "", "machine", None, None, "unknown", f"only the {which} one was verified on it", str(one)
            )
            for one in (report.machine for report in reports)
            if one.type not in compared
        ]
    worst: Outcome = next(word for word in _WORST_FIRST if word in {outcome for outcome, _ in outcomes})
    why = "; ".join(why for outcome, why in outcomes if outcome == worst and why)
    return Comparison(worst, why, tuple(found))


def compare_with(old: Path, new: Path, effects: Mapping[str, float] = MIN_EFFECTS) -> Comparison:
    """Compare two artifacts' reports, see `compare_machines`, or two report files.

    Raises:
        RecipeError: an artifact has no report, or a file is not there.
        IntegrityError: a report was changed since it was written, or is about other files.
    """
    # Whether an interval is needed depends on the reports; whether the command works here does not.
    import scipy.stats  # noqa: F401

    return compare_machines(_reports_of(old), _reports_of(new), effects)


def _reports_of(place: Path) -> Reports:
    if place.is_dir():
        return read_reports(place, read_manifest(place))
    return Reports(read_report_file(place))
