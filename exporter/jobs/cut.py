"""Cut the input into parts, by itself alone: the rows of one file, so many at a time.

Each text file is read once for it, to count its rows and to find where every part begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.errors import RecipeError
from exporter.jobs.job import Form, InputFile, Start
from exporter.jobs.places import fingerprint, format_of, opened
from exporter.jobs.rows import reading_of, records
from exporter.pairs.columns import COLUMNS, is_header
from exporter.pairs.files import text_lines
from exporter.pairs.reading import shown
from exporter.pairs.table import NotQuotedError, delimiter_of, quoting_of, splitter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.jobs.job import Columns
    from exporter.pairs.reading import Reading


def cut(
    name: str, address: str, columns: Columns, part_rows: int, tell: Callable[[int], None]
) -> tuple[InputFile, tuple[Start, ...]]:
    """Return a file with what it holds, and where its parts begin.

    Args:
        name: the file's, below the input.
        address: where it lies.
        columns: those that it must have.
        part_rows: rows of a part.
        tell: called with the rows counted so far, now and then.

    Raises:
        RecipeError: it cannot be read, or lacks a column.
    """
    size, content = fingerprint(address)
    if format_of(name) == ".parquet":
        form, n_rows = _of_parquet(address, columns)
        starts = tuple(Start(row) for row in range(0, n_rows, part_rows))
    else:
        form = _form_of_text(name, address, columns)
        check_columns(form, columns, address)
        n_rows, starts = _counted(address, form, part_rows, tell)
    return InputFile(name, address, size, content, form, n_rows), starts


def check_columns(form: Form, columns: Columns, address: str) -> None:
    """Check that a table or Parquet file has the columns, each once.

    Raises:
        RecipeError: it has not.
    """
    if form.kind == "jsonl":
        return
    options = {columns.query: "--query-column", columns.passage: "--passage-column"}
    for wanted in (columns.query, columns.passage, *columns.keep):
        n = form.names.count(wanted)
        if n > 1:
            raise RecipeError(f"{address}: {n} columns are called {wanted!r}; leave one")
        if n == 0:
            found = ", ".join(shown(name) for name in form.names[:8]) or "none"
            option = options.get(wanted, "--keep")
            raise RecipeError(f"{address}: no column {wanted!r}; found {found}; name it with {option}")


def _of_parquet(address: str, columns: Columns) -> tuple[Form, int]:
    from exporter.jobs.parquet import opened_parquet, parquet_errors, text_problem

    with parquet_errors(address), opened_parquet(address, opened) as file:
        schema, n_rows = file.schema_arrow, int(file.metadata.num_rows)
    form = Form("parquet", names=tuple(schema.names))
    check_columns(form, columns, address)
    for name in (columns.query, columns.passage):
        if problem := text_problem(schema.field(name).type):
            raise RecipeError(f"{address}: column {name!r} {problem}")
    return form, n_rows


def _form_of_text(name: str, address: str, columns: Columns) -> Form:
    if format_of(name) == ".jsonl":
        return Form("jsonl")
    is_csv = format_of(name) == ".csv"
    reading = reading_of(address, opened)
    quoted = is_csv or quoting_of(reading) is not None
    for delimiter in ",;\t" if is_csv else "\t":
        first = _first_record(reading, delimiter, quoted=quoted, strict=is_csv)
        if {columns.query, columns.passage} <= set(first):
            return Form("table", delimiter, quoted, is_csv, has_header=True, names=tuple(first))
    delimiter = delimiter_of(reading) if is_csv else "\t"
    first = _first_record(reading, delimiter, quoted=quoted, strict=is_csv)
    has_header = is_header(first)
    names = tuple(first) if has_header else COLUMNS[: len(first)]
    return Form("table", delimiter, quoted, is_csv, has_header, names)


def _first_record(reading: Reading, delimiter: str, *, quoted: bool, strict: bool) -> list[str]:
    with text_lines(reading) as lines:
        split = splitter(lines, delimiter, quoted=quoted, strict=strict)
        line = next((line for line in lines if line.strip(" \r\n")), None)
        try:
            return [] if line is None else split(line)
        except NotQuotedError as error:
            raise RecipeError(f"{reading.place(lines.number)}: {error}") from None


def _counted(
    address: str, form: Form, part_rows: int, tell: Callable[[int], None]
) -> tuple[int, tuple[Start, ...]]:
    starts: list[Start] = []
    n_rows = 0
    with text_lines(reading_of(address, opened)) as lines:
        line, position = lines.number, lines.position
        for _ in records(lines, form):
            if n_rows % part_rows == 0:
                starts.append(Start(n_rows, line if position else 0, position or None))
                tell(n_rows)
            n_rows += 1
            line, position = lines.number, lines.position
    return n_rows, tuple(starts)


def check_alike(files: Sequence[InputFile], columns: Columns) -> None:
    """Check that a kept column has one type in all files: those of text files are texts.

    Raises:
        RecipeError: it has not.
    """
    from exporter.jobs.parquet import opened_parquet, parquet_errors

    first: dict[str, tuple[str, str]] = {}
    for file in files:
        types = dict.fromkeys(columns.keep, "string")
        if file.form.kind == "parquet" and columns.keep:
            with parquet_errors(file.address), opened_parquet(file.address, opened) as found:
                types = {name: str(found.schema_arrow.field(name).type) for name in columns.keep}
        for name, kind in types.items():
            known, there = first.setdefault(name, (kind, file.address))
            if known != kind:
                raise RecipeError(
                    f"{file.address}: column {name!r} is {kind}, in {there} it is {known}; "
                    "write them alike, or score the files one by one"
                )
