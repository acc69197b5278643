"""Rows of a Parquet file, as pandas and datasets write it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.errors import RecipeError
from exporter.packages import missing
from exporter.pairs.columns import placed
from exporter.pairs.files import check_no_pointer
from exporter.pairs.reading import MAX_FILE, Reading, Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyarrow.parquet import FileMetaData, ParquetFile


# Rows decoded at once: few, since a dictionary lets a small file hold a long text any number of times.
_BATCH = 16


def parquet_rows(reading: Reading) -> Iterator[Row]:
    """Read a few rows at a time, of the known columns only.

    Raises:
        RecipeError: it is no Parquet file, lacks query or passage, or holds more than a pair file may.
        BackendMissing: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise missing(error, what=f"pairs {reading.path}") from None
    reading.notes.append("Parquet")
    try:
        check_no_pointer(reading)
        with ParquetFile(reading.path) as file:
            yield from _rows(file, reading)
    except (pa.ArrowException, OSError) as error:
        first = str(error).partition("\n")[0]
        raise RecipeError(f"pairs {reading.path}: cannot be read as Parquet: {first}") from None


def _rows(file: ParquetFile, reading: Reading) -> Iterator[Row]:
    columns, ignored = placed(file.schema_arrow.names, str(reading.path))
    reading.ignored.update(dict.fromkeys(ignored))
    names = list(columns.values())
    if _n_bytes(file.metadata, names) > MAX_FILE:
        raise RecipeError(f"pairs {reading.path}: more than {MAX_FILE} bytes unpacked; give fewer pairs")

    number = 0
    for batch in file.iter_batches(batch_size=_BATCH, columns=names, use_threads=False):
        values = [batch.column(name) for name in names]
        for i in range(batch.num_rows):
            number += 1
            try:
                row = {column: value[i].as_py() for column, value in zip(columns, values, strict=True)}
            except UnicodeError as error:
                raise RecipeError(f"{reading.place(number)}: {error}; write texts as UTF-8") from None
            yield number, row


def _n_bytes(metadata: FileMetaData, names: Sequence[str]) -> int:
    chunks = (
        metadata.row_group(group).column(i)
        for group in range(metadata.num_row_groups)
        for i in range(metadata.num_columns)
    )
    # A nested column's path has its children's names after a dot.
    return sum(
        chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.partition(".")[0] in names
    )
