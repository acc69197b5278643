"""All tips on a report, variant by variant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.advice.accuracy import ACCURACY, accuracy_tips
from exporter.advice.evidence import SAMPLED, evidence_tips
from exporter.advice.soundness import BATCHES, MEANS, batch_tips, meaning
from exporter.advice.speed import restless, size_tips, too_slow
from exporter.advice.tip import Case, Commands, Measured, Row, Tip, bar_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from exporter.export.product_error import ProductError
    from exporter.gate import Check
    from exporter.recipe.schema import Bars, Recipe


def advice(
    report: Measured,
    recipe: Recipe | None = None,
    *,
    products: Mapping[str, Sequence[ProductError]] | None = None,
    commands: Commands | None = None,
    judged_by: Mapping[str, Bars] | None = None,
) -> tuple[Tip, ...]:
    """Return what would help the variants that did not pass, in the order in which to try it.

    Args:
        report: what was measured and judged.
        recipe: what the artifact was built from, where it is at hand; lines to paste keep what it says.
        products: errors of int8 products by kind, the largest first, where they were measured.
        commands: what to type about the artifact.
        judged_by: bars by id or kind, where it was judged by others than the recipe's.
    """
    case = Case(report, recipe, products or {}, commands or Commands(), judged_by or {})
    tips = [tip for row in report.variants if row.verdict != "pass" for tip in _of_row(case, row)]
    return tuple(dict.fromkeys(tips))


def _of_row(case: Case, row: Row) -> Iterator[Tip]:
    """Yield a variant's tips; what is open is no matter while something is wrong."""
    missed = [check for check in row.checks if check.outcome in ("fail", "invalid")]
    far = [check for check in missed if check.outcome == "fail" and check.name in ACCURACY]
    yield from (tip for check in missed if check.name in MEANS for tip in meaning(case, row, check))
    if far:
        yield from accuracy_tips(case, row, far)
    else:
        yield from (tip for check in missed if check.name in BATCHES for tip in batch_tips(case, row, check))
    yield from (
        tip for check in missed if check.name == "max_size_ratio" for tip in size_tips(case, row, check)
    )
    if row.verdict == "invalid":
        yield from _of_open(case, row, missed)
    else:
        slow = (check for check in missed if check.name == "min_speedup" and check.outcome == "fail")
        yield from (tip for check in slow for tip in too_slow(case, row, check))


def _of_open(case: Case, row: Row, open_checks: Sequence[Check]) -> Iterator[Tip]:
    sampled = [check for check in open_checks if check.name in SAMPLED]
    for check in sampled:
        yield from evidence_tips(case, row, check)
    if any(check.observed < bar_of(check) for check in sampled):
        yield from accuracy_tips(case, row, ())
    for check in open_checks:
        if check.name == "min_speedup":
            yield from restless(case, row, check)
