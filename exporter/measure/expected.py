"""Which stages a build and a measurement will have, and roughly how long each takes on a machine that is new.

Rough: a user should know whether to wait or to come back. The figures are of one machine, scaled by its cores
and by the model's size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.duration import Expected, Step
from exporter.export.onnx import DEFAULT_OPSET
from exporter.machine import this_machine
from exporter.measure.reference import device_for, is_scored, is_tuned
from exporter.measure.settings import MeasureSettings
from exporter.measure.tune import TIMES_SWEEP, layouts, torch_families

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.context import Context
    from exporter.export.source import Source
    from exporter.pairs import PairSet
    from exporter.recipe.schema import Recipe

# Pairs a second, times a model's megabytes in float32, that PyTorch scores on one core: MiniLM-L6 (91 MB) has
# 52 on two cores of an Intel Xeon 6/207.
_RATE = 52 * 91 / 2
# Seconds to make a graph or a file of it, and megabytes of the model that take a second more.
_MAKE_S, _MAKE_MB_PER_S = 5.0, 20.0
# Seconds until the processes of a round have imported their engines.
_START_S = 6.0


def expected(
    recipe: Recipe,
    source: Source,
    pair_set: PairSet,
    context: Context,
    settings: MeasureSettings | None,
    *,
    built: Sequence[str] = (),
    swept: Sequence[str] = (),
    measured: Sequence[str] = (),
) -> Expected:
    """Return the stages to come.

    Args:
        recipe: what is built and measured.
        source: its model.
        pair_set: the verify pairs.
        context: its cache may hold PyTorch's plan and scores.
        settings: how much is measured.
        built: the kinds that are built.
        swept: those whose plans are swept.
        measured: those that are measured.
    """
    settings, machine = settings or MeasureSettings(), this_machine()
    n_pairs, mb = len(pair_set.pairs), source.weights_bytes / 1e6
    rate = _RATE * machine.n_cores / mb
    make_s = _MAKE_S + mb / _MAKE_MB_PER_S
    a_pass = min(settings.n_on(machine.n_cores, settings.n_timed_pairs) / rate, settings.sweep_pass_s)
    opsets = {getattr(variant, "opset", DEFAULT_OPSET) for variant in recipe.variants} if built else set()
    steps = [Step(f"export to ONNX, opset {opset}", 1, make_s) for opset in sorted(opsets)]
    steps += [Step(f"build {kind}", 1, make_s) for kind in built]
    if swept:
        n_plans = len(layouts(machine.n_cores)) * len(settings.token_budgets)
        each = settings.sweep_s + n_plans * a_pass
        steps.append(Step("plan: sweep", len(swept), len(swept) * each))
    if measured:
        device, length = device_for(recipe.reference.device), source.max_length
        n_types = 1 + (device == "cpu" and machine.has_bf16)
        if not is_tuned(source, length, device, pair_set, settings=settings, context=context):
            families = torch_families("", length, device, machine.n_cores, settings)
            each = TIMES_SWEEP * settings.sweep_s + sum(map(len, families)) * a_pass
            steps.append(Step("torch: sweep", n_types, n_types * each))
        if not is_scored(source, length, device, pair_set, context):
            steps.append(Step("torch: reference scores", n_pairs, n_pairs / rate))
        steps += [Step(f"{kind}: scores", n_pairs, n_pairs / rate) for kind in measured]
        n_sides = 1 + n_types + len(measured)
        rounds_s = settings.min_rounds * (_START_S + n_sides * settings.min_run_s)
        steps.append(Step("speed: rounds", 1, rounds_s))
        calls_s = sum(min(n * calls / rate, settings.latency_s) for n, calls in settings.latencies)
        steps.append(Step("latency and lengths", 1 + len(measured), (1 + len(measured)) * calls_s))
    n_kinds = max(len(built), len(measured))
    what = f"{n_kinds} variant{'s' if n_kinds != 1 else ''}, {n_pairs} pairs, {machine.n_cores} cores"
    return Expected(f"{source.digest[:16]} {machine.isa} {machine.n_cores}", what, tuple(steps))
