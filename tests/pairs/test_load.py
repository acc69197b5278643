"""Pair sets: read from JSONL or TSV, every bad row named, and fit for what a recipe asks of them."""

from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.errors import RecipeError
from exporter.pairs import load_pair_sets, load_pairs, spread_out
from tests.factories import a_pair_set, a_recipe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from exporter.pairs import PairSet
    from exporter.recipe.schema import Recipe

ROWS: list[dict[str, object]] = [
    {"query": "what is lift", "passage": "a force", "label": 2},
    {"query": "what is lift", "passage": "a house", "label": 0},
    {"query": "what is drag", "passage": "a force too", "label": 1},
    {"query": "what is drag", "passage": "a queen", "label": 0},
]


def jsonl(path: Path, rows: Sequence[dict[str, object]] = ROWS) -> Path:
    """Write rows as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def text(path: Path, content: str) -> Path:
    """Write a file as it is given."""
    path.write_text(content, encoding="utf-8")
    return path


def content(pair_set: PairSet) -> tuple[object, ...]:
    """Give all a pair set holds but its name."""
    labels = None if pair_set.labels is None else pair_set.labels.tolist()
    return pair_set.pairs, labels, pair_set.query_of.tolist(), pair_set.query_ids


def without(*keys: str) -> list[dict[str, object]]:
    """Give the rows without some of their keys."""
    return [{key: value for key, value in row.items() if key not in keys} for row in ROWS]


# --- what is read ---


def test_jsonl(tmp_path: Path) -> None:
    """One object a line gives texts, labels and queries in their order."""
    pair_set = load_pairs(str(jsonl(tmp_path / "x.jsonl")))
    assert pair_set.name == str(tmp_path / "x.jsonl")
    assert pair_set.pairs[1] == ("what is lift", "a house")
    assert pair_set.labels is not None
    assert pair_set.labels.tolist() == [2, 0, 1, 0]
    assert pair_set.query_of.tolist() == [0, 0, 1, 1]
    assert pair_set.query_ids == ("what is lift", "what is drag")


@pytest.mark.parametrize("header", ["", "query\tpassage\tlabel\n"])
def test_tsv_is_the_same(tmp_path: Path, header: str) -> None:
    """Columns in the documented order, named or not, give the same pair set as JSONL."""
    rows = "".join(f"{row['query']}\t{row['passage']}\t{row['label']}\n" for row in ROWS)
    tsv = load_pairs(str(text(tmp_path / "x.tsv", header + rows)))
    assert content(tsv) == content(load_pairs(str(jsonl(tmp_path / "x.jsonl"))))


def test_tsv_names_its_columns(tmp_path: Path) -> None:
    """A first line that starts with `query` says the order of the columns."""
    path = text(tmp_path / "x.tsv", "query\tquery_id\tpassage\nq one\t7\tp\nq one\t8\tp2\n")
    pair_set = load_pairs(str(path))
    assert pair_set.pairs == (("q one", "p"), ("q one", "p2"))
    assert pair_set.query_ids == ("7", "8")


def test_without_labels(tmp_path: Path) -> None:
    """Labels may be left out, all of them."""
    assert load_pairs(str(jsonl(tmp_path / "x.jsonl", without("label")))).labels is None
    assert load_pairs(str(text(tmp_path / "x.tsv", "a\tb\nc\td\n"))).labels is None


def test_grouped_by_query_id(tmp_path: Path) -> None:
    """Rows of one `query_id` are one query, wherever they stand; one text may have several ids."""
    rows: list[dict[str, object]] = [
        {"query": "lift?", "passage": "a", "query_id": 7},
        {"query": "lift?", "passage": "b", "query_id": 8},
        {"query": "lift?", "passage": "c", "query_id": 7},
    ]
    pair_set = load_pairs(str(jsonl(tmp_path / "x.jsonl", rows)))
    assert pair_set.query_of.tolist() == [0, 1, 0]
    assert pair_set.query_ids == ("7", "8")


def test_quotes_are_text(tmp_path: Path) -> None:
    """In TSV a quotation mark is a character of the text."""
    pair_set = load_pairs(str(text(tmp_path / "x.tsv", 'say "lift"\t"half a quote\n')))
    assert pair_set.pairs == (('say "lift"', '"half a quote'),)


def test_blank_lines_are_skipped(tmp_path: Path) -> None:
    """Blank lines are no rows, and the rows after them keep their line numbers."""
    path = text(tmp_path / "x.jsonl", '\n{"query": "q", "passage": "p"}\n  \n{"query": "q"}\n')
    with pytest.raises(RecipeError, match=r"x\.jsonl:4: "):
        load_pairs(str(path))


def test_misspelt_key_is_an_error(tmp_path: Path) -> None:
    """A near miss of a known key is refused, since it would silently drop labels or ids."""
    path = jsonl(tmp_path / "x.jsonl", [{**row, "lable": 1} for row in ROWS])
    with pytest.raises(RecipeError, match=r"x.jsonl:1: unknown column 'lable', did you mean 'label'\?"):
        load_pairs(str(path))


def test_other_keys_are_left_alone(tmp_path: Path) -> None:
    """A JSONL row may carry more than a pair needs."""
    rows = [{**row, "source": "wikipedia", "passage_id": i} for i, row in enumerate(ROWS)]
    assert load_pairs(str(jsonl(tmp_path / "x.jsonl", rows))).pairs[0] == ("what is lift", "a force")


@pytest.mark.parametrize("label", [1, 1.0, "1", "1.0"])
def test_labels_are_whole_numbers_however_written(tmp_path: Path, label: object) -> None:
    """A whole number is a label, as number or text."""
    labels = load_pairs(str(jsonl(tmp_path / "x.jsonl", [{**row, "label": label} for row in ROWS]))).labels
    assert labels is not None
    assert labels.tolist() == [1] * 4


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20).filter(str.strip)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(TEXTS, TEXTS, st.integers(0, 3)),
        min_size=1,
        max_size=5,
        unique_by=lambda row: " ".join(unicodedata.normalize("NFC", row[0]).replace("\ufeff", " ").split()),
    )
)
def test_any_text_comes_back(tmp_path: Path, rows: list[tuple[str, str, int]]) -> None:
    """Whatever characters the texts hold, JSONL brings them back, and each distinct query is one group."""
    dicts: list[dict[str, object]] = [{"query": q, "passage": p, "label": label} for q, p, label in rows]
    pair_set = load_pairs(str(jsonl(tmp_path / "x.jsonl", dicts)))
    assert pair_set.pairs == tuple((q, p) for q, p, _ in rows)
    assert pair_set.labels is not None
    assert pair_set.labels.tolist() == [label for *_, label in rows]
    assert pair_set.query_ids == tuple(dict.fromkeys(q for q, *_ in rows))


# --- what is refused, with its line ---


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("query\tpassage", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('["q", "p"]', "wanted an object with query and passage"),
        ("null", "wanted an object with query and passage"),
        ("{}", "wanted the columns query and passage; found none"),
        ('{"query": "q"}', "wanted the columns query and passage; found 'query'"),
        ('{"passage": "p"}', "wanted the columns query and passage"),
        ('{"query": "q", "passage": null}', "wanted query and passage"),
        ('{"query": 3, "passage": "p"}', "wanted query and passage"),
        ('{"query": "q", "passage": ["p"]}', "passage holds a list; write one pair a row"),
        ('{"query": "q", "passage": "p"}', "labels stand on some rows only"),
        (
            '{"query": "q", "passage": "p", "label": -1}',
            "label -1, wanted a number from 0 (not relevant) to 1000",
        ),
        ('{"query": "q", "passage": "p", "label": "1_000"}', "label '1_000', wanted"),
        ('{"query": "q", "passage": "p", "label": 1000.5}', "label 1000.5, wanted"),
        ('{"query": "q", "passage": "p", "label": "good"}', "label 'good', wanted"),
        ('{"query": "q", "passage": "p", "label": ""}', "labels stand on some rows only"),
        ('{"query": "q", "passage": "p", "label": null}', "labels stand on some rows only"),
        ('{"query": "q", "passage": "p", "label": [1]}', "label [1], wanted"),
        ('{"query": "q", "passage": "p", "label": NaN}', "labels stand on some rows only"),
        ('{"query": "q", "passage": "p", "label": 1e999}', "label inf, wanted"),
        ('{"query": "q", "passage": "p", "label": 1e300}', "label 1e+300, wanted"),
        ('{"query": "q", "passage": "p", "label": 1' + "0" * 400 + "}", "label 10"),
    ],
    ids=lambda value: value[:60],
)
def test_bad_jsonl_row(tmp_path: Path, line: str, message: str) -> None:
    """A row that is no pair is refused with file and line, and with what was found."""
    path = text(tmp_path / "x.jsonl", '{"query": "q", "passage": "p", "label": 1}\n' + line + "\n")
    with pytest.raises(RecipeError) as caught:
        load_pairs(str(path))
    assert f"{path}:2: " in str(caught.value)
    assert message in str(caught.value)


def test_labels_that_begin_late(tmp_path: Path) -> None:
    """Labels on the second row but not on the first are noticed at the second."""
    path = jsonl(tmp_path / "x.jsonl", [*without("label")[:1], *ROWS[1:]])
    with pytest.raises(
        RecipeError, match=r"x\.jsonl:2: labels stand on some rows only \(one here, unlike line 1\)"
    ):
        load_pairs(str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("q\tp\t1\nq\n", ":2: 1 columns, line 1 has 3"),
        ("q\tp\t1\nq\tp\tgood\n", ":2: label 'good'"),
        ("q\tp\t1\nq\tp\t\n", ":2: labels stand on some rows only"),
        ("q\tp\t1\nq\tp\n", ":2: 2 columns, line 1 has 3"),
        ("q\tp\t1\ti\tj\tk\n", ":1: 6 columns, wanted at most 5"),
        ("query\tpassage\nq\tp\t1\n", ":2: 3 columns, line 1 has 2"),
        ("query\tpassage\tlable\nq\tp\t1\n", ":1: unknown column 'lable', did you mean 'label'?"),
        ("query\tlabel\nq\t1\n", ":1: wanted the columns query and passage; found 'query', 'label'"),
        ("q\tp\t1\n\n\nq\n", ":4: 1 columns, line 1 has 3"),
    ],
)
def test_bad_tsv_row(tmp_path: Path, content: str, message: str) -> None:
    """A row that is no pair is refused with file and line, blank lines counted."""
    with pytest.raises(RecipeError) as caught:
        load_pairs(str(text(tmp_path / "x.tsv", content)))
    assert f"x.tsv{message}" in str(caught.value)


@pytest.mark.parametrize("name", ["x.jsonl", "x.tsv"])
@pytest.mark.parametrize("raw", ["", "\n", "\n\n\n"])
def test_empty(tmp_path: Path, name: str, raw: str) -> None:
    """A file without rows is said to be empty."""
    with pytest.raises(RecipeError, match="empty; wanted at least two queries"):
        load_pairs(str(text(tmp_path / name, raw)))


def test_header_alone_is_empty(tmp_path: Path) -> None:
    """Names of columns are no rows."""
    with pytest.raises(RecipeError, match="empty"):
        load_pairs(str(text(tmp_path / "x.tsv", "query\tpassage\tlabel\n")))


@pytest.mark.parametrize("name", ["x.jsonl", "x.tsv"])
def test_not_utf8(tmp_path: Path, name: str) -> None:
    """A file that is no text is refused."""
    (tmp_path / name).write_bytes(b'\n{"query": "\xff\xfe"}\n')
    with pytest.raises(RecipeError, match=r"x\.\w+:2: byte 12 of the line, 0xff, is not UTF-8; .*iconv"):
        load_pairs(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "found"), [("x.xlsx", r"\.xlsx"), ("x", "no suffix"), ("x.json", r"\.json")]
)
def test_another_format(tmp_path: Path, name: str, found: str) -> None:
    """A file of another format is refused by its suffix."""
    with pytest.raises(RecipeError, match=rf"wanted \.jsonl, \.tsv, .*\.parquet; found {found}"):
        load_pairs(str(text(tmp_path / name, "")))


@pytest.mark.parametrize(
    "name", ["none.jsonl", "sample/none", "sample/../none", ".", "x\0.jsonl", "x" * 300 + ".jsonl"]
)
def test_missing(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pair set that is not there is named."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match="no such file"):
        load_pairs(name)


# --- the digest ---


def test_digest_is_of_the_content(tmp_path: Path) -> None:
    """The same rows under another name or in the other format are the same pair set."""
    first = load_pairs(str(jsonl(tmp_path / "x.jsonl"))).digest
    assert load_pairs(str(jsonl(tmp_path / "y.jsonl"))).digest == first
    rows = "".join(f"{row['query']}\t{row['passage']}\t{row['label']}\n" for row in ROWS)
    assert load_pairs(str(text(tmp_path / "x.tsv", rows))).digest == first


def test_digest_changes_with_anything(tmp_path: Path) -> None:
    """Another text, label, order or grouping, and labels taken away, each give another digest."""
    versions = [
        ROWS,
        [{**ROWS[0], "passage": "a forge"}, *ROWS[1:]],
        [{**ROWS[0], "query": "what is lift?"}, *ROWS[1:]],
        [{**ROWS[0], "label": 1}, *ROWS[1:]],
        ROWS[::-1],
        ROWS[:3],
        [{**row, "query_id": i} for i, row in enumerate(ROWS)],
        without("label"),
        [{**ROWS[0], "label": 1.5}, *ROWS[1:]],
        [{**row, "label": int(i > 1)} for i, row in enumerate(ROWS)],
    ]
    digests = {load_pairs(str(jsonl(tmp_path / "x.jsonl", rows))).digest for rows in versions}
    assert len(digests) == len(versions)


# --- the sets of a recipe ---


def recipe_of(verify: Path, calibrate: Path | None = None, bar: str = "min_kendall_tau") -> Recipe:
    """Give a recipe over pair files."""
    pairs = {"verify": str(verify), "calibrate": str(calibrate) if calibrate else None}
    return a_recipe(pairs=pairs, variants=[{"kind": "onnx", "bars": {bar: 0.9}}])


def test_pair_sets(tmp_path: Path) -> None:
    """A recipe's two sets are read; calibrate may be left out."""
    other: list[dict[str, object]] = [{"query": "what is mach", "passage": "a number"}]
    verify, calibrate = jsonl(tmp_path / "v.jsonl"), jsonl(tmp_path / "c.jsonl", other)
    first, second = load_pair_sets(recipe_of(verify, calibrate))
    assert first.pairs == load_pairs(str(verify)).pairs
    assert second is not None
    assert second.pairs == (("what is mach", "a number"),)
    assert load_pair_sets(recipe_of(verify))[1] is None


def test_shared_pairs(tmp_path: Path) -> None:
    """A single pair in both sets is one too many, whatever its label."""
    calibrate = jsonl(tmp_path / "c.jsonl", [{**ROWS[2], "label": 0}, {**ROWS[0], "passage": "new"}])
    with pytest.raises(
        RecipeError, match="share 1 pairs; a model is not judged on what it was calibrated on"
    ):
        load_pair_sets(recipe_of(jsonl(tmp_path / "v.jsonl"), calibrate))


def test_shared_query_is_no_shared_pair(tmp_path: Path) -> None:
    """The same query with another passage is another pair."""
    calibrate = jsonl(tmp_path / "c.jsonl", [{**ROWS[0], "passage": "new"}])
    assert load_pair_sets(recipe_of(jsonl(tmp_path / "v.jsonl"), calibrate))[1] is not None


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            without("label")[:2],
            "1 query with more than one passage and no labels; ranking is judged over queries",
        ),
        (ROWS[:2], "1 query with more than one passage; ranking is judged over queries"),
        (ROWS[:3], "1 query with more than one passage; "),
        (ROWS[::2], "0 query with more than one passage; "),
    ],
)
def test_too_little_to_judge(tmp_path: Path, rows: list[dict[str, object]], message: str) -> None:
    """A set on which no ranking can be judged is refused before anything is built."""
    with pytest.raises(RecipeError) as caught:
        load_pair_sets(recipe_of(jsonl(tmp_path / "v.jsonl", rows)))
    assert message in str(caught.value)


def test_bar_that_needs_labels(tmp_path: Path) -> None:
    """A bar on nDCG without labels is refused; the other bars do without."""
    verify = jsonl(tmp_path / "v.jsonl", without("label"))
    with pytest.raises(RecipeError, match="no labels, so bar min_ndcg_retained has nothing to tell by"):
        load_pair_sets(recipe_of(verify, bar="min_ndcg_retained"))
    assert load_pair_sets(recipe_of(verify))[0].labels is None


@pytest.mark.parametrize("label", [0, 1])
def test_bar_that_needs_labels_that_differ(tmp_path: Path, label: int) -> None:
    """Where all labels of every query are alike any order is as good: a bar on nDCG would always be met."""
    verify = jsonl(tmp_path / "v.jsonl", [{**row, "label": label} for row in ROWS])
    with pytest.raises(RecipeError, match="in every query all labels are alike, so bar min_ndcg_retained"):
        load_pair_sets(recipe_of(verify, bar="min_ndcg_retained"))
    assert not load_pair_sets(recipe_of(verify))[0].tellable.any()


def test_bar_that_needs_more_than_ten_passages(tmp_path: Path) -> None:
    """Of ten passages or fewer the ten best are always the same, and a bar on them would always be met."""
    verify = jsonl(tmp_path / "v.jsonl")
    with pytest.raises(RecipeError, match="no query has more than 10 passages, so bar min_top10_overlap"):
        load_pair_sets(recipe_of(verify, bar="min_top10_overlap"))


# --- spread_out ---


def test_spread_out_by_hand() -> None:
    """Of passages 1 to 9 letters long, three are the shortest, the middle one and the longest."""
    picked = spread_out(a_pair_set((9,)), 3)
    assert [len(passage) for _, passage in picked] == [1, 5, 9]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(1, 40))
def test_spread_out_laws(sizes: list[int], n: int) -> None:
    """As many as asked for if there are, each once, in the set's order, and the same every time."""
    pair_set = a_pair_set(sizes)
    picked = spread_out(pair_set, n)
    assert len(picked) == min(n, len(pair_set.pairs))
    places = [pair_set.pairs.index(pair) for pair in picked]
    assert places == sorted(set(places))
    assert spread_out(pair_set, n) == picked


def test_spread_out_of_fewer() -> None:
    """A set with fewer pairs is taken whole."""
    pair_set = a_pair_set((2, 2))
    assert spread_out(pair_set, 100) == pair_set.pairs
