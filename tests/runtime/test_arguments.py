"""What callers may pass to the runtime, and the one line they get for anything else.

Uses the tiny artifact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, islice, repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.errors import RecipeError
from exporter.runtime import Plan, Reranker

TEXTS = ["wing lift", "heat shock", "jet nozzle flow", "drag"]
PAIRS = [("wing", text) for text in TEXTS]


class Row(NamedTuple):
    """A pair with names, as `DataFrame.itertuples` yields it."""

    query: str
    passage: str


@pytest.fixture(scope="module")
def reranker(built: Path) -> Reranker:
    return Reranker.load(built, "onnx", plan=Plan(1, 1, 64))


class Column:
    """A column with an index of its own, as pandas has it: `[i]` is the row with that label, not the i-th."""

    def __init__(self, texts: list[object], labels: list[int]) -> None:
        self._rows, self.shape = dict(zip(labels, texts, strict=True)), (len(texts),)

    def __iter__(self) -> Iterator[object]:
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, label: int) -> object:
        return self._rows[label]


class Frame:
    """A data frame as pandas has it: it iterates over the names of its columns."""

    def __init__(self, rows: list[tuple[str, ...]]) -> None:
        self._rows, self.shape = rows, (len(rows), len(rows[0]))

    def __iter__(self) -> Iterator[str]:
        return iter(["query", "passage", "label"][: self.shape[1]])

    def __len__(self) -> int:
        return len(self._rows)

    def to_numpy(self) -> np.ndarray:
        return np.array(self._rows, object)


class Arrow:
    """A column as pyarrow has it: its items are no strings, but it can be turned into a list of them."""

    def __init__(self, texts: list[Any]) -> None:
        self._texts = texts

    def __iter__(self) -> Iterator[object]:
        return iter([object() for _ in self._texts])

    def to_pylist(self) -> list[Any]:
        return self._texts


@pytest.mark.parametrize(
    "documents",
    [
        TEXTS,
        tuple(TEXTS),
        iter(TEXTS),
        (text for text in TEXTS),
        dict.fromkeys(TEXTS),
        dict.fromkeys(TEXTS).keys(),
        dict(enumerate(TEXTS)).values(),
        np.array(TEXTS),
        np.array(TEXTS, object),
        Column([*TEXTS], [3, 2, 1, 0]),
        Column([*TEXTS], [0, 2, 3, 7]),
        Arrow(TEXTS),
    ],
    ids=lambda documents: type(documents).__name__,
)
def test_rank_takes_any_iterable_of_strings(reranker: Reranker, documents: Any) -> None:
    """A row's text is the text that was scored, at its place in the order of iteration."""
    if isinstance(documents, dict):
        documents = documents.keys()
    rows = reranker.rank("wing", documents, return_documents=True)
    assert rows == reranker.rank("wing", TEXTS, return_documents=True)
    assert all(row["text"] == TEXTS[row["corpus_id"]] for row in rows)
    assert {type(row["text"]) for row in rows} == {str}


def test_rank_takes_a_set(reranker: Reranker) -> None:
    """Of a set the texts come back with the scores that they have alone."""
    rows = reranker.rank("wing", set(TEXTS), return_documents=True)
    assert {row["text"] for row in rows} == set(TEXTS)
    for row in rows:
        assert abs(row["score"] - reranker.score([("wing", row["text"])])[0]) < 1e-5


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.sampled_from([*TEXTS, ""]), max_size=6), data=st.data())
def test_rank_by_any_index(reranker: Reranker, texts: list[str], data: st.DataObject) -> None:
    """Whatever labels a column's rows have, `corpus_id` counts rows and `text` is what was scored."""
    labels = data.draw(st.permutations(range(len(texts))))
    top_k = data.draw(st.none() | st.integers(0, 9) | st.integers(0, 9).map(np.int64))
    rows = reranker.rank("wing", Column([*texts], labels), top_k, return_documents=True)
    assert [row["text"] for row in rows] == [texts[row["corpus_id"]] for row in rows]
    assert len(rows) == min(len(texts), len(texts) if top_k is None else int(top_k))


@pytest.mark.parametrize(
    "pairs",
    [
        PAIRS,
        tuple(PAIRS),
        iter(PAIRS),
        map(list, PAIRS),
        dict.fromkeys(PAIRS).keys(),
        np.array(PAIRS),
        np.array(PAIRS, object),
        [np.array(pair) for pair in PAIRS],
        [Row(*pair) for pair in PAIRS],
        zip(repeat("wing"), TEXTS, strict=False),
        Column([*PAIRS], [2, 0, 3, 1]),
        Frame(PAIRS),
    ],
    ids=lambda pairs: type(pairs).__name__,
)
def test_score_takes_any_iterable_of_pairs(reranker: Reranker, pairs: Any) -> None:
    """Lists, iterators, arrays and tables of two columns give the scores of a list of tuples."""
    assert np.array_equal(reranker.score(pairs), reranker.score(PAIRS))


def test_stream_reads_no_further_than_it_is_asked(built: Path) -> None:
    """Of pairs without an end only those are read that were scored, and what is wrong later raises later."""
    reranker = Reranker.load(built, "onnx", plan=Plan(1, 1, 64), chunk_pairs=2)
    read = count()
    endless = ((("wing", "lift") if next(read) < 4 else None) for _ in repeat(0))
    stream = reranker.stream(endless)  # type: ignore[arg-type] # None among them, on purpose
    assert [len(scores) for scores in islice(stream, 2)] == [2, 2]
    assert next(read) == 4
    with pytest.raises(TypeError, match=r"pair 4 is None \(NoneType\)"):
        next(stream)


def both_kinds(error: type[Exception], wanted: type[Exception]) -> bool:
    return issubclass(error, wanted) and issubclass(error, RecipeError)


@pytest.mark.parametrize(
    ("wrong", "kind", "line"),
    [
        (lambda r: r.score("ab"), TypeError, "pairs is 'ab' (str); wanted (query, passage) pairs"),
        (lambda r: r.score(b"ab"), TypeError, "pairs is b'ab' (bytes); wanted (query, passage) pairs"),
        (lambda r: r.score(7), TypeError, "pairs is 7 (int); wanted"),
        (lambda r: r.score(None), TypeError, "pairs is None (NoneType); wanted"),
        (
            lambda r: r.score({"q": "p"}),
            TypeError,
            "(dict); wanted (query, passage) pairs, perhaps its values()",
        ),
        (lambda r: r.score(("wing", "lift")), TypeError, "pair 0 is 'wing' (str); wanted (query, passage)"),
        (lambda r: r.score([PAIRS[0], ("a",)]), ValueError, "pair 1 is ('a',) (tuple); wanted"),
        (lambda r: r.score([("a", "b", "c")]), ValueError, "pair 0 is ('a', 'b', 'c') (tuple)"),
        (lambda r: r.score([("a", None)]), TypeError, "pair 0 is ('a', None) (tuple)"),
        (lambda r: r.score([("a", float("nan"))]), TypeError, "pair 0 is ('a', nan) (tuple)"),
        (lambda r: r.score([(b"a", "b")]), TypeError, "pair 0 is (b'a', 'b') (tuple)"),
        (lambda r: r.score([{"a", "b"}]), TypeError, "(set); wanted (query, passage)"),
        (lambda r: r.score([{"query": "a", "passage": "b"}]), TypeError, "pair 0 is {"),
        (lambda r: r.score([iter("ab")]), TypeError, "pair 0 is"),
        (lambda r: r.score([("a", "\ud800")]), ValueError, "pair 0 is not valid Unicode"),
        (lambda r: r.score(np.array([b"a", b"b"])), TypeError, "pair 0 is"),
        (lambda r: r.score(np.array([["a", "b", "c"]])), ValueError, "of shape (1, 3); wanted two columns"),
        (lambda r: r.score(Frame([("a", "b", "c")])), ValueError, "of shape (1, 3); wanted two columns"),
        (lambda r: r.score(np.array("ab")), TypeError, "pairs is"),
        (lambda r: r.stream("ab"), TypeError, "pairs is 'ab' (str)"),
        (lambda r: r.stream([*PAIRS, 3]), TypeError, "pair 4 is 3 (int)"),
        (lambda r: r.rank(7, TEXTS), TypeError, "query is 7 (int); wanted a string"),
        (lambda r: r.rank(None, []), TypeError, "query is None (NoneType); wanted a string"),
        (lambda r: r.rank("a", "wing"), TypeError, "documents is 'wing' (str); wanted strings"),
        (lambda r: r.rank("a", b"wing"), TypeError, "documents is b'wing' (bytes); wanted strings"),
        (lambda r: r.rank("a", None), TypeError, "documents is None (NoneType); wanted strings"),
        (lambda r: r.rank("a", {"d1": "x"}), TypeError, "(dict); wanted strings, perhaps its values()"),
        (lambda r: r.rank("a", ["b", None]), TypeError, "document 1 is None (NoneType); wanted a string"),
        (lambda r: r.rank("a", ["b", float("nan")]), TypeError, "document 1 is nan (float)"),
        (lambda r: r.rank("a", [b"b"]), TypeError, "document 0 is b'b' (bytes); wanted a string, decode"),
        (lambda r: r.rank("a", np.array([["b"]])), TypeError, "a table; wanted one column of strings"),
        (lambda r: r.rank("a", Frame([("b",)])), TypeError, "a table; wanted one column of strings"),
        (lambda r: r.rank("\ud800", ["b"]), ValueError, "query is not valid Unicode"),
        (lambda r: r.rank("a", ["b", "\udfff"]), ValueError, "document 1 is not valid Unicode"),
        (
            lambda r: r.rank("a", TEXTS, -1),
            ValueError,
            "top_k is -1 (int); wanted a whole number of 0 or more",
        ),
        (lambda r: r.rank("a", TEXTS, 1.0), TypeError, "top_k is 1.0 (float); wanted a whole number"),
        (lambda r: r.rank("a", TEXTS, top_k=True), TypeError, "top_k is True (bool); wanted a whole number"),
        (lambda r: r.rank("a", TEXTS, np.True_), TypeError, "(bool); wanted a whole number"),
        (lambda r: r.rank("a", TEXTS, "3"), TypeError, "top_k is '3' (str); wanted a whole number"),
        (lambda r: r.rank("a", TEXTS, return_documents=1), TypeError, "return_documents is 1 (int)"),
        (lambda r: r.tokenize([("a",)]), ValueError, "pair 0 is ('a',) (tuple)"),
    ],
)
def test_anything_else_is_one_line(
    reranker: Reranker, wrong: Callable[[Reranker], object], kind: type[Exception], line: str
) -> None:
    """What cannot be scored is our error and the one a Python user expects, and names type and value."""
    with pytest.raises(kind) as raised:
        wrong(reranker)
    assert both_kinds(raised.type, kind)
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "kind", "line"),
    [
        ({"threads": 0}, ValueError, "threads is 0 (int); wanted a whole number of 1 or more"),
        ({"threads": -2}, ValueError, "threads is -2 (int)"),
        ({"threads": 1.5}, TypeError, "threads is 1.5 (float)"),
        ({"threads": True}, TypeError, "threads is True (bool)"),
        ({"threads": "2"}, TypeError, "threads is '2' (str)"),
        ({"chunk_pairs": 0}, ValueError, "chunk_pairs is 0 (int)"),
        ({"chunk_pairs": None}, TypeError, "chunk_pairs is None (NoneType)"),
        ({"plan": "2x1"}, TypeError, "plan is '2x1' (str); wanted a Plan"),
        ({"plan": Plan(0, 1, 64)}, ValueError, "plan.workers is 0 (int)"),
        ({"plan": Plan(1, 1, 1.5)}, TypeError, "plan.token_budget is 1.5 (float)"),
        ({"variant": 1}, TypeError, "variant is 1 (int); wanted a string or None"),
        ({"variant": ""}, ValueError, "variant is '' (str)"),
        ({"revision": b"main"}, TypeError, "revision is b'main' (bytes)"),
        ({"profiled": "yes"}, TypeError, "profiled is 'yes' (str); wanted True or False"),
        ({"numerics": "exact"}, ValueError, "numerics is 'exact' (str); wanted pinned, no-saturation or"),
        ({"numerics": 32}, TypeError, "numerics is 32 (int)"),
        ({"folder": None}, TypeError, "folder is None (NoneType); wanted a string or a pathlib.Path"),
        ({"folder": b"x"}, TypeError, "folder is b'x' (bytes)"),
        ({"folder": ["x"]}, TypeError, "folder is ['x'] (list)"),
        ({"folder": ""}, ValueError, "folder is '' (str)"),
        ({"folder": "a\0b"}, ValueError, "folder is 'a\\x00b' (str)"),
        ({"folder": "a\ud800"}, ValueError, "folder is 'a\\ud800' (str)"),
        ({"folder": "a" * 5000}, RecipeError, "no such artifact folder"),
    ],
)
def test_what_load_does_not_take(
    built: Path, arguments: dict[str, Any], kind: type[Exception], line: str
) -> None:
    """Every argument of `load` is checked before a file is opened."""
    with pytest.raises(kind) as raised:
        Reranker.load(**{"folder": built, **arguments})
    assert both_kinds(raised.type, kind)
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)


def test_score_takes_pyarrows_tables(reranker: Reranker) -> None:
    """Rows of a table of pyarrow's, which yields columns, and as a list dicts."""
    table = pytest.importorskip("pyarrow").table({"q": [q for q, _ in PAIRS], "p": [p for _, p in PAIRS]})
    assert np.array_equal(reranker.score(table), reranker.score(PAIRS))
    with pytest.raises(ValueError, match="wanted two columns"):
        reranker.score(table.select(["q"]))


def test_load_takes_numpys_numbers(built: Path) -> None:
    """A whole number of numpy's is a whole number."""
    assert Reranker.load(built, "onnx", threads=np.int32(1)).plan.workers == 1  # type: ignore[arg-type] # numpy's


def test_a_value_that_does_not_print(reranker: Reranker) -> None:
    """A value's own text is kept to 80 characters of one line; one that raises is said to."""

    class Loud:
        def __repr__(self) -> str:
            return "\x1b[31m\nred" * 100

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    for value in (Loud(), Broken()):
        with pytest.raises(TypeError) as raised:
            reranker.score(value)  # type: ignore[arg-type] # wrong on purpose
        assert str(raised.value).isprintable()
        assert len(str(raised.value)) < 160
