"""Tell a report that no measurement gives from one that may be right, before anybody computes with it.

A report may be a stranger's: sealed, of the right types, and with a speed of zero that a ratio is taken from,
or labels of other pairs. Whether its numbers are true, nobody can tell without measuring again.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

# What is divided by, or taken the logarithm of.
_POSITIVE = frozenset(
    (
        *("pairs_per_s", "pinned_pairs_per_s", "tokens_per_s", "over_tuned", "seconds"),
        *("peak_flops_per_s", "peak_rss_bytes", "size_bytes"),
    )
)
# All others that count or measure are not below zero; these may be.
_SIGNED = frozenset(
    (
        *("lowest", "highest", "observed", "low", "high", "value", "drift", "steal", "labels", "scores"),
        *("reference", "candidate", "pearson", "worst_query_tau", "query_taus", "kendall_tau"),
    )
)
# Floating-point operations a second of the fastest machines are below it.
_MOST = 1e18


def implausible(report: Any) -> str | None:
    """Return the first thing in a report that no measurement gives, or None.

    Args:
        report: a `Report`, whose own module calls this one and is not imported here.
    """
    return next(_findings(report), None)


def _findings(report: Any) -> Iterator[str]:
    for where, name, number in _numbers(report, "report", ""):
        is_positive = number > 0 or (name not in _POSITIVE and number == 0) or name in _SIGNED
        if not is_positive or not -_MOST <= number <= _MOST:
            yield f"{where} is {number:g}, which no measurement gives"
    reference = report.reference
    references = (side for side in (reference.default, reference.tuned, reference.bfloat16) if side)
    for side in (*references, *(row.throughput for row in report.variants)):
        if not side.runs or not all(run.seconds for run in side.runs):
            yield f"{side.side} was not run"
    pairs = report.pairs
    if pairs.labels is not None and len(pairs.labels) not in (0, pairs.n_pairs):
        yield f"{len(pairs.labels)} labels of {pairs.n_pairs} pairs"
    n_scores = len(reference.scores)
    if any(len(row.fidelity.scores) != n_scores for row in report.variants):
        yield "reference and variants do not score the same pairs"
    checks = [check for row in report.variants for check in row.checks]
    if any((check.low is None) != (check.high is None) for check in checks):
        yield "a check has one end of an interval"
    kinds = [*(row.kind for row in report.variants), *(row.kind for row in report.not_judged)]
    if len(set(kinds)) < len(kinds):
        yield "a kind is there twice"


def _numbers(value: object, where: str, name: str) -> Iterator[tuple[str, str, float]]:
    """Yield every number of a dataclass and its parts: where it stands, its field's name, and itself."""
    if isinstance(value, int | float):
        yield where, name, value
    elif isinstance(value, tuple):
        for i, part in enumerate(value):
            yield from _numbers(part, f"{where}.{i}", name)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _numbers(getattr(value, field.name), f"{where}.{field.name}", field.name)
