"""The rows of a part, a few at a time: the texts to be scored, the columns to be kept, and what is wrong.

Text files are read by the rules of pair files, with these differences: columns are named by the user, all
others may be called anything, a text may be empty, and JSON's null and Parquet's null stand for no text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeAlias

from exporter.errors import RecipeError
from exporter.pairs.files import LineError, Lines, text_lines
from exporter.pairs.jsonl import parsed
from exporter.pairs.reading import Reading, shown
from exporter.pairs.table import NotQuotedError, splitter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow as pa

    from exporter.jobs.job import Columns, Form, Start

# A query, a passage, and what is kept.
Texts: TypeAlias = "tuple[str | None, str | None, tuple[str | None, ...]]"
_NO_TEXTS: Texts = (None, None, ())


class TextRow(NamedTuple):
    """A row of a text file: the number of its first line, its texts, what is kept; or what is wrong."""

    number: int
    query: str | None
    passage: str | None
    kept: tuple[str | None, ...]
    problem: str = ""


@dataclass(slots=True)
class Chunk:
    """Some rows in their order.

    `pairs` holds a pair a row, None for no text; `kept` a column each of as many rows; `problems` what is
    wrong with a row, by its position here, with its number in the file.
    """

    pairs: list[tuple[str | None, str | None]]
    kept: list[pa.Array]
    problems: dict[int, tuple[int, str]] = field(default_factory=dict)


def reading_of(address: str, opened: Callable[[str], BinaryIO]) -> Reading:
    """Return how a text file is read: without a limit on its size."""
    return Reading(Path(address), "line", limit=None, address=address, open=partial(opened, address))


def records(lines: Lines, form: Form) -> Iterator[tuple[int, str | list[str], str]]:
    """Yield each row of a text file: its first line's number, its line or cells, and what is wrong with it.

    Blank lines are none, nor is a header.
    """
    split = splitter(lines, form.delimiter, quoted=form.quoted, strict=form.strict)
    skips_header = form.has_header and lines.number == 0
    while True:
        try:
            line = next(lines, None)
        except LineError as error:
            yield lines.number, "", str(error)
            continue
        if line is None:
            return
        if not line.strip(" \t\r\n" if form.kind == "jsonl" else " \r\n"):
            continue
        number = lines.number
        if form.kind == "jsonl":
            yield number, line, ""
            continue
        cells, problem = _split(split, line)
        if skips_header:
            skips_header = False
            continue
        yield number, cells, problem


def _split(split: Callable[[str], list[str]], line: str) -> tuple[list[str], str]:
    try:
        return split(line), ""
    except NotQuotedError as error:
        return [], str(error)
    except LineError as error:
        return [], str(error)


def text_rows(reading: Reading, form: Form, columns: Columns, start: Start) -> Iterator[TextRow]:
    """Yield the rows of a text file, from a part's start where it can be sought, else from the beginning."""
    position = start.position
    with text_lines(reading, position=position or 0, number=start.line if position else 0) as lines:
        read = partial(object_row, columns=columns) if form.kind == "jsonl" else _of_cells(form, columns)
        for number, found, problem in records(lines, form):
            place = reading.place(number)
            try:
                texts = _NO_TEXTS if problem else read(found, place)
            except RecipeError as error:
                texts, said = _NO_TEXTS, str(error)
            else:
                said = problem if not problem or problem.startswith(place) else f"{place}: {problem}"
            query, passage, kept = texts
            yield TextRow(number, query, passage, (None,) * len(columns.keep) if said else kept, said)


def object_row(line: object, place: str, columns: Columns) -> Texts:
    """Return the query, the passage and the kept values of a line of JSON.

    Raises:
        RecipeError: it is no object with them.
    """
    row = parsed(str(line), place)
    for name in (columns.query, columns.passage, *columns.keep):
        if name not in row:
            there = ", ".join(shown(key) for key in list(row)[:8]) or "none"
            raise RecipeError(f"{place}: wanted the column {name!r}; found {there}")
    return (
        text_or_none(row[columns.query], columns.query, place),
        text_or_none(row[columns.passage], columns.passage, place),
        tuple(_as_text(row[name], name, place) for name in columns.keep),
    )


def _of_cells(form: Form, columns: Columns) -> Callable[[object, str], Texts]:
    at = [form.names.index(name) for name in (columns.query, columns.passage, *columns.keep)]

    def read(cells: object, place: str) -> Texts:
        assert isinstance(cells, list)
        if len(cells) != len(form.names):
            raise RecipeError(f"{place}: {len(cells)} columns, wanted {len(form.names)} as in the first line")
        query, passage, *kept = (cells[i] for i in at)
        return query, passage, tuple(kept)

    return read


def text_or_none(value: object, column: str, place: str) -> str | None:
    """Return a text, or None for none.

    Raises:
        RecipeError: it is something else, or no Unicode.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise RecipeError(f"{place}: {column} is {shown(value)}; wanted a string or null")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RecipeError(
            f"{place}: {column} holds half a surrogate pair, which no text has; write characters whole"
        ) from None
    return value


def _as_text(value: object, column: str, place: str) -> str | None:
    """Return a kept value: a text as it is, anything else as JSON."""
    if value is None or isinstance(value, str):
        return text_or_none(value, column, place)
    return json.dumps(value, ensure_ascii=True)


def text_chunk(rows: Sequence[TextRow], n_kept: int) -> Chunk:
    """Return rows of a text file as a chunk."""
    import pyarrow as pa

    return Chunk(
        [(row.query, row.passage) for row in rows],
        [pa.array([row.kept[i] for row in rows], pa.string()) for i in range(n_kept)],
        {i: (row.number, row.problem) for i, row in enumerate(rows) if row.problem},
    )
