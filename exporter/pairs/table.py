"""Rows of TSV and CSV files.

CSV is quoted by RFC 4180. A TSV is, too, exactly if every field that begins with a quotation mark is
well-formed by it (as pandas and csv write them); otherwise a quotation mark is a character of the text (as in
MS MARCO's files).
Source: https://www.rfc-editor.org/rfc/rfc4180
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from exporter.errors import RecipeError
from exporter.pairs.columns import COLUMNS, MAX_COLUMNS, is_header, placed
from exporter.pairs.files import Lines, encoding_of, text_lines
from exporter.pairs.reading import MAX_LINE, Reading, Row, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


# The first line of a record, as cells; a quoted field that goes on takes more lines.
_Record: TypeAlias = tuple[int, list[str]]

# Up to the quotation mark that closes a field, doubled ones passed over; possessive, so never tried again.
_INSIDE = re.compile(r'[^"]*+(?:""[^"]*+)*+')
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
_LABEL_WORDS = ("", "true", "false", "nan", "none", "null", "<na>")
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab"}
_KINDS = {",": "CSV", ";": "CSV by semicolon", "\t": "TSV"}
_HEADERS = "name the columns in a first line, as query, passage, label, query_id"


class NotQuotedError(ValueError):
    """A field that begins with a quotation mark is not well-formed; the text says how."""


def table_rows(reading: Reading, kind: str) -> Iterator[Row]:
    """Read the rows of a .tsv or .csv file; blank lines are skipped.

    Args:
        reading: the file.
        kind: `.tsv` or `.csv`.

    Raises:
        RecipeError: a row has too few or too many columns, or, in CSV, is not well-formed.
    """
    delimiter = "\t" if kind == ".tsv" else delimiter_of(reading)
    quoting = "quoted as CSV" if kind == ".csv" else quoting_of(reading)
    quoted = quoting is not None
    reading.notes.append(f"{_KINDS[delimiter]}, {quoting or 'not quoted'}, {encoding_of(reading)}")
    with text_lines(reading) as lines:
        try:
            yield from _rows(
                _records(lines, delimiter, quoted=quoted, strict=kind == ".csv"), reading, delimiter
            )
        except NotQuotedError as error:
            raise RecipeError(f"{reading.place(lines.number)}: {error}") from None


def _rows(records: Iterator[_Record], reading: Reading, delimiter: str) -> Iterator[Row]:
    first_number, first = next(records, (0, []))
    if not first:
        return
    place = reading.place(first_number)
    if len(first) == 1:
        raise RecipeError(f"{place}: one column, no {_NAMES[delimiter]}; wanted query and passage at least")
    has_header = is_header(first)
    if has_header:
        columns, ignored = placed(first, place)
        positions = {column: first.index(name) for column, name in columns.items()}
        reading.ignored.update(dict.fromkeys(ignored))
        reading.notes.append(f"header: {', '.join(sorted(positions, key=lambda name: positions[name]))}")
    else:
        _check_first(first, place)
        positions = {column: i for i, column in enumerate(COLUMNS[: len(first)])}
        reading.notes.append(f"no header, taken as {', '.join(positions)}")
        yield first_number, {column: first[i] for column, i in positions.items()}

    for number, cells in records:
        if len(cells) != len(first):
            raise RecipeError(
                f"{reading.place(number)}: {len(cells)} columns, line {first_number} has {len(first)}"
            )
        if has_header and cells == first:
            raise RecipeError(f"{reading.place(number)}: the header again, as where files were joined")
        yield number, {column: cells[i] for column, i in positions.items()}


def _check_first(cells: list[str], place: str) -> None:
    """Refuse a first row that can be no pair: by its look it is a header, or ids instead of texts."""
    named = [cell.strip() for cell in cells if cell]
    if named == [str(i) for i in range(len(named))]:
        raise RecipeError(f"{place}: a header of numbers, as pandas gives columns without names; {_HEADERS}")
    if len(cells) > len(COLUMNS):
        raise RecipeError(f"{place}: {len(cells)} columns, wanted at most {len(COLUMNS)}, or a header")
    if cells[0].strip().isdecimal():
        raise RecipeError(
            f"{place}: begins with the number {shown(cells[0])} where the query should be; {_HEADERS}"
            " (MS MARCO's top1000: query_id, passage_id, query, passage)"
        )
    label = cells[2] if len(cells) > 2 else ""
    if label.strip().lower() not in _LABEL_WORDS and not _NUMBER.fullmatch(label):
        raise RecipeError(
            f"{place}: {shown(label)} is no label; {_HEADERS}; a triple (query, good and bad passage) "
            "is written as two pairs, labelled 1 and 0"
        )


def splitter(lines: Lines, delimiter: str, *, quoted: bool, strict: bool) -> Callable[[str], list[str]]:
    """Return what splits a record that begins with a line into its cells.

    Args:
        lines: those after it, of which a quoted field takes what it needs.
        delimiter: what separates the cells.
        quoted: by RFC 4180; else a quotation mark is a character of the text.
        strict: a quotation mark inside a field that does not begin with one is refused.

    Returns:
        A function of a line. It raises NotQuotedError where a record is not well-formed.
    """
    if quoted:
        return partial(_quoted_cells, delimiter=delimiter, lines=lines, strict=strict)
    return partial(_raw_cells, delimiter=delimiter)


def _records(lines: Lines, delimiter: str, *, quoted: bool, strict: bool) -> Iterator[_Record]:
    split = splitter(lines, delimiter, quoted=quoted, strict=strict)
    for line in lines:
        number = lines.number
        if line.strip(" \r\n"):
            yield number, split(line)


def _raw_cells(line: str, delimiter: str) -> list[str]:
    return _content(line).split(delimiter, MAX_COLUMNS)


def _quoted_cells(line: str, delimiter: str, lines: Lines, *, strict: bool) -> list[str]:
    """Split a record as CSV.

    `csv.reader` would end a record at a lone CR, and its limit on a field is one for the whole process.

    Args:
        line: where the record begins.
        delimiter: what separates its fields.
        lines: those after it.
        strict: a quotation mark inside a field that does not begin with one is refused, as RFC 4180 has it.
    """
    if '"' not in line:
        return _raw_cells(line, delimiter)
    cells: list[str] = []
    start, stop = 0, len(_content(line))
    while len(cells) <= MAX_COLUMNS:
        if line.startswith('"', start):
            number = lines.number
            cell, line, end = _quoted_cell(line, start + 1, lines)
            stop = stop if lines.number == number else len(_content(line))
        else:
            end = line.find(delimiter, start)
            end = stop if end < 0 else end
            cell = line[start:end]
            if strict and '"' in cell:
                raise NotQuotedError(
                    f"column {len(cells) + 1}: a quotation mark in a field that does not begin with one; "
                    "quote the field and double its marks"
                )
        cells.append(cell)
        if end >= stop:
            return cells
        if not line.startswith(delimiter, end):
            raise NotQuotedError(
                f"column {len(cells)}: {shown(line[end : min(end + 20, stop)])} after the closing quotation "
                "mark; double the marks inside a field"
            )
        start = end + 1
    raise NotQuotedError(f"more than {MAX_COLUMNS} columns")


def _quoted_cell(line: str, start: int, lines: Lines) -> tuple[str, str, int]:
    """Return a quoted field's text, the line it ends on, and where there."""
    parts: list[str] = []
    first, n_characters = lines.number, 0
    while True:
        inside = _INSIDE.match(line, start)
        assert inside is not None  # the empty string matches
        parts.append(inside[0].replace('""', '"'))
        n_characters += len(inside[0])
        if inside.end() < len(line):
            return "".join(parts), line, inside.end() + 1
        line, start = next(lines, ""), 0
        if not line or n_characters > MAX_LINE:
            raise NotQuotedError(f"the field that begins on line {first} is never closed by a quotation mark")


def _content(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def quoting_of(reading: Reading) -> str | None:
    """Return how a TSV is quoted, in words, or None where quotation marks are text."""
    n_quoted = n_broken = 0
    with text_lines(reading) as lines:
        try:
            for line in lines:
                first = lines.number
                n_quoted += line.startswith('"') or '\t"' in line
                _quoted_cells(line, "\t", lines, strict=False)
                n_broken += lines.number > first
        except NotQuotedError:
            return None
    over = f" ({n_broken} of its rows over several lines)" if n_broken else ""
    return f"quoted as CSV{over}" if n_quoted else None


def delimiter_of(reading: Reading) -> str:
    """Return what separates a CSV file's columns: what makes its first line a header, or else a comma."""
    with text_lines(reading) as lines:
        line = next((line for line in lines if line.strip(" \r\n")), "")
        for delimiter in ",;\t":
            try:
                cells = _quoted_cells(line, delimiter, lines, strict=True)
            except NotQuotedError:
                continue
            if len(cells) > 1 and is_header(cells):
                return delimiter
            if len(cells) > 1 and delimiter != ",":
                raise RecipeError(
                    f"{reading.place(lines.number)}: columns by comma or by {_NAMES[delimiter]}? {_HEADERS}"
                )
    return ","
