"""Parquet files as pandas and datasets write them."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow.parquet import write_table

from exporter.errors import BackendMissing, RecipeError
from exporter.pairs import PairSet, load_pairs
from tests.pairs.files import labels, read

TEXTS = ["a force", "a house", "a queen"]


def table(**columns: object) -> pa.Table:
    """Return a table of three passages of one query, with other columns beside or instead."""
    return pa.table({"query": ["what is lift"] * 3, "passage": TEXTS, **columns})


def stored(folder: Path, content: pa.Table) -> PairSet:
    """Write a table and read it as pairs."""
    write_table(content, folder / "x.parquet")
    return load_pairs(str(folder / "x.parquet"))


def test_parquet_is_the_same(tmp_path: Path) -> None:
    """A table is the pair set that its rows are as text."""
    pair_set = stored(tmp_path, table(label=[2, 0, 0.5], Source=["s"] * 3, __index_level_0__=[0, 1, 2]))
    rows = "".join(f"what is lift\t{text}\t{label}\n" for text, label in zip(TEXTS, (2, 0, 0.5), strict=True))
    assert pair_set.digest == read(tmp_path, "x.tsv", rows).digest
    assert pair_set.reading.startswith("Parquet; 3 pairs of 1 queries by the query's text; labels 0 to 2")
    assert pair_set.reading.endswith("ignored: 'Source', '__index_level_0__'")


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())],
    ids=str,
)
def test_types_of_text(tmp_path: Path, kind: pa.DataType) -> None:
    """Every type that holds text is text."""
    assert stored(tmp_path, table(passage=pa.array(TEXTS).cast(kind))).pairs[2] == ("what is lift", "a queen")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([True, False, True]), [1, 0, 1]),
        (pa.array([3, 0, 1], pa.int8()), [3, 0, 1]),
        (pa.array([0.75, 0, 1], pa.float32()), [0.75, 0, 1]),
        (pa.array([Decimal("0.25"), 0, 1], pa.decimal128(5, 2)), [0.25, 0, 1]),
        (pa.array(["1", "0", "0.5"]), [1, 0, 0.5]),
        (pa.array([None, None, None]), None),
    ],
    ids=str,
)
def test_types_of_label(tmp_path: Path, values: pa.Array, expected: list[float] | None) -> None:
    """Every type that holds numbers holds labels, and one without values holds none."""
    assert labels(stored(tmp_path, table(label=values))) == expected


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": [1, None, 0]}, "x.parquet: row 2: labels stand on some rows only"),
        ({"label": [1, 0, float("nan")]}, "x.parquet: row 3: labels stand on some rows only"),
        ({"query_id": ["a", "b", "a "]}, "x.parquet: row 3: query_id 'a '"),
        ({"query_id": [1.0, None, 2.0]}, "x.parquet: row 2: query_id stands on some rows only"),
        ({"passage": ["a", None, "b"]}, "x.parquet: row 2: passage is None"),
        ({"passage": [["a"], ["b"], ["c"]]}, "x.parquet: row 1: passage holds a list"),
        ({"passage": [b"a", b"b", b"c"]}, "x.parquet: row 1: passage is b'a'; wanted query and passage"),
        ({"Passage": TEXTS}, "x.parquet: two columns are called passage"),
        ({"pasage": TEXTS}, "x.parquet: unknown column 'pasage', did you mean 'passage'?"),
        ({"relevance": [1, 0, 0]}, "x.parquet: unknown column: rename 'relevance' to 'label'"),
    ],
)
def test_bad_row(tmp_path: Path, columns: dict[str, object], message: str) -> None:
    """What would be refused as text is, with the row's number."""
    with pytest.raises(RecipeError) as caught:
        stored(tmp_path, table(**columns))
    assert message in str(caught.value)


def test_text_that_is_no_utf8(tmp_path: Path) -> None:
    """Bytes that say they are text and are not are refused with their row."""
    raw = pa.array([b"a", b"b\xe9", b"c"]).view(pa.string())
    with pytest.raises(RecipeError, match=r"x\.parquet: row 2: .*utf-8"):
        stored(tmp_path, table(passage=raw))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\0" * 100 + b"PAR1", b'{"query": 1}'])
def test_no_parquet(tmp_path: Path, content: bytes) -> None:
    """A file that is none is refused in a line."""
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(RecipeError, match=r"x\.parquet: cannot be read as Parquet: [^\n]*$"):
        load_pairs(str(tmp_path / "x.parquet"))


def test_pointer(tmp_path: Path) -> None:
    """What Git LFS leaves in place of a file is named."""
    (tmp_path / "x.parquet").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    with pytest.raises(RecipeError, match="a pointer of Git LFS; .*git lfs pull"):
        load_pairs(str(tmp_path / "x.parquet"))


def test_no_rows(tmp_path: Path) -> None:
    """A table without rows is empty."""
    with pytest.raises(RecipeError, match="empty; wanted at least two"):
        stored(tmp_path, table().slice(0, 0))


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pyarrow is missing its extra is named, and the exit code is a missing package's."""
    write_table(table(), tmp_path / "x.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BackendMissing, match=r"pyarrow is not installed; .*\[parquet\]") as caught:
        load_pairs(str(tmp_path / "x.parquet"))
    assert caught.value.exit_code == 3
