"""What follows a verdict, as lines: which variant to deploy, what to try, which products lose most."""

from __future__ import annotations

import sys
import textwrap
from contextlib import suppress
from typing import TYPE_CHECKING

from exporter.errors import ExporterError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from exporter.advice import Commands, Tip
    from exporter.export.product_error import ProductError
    from exporter.guide.after import After
    from exporter.recipe.schema import Bars
    from exporter.report.machines import Reports

_WIDTH = 80
_N_PRODUCTS = 12
# Tips of a variant that are shown after a run; `exporter advise` has all.
_N_TIPS = 3


def lines_after(
    reports: Reports, folder: Path, commands: Commands, judged_by: Mapping[str, Bars] | None = None
) -> list[str]:
    """Return what to do after a verdict, here if this machine has one, else where it was measured last.

    Nothing where the artifact was replaced meanwhile.
    """
    from exporter.cache import Cache
    from exporter.guide.after import after
    from exporter.machine import this_machine

    report = reports.of(this_machine()) or reports.newest
    with suppress(ExporterError):  # gone, or another user's cache: the verdict is shown all the same
        found = after(report, folder, Cache.of_user(), commands, judged_by)
        return list(after_lines(found, more=commands.of("advise")))
    return []


def after_lines(found: After, *, more: str | None = None) -> Iterator[str]:
    """Yield which variant to deploy and what to try, line by line.

    Args:
        found: all there is to say.
        more: a command that shows all tips; of each variant only the first are shown then.
    """
    yield from found.deploy
    shown = [tip for tip in found.tips if more is None or tip in _first(found, tip.kind)]
    if shown:
        yield "What to try:"
    for tip in shown:
        yield from _tip_lines(tip, found.rebuild)
    if any(tip.command == found.rebuild for tip in shown):
        yield f"  $ {found.rebuild}      # after a change of the recipe or its pairs"
    if any(" RECIPE" in tip.command for tip in shown):
        yield "  RECIPE is the file that this artifact was built from."
    if (n_more := len(found.tips) - len(shown)) > 0:
        yield f"  $ {more}      # {n_more} more"


def _first(found: After, kind: str) -> list[Tip]:
    return [tip for tip in found.tips if tip.kind == kind][:_N_TIPS]


def _tip_lines(tip: Tip, rebuild: str) -> Iterator[str]:
    """Yield a tip: wrapped for a terminal, and what is to be pasted or typed on lines of its own."""
    text = f"- {tip.kind}: {tip.text}"
    if sys.stderr.isatty():
        yield textwrap.fill(
            text, _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
    else:
        yield text
    yield from (f"    {line}" for line in tip.yaml.splitlines())
    if tip.command and tip.command != rebuild:
        yield f"  $ {tip.command}"


def product_lines(found: After) -> Iterator[str]:
    """Yield the errors of int8 products as tables, variant by variant."""
    for kind, products in found.products.items():
        yield ""
        yield f"{kind}: error of {len(products)} int8 products on equal inputs, over their output"
        yield "   both  weights  activations  product"
        yield from map(_product_line, products[:_N_PRODUCTS])
        if (more := len(products) - _N_PRODUCTS) > 0:
            yield f"  and {more} that lose less; --json has all"


def _product_line(product: ProductError) -> str:
    parts = f"{product.error:7.1%}  {product.of_weights:7.1%}  {product.of_activations:11.1%}"
    return f"{parts}  {product.name}"
