"""Read parts of files, one after the other, as whoever scores them asks for them."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, BinaryIO

from exporter.errors import RecipeError
from exporter.jobs.job import CHUNK_PAIRS
from exporter.jobs.parquet import ParquetRows
from exporter.jobs.rows import Chunk, TextRow, reading_of, text_chunk, text_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exporter.jobs.job import Columns, Part


class Cursor:
    """Reads parts of files. A part after the last one read is reached from there, not from the beginning."""

    def __init__(self, columns: Columns, opened: Callable[[str], BinaryIO]) -> None:
        """Open nothing yet.

        Args:
            columns: which columns are read.
            opened: opens the file of an address.
        """
        self._columns, self._opened = columns, opened
        self._at: tuple[str, int] | None = None
        self._rows: Iterator[TextRow] | None = None
        self._batches: ParquetRows | None = None

    def chunks(self, part: Part) -> Iterator[Chunk]:
        """Yield the rows of a part.

        Raises:
            RecipeError: the file cannot be read, or has other rows than it had.
        """
        if part.file.form.kind == "parquet":
            yield from self._parquet(part)
        else:
            yield from self._text(part)

    def _text(self, part: Part) -> Iterator[Chunk]:
        if self._rows is None or not self._is_before(part) or part.start.position is not None:
            reading = reading_of(part.file.address, self._opened)
            self._rows = text_rows(reading, part.file.form, self._columns, part.start)
            self._at = (part.file.address, part.start.row if part.start.position is not None else 0)
        assert self._at is not None
        address, at = self._at
        self._at = None  # where the reading is left half-way, it begins anew
        for _ in islice(self._rows, part.start.row - at):
            pass
        n_left = part.n_rows
        while n_left and (rows := list(islice(self._rows, min(CHUNK_PAIRS, n_left)))):
            n_left -= len(rows)
            yield text_chunk(rows, len(self._columns.keep))
        if n_left:
            raise RecipeError(f"{part.rows}: {n_left} of them are missing; the file was changed meanwhile")
        self._at = (address, part.start.row + part.n_rows)

    def _parquet(self, part: Part) -> Iterator[Chunk]:
        if self._batches is None or not self._is_before(part):
            self._batches = ParquetRows(part.file.address, self._columns, self._opened)
        self._at = None
        yield from self._batches.rows(part.start.row, part.n_rows)
        self._at = (part.file.address, part.start.row + part.n_rows)

    def _is_before(self, part: Part) -> bool:
        return self._at is not None and self._at[0] == part.file.address and self._at[1] <= part.start.row
