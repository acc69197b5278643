"""Rows: ids, labels, texts and repetitions, read alike from JSONL and tables."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.pairs import PairSet
from tests.pairs.files import labels, read, refusal


def of(folder: Path, *rows: dict[str, object]) -> PairSet:
    """Read rows written as JSONL; each is a pair of its own unless it says otherwise."""
    return read(folder, "x.jsonl", _jsonl(rows))


def why_not(folder: Path, *rows: dict[str, object]) -> str:
    """Return why rows written as JSONL are refused."""
    return refusal(folder, "x.jsonl", _jsonl(rows))


def _jsonl(rows: tuple[dict[str, object], ...]) -> str:
    return "".join(
        json.dumps({"query": "q", "passage": f"p{i}", **row}) + "\n" for i, row in enumerate(rows, 1)
    )


# --- ids ---


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        ((1, 1, 1), ("1",)),
        ((1, 1.0, "1"), ("1",)),
        ((1.0, 2.0, 1.0), ("1", "2")),
        (("1.0", "1.0", "2.0"), ("1.0", "2.0")),
        (("a", "A", "a"), ("a", "A")),
        ((0, 0, 10), ("0", "10")),
        (("q1", "q01x", "q10"), ("q1", "q01x", "q10")),
        ((None, float("nan"), ""), ("q",)),
        (("nan", "None", " <NA> "), ("q",)),
    ],
)
def test_ids(tmp_path: Path, ids: tuple[object, ...], names: tuple[str, ...]) -> None:
    """Numbers go by value, texts as they are written; ids that are missing on all rows are no ids."""
    assert of(tmp_path, *({"query_id": one} for one in ids)).query_ids == names


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("q1", "q1 "),
        ("q 1", "q  1"),
        ("q1", "\ufeffq1"),
        (unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")),
        ("1", "1.0"),
        (1, "1.0"),
        ("7", "007"),
        ("0", "00"),
    ],
)
def test_two_spellings_of_one_id(tmp_path: Path, first: object, second: object) -> None:
    """What might be one id is neither merged nor split: both spellings and lines are named."""
    message = why_not(tmp_path, {"query_id": first}, {"query_id": "other"}, {"query_id": second})
    assert message.startswith(
        f"x.jsonl:3: query_id {str(second)!a}, but {str(first)!a} on line 1: two spellings"
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (True, "wanted text or a whole number"),
        ([1], "wanted text or a whole number"),
        ({}, "wanted text or a whole number"),
        (1.5, "a number that was rounded"),
        (1e19, "a number that was rounded"),
        (float("inf"), "a number that was rounded"),
        ("1.2345678901234568e+18", "a number that was rounded"),
        ("a\0", "query_id holds NUL"),
        ("\ud83d", "query_id holds half a surrogate pair"),
    ],
)
def test_no_id(tmp_path: Path, value: object, message: str) -> None:
    """What identifies nothing, or no more, is refused."""
    assert message in why_not(tmp_path, {"query_id": value})


@pytest.mark.parametrize("missing", [None, float("nan"), "", "nan"])
def test_ids_on_some_rows(tmp_path: Path, missing: object) -> None:
    """Ids on some rows only are refused, whichever row begins."""
    for ids in ((1, missing), (missing, 1)):
        message = why_not(tmp_path, *({"query_id": one} for one in ids))
        assert message.startswith("x.jsonl:2: query_id stands on some rows only (unlike line 1)")


def test_one_id_for_two_queries(tmp_path: Path) -> None:
    """Ids that begin anew, as where files were joined, would merge queries: both lines are named."""
    message = why_not(tmp_path, {"query_id": 0}, {"query_id": 0, "query": "another"})
    assert message.startswith("x.jsonl:2: query_id '0' has another query than on line 1: 'another', not 'q'")


def test_one_query_with_two_ids(tmp_path: Path) -> None:
    """Ids decide: one text under two ids is two queries, and a label may differ between them."""
    pair_set = of(
        tmp_path,
        {"query_id": 1, "passage": "p", "label": 1},
        {"query_id": 2, "passage": "p", "label": 0},
    )
    assert pair_set.query_of.tolist() == [0, 1]


@pytest.mark.parametrize(("first", "second"), [("q", "q "), ("q  r", "q r"), ("é", "e\u0301")])
def test_two_spellings_of_one_query(tmp_path: Path, first: str, second: str) -> None:
    """Without ids, texts that differ in spaces or Unicode form alone are not split in silence."""
    assert why_not(tmp_path, {"query": first}, {"query": second}).startswith("x.jsonl:2: query ")
    assert len(of(tmp_path, {"query": first, "query_id": 1}, {"query": second, "query_id": 2}).query_ids) == 2


# --- labels ---


@pytest.mark.parametrize(
    ("value", "label"),
    [(0.75, 0.75), ("0.75", 0.75), (True, 1), (False, 0), ("True", 1), ("false", 0), (-0.0, 0), ("1e2", 100)],
)
def test_labels(tmp_path: Path, value: object, label: float) -> None:
    """Numbers, graded ones and ones with decimals, and truth values are labels."""
    assert labels(of(tmp_path, {"label": value})) == [label]


@pytest.mark.parametrize("missing", [None, float("nan"), "", "nan", "<NA>"])
def test_labels_that_are_missing(tmp_path: Path, missing: object) -> None:
    """No label on any row is a set without labels; on some rows it is refused, whichever begins."""
    pair_set = of(tmp_path, {"label": missing}, {"label": missing})
    assert pair_set.labels is None
    assert "no labels, the column is empty" in pair_set.reading
    for values in ((1, missing), (missing, 1)):
        message = why_not(tmp_path, *({"label": one} for one in values))
        assert message.startswith("x.jsonl:2: labels stand on some rows only")


@pytest.mark.parametrize(
    "value", [-1, -0.5, float("inf"), float("-inf"), 1001, 10**400, "0,75", "1_0", "yes", "inf", "٣", [1]]
)
def test_no_label(tmp_path: Path, value: object) -> None:
    """What is no number from 0 to 1000 is refused and quoted."""
    message = why_not(tmp_path, {"label": value})
    assert message.startswith("x.jsonl:1: label ")
    assert "wanted a number from 0 (not relevant) to 1000" in message
    assert len(message) < 200


# --- texts and repetitions ---


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "passage is empty"),
        (" \t\n\u3000", "passage is empty"),
        (None, "passage is None; wanted query and passage, two strings"),
        (3, "passage is 3; wanted"),
        ({"text": "p"}, "passage holds a dict; write one pair a row"),
        ("a\0b", "passage holds NUL"),
    ],
)
def test_no_text(tmp_path: Path, value: object, message: str) -> None:
    """A passage that is missing or no text is refused with its line."""
    found = why_not(tmp_path, {}, {"passage": value})
    assert found.startswith("x.jsonl:2: ")
    assert message in found


def test_missing_values_in_tables(tmp_path: Path) -> None:
    """In a table a word for a missing value is one; in JSONL it is a text."""
    for word in ("nan", "NaN", "None", "<NA>", "NULL", ""):
        assert refusal(tmp_path, "x.tsv", f"q\tp\nq\t{word}\n").startswith("x.tsv:2: passage is ")
    assert of(tmp_path, {"passage": "None"}).pairs == (("q", "None"),)


def test_spaces_are_kept(tmp_path: Path) -> None:
    """A text is what stands there, spaces around it included."""
    assert read(tmp_path, "x.tsv", " q \t p  p \n").pairs == ((" q ", " p  p "),)


def test_one_pair_two_labels(tmp_path: Path) -> None:
    """One pair with two labels is refused, and both lines are named."""
    rows = ({"passage": "p", "label": 1}, {"label": 0}, {"passage": "p", "label": 0.5})
    assert why_not(tmp_path, *rows) == (
        "x.jsonl:3: label 0.5 for the pair that has label 1 on line 1; leave one"
    )


def test_repeated_pairs(tmp_path: Path) -> None:
    """Equal rows are kept, and counted where the reading is shown."""
    pair_set = of(tmp_path, *({"passage": "p", "label": one} for one in (1, 1.0, "1")))
    assert len(pair_set.pairs) == 3
    assert "2 pairs stand there more than once" in pair_set.reading


def test_keys_of_json(tmp_path: Path) -> None:
    """A key twice is refused, also in another case; a list is told how it is written."""
    assert "x.jsonl:1: the key 'query' stands there twice" in refusal(
        tmp_path, "x.jsonl", '{"query": "a", "query": "b", "passage": "p"}'
    )
    assert "two columns are called query" in refusal(
        tmp_path, "x.jsonl", '{"query": "a", "Query": "b", "passage": "p"}'
    )
    assert "orient='records', lines=True" in refusal(tmp_path, "x.jsonl", '[{"query": "a", "passage": "p"}]')
    assert read(tmp_path, "x.jsonl", '{"Query": "a", "PASSAGE": "p"}').pairs == (("a", "p"),)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12).filter(str.strip),
            st.floats(0, 1000),
            st.integers(0, 3),
        ),
        min_size=1,
        unique_by=lambda row: row[0],
    ),
    st.booleans(),
)
def test_what_json_writes_comes_back(
    tmp_path: Path,
    rows: list[tuple[str, float, int]],
    ascii_only: bool,  # noqa: FBT001
) -> None:
    """Whatever `json.dumps` writes is read back equal: texts, labels to the bit, grouping by id."""
    content = "".join(
        json.dumps({"query": f"q{q}", "passage": p, "label": label, "query_id": q}, ensure_ascii=ascii_only)
        + "\n"
        for p, label, q in rows
    )
    pair_set = read(tmp_path, "x.jsonl", content)
    assert [passage for _, passage in pair_set.pairs] == [passage for passage, *_ in rows]
    assert labels(pair_set) == [label for _, label, _ in rows]
    assert [pair_set.query_ids[i] for i in pair_set.query_of] == [str(q) for *_, q in rows]
