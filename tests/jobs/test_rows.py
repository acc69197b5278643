"""Parts hold every row once, in order, whatever the file is and wherever it is cut."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.errors import RecipeError
from exporter.jobs.cursor import Cursor
from exporter.jobs.cut import cut
from exporter.jobs.job import Columns, Part
from exporter.jobs.places import opened

KEPT = Columns(keep=("id",))


def parts_of(path: Path, n: int, columns: Columns = KEPT) -> list[Part]:
    file, starts = cut(path.name, str(path), columns, n, lambda _n: None)
    ends = [*(start.row for start in starts[1:]), file.n_rows]
    return [
        Part(i, file, start, end - start.row) for i, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]


def read(parts: list[Part], columns: Columns = KEPT) -> list[tuple[object, ...]]:
    """Every row of some parts, by one cursor: query, passage, what is kept, and whether it is bad."""
    cursor, found = Cursor(columns, opened), []
    for part in parts:
        for chunk in cursor.chunks(part):
            kept = [column.to_pylist() for column in chunk.kept]
            for i, pair in enumerate(chunk.pairs):
                found.append((*pair, *(values[i] for values in kept), i in chunk.problems))
    return found


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n\ufeff"), max_size=8)
ROWS = st.lists(st.tuples(st.none() | TEXT, TEXT, st.none() | TEXT, st.booleans()), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(1, 12), st.sampled_from(["", ".gz", "bom"]), st.randoms(use_true_random=False))
def test_jsonl_parts_hold_all_rows(tmp_path_factory, found, n, packing, chance):
    """Read in any order, parts of JSON lines are the file's rows; bad ones stay in their place."""
    lines = ["{bad" if bad else json.dumps({"query": q, "passage": p, "id": k}) for q, p, k, bad in found]
    text = "".join(f"{line}\n" + "\n" * chance.randint(0, 1) for line in lines).encode()
    path = tmp_path_factory.mktemp("rows") / f"a.jsonl{packing if packing == '.gz' else ''}"
    path.write_bytes(
        gzip.compress(text) if packing == ".gz" else (b"\xef\xbb\xbf" if packing else b"") + text
    )
    wanted = [(None, None, None, True) if bad else (q, p, k, False) for q, p, k, bad in found]

    parts = parts_of(path, n)
    assert read(parts) == wanted
    order = list(range(len(parts)))
    chance.shuffle(order)
    cursor = Cursor(KEPT, opened)
    by_part = {i: [pair for chunk in cursor.chunks(parts[i]) for pair in chunk.pairs] for i in order}
    assert [pair for i in range(len(parts)) for pair in by_part[i]] == [row[:2] for row in wanted]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(*[st.text(st.sampled_from('ab",\n\té'), min_size=1, max_size=6)] * 3), min_size=1),
    st.integers(1, 5),
)
def test_quoted_tables_are_cut_between_records(tmp_path_factory, found, n):
    """A quoted field may go over lines; a part never begins inside one."""
    import csv

    path = tmp_path_factory.mktemp("rows") / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerows([("id", "query", "passage"), *found])
    assert read(parts_of(path, n)) == [(q, p, k, False) for k, q, p in found]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 25), st.integers(1, 25), st.randoms(use_true_random=False))
def test_parquet_parts_hold_all_rows(tmp_path_factory, n_rows, group, n, chance):
    """Parts need not end where row groups do, and may be read in any order; a column's type stays."""
    path = tmp_path_factory.mktemp("rows") / "a.parquet"
    texts = [None if i % 7 == 0 else f"t{i}" for i in range(n_rows)]
    columns = {"query": texts, "passage": texts, "id": pa.array(range(n_rows), pa.int64())}
    pq.write_table(pa.table(columns), path, row_group_size=group)
    parts = parts_of(path, n)
    assert read(parts) == [(text, text, i, False) for i, text in enumerate(texts)]
    chance.shuffle(parts)
    ids = sorted(row[2] for row in read(parts))
    assert ids == list(range(n_rows))


def test_a_tsv_without_header_and_a_short_row(tmp_path):
    """Without a header the first columns are query and passage; a row with others is bad, those after not."""
    path = tmp_path / "a.tsv"
    path.write_text("what is it\ta thing\nonly one\n\ta passage\n", encoding="utf-8")
    found = read(parts_of(path, 2, Columns()), Columns())
    assert found == [("what is it", "a thing", False), (None, None, True), ("", "a passage", False)]


def test_a_line_that_is_not_utf8_is_one_bad_row(tmp_path):
    """What stands behind it is read at its own place, also in another part."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"query":"a","passage":"\xff"}\n{"query":"b","passage":"c"}\n')
    parts = parts_of(path, 1, Columns())
    assert read(parts, Columns()) == [(None, None, True), ("b", "c", False)]
    (problem,) = next(Cursor(Columns(), opened).chunks(parts[0])).problems.values()
    assert problem[0] == 1
    assert f"{path}:1: byte 25 of the line" in problem[1]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_other_encodings(tmp_path, encoding):
    """A file in UTF-16 or UTF-32 is read from its beginning for every part."""
    path = tmp_path / "a.tsv"
    path.write_text("query\tpassage\nä\tö\nb\tc\nd\te\n", encoding=encoding)
    parts = parts_of(path, 1, Columns())
    assert read(parts[::-1], Columns())[::-1] == [("ä", "ö", False), ("b", "c", False), ("d", "e", False)]


def test_columns_are_asked_for_by_name(tmp_path):
    """A column that is not there is named, with what is there and the option."""
    path = tmp_path / "a.tsv"
    path.write_text("query\ttext\nä\tö\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"no column 'passage'; found 'query', 'text'; .*--passage-column"):
        parts_of(path, 1, Columns())
    assert read(parts_of(path, 1, Columns(passage="text")), Columns(passage="text")) == [("ä", "ö", False)]


def test_headers_of_other_names(tmp_path):
    """A first line with the names that were asked for is a header, whatever they are, in CSV by any mark."""
    columns = Columns("frage", "absatz")
    for name, mark in (("a.tsv", "\t"), ("a.csv", ";"), ("b.csv", ",")):
        path = tmp_path / name
        path.write_text(f"frage{mark}absatz\na{mark}b\n", encoding="utf-8")
        assert read(parts_of(path, 1, columns), columns) == [("a", "b", False)]


def test_numbers_are_no_texts(tmp_path):
    """A Parquet column of numbers is refused as a whole, a number in JSON lines as a row."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"query": [1], "passage": ["a"]}), path)
    with pytest.raises(RecipeError, match="column 'query' is int64; wanted text"):
        parts_of(path, 1, Columns())
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"query": 1, "passage": "a"}\n', encoding="utf-8")
    assert read(parts_of(lines, 1, Columns()), Columns()) == [(None, None, True)]
