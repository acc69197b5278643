"""Score lines of JSON as they come, a line for each: between programs, with no folder and no parts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO

from exporter.errors import RecipeError
from exporter.jobs.job import CHUNK_PAIRS
from exporter.jobs.rows import object_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from exporter.jobs.job import Columns, OnBadRow
    from exporter.pairs import Pair
    from exporter.runtime import Reranker

STDIN = "stdin"


@dataclass(slots=True)
class Counts:
    """What became of the rows so far."""

    n_rows: int = 0
    n_null: int = 0
    n_bad: int = 0


def scored_lines(
    reranker: Reranker, lines: Iterable[str], columns: Columns, on_bad_row: OnBadRow, counts: Counts
) -> Iterator[str]:
    """Yield a line of JSON for each line that is not blank: the kept columns, and the score or null.

    Args:
        reranker: scores them, so many at a time as wherever it scores.
        lines: objects with a query and a passage.
        columns: which are read, kept and written.
        on_bad_row: whether a line that is no such object ends it, or gets no score.
        counts: what becomes of them, kept up to date.

    Raises:
        RecipeError: a line is no such object, and none is to be skipped.
    """
    rows = _rows(lines, columns, on_bad_row, counts)
    while chunk := list(islice(rows, CHUNK_PAIRS)):
        pairs: list[Pair] = [
            (query, passage) for query, passage, _ in chunk if query is not None and passage is not None
        ]
        scores = iter(reranker.score(pairs).tolist())
        for query, passage, kept in chunk:
            score = None if query is None or passage is None else next(scores)
            yield json.dumps({**kept, columns.score: score}, ensure_ascii=True)


def _rows(
    lines: Iterable[str], columns: Columns, on_bad_row: OnBadRow, counts: Counts
) -> Iterator[tuple[str | None, str | None, dict[str, str | None]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip(" \t\r\n"):
            continue
        counts.n_rows += 1
        try:
            place = f"{STDIN}:{number}"
            query, passage, kept = object_row(_utf8(line, place), place, columns)
        except RecipeError as error:
            if on_bad_row == "stop":
                raise RecipeError(f"{error}; `--on-bad-row skip` goes on without a score for it") from None
            counts.n_bad += 1
            yield None, None, dict.fromkeys(columns.keep)
            continue
        counts.n_null += query is None or passage is None
        yield query, passage, dict(zip(columns.keep, kept, strict=True))


def text_of_lines(stdin: BinaryIO) -> Iterator[str]:
    """Yield the lines of standard input as text; bytes that are no UTF-8 as surrogates, see `_utf8`."""
    for number, raw in enumerate(stdin, 1):
        yield raw.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape")


def _utf8(line: str, place: str) -> str:
    """Return a line that was UTF-8.

    Raises:
        RecipeError: it was not.
    """
    try:
        line.encode()
    except UnicodeEncodeError as error:
        at = len(line[: error.start].encode("utf-8", "surrogateescape")) + 1
        raise RecipeError(f"{place}: byte {at} of the line is not UTF-8") from None
    return line


def passages_of(lines: Iterable[str], column: str | None) -> Iterator[str]:
    """Yield a passage a line; blank lines are passed over.

    Args:
        lines: of standard input.
        column: None where a line is the passage; else lines are JSON: a string, or an object with this key.

    Raises:
        RecipeError: a line is not UTF-8, or holds no passage.
    """
    for number, line in enumerate(lines, 1):
        place = f"{STDIN}:{number}"
        text = _utf8(line.rstrip("\r\n"), place)
        if text.strip():
            yield text if column is None else _passage(text, column, place)


def _passage(line: str, column: str, place: str) -> str:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{place}: not JSON: {error}") from None
    if isinstance(found, dict):
        found = found.get(column)
    if not isinstance(found, str):
        raise RecipeError(f"{place}: wanted a string, or an object with {column!r}, a string")
    return found
