"""Rows of a JSONL file: one object a line."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from exporter.errors import RecipeError
from exporter.pairs.columns import placed
from exporter.pairs.files import encoding_of, text_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.pairs.reading import Reading, Row


class _KeyTwiceError(ValueError):
    """An object has a key twice, of which `json` would keep the last."""


def jsonl_rows(reading: Reading) -> Iterator[Row]:
    """Read one object a line; blank lines are skipped.

    Raises:
        RecipeError: a line is no JSON object with query and passage.
    """
    with text_lines(reading) as lines:
        reading.notes.append(f"JSONL, {encoding_of(reading)}")
        for line in lines:
            if line.isspace():
                continue
            place = reading.place(lines.number)
            row = parsed(line, place)
            columns, ignored = placed(tuple(row), place)
            reading.ignored.update(dict.fromkeys(ignored))
            yield lines.number, {column: row[name] for column, name in columns.items()}


def parsed(line: str, place: str) -> dict[str, object]:
    """Return a line's object.

    Raises:
        RecipeError: it is no JSON object, or has a key twice.
    """
    try:
        row = json.loads(line, object_pairs_hook=_without_doubles)
    except _KeyTwiceError as error:
        raise RecipeError(f"{place}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{place}: not JSON: {error}") from None
    if not isinstance(row, dict):
        hint = "; a list is written one object a line (pandas: orient='records', lines=True)"
        raise RecipeError(
            f"{place}: wanted an object with query and passage{hint if isinstance(row, list) else ''}"
        )
    return row


def _without_doubles(items: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(items)
    if len(found) < len(items):
        twice, _ = Counter(name for name, _ in items).most_common(1)[0]
        raise _KeyTwiceError(f"the key {twice[:40]!r} stands there twice; leave one")
    return found
