"""Tables as text, and as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Table(NamedTuple):
    """A table as text, a title for each column."""

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]


def md_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table; bars and line breaks in cells are made harmless."""

    def plain(cell: str) -> str:
        return cell.replace("|", "\\|").replace("\n", " ")

    return [f"| {' | '.join(map(plain, cells))} |" for cells in (titles, ("---",) * len(titles), *rows)]
