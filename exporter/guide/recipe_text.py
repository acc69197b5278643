"""The text of a first recipe: kinds for a CPU, bars that so many queries can show, and why, line by line."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from exporter.advice.accuracy import own_isa
from exporter.artifact.cpus import runs_on
from exporter.escape import one_line
from exporter.measure.estimate import queries_to_show, share_of, shown_at_most
from exporter.recipe.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.machine import Machine
    from exporter.pairs import PairSet

# In this share of queries int8 may well have another best passage, as it has in 1 to 2 % of the sample's.
_SWAPPED = 0.02
# A bar below this says nothing, and is left out.
_LEAST_BAR = 0.5
# What YAML reads as this very text.
_PLAIN = re.compile(r"[A-Za-z./][\w./-]*")
_WIDTH = 34


@dataclass(frozen=True, slots=True)
class Names:
    """What a recipe names, as it is written there, and the name of its own file."""

    name: str
    file: str
    model: str
    revision: str | None
    verify: str
    calibrate: str | None


@dataclass(frozen=True, slots=True)
class _Queries:
    """How many queries tell by labels, and how many by their order; `labelled` whether there are labels."""

    labelled: bool
    n_labelled: int
    n_ranked: int


def recipe_text(names: Names, verify: PairSet, machine: Machine) -> str:
    """Return a commented recipe.

    Args:
        names: what it names.
        verify: the pairs it is verified on.
        machine: whose CPU it is for.
    """
    sizes = np.bincount(verify.query_of)
    queries = _Queries(verify.labels is not None, int(verify.tellable.sum()), int((sizes > 1).sum()))
    cpu = f"{one_line(machine.cpu)}, {machine.isa}, {machine.n_cores} cores"
    lines = [
        f"# Made by `exporter init` for {cpu}.",
        f"# Next: exporter plan {names.file}, then exporter export {names.file}",
        "# Every key: docs/reference/recipe.md",
        *_line(f"name: {_yaml(names.name)}", "the folder under artifacts/"),
        "model:",
        *_line(f"  source: {_yaml(names.model)}", "a folder, or a Hub id"),
        *((f"  revision: {_yaml(names.revision)}",) if names.revision else ()),
        *_pairs(names, verify, queries),
        *_reference(machine),
        "variants:",
        *_exact(queries),
        *_int8(names, queries, machine),
        *_bf16(queries, machine),
    ]
    return "\n".join(lines) + "\n"


def _pairs(names: Names, verify: PairSet, queries: _Queries) -> Iterator[str]:
    counted = f"{len(verify.pairs):,} pairs of {len(verify.query_ids):,} queries"
    told = f"labels tell in {queries.n_labelled:,}" if queries.labelled else "no labels"
    yield "pairs:"
    yield from _line(f"  verify: {_yaml(names.verify)}", f"{counted}, {told}")
    if names.calibrate:
        yield from _line(f"  calibrate: {_yaml(names.calibrate)}", "what static int8 takes its ranges from")
    else:
        yield "  # With some hundred pairs more (none of verify's; no labels) onnx-int8-static can be built:"
        yield "  # closer to PyTorch, and as fast. `exporter init ... --calibrate FILE` writes one for it."


def _reference(machine: Machine) -> Iterator[str]:
    if machine.has_bf16:
        yield "# PyTorch is faster in bfloat16 on this CPU; to hold speed bars against that:"
        yield "# reference: {speed_over: best}"


def _exact(queries: _Queries) -> Iterator[str]:
    yield "  # fp32: the same scores, somewhat faster. No speed bar, so a restless machine spoils nothing."
    yield "  - kind: onnx"
    yield "    bars:"
    yield from _line("      max_abs_diff: 1.0e-3", "logits; adding up in another order moves them by less")
    yield from _line("      min_kendall_tau: 0.999", "the order of passages, query by query")
    yield from _shown("min_top1_agreement", queries.n_ranked, 0.99, "the same best passage")


def _int8(names: Names, queries: _Queries, machine: Machine) -> Iterator[str]:
    if names.calibrate:
        yield "  # int8, ranges from pairs.calibrate: a quarter of the size, scores that no batch changes."
        yield "  - kind: onnx-int8-static"
    else:
        yield "  # int8: a quarter of the size. Each batch has its own ranges, so a score moves with it."
        yield "  - kind: onnx-int8"
    wide = own_isa(machine)
    if wide:
        yield from _line(f"    isa: {wide}", "CPUs like this one, 8-bit weights; avx2 is right on every CPU,")
        yield f"{'':{_WIDTH}}# with 7 bits"
    else:
        yield from _line("    isa: avx2", "7-bit weights: this CPU adds up in 16 bits; right on every CPU")
    yield "    bars:"
    yield from _ndcg(queries)
    yield from _line("      min_kendall_tau: 0.95", "nDCG hardly moves while rankings do, so have both")
    yield from _swapped(queries.n_ranked)
    yield from _line("      min_speedup: 1.5", "over PyTorch at its own best; needs a quiet machine")
    yield from _line("      max_size_ratio: 0.35", "of the model's weights in float32")


def _bf16(queries: _Queries, machine: Machine) -> Iterator[str]:
    kind = KINDS["openvino-bf16"]
    if not runs_on(kind.traits, machine) or kind.missing_packages:
        return
    yield "  # bfloat16, which this CPU has units for: half the size, and much closer than int8."
    yield "  - kind: openvino-bf16"
    yield "    bars:"
    yield from _ndcg(queries)
    yield from _line("      min_kendall_tau: 0.99", "closer than int8 has to be")
    yield from _swapped(queries.n_ranked)
    yield from _line("      max_size_ratio: 0.6", "16-bit weights")


def _ndcg(queries: _Queries) -> Iterator[str]:
    if not queries.n_labelled:
        why = "all labels of a query are alike" if queries.labelled else "no labels"
        yield f"      # no min_ndcg_retained: {why}, so nothing tells by which order is better"
        return
    yield from _shown("min_ndcg_retained", queries.n_labelled, 0.99, "ranking quality kept")


def _swapped(n: int) -> Iterator[str]:
    """Yield the bar on the same best passage that a good int8 variant meets on so many queries."""
    low = share_of(n - math.ceil(_SWAPPED * n), n).low
    bar = min(0.95, math.floor(low * 100) / 100)
    yield from _bar("min_top1_agreement", bar, n, f"the same best passage; so much {n:,} queries show")


def _shown(name: str, n: int, most: float, what: str) -> Iterator[str]:
    """Yield a bar that n queries without a single loss show, at most `most`."""
    bar = min(most, math.floor(shown_at_most(n) * 100) / 100)
    limit = "" if bar >= most else f"; {n:,} queries show no more, {queries_to_show(most):,} show {most:g}"
    yield from _bar(name, bar, n, f"{what}{limit}")


def _bar(name: str, bar: float, n: int, what: str) -> Iterator[str]:
    if bar < _LEAST_BAR:
        yield f"      # no {name}: {n:,} queries are too few to show any that is worth it"
        return
    yield from _line(f"      {name}: {bar:g}", what)


def _line(text: str, comment: str) -> Iterator[str]:
    yield f"{text:{_WIDTH - 1}} # {comment}"


def _yaml(text: str) -> str:
    """Return text as YAML reads it back: as it is, or in quotes."""
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
