"""Tips where queries are too few to tell: how many would, and which bar these support."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from exporter.advice.tip import Case, Row, Tip, bar_of
from exporter.gate import COUNT_UNSEEN
from exporter.measure.estimate import queries_needed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.gate import Check
    from exporter.measure.estimate import Estimate

SAMPLED = ("min_ndcg_retained", "min_kendall_tau", "min_top1_agreement", "min_top10_overlap")
# So many more queries than the interval at hand asks for, since that of others will not be just as wide.
_MARGIN = 1.25
# A bar below this share of the one that was wanted is another question.
_NEAR = 0.9


def estimate_of(row: Row, name: str) -> Estimate | None:
    """Return the measurement that a bar on queries is held against."""
    parity, quality = row.fidelity.parity, row.fidelity.quality
    return {
        "min_ndcg_retained": quality.ndcg_retained if quality else None,
        "min_kendall_tau": parity.kendall_tau,
        "min_top1_agreement": parity.top1_agreement,
        "min_top10_overlap": parity.top10_overlap,
    }[name]


def evidence_tips(case: Case, row: Row, check: Check) -> Iterator[Tip]:
    """Yield what would turn a check without a verdict into one."""
    found, bar = estimate_of(row, check.name), bar_of(check)
    if found is None:
        yield Tip(row.kind, f"{check.name}: no query can tell; {_what_tells(check.name)}")
        return
    needed = queries_needed(found, bar, counts_unseen=check.name in COUNT_UNSEEN)
    between = f"{found.n_queries} queries leave it between {found.low:.3f} and {found.high:.3f}"
    if needed is None:
        yield Tip(row.kind, f"{check.name}: {between}, and no number of queries would tell it from {bar:g}")
    else:
        n = rounded_up(_MARGIN * needed)
        likely = (
            "" if found.value >= bar else f", most likely that it is missed: it is {found.value:.3f} here"
        )
        what = f"about {n:,} like them in pairs.verify would tell it from {bar:g}"
        yield Tip(row.kind, f"{check.name}: {between}; {what}{likely}", "", case.commands.rebuild)
    yield from supported(case, row, check)


def supported(case: Case, row: Row, check: Check) -> Iterator[Tip]:
    """Yield the bar that what was measured supports, where it is near the one that was missed."""
    name = check.name
    bar = math.floor((check.low or 0) * 1000) / 1000
    if bar < _NEAR * bar_of(check) or case.bars(row) is None:
        return
    text = (
        f"{name}: what was measured shows {bar:g}; if that is enough for you, make it this variant's bar "
        f"in {case.commands.bars or 'the recipe'}; nothing is built or measured for it"
    )
    yield Tip(row.kind, text, case.bars_line(row, **{name: bar}), case.commands.judge)


def rounded_up(number: float) -> int:
    """Return a number of queries as one says it: up to the next one of two digits and zeros."""
    unit: int = 10 ** max(0, len(str(math.ceil(number))) - 2)
    return math.ceil(number / unit) * unit


def _what_tells(name: str) -> str:
    if name == "min_ndcg_retained":
        return "label the passages of a query differently, relevant ones higher, or take the bar out"
    if name == "min_top10_overlap":
        return "give queries more than ten passages, or take the bar out"
    return "give queries passages that the model scores differently"
