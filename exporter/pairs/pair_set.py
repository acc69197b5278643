"""Read pair sets: (query, passage[, label]) rows grouped by query, named by a hash of what they hold."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeAlias

import numpy as np

from exporter.errors import RecipeError, did_you_mean, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from exporter.recipe.schema import Recipe


# A query and a passage.
Pair: TypeAlias = tuple[str, str]

_SAMPLE_DIR = Path(__file__).parent.parent / "sample"
_MAX_LABEL = 1_000  # grades of relevance are few; nDCG has 2^grade in some definitions
_MAX_LINE = 1 << 24  # characters of a pair; far more than any model reads
# Pairs that speed is measured on: real lengths, few enough that a run takes seconds.
N_TIMED_PAIRS = 48
_COLUMNS = ("query", "passage", "label", "query_id", "passage_id")


@dataclass(frozen=True, slots=True)
class PairSet:
    """A named collection of pairs.

    `pairs` are (query, passage) texts; `labels` int64[n_pairs] graded relevance, 0 = none, or None;
    `query_of` int64[n_pairs], the query each pair belongs to, 0...n_queries-1 in order of appearance;
    `query_ids` one name per query.
    """

    name: str
    pairs: tuple[Pair, ...]
    labels: NDArray[np.int64] | None
    query_of: NDArray[np.int64]
    query_ids: tuple[str, ...]

    @property
    def digest(self) -> str:
        """One sha256 over texts, labels and grouping."""
        rows = zip(
            self.pairs, self.labels if self.labels is not None else self.query_of, self.query_of, strict=True
        )
        text = "".join(json.dumps([*pair, int(label), int(q)]) + "\n" for pair, label, q in rows)
        return hashlib.sha256(f"{self.labels is not None}\n{text}".encode()).hexdigest()

    def picked(self, positions: Sequence[int]) -> PairSet:
        """Return the pairs at `positions`, in that order; queries keep their names and are numbered anew."""
        queries = self.query_of[list(positions)]
        order = list(dict.fromkeys(queries.tolist()))
        return PairSet(
            name=f"{len(positions)} pairs of {self.name}",
            pairs=tuple(self.pairs[i] for i in positions),
            labels=None if self.labels is None else self.labels[list(positions)],
            query_of=np.array([order.index(query) for query in queries.tolist()], np.int64),
            query_ids=tuple(self.query_ids[query] for query in order),
        )


def whole_queries(pair_set: PairSet, n_queries: int) -> list[int]:
    """Return the positions of all pairs of `n_queries` queries, picked evenly by their passages' length."""
    lengths = np.zeros(len(pair_set.query_ids))
    for (_, passage), query in zip(pair_set.pairs, pair_set.query_of.tolist(), strict=True):
        lengths[query] += len(passage)
    order = np.argsort(lengths, kind="stable")
    # The middles of as many equal parts: the shortest and the longest query are not picked.
    n_queries = min(n_queries, len(order))
    picked = {int(order[int((i + 0.5) * len(order) / n_queries)]) for i in range(n_queries)}
    return sorted(
        (i for i, q in enumerate(pair_set.query_of.tolist()) if q in picked),
        key=lambda i: (pair_set.query_of[i], i),
    )


def load_pairs(name: str) -> PairSet:
    """Read `sample/NAME`, a .jsonl or a .tsv file.

    JSONL: one object a line with `query`, `passage` and optionally `label`, `query_id`, `passage_id`. TSV:
    the same as columns, in this order or named by a first line that starts with `query`. Labels are whole
    numbers from 0, on all rows or on none. Rows are grouped by `query_id`, or by the query's text.

    Raises:
        RecipeError: the file is missing, empty, or a row is not a pair; the line is named.
    """
    path = _SAMPLE_DIR / f"{name.removeprefix('sample/')}.jsonl" if name.startswith("sample/") else Path(name)
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises on a name that is too long
        known = sorted(f"sample/{p.stem}" for p in _SAMPLE_DIR.glob("*.jsonl"))
        raise RecipeError(f"pairs {name}: no such file; write one, or one of {', '.join(known)}")
    if path.suffix not in (".jsonl", ".tsv"):
        raise RecipeError(f"pairs {name}: wanted a .jsonl or .tsv file, found {path.suffix or 'no suffix'}")

    try:
        rows = list(_read_jsonl(path) if path.suffix == ".jsonl" else _read_tsv(path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecipeError(f"pairs {path}: cannot be read as text: {error}") from None
    if not rows:
        raise RecipeError(f"pairs {path}: empty; wanted at least two queries with two passages each")
    return _grouped(name, path, rows)


def load_pair_sets(recipe: Recipe) -> tuple[PairSet, PairSet | None]:
    """Read a recipe's verify and calibrate sets and check that they can do what the recipe asks of them.

    Raises:
        RecipeError: a set cannot be read, is too small to rank, lacks the labels a bar needs, or the two
            share a pair.
    """
    verify = load_pairs(recipe.pairs.verify)
    sizes = np.bincount(verify.query_of)
    n_ranked = int((sizes > 1).sum())
    if n_ranked < 2:
        without = "" if verify.labels is not None else " and no labels"
        raise RecipeError(
            f"pairs {verify.name}: {n_ranked} query with more than one passage{without}; "
            "ranking is judged over queries, give at least two with two passages each"
        )

    if verify.labels is None and any(variant.bars.min_ndcg_retained for variant in recipe.variants):
        raise RecipeError(
            f"pairs {verify.name}: no labels, which bar min_ndcg_retained needs; "
            "add labels or take the bar out"
        )
    if verify.labels is not None and (n_judged := len(set(verify.query_of[verify.labels > 0].tolist()))) < 2:
        raise RecipeError(
            f"pairs {verify.name}: {n_judged} queries have a passage labelled above 0; "
            "nDCG's interval is over queries, give two"
        )

    calibrate = load_pairs(recipe.pairs.calibrate) if recipe.pairs.calibrate else None
    if calibrate and (shared := set(calibrate.pairs) & set(verify.pairs)):
        raise RecipeError(
            f"pairs {calibrate.name} and {verify.name} share {len(shared)} pairs; "
            "a model is not judged on what it was calibrated on"
        )
    return verify, calibrate


def _read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(_lines(file, path), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise RecipeError(f"{path}:{number}: not JSON: {error}") from None
            if not isinstance(row, dict):
                raise RecipeError(f"{path}:{number}: wanted an object with query and passage")
            # Keys of a user's own are left alone; a misspelt one would silently drop labels.
            for key in row.keys() - set(_COLUMNS):
                if nearest(key, _COLUMNS, cutoff=0.75):
                    hint = did_you_mean(key, _COLUMNS, cutoff=0.75)
                    raise RecipeError(f"{path}:{number}: unknown key {key!r}{hint}")
            yield number, row


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    """Read a file line by line, and refuse a line that is too long for a pair before it fills the memory."""
    number = 0
    while line := file.readline(_MAX_LINE + 1):
        number += 1
        if len(line) > _MAX_LINE:
            raise RecipeError(
                f"{path}:{number}: a line of more than {_MAX_LINE} characters, which no pair has"
            )
        yield line


def _read_tsv(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    with path.open(encoding="utf-8", newline="") as file:
        columns: tuple[str, ...] = _COLUMNS
        for number, cells in enumerate(
            csv.reader(_lines(file, path), delimiter="\t", quoting=csv.QUOTE_NONE), 1
        ):
            if number == 1 and cells and cells[0] == "query":
                columns = tuple(cells)
                if unknown := sorted(set(columns) - set(_COLUMNS)):
                    raise RecipeError(
                        f"{path}:1: unknown column {', '.join(unknown)}; known are {', '.join(_COLUMNS)}"
                    )
                continue
            if len(cells) > len(columns):
                raise RecipeError(f"{path}:{number}: {len(cells)} columns, wanted at most {len(columns)}")
            if cells:
                yield (
                    number,
                    {k: v for k, v in zip(columns, cells, strict=False) if v or k in ("query", "passage")},
                )


def _grouped(name: str, path: Path, rows: list[tuple[int, dict[str, object]]]) -> PairSet:
    pairs: list[Pair] = []
    labels: list[int] = []
    numbers: dict[str, int] = {}
    query_of = np.empty(len(rows), np.int64)
    for i, (line, row) in enumerate(rows):
        query, passage = row.get("query"), row.get("passage")
        if not isinstance(query, str) or not isinstance(passage, str):
            raise RecipeError(f"{path}:{line}: wanted query and passage, two strings; found {sorted(row)}")
        pairs.append((query, passage))
        key = str(row.get("query_id", query))
        query_of[i] = numbers.setdefault(key, len(numbers))
        if "label" in row:
            labels.append(_label(row["label"], f"{path}:{line}"))
        if labels and len(labels) != i + 1:
            raise RecipeError(f"{path}:{line}: labels stand on some rows only; give all or none")
    return PairSet(
        name, tuple(pairs), np.array(labels, np.int64) if labels else None, query_of, tuple(numbers)
    )


def _label(value: object, where: str) -> int:
    try:
        number = float(value) if isinstance(value, int | float | str) else -1.0
    except (ValueError, OverflowError):
        number = -1.0
    if not 0 <= number <= _MAX_LABEL or not number.is_integer():
        raise RecipeError(f"{where}: label {value!r}, wanted a whole number from 0 to {_MAX_LABEL}")
    return int(number)


def spread_out(pair_set: PairSet, n: int) -> tuple[Pair, ...]:
    """Return `n` pairs picked evenly from the set sorted by passage length; the same every time."""
    return tuple(pair_set.pairs[i] for i in spread_out_positions(pair_set, n))


def spread_out_positions(pair_set: PairSet, n: int) -> list[int]:
    """Return the positions of the pairs that `spread_out` picks, ascending."""
    order = sorted(range(len(pair_set.pairs)), key=lambda i: (len(pair_set.pairs[i][1]), i))
    return sorted({order[int(i)] for i in np.linspace(0, len(order) - 1, min(n, len(order)))})
