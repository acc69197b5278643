"""Rows become a pair set: texts, labels and ids are checked, and rows grouped by query.

Grouping neither merges nor splits in silence. Ids are numbers by their value and texts as they are written;
what is the same but for Unicode form, spaces or zeros is two spellings of one name, and refused.
"""

from __future__ import annotations

import math
import re
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from exporter.errors import RecipeError
from exporter.pairs.pair_set import Pair, PairSet
from exporter.pairs.reading import MAX_FILE, MAX_LINE, Reading, Row, shown

if TYPE_CHECKING:
    from collections.abc import Iterable


_MAX_PAIRS = 5_000_000
_MAX_LABEL = 1_000  # grades of relevance are few; nDCG has 2^grade in some definitions
_LABELS_OF_WORDS = {"true": 1.0, "false": 0.0}
# What pandas writes for a value that is missing, once it became text.
_MISSING = {"", "nan", "none", "null", "<na>", "nat"}
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_WHOLE = re.compile(r"0*([0-9]+)(?:\.0*)?")
_ROUNDED = re.compile(r"[0-9](\.[0-9]+)?[eE]\+[0-9]+")
_SURROGATE = re.compile("[\ud800-\udfff]")


class _Query(NamedTuple):
    """One query as it first appeared."""

    number: int
    name: str
    text: str
    row: int


def gathered(name: str, rows: Iterable[Row], reading: Reading, *, typed: bool) -> PairSet:
    """Return the pair set of a file's rows, and note on `reading` what they hold.

    Args:
        name: the set's.
        rows: their numbers and values.
        reading: how the file is read.
        typed: the format tells text from what is missing; TSV and CSV do not.

    Raises:
        RecipeError: a row is no pair, or does not go with the others; its line is named.
    """
    found = _Gathering(reading, typed=typed)
    for number, row in rows:
        found.add(number, row)
    if not found.pairs:
        raise RecipeError(f"pairs {reading.path}: empty; wanted at least two queries with two passages each")
    reading.notes += found.notes()
    return PairSet(
        name,
        tuple(found.pairs),
        np.array(found.labels, np.float64) if found.labels else None,
        np.array(found.query_of, np.int64),
        tuple(query.name for query in found.queries.values()),
        reading.text(),
    )


class _Gathering:
    """The rows so far."""

    def __init__(self, reading: Reading, *, typed: bool) -> None:
        self.pairs: list[Pair] = []
        self.labels: list[float] = []
        self.query_of: list[int] = []
        self.queries: dict[str, _Query] = {}
        self._reading = reading
        self._typed = typed
        self._has_ids = False
        self._n_characters = 0
        self._n_repeated = 0
        self._first_row = 0
        self._has_label_column = False
        self._labelled: dict[tuple[int, str], tuple[float | None, int]] = {}

    def add(self, number: int, row: dict[str, object]) -> None:
        place = self._reading.place(number)
        query = _text(row.get("query"), "query", place, typed=self._typed)
        passage = _text(row.get("passage"), "passage", place, typed=self._typed)
        label = _label(row.get("label"), place)
        self._has_label_column |= "label" in row
        query_id = _id(row.get("query_id"), place)

        self._check_size(query, passage, place)
        if not self.pairs:
            self._first_row, self._has_ids = number, query_id is not None
        first = f"{self._reading.unit} {self._first_row}"
        if self.pairs and (label is not None) != bool(self.labels):
            here = "one here" if label is not None else "none here"
            raise RecipeError(
                f"{place}: labels stand on some rows only ({here}, unlike {first}); "
                "give all rows one (0 = not relevant), or none"
            )
        if self._has_ids != (query_id is not None):
            raise RecipeError(
                f"{place}: query_id stands on some rows only (unlike {first}); give all rows one, or none"
            )

        query_number = self._number_of(query_id, query, number)
        self._check_repeated(query_number, passage, label, number)
        self.pairs.append((query, passage))
        self.query_of.append(query_number)
        if label is not None:
            self.labels.append(label)

    def notes(self) -> list[str]:
        """Return what the rows hold, in words."""
        by = "query_id" if self._has_ids else "the query's text"
        no_labels = "no labels, the column is empty" if self._has_label_column else "no labels"
        low, high = (min(self.labels), max(self.labels)) if self.labels else (0.0, 0.0)
        repeated = [f"{self._n_repeated} pairs stand there more than once"] if self._n_repeated else []
        return [
            f"{len(self.pairs)} pairs of {len(self.queries)} queries by {by}",
            f"labels {low:g} to {high:g}" if self.labels else no_labels,
            *repeated,
        ]

    def _check_size(self, query: str, passage: str, place: str) -> None:
        self._n_characters += len(query) + len(passage)
        if len(self.pairs) == _MAX_PAIRS or self._n_characters > MAX_FILE:
            raise RecipeError(
                f"{place}: more than {_MAX_PAIRS} pairs or {MAX_FILE} characters; give fewer pairs"
            )

    def _number_of(self, query_id: str | None, query: str, number: int) -> int:
        name = query if query_id is None else query_id
        key = _plain_text(name) if query_id is None else _plain_id(name)
        known = self.queries.setdefault(key, _Query(len(self.queries), name, query, number))
        place, there = self._reading.place(number), f"{self._reading.unit} {known.row}"
        if known.name != name:
            what = "query" if query_id is None else "query_id"
            raise RecipeError(
                f"{place}: {what} {name[:60]!a}, but {known.name[:60]!a} on {there}: "
                "two spellings of one? write them alike, or tell them apart"
            )
        if known.text != query:
            raise RecipeError(
                f"{place}: query_id {shown(name)} has another query than on {there}: {shown(query)}, "
                f"not {shown(known.text)}; give each query an id of its own"
            )
        return known.number

    def _check_repeated(self, query_number: int, passage: str, label: float | None, number: int) -> None:
        before = self._labelled.setdefault((query_number, passage), (label, number))
        if before[1] == number:
            return
        if before[0] != label:
            raise RecipeError(
                f"{self._reading.place(number)}: label {label:g} for the pair that has label {before[0]:g} "
                f"on {self._reading.unit} {before[1]}; leave one"
            )
        self._n_repeated += 1


def _text(value: object, column: str, place: str, *, typed: bool) -> str:
    if not isinstance(value, str):
        if isinstance(value, list | dict):
            raise RecipeError(f"{place}: {column} holds a {type(value).__name__}; write one pair a row")
        raise RecipeError(f"{place}: {column} is {shown(value)}; wanted query and passage, two strings")
    _check_characters(value, column, place)
    if not value.strip():
        raise RecipeError(f"{place}: {column} is empty; leave such rows out")
    # A text that happens to be one of these words can be given in JSONL.
    if not typed and value.strip().lower() in _MISSING:
        raise RecipeError(f"{place}: {column} is {value.strip()}, a missing value; leave such rows out")
    if len(value) > MAX_LINE:
        raise RecipeError(f"{place}: {column} of more than {MAX_LINE} characters, which no pair has")
    return value


def _check_characters(value: str, column: str, place: str) -> None:
    if "\0" in value:
        raise RecipeError(f"{place}: {column} holds NUL, which no text has; remove it")
    if not value.isascii() and (half := _SURROGATE.search(value)):
        raise RecipeError(
            f"{place}: {column} holds half a surrogate pair, \\u{ord(half[0]):04x}, which no text has; "
            "write characters whole"
        )


def _label(value: object, place: str) -> float | None:
    if _is_missing(value):
        return None
    number = _number(value)
    if not 0 <= number <= _MAX_LABEL:
        raise RecipeError(
            f"{place}: label {shown(value)}, wanted a number from 0 (not relevant) to {_MAX_LABEL}"
        )
    return abs(number)  # -0.0 is 0.0


def _number(value: object) -> float:
    if isinstance(value, str):
        word = value.strip()
        if word.lower() in _LABELS_OF_WORDS:
            return _LABELS_OF_WORDS[word.lower()]
        return float(word) if _NUMBER.fullmatch(word) else -1.0
    try:
        return float(value)  # type: ignore[arg-type] # whether it can is asked here
    except (TypeError, ValueError, OverflowError):
        return -1.0


def _id(value: object, place: str) -> str | None:
    if _is_missing(value):
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, float) or (isinstance(value, str) and _ROUNDED.fullmatch(value.strip())):
        raise RecipeError(
            f"{place}: query_id {shown(value)}, a number that was rounded; write ids as whole numbers or text"
        )
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise RecipeError(f"{place}: query_id {shown(value)}, wanted text or a whole number")
    name = str(value)
    _check_characters(name, "query_id", place)
    return name


def _is_missing(value: object) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in _MISSING
    return value is None or (isinstance(value, float) and math.isnan(value))


def _plain_text(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).replace("\ufeff", " ").split())


def _plain_id(name: str) -> str:
    plain = _plain_text(name)
    whole = _WHOLE.fullmatch(plain)
    return whole[1] if whole else plain
