"""Parquet files: rows of the input, a few at a time, and parts of the output with their footers."""

from __future__ import annotations

import hashlib
import io
from bisect import bisect_right
from contextlib import contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING, BinaryIO

from pydantic import ValidationError

from exporter.artifact.files import from_json, to_json
from exporter.errors import IntegrityError, RecipeError
from exporter.jobs.job import CHUNK_PAIRS, DonePart, Footer
from exporter.jobs.rows import Chunk
from exporter.packages import missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from pyarrow.parquet import FileMetaData, ParquetFile

    from exporter.jobs.job import Columns

_FOOTER = b"exporter"
# Bytes of a column that are read at a time: without it a whole column of a row group is.
# Source: https://arrow.apache.org/docs/python/generated/pyarrow.parquet.ParquetFile.html (buffer_size)
_BUFFER_BYTES = 1 << 20


def check_installed() -> None:
    """Check that pyarrow is here, which every part is written with.

    Raises:
        BackendMissing: it is not.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise missing(error, what="scores as Parquet") from None


@contextmanager
def parquet_errors(address: str) -> Iterator[None]:
    """Raise what pyarrow raises over a file as ours, one line.

    Raises:
        RecipeError: the file is no Parquet file, or is damaged.
    """
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        first = str(error).partition("\n")[0]
        raise RecipeError(f"{address}: cannot be read as Parquet: {first}") from None


def opened_parquet(address: str, opened: Callable[[str], BinaryIO]) -> ParquetFile:
    """Open a Parquet file so that no more of it is in memory than is looked at."""
    from pyarrow.parquet import ParquetFile

    return ParquetFile(opened(address), pre_buffer=False, buffer_size=_BUFFER_BYTES)


class ParquetRows:
    """The rows of one file, forwards only."""

    def __init__(self, address: str, columns: Columns, opened: Callable[[str], BinaryIO]) -> None:
        """Open the file at its first row."""
        self._address, self._columns = address, columns
        with parquet_errors(address):
            self._file = opened_parquet(address, opened)
        metadata = self._file.metadata
        sizes = [int(metadata.row_group(i).num_rows) for i in range(metadata.num_row_groups)]
        self._starts = [0, *accumulate(sizes)]
        self._at = 0
        self._group = 0  # the next one to be decoded
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._rest: pa.RecordBatch | None = None

    def rows(self, first: int, n_rows: int) -> Iterator[Chunk]:
        """Yield some rows, which begin at or after the end of those that were last yielded."""
        with parquet_errors(self._address):
            self._skip(first)
            while n_rows:
                batch = self._next(n_rows)
                n_rows -= batch.num_rows
                yield self._chunk(batch, self._at - batch.num_rows)

    def _skip(self, first: int) -> None:
        """Go on to a row, by way of the group that holds it."""
        group = bisect_right(self._starts, first) - 1
        if group >= self._group:
            self._group, self._at = group, self._starts[group]
            self._batches, self._rest = iter(()), None
        while self._at < first:
            self._next(first - self._at)

    def _next(self, n_rows: int) -> pa.RecordBatch:
        """Return the next rows, at most so many."""
        if self._rest is None:
            self._rest = self._decoded()
        batch = self._rest.slice(0, n_rows)
        self._rest = self._rest.slice(n_rows) if self._rest.num_rows > n_rows else None
        self._at += batch.num_rows
        return batch

    def _decoded(self) -> pa.RecordBatch:
        while True:
            batch = next(self._batches, None)
            if batch is not None and batch.num_rows:
                return batch
            if batch is None and self._group == self._file.metadata.num_row_groups:
                raise RecipeError(f"{self._address}: fewer rows than it had; the file was changed meanwhile")
            if batch is None:
                self._batches = self._file.iter_batches(
                    batch_size=CHUNK_PAIRS,
                    row_groups=[self._group],
                    columns=list(dict.fromkeys(self._names())),
                    use_threads=False,
                )
                self._group += 1

    def _names(self) -> tuple[str, ...]:
        return (self._columns.query, self._columns.passage, *self._columns.keep)

    def _chunk(self, batch: pa.RecordBatch, first: int) -> Chunk:
        names = self._names()
        problems: dict[int, tuple[int, str]] = {}
        queries = _texts(batch.column(names[0]), names[0], problems)
        passages = _texts(batch.column(names[1]), names[1], problems)
        placed = {
            i: (first + i + 1, f"{self._address}: row {first + i + 1}: {problem}")
            for i, (_, problem) in problems.items()
        }
        return Chunk(
            list(zip(queries, passages, strict=True)), [batch.column(name) for name in names[2:]], placed
        )


def _texts(column: pa.Array, name: str, problems: dict[int, tuple[int, str]]) -> list[str | None]:
    try:
        return list(column.to_pylist())
    except UnicodeError:
        pass
    found: list[str | None] = []
    for i, value in enumerate(column):
        try:
            found.append(value.as_py())
        except UnicodeError as error:
            found.append(None)
            problems[i] = (i, f"{name}: {error}; write texts as UTF-8")
    return found


def text_problem(kind: pa.DataType) -> str:
    """Return what is wrong with a column's type where texts are wanted; empty if nothing is."""
    import pyarrow as pa

    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    is_text: bool = (
        pa.types.is_string(value)
        or pa.types.is_large_string(value)
        or pa.types.is_string_view(value)
        or pa.types.is_null(value)
    )
    return "" if is_text else f"is {kind}; wanted text"


def part_bytes(
    scores: NDArray[np.float32],
    is_null: NDArray[np.bool_],
    kept: Sequence[Sequence[pa.Array]],
    columns: Columns,
    footer: Footer,
) -> bytes:
    """Return the file of a part: the kept columns and the scores, with the footer among its metadata.

    Args:
        scores: float32[n_rows].
        is_null: bool[n_rows], the rows that have no score.
        kept: the kept columns, each in pieces.
        columns: their names.
        footer: what it says of itself.
    """
    import pyarrow as pa
    from pyarrow import parquet

    arrays = [pa.chunked_array(pieces) for pieces in kept]
    arrays.append(pa.chunked_array([pa.array(scores, pa.float32(), mask=is_null)]))
    table = pa.table(arrays, names=[*columns.keep, columns.score])
    table = table.replace_schema_metadata({_FOOTER: to_json(footer)})
    into = io.BytesIO()
    parquet.write_table(table, into, compression="zstd")
    return into.getvalue()


def read_part(raw: bytes, address: str) -> DonePart | None:
    """Return what a part's file says of itself; None where it is no whole Parquet file.

    Raises:
        IntegrityError: it is one, and nothing that this program wrote.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        metadata: FileMetaData = parquet.read_metadata(io.BytesIO(raw))
    except (pa.ArrowException, OSError):
        return None
    said = (metadata.metadata or {}).get(_FOOTER)
    try:
        footer = from_json(Footer, said or b"")
    except ValidationError:
        raise IntegrityError(
            f"{address}: no scores of `exporter score`; give another folder, or remove the file"
        ) from None
    if footer.n_rows != metadata.num_rows:
        raise IntegrityError(f"{address}: {metadata.num_rows} rows, its footer says {footer.n_rows}")
    return DonePart(footer, hashlib.sha256(raw).hexdigest())
