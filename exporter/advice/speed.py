"""Tips where speed or size are missed, or speed could not be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.advice.tip import Case, Row, Tip, bar_of
from exporter.gate import MAX_CPU_CONTENTION, MAX_DRIFT, MAX_SPREAD, noise_problems, validity_problems
from exporter.measure.speed import MAX_CLOCK_CHANGE, MAX_DEFAULT_FASTER, MIN_ROUNDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.gate import Check
    from exporter.measure.speed import Ratio

# Others with all the cores moved a speed-up to 1.7 times what it was, see `exporter.gate.MAX_CPU_CONTENTION`:
# one whose whole interval is below half of a bar misses it however restless the machine was.
_OUT_OF_REACH = 0.5


def restless(case: Case, row: Row, check: Check) -> Iterator[Tip]:
    """Yield what a speed-up needs to be known, and the way to a verdict without it."""
    ratio, again = case.ratio(row), case.commands.of("verify")
    if ratio.high < _OUT_OF_REACH * bar_of(check):
        text = f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f}) is far below {bar_of(check):g}"
        yield Tip(row.kind, f"min_speedup: {text}, which no quieter machine will mend")
        yield from too_slow(case, row, check)
        return
    if text := _disturbed(ratio):
        yield Tip(row.kind, f"min_speedup: {text}, then measure again", "", again)
    elif ratio.n_rounds < MIN_ROUNDS:
        text = f"only {ratio.n_rounds} rounds were timed, {MIN_ROUNDS} are needed"
        yield Tip(row.kind, f"min_speedup: {text}; measure again, with the bar in the recipe", "", again)
    else:
        text = f"{ratio.low:.2f} to {ratio.high:.2f} holds the bar: more rounds narrow it"
        yield from _more_time(case, row, f"min_speedup: {text}")
        if ratio.low > 0:
            yield _other_bar(case, row, ratio)
    if noise_problems(ratio):
        yield from _more_time(
            case, row, "min_speedup: more time means more rounds, and one spoilt round weighs less"
        )
    yield from _without_speed(case, row)


def size_tips(case: Case, row: Row, check: Check) -> Iterator[Tip]:
    """Yield what has the size that was wanted."""
    bar = bar_of(check)
    small = [
        other
        for other in case.report.variants
        if other.fidelity.size_ratio <= bar and other.verdict == "pass"
    ]
    for other in small:
        found = other.fidelity
        text = f"{other.kind} passed with {found.size_ratio:.2f} of the weights' size"
        yield Tip(row.kind, f"max_size_ratio: {text} ({found.size_bytes / 1e6:.1f} MB); deploy that")
    variant = case.variant(row)
    if getattr(variant, "quantize_embeddings", None) is False:
        text = "max_size_ratio: quantize the embedding tables too"
        yield Tip(row.kind, text, "quantize_embeddings: true", case.commands.rebuild)
    elif not small:
        least = min(other.fidelity.size_ratio for other in case.report.variants)
        smaller = "" if row.fidelity.traits.weights == "int8" else "; int8 kinds have about a quarter"
        text = f"nothing measured here is smaller than {least:.2f} of the weights' size{smaller}"
        yield Tip(row.kind, f"max_size_ratio: {text}")


def too_slow(case: Case, row: Row, check: Check) -> Iterator[Tip]:
    """Yield what reaches a missed speed bar, among what was measured, or that nothing does."""
    bar = bar_of(check)
    reach = [
        other
        for other in case.report.variants
        if other.verdict == "pass"
        and case.ratio(other).low >= bar
        and not validity_problems(case.ratio(other))
    ]
    for other in sorted(reach, key=lambda one: -case.ratio(one).value):
        text = f"{other.kind} passed at {case.ratio(other).value:.2f} times"
        yield Tip(row.kind, f"min_speedup: {text}; deploy that")
    if not reach:
        best = max(case.report.variants, key=lambda one: case.ratio(one).value)
        text = (
            f"nothing measured here is known to reach {bar:g}: the fastest is {best.kind} with "
            f"{case.ratio(best).value:.2f}"
        )
        yield Tip(row.kind, f"min_speedup: {text}")
        text = "see where the time goes"
        yield Tip(row.kind, text, "", case.commands.of("profile", "--variant", row.kind))
    yield _other_bar(case, row, case.ratio(row))


def _other_bar(case: Case, row: Row, ratio: Ratio) -> Tip:
    bar = int(ratio.low * 100) / 100
    text = f"min_speedup: what was measured shows {bar:g}; if that is enough for you, make it the bar"
    return Tip(row.kind, text, case.bars_line(row, min_speedup=bar), case.commands.judge)


def _disturbed(ratio: Ratio) -> str:
    """Return what to do about what disturbed a measurement; empty where nothing did."""
    found = []
    if not ratio.cpu_contention <= MAX_CPU_CONTENTION:
        host = ratio.steal > ratio.cpu_contention / 2
        whose = "the host's other guests" if host else "other processes here"
        mend = "take a machine of its own" if host else "stop them"
        found.append(f"{whose} had {ratio.cpu_contention:.0%} of the cores: {mend}")
    if not ratio.clock <= MAX_CLOCK_CHANGE:
        found.append(
            f"the CPU's clock changed by {ratio.clock:.0%}: wait until it has cooled, or fix its frequency"
        )
    if not ratio.default_faster <= MAX_DEFAULT_FASTER:
        found.append(
            "PyTorch's plan was not its best, and is swept anew next time: wait until the machine is quiet"
        )
    restless = [
        f"{what} by {value:.0%}"
        for what, value, most in (
            ("rounds spread", ratio.spread, MAX_SPREAD),
            ("the speed-up drifted", abs(ratio.drift), MAX_DRIFT),
        )
        if not value <= most
    ]
    if restless:
        found.append(f"{' and '.join(restless)}: wait until the machine is quiet")
    return "; ".join(found)


def _more_time(case: Case, row: Row, text: str) -> Iterator[Tip]:
    if case.recipe is None:
        return
    budget = 2 * case.recipe.measure.budget_s
    n_timed = sum(variant.bars.min_speedup is not None for variant in case.recipe.variants)
    fewer = f" (or fewer of the {n_timed} variants with a speed bar, which share it)" if n_timed > 1 else ""
    yield Tip(row.kind, f"{text}{fewer}", f"measure: {{budget_s: {budget:g}}}", case.commands.measure)


def _without_speed(case: Case, row: Row) -> Iterator[Tip]:
    """Yield the way to a verdict that no noise can spoil."""
    bars = case.bars(row)
    if bars is None or any(c.outcome != "pass" for c in row.checks if c.name != "min_speedup"):
        return
    if len(bars.model_dump(exclude_none=True)) < 2:
        return
    text = "every other check passed, and none needs a quiet machine: without a speed bar this is a pass"
    yield Tip(row.kind, text, case.bars_line(row, min_speedup=None), case.commands.judge)
