"""The columns of a pair file: which of its names mean what, and which first row is a header.

Names count in any case and order, with spaces around them. Other columns are ignored, and said to be. A name
that almost is one of ours, or is what others call a column that is missing, is refused: to ignore it would
silently drop labels or ids.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from exporter.errors import RecipeError, nearest
from exporter.pairs.reading import shown

if TYPE_CHECKING:
    from collections.abc import Sequence


COLUMNS = ("query", "passage", "label", "query_id", "passage_id")
# What data sets of the field call these columns. `score` is none of them: it may be a retriever's.
# Source: https://huggingface.co/datasets/sentence-transformers/msmarco (and BEIR's, MTEB's)
_OTHER_NAMES = {
    "question": "query",
    "sentence1": "query",
    "anchor": "query",
    "query_text": "query",
    "text": "passage",
    "document": "passage",
    "doc": "passage",
    "sentence2": "passage",
    "passage_text": "passage",
    "document_text": "passage",
    "answer": "passage",
    "relevance": "label",
    "rel": "label",
    "relevance_score": "label",
    "qid": "query_id",
    "q_id": "query_id",
}
_TRIPLE = {"positive", "negative", "pos", "neg"}
_MAX_NAME = 40
MAX_COLUMNS = 1_000


def placed(names: Sequence[str], place: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the file's own name of each column, and the names that mean nothing here.

    Args:
        names: as the file has them.
        place: file and line, for messages.

    Raises:
        RecipeError: a column stands there twice or is misspelt, or query or passage is missing.
    """
    if len(names) > MAX_COLUMNS:
        raise RecipeError(f"{place}: {len(names)} columns, wanted query, passage and few more")
    found: dict[str, str] = {}
    ignored = []
    for name in names:
        column = _normal(name)
        if column in found:
            raise RecipeError(f"{place}: two columns are called {column}; leave one")
        if column in COLUMNS:
            found[column] = name
        elif near := _near(column):
            raise RecipeError(f"{place}: unknown column {shown(name)}, did you mean {near!r}?")
        else:
            ignored.append(name)

    if renames := [rename for name in ignored if (rename := _rename(name, found))]:
        raise RecipeError(f"{place}: unknown column{'s' * (len(renames) > 1)}: {', '.join(renames)}")
    if not {"query", "passage"} <= found.keys():
        triple = {_normal(name) for name in ignored} & _TRIPLE
        hint = "; write each triple as two pairs, labelled 1 and 0" if triple else ""
        given = ", ".join(shown(name) for name in names[:8]) or "none"
        raise RecipeError(f"{place}: wanted the columns query and passage; found {given}{hint}")
    return found, tuple(ignored)


def is_header(cells: Sequence[str]) -> bool:
    """Tell whether a first row holds names: one of ours, or two that are misspelt or others'."""
    names = [name for cell in cells[:MAX_COLUMNS] if (name := _normal(cell))]
    n_almost = sum(name in _OTHER_NAMES or _near(name) is not None for name in names)
    return n_almost > 1 or any(name in COLUMNS for name in names)


def _rename(name: str, found: dict[str, str]) -> str | None:
    column = _OTHER_NAMES.get(_normal(name))
    if column is None or column in found:
        return None
    optional = "" if column in ("query", "passage") else ", or drop it"
    return f"rename {name.strip()!r} to {column!r}{optional}"


def _normal(name: str) -> str:
    return "_".join(name[: _MAX_NAME + 1].casefold().replace("-", " ").split())


@lru_cache(maxsize=1024)
def _near(column: str) -> str | None:
    if column in COLUMNS:
        return None
    # Without a plural's s too: it makes `lables` less like `label` than `message` is like `passage`.
    names = (column, column.removesuffix("s"))
    return next((near for name in names if (near := nearest(name, COLUMNS, cutoff=0.75))), None)
