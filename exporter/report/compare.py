"""What got better or worse between two reports, beyond noise. Pure: two reports in, findings out.

Scores are compared query by query where both reports are of the same pairs, speed where both were measured
on one machine; a finding on what cannot be compared has the reason in its `detail`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from exporter.artifact.manifest import read_manifest
from exporter.measure.quality import retained
from exporter.report.report import read_report, read_report_file

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from exporter.report.report import Report, VariantReport


Change = Literal["better", "worse", "same", "unknown"]

_N_RESAMPLES = 9_999
_SEED = 20_242
# Bytes do not vary from run to run; less than this is another header.
_SIZE_CHANGE = 0.005


@dataclass(frozen=True, slots=True)
class Finding:
    """One metric of one variant in both reports; `detail` holds the interval, or why it is missing."""

    kind: str
    what: str
    old: float | None
    new: float | None
    change: Change
    detail: str


def compare_reports(old: Report, new: Report) -> tuple[Finding, ...]:
    """Return what changed in every kind of two reports.

    A kind that is gone is worse; one that is new, or not judged in one of the reports, is not compared.
    """
    before = {row.kind: row for row in old.variants}
    after = {row.kind: row for row in new.variants}
    skipped_before = {row.kind: row.why for row in old.not_judged}
    skipped_after = {row.kind: row.why for row in new.not_judged}

    found: list[Finding] = []
    for kind in (*after, *skipped_after):
        if kind in before and kind in after:
            found += _compare_variants(old, before[kind], new, after[kind])
        elif kind in before:
            detail = f"{before[kind].verdict} → not judged here: {skipped_after[kind]}"
            found.append(Finding(kind, "verdict", None, None, "unknown", detail))
        elif kind in skipped_before and kind in after:
            detail = f"not judged before: {skipped_before[kind]} → {after[kind].verdict}"
            found.append(Finding(kind, "verdict", None, None, "unknown", detail))
        elif kind in skipped_before:
            found.append(Finding(kind, "verdict", None, None, "same", "judged in neither"))
        else:
            found.append(Finding(kind, "variant", None, None, "same", "new"))

    gone = [kind for kind in (*before, *skipped_before) if kind not in after and kind not in skipped_after]
    return (*found, *(Finding(kind, "variant", None, None, "worse", "gone") for kind in gone))


def _compare_variants(old: Report, before: VariantReport, new: Report, after: VariantReport) -> list[Finding]:
    kind = after.kind
    order = ("fail", "invalid", "pass")
    step = order.index(after.verdict) - order.index(before.verdict)
    verdict = Finding(kind, "verdict", None, None, _sign(step), f"{before.verdict} → {after.verdict}")
    return [
        verdict,
        *_scores(old, before, new, after),
        *_speeds(old, before, new, after),
        _size(before, after),
    ]


def _scores(old: Report, before: VariantReport, new: Report, after: VariantReport) -> list[Finding]:
    """Return how the rankings changed, compared query by query."""
    kind = after.kind
    if old.pairs.digest != new.pairs.digest:
        return [
            Finding(kind, what, None, None, "unknown", "measured on other pairs")
            for what in ("nDCG@10", "Kendall tau-b")
        ]
    found = []
    if (a := before.fidelity.quality) and (b := after.fidelity.quality):
        theirs, ours = np.array(a.query_ndcgs), np.array(b.query_ndcgs)
        kept, low, high = retained(theirs, ours)
        detail = f"{kept:.4f} of the old one's, {low:.4f} to {high:.4f}"
        change = _beyond(low - 1, high - 1)
        found.append(Finding(kind, "nDCG@10", float(theirs.mean()), float(ours.mean()), change, detail))
    taus = [np.array(row.fidelity.parity.query_taus) for row in (before, after)]
    if len(taus[0]) == len(taus[1]):
        low, high = _interval(taus[1] - taus[0])
        detail = f"{(taus[1] - taus[0]).mean():+.4f}, {low:+.4f} to {high:+.4f}"
        found.append(
            Finding(
                kind,
                "Kendall tau-b",
                float(taus[0].mean()),
                float(taus[1].mean()),
                _beyond(low, high),
                detail,
            )
        )
    return found


def _speeds(old: Report, before: VariantReport, new: Report, after: VariantReport) -> list[Finding]:
    """Return how speed-up and memory changed; intervals, or ranges of runs, that meet are no change."""
    kind, a, b = after.kind, before.speedup_tuned, after.speedup_tuned
    fields = set(old.machine.differences(new.machine)) - {"packages", "python"}
    if fields:
        detail = f"measured on another machine ({', '.join(sorted(fields))})"
        return [
            Finding(kind, "speed-up over tuned torch", a.value, b.value, "unknown", detail),
            Finding(kind, "peak RSS, MB", _rss(before)[1], _rss(after)[1], "unknown", detail),
        ]
    detail = f"{a.low:.2f} to {a.high:.2f} → {b.low:.2f} to {b.high:.2f}"
    (least_before, most_before), (least_after, most_after) = _rss(before), _rss(after)
    return [
        Finding(
            kind,
            "speed-up over tuned torch",
            a.value,
            b.value,
            _beyond(b.low - a.high, b.high - a.low),
            detail,
        ),
        Finding(
            kind,
            "peak RSS, MB",
            most_before,
            most_after,
            _beyond(least_before - most_after, most_before - least_after),
            "range of the runs",
        ),
    ]


def _size(before: VariantReport, after: VariantReport) -> Finding:
    a, b = before.fidelity.size_bytes, after.fidelity.size_bytes
    change = _sign(a - b) if abs(b - a) > _SIZE_CHANGE * a else "same"
    return Finding(after.kind, "size, MB", a / 1e6, b / 1e6, change, f"{b / a - 1:+.1%}")


def _rss(row: VariantReport) -> tuple[float, float]:
    found = [run.peak_rss_bytes / 1e6 for run in row.throughput.runs]
    return min(found), max(found)


def _interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of a mean over queries: percentile bootstrap, seeded."""
    from scipy.stats import bootstrap

    if not differences.any():
        return 0.0, 0.0
    rng = np.random.default_rng(_SEED)
    found = bootstrap(
        (differences,), np.mean, n_resamples=_N_RESAMPLES, method="percentile", rng=rng, batch=500
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _beyond(low: float, high: float) -> Change:
    """Return which way an interval of a gain lies; one that holds zero is noise."""
    return "better" if low > 0 else "worse" if high < 0 else "same"


def _sign(gain: float) -> Change:
    return _beyond(gain, gain)


def compare_with(old: Path, new: Path) -> tuple[Finding, ...]:
    """Return what got better or worse between two artifacts' reports, or two report files.

    Raises:
        RecipeError: an artifact has no report, or a file is not there.
        IntegrityError: a report was changed since it was written, or is about other files.
    """
    return compare_reports(_report_of(old), _report_of(new))


def _report_of(place: Path) -> Report:
    return read_report(place, read_manifest(place)) if place.is_dir() else read_report_file(place)
