"""Tables as text, and as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exporter.escape import markdown

if TYPE_CHECKING:
    from collections.abc import Sequence


class Table(NamedTuple):
    """A table as text, a title for each column."""

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]


def md_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table; titles and cells are text, whatever stands in them."""
    head, *body = ([markdown(cell) for cell in cells] for cells in (titles, *rows))
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *body)]
