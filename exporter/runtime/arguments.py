"""Check what callers pass to the runtime: types and ranges, before any work, in one line of error.

Takes what Python users hold texts in (lists, iterators, sets, columns of pandas, polars, pyarrow, numpy),
and knows none of those libraries.
"""

from __future__ import annotations

import operator
import os
import reprlib
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from exporter.errors import ArgumentTypeError, ArgumentValueError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.pairs import Pair


def shown(value: object) -> str:
    """Return a value and its type as part of a line of error: at most 80 characters of it, on one line."""
    try:
        text = " ".join(reprlib.repr(value).split())
    except Exception:  # noqa: BLE001 - a stranger's __repr__ may do anything, and the error is about its type
        text = "a value that cannot be printed"
    text = text if text.isprintable() else ascii(text)
    return f"{text:.80} ({type(value).__name__})"


def whole_number(name: str, value: object, *, at_least: int) -> int:
    """Return a whole number of at least `at_least`; numpy's whole numbers count, booleans and floats do not.

    Raises:
        ArgumentTypeError: the value is no whole number.
        ArgumentValueError: it is less than `at_least`.
    """
    wanted = f"wanted a whole number of {at_least} or more"
    try:
        number = operator.index(value)  # type: ignore[arg-type] # whether it can is asked here
    except TypeError:
        raise ArgumentTypeError(f"{name} is {shown(value)}; {wanted}") from None
    if type(value).__name__ in ("bool", "bool_"):  # both are numbers to Python
        raise ArgumentTypeError(f"{name} is {shown(value)}; {wanted}")
    if number < at_least:
        raise ArgumentValueError(f"{name} is {shown(value)}; {wanted}")
    return number


def check_flag(name: str, value: object) -> None:
    """Raise ArgumentTypeError unless a value is True or False."""
    if not isinstance(value, bool):
        raise ArgumentTypeError(f"{name} is {shown(value)}; wanted True or False")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise unless a value is one of a few words.

    Raises:
        ArgumentTypeError: it is no string.
        ArgumentValueError: it is none of the words.
    """
    wanted = f"wanted {', '.join(choices[:-1])} or {choices[-1]}"
    if not isinstance(value, str):
        raise ArgumentTypeError(f"{name} is {shown(value)}; {wanted}")
    if value not in choices:
        raise ArgumentValueError(f"{name} is {shown(value)}; {wanted}")


def name_or_none(name: str, value: object) -> str | None:
    """Return a name that may be left out.

    Raises:
        ArgumentTypeError: it is neither a string nor None.
        ArgumentValueError: it is empty.
    """
    if value is not None and not isinstance(value, str):
        raise ArgumentTypeError(f"{name} is {shown(value)}; wanted a string or None")
    if value == "":
        raise ArgumentValueError(f"{name} is {shown(value)}; wanted a name, or None for the default")
    return value


def place_of(folder: object) -> str:
    """Return the place to load from as a string.

    Raises:
        ArgumentTypeError: it is neither a string nor a path.
        ArgumentValueError: it is empty, or holds what no path can: a NUL, half a surrogate pair.
    """
    try:
        place = os.fspath(folder)  # type: ignore[call-overload] # whether it can is asked here
    except TypeError:
        place = None
    if not isinstance(place, str):
        raise ArgumentTypeError(f"folder is {shown(folder)}; wanted a string or a pathlib.Path")
    if not place or "\0" in place or not _is_file_name(place):
        raise ArgumentValueError(
            f"folder is {shown(folder)}; wanted a folder or a place such as hf://org/name"
        )
    return place


def text_of(name: str, value: object) -> str:
    """Return a text.

    Raises:
        ArgumentTypeError: it is no string.
        ArgumentValueError: it is not valid Unicode.
    """
    if type(value) is not str:
        if isinstance(value, bytes | bytearray):
            raise ArgumentTypeError(f"{name} is {shown(value)}; wanted a string, decode its bytes")
        if not isinstance(value, str):
            raise ArgumentTypeError(f"{name} is {shown(value)}; wanted a string")
        value = str(value)  # numpy's `str_`
    if not _is_unicode(value):
        raise ArgumentValueError(f"{name} is not valid Unicode; decode its bytes with errors='replace'")
    return value


def texts_of(name: str, values: object) -> list[str]:
    """Return every text of an iterable, in its order.

    Args:
        name: what the caller calls one of them, for errors; the iterable is called that and an `s`.
        values: an iterable of strings.

    Raises:
        ArgumentTypeError: it is no iterable of strings.
        ArgumentValueError: one is not valid Unicode.
    """
    found = _iterable(f"{name}s", values, "strings")
    if len(getattr(values, "shape", ())) > 1:
        raise ArgumentTypeError(f"{name}s is {shown(values)}, a table; wanted one column of strings")
    return [text_of(f"{name} {i}", value) for i, value in enumerate(found)]


def pairs_of(pairs: object) -> Iterable[object]:
    """Return what iterates over pairs: rows of a table of two columns, else the iterable itself.

    Raises:
        ArgumentTypeError: it is no iterable, or one that cannot hold pairs.
        ArgumentValueError: it is a table with another number of columns than two.
    """
    wanted = "(query, passage) pairs"
    found = _iterable("pairs", pairs, wanted)
    shape: tuple[int, ...] = getattr(pairs, "shape", ())
    if len(shape) <= 1:
        return found
    if len(shape) > 2 or shape[1] != 2:
        raise ArgumentValueError(f"pairs is {shown(pairs)} of shape {shape}; wanted two columns")
    table: Any = pairs
    if hasattr(pairs, "to_pydict"):  # pyarrow's tables
        return zip(*table.to_pydict().values(), strict=True)
    rows: Iterable[object] = table.to_numpy() if hasattr(pairs, "to_numpy") else found  # not column names
    return rows


def pair_of(position: int, pair: object) -> Pair:
    """Return a pair as a tuple of two strings.

    Raises:
        ArgumentTypeError: it is not a sequence of strings; its position is named.
        ArgumentValueError: it has not two texts, or one is not valid Unicode.
    """
    if type(pair) is tuple and len(pair) == 2 and type(pair[0]) is str and type(pair[1]) is str:
        query, passage = pair
    else:
        query, passage = _two_strings(position, pair)
    if not (_is_unicode(query) and _is_unicode(passage)):
        raise ArgumentValueError(
            f"pair {position} is not valid Unicode; decode its bytes with errors='replace'"
        )
    return query, passage


def _two_strings(position: int, pair: object) -> Pair:
    complaint = f"pair {position} is {shown(pair)}; wanted (query, passage), two strings"
    if isinstance(pair, str | bytes | bytearray | Mapping | AbstractSet) or not hasattr(pair, "__len__"):
        raise ArgumentTypeError(complaint)
    texts = list(pair) if isinstance(pair, Iterable) else []
    if not all(isinstance(text, str) for text in texts):
        raise ArgumentTypeError(complaint)
    if len(texts) != 2:
        raise ArgumentValueError(complaint)
    return str(texts[0]), str(texts[1])


def _iterable(name: str, values: object, wanted: str) -> Iterable[object]:
    """Return a container's items; a string, bytes or a mapping is refused, whose items are not its texts."""
    complaint = f"{name} is {shown(values)}; wanted {wanted}"
    if isinstance(values, Mapping):
        raise ArgumentTypeError(f"{complaint}, perhaps its values()")
    if isinstance(values, str | bytes | bytearray | memoryview):
        raise ArgumentTypeError(complaint)
    if hasattr(values, "to_pylist"):  # pyarrow, whose columns yield objects of its own
        values = values.to_pylist()
    try:
        return iter(values)  # type: ignore[call-overload, no-any-return] # whether it can is asked here
    except TypeError:
        raise ArgumentTypeError(complaint) from None


def _is_file_name(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
