"""Forms that a value in a tokenizer.json may have, each a function from the value to whether it has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from exporter.artifact.configs import MAX_TOKENS

if TYPE_CHECKING:
    from collections.abc import Callable

    Check: TypeAlias = Callable[[object], bool]

_MAX_TEXT = 1 << 10


class OddError(Exception):
    """What of a file is not allowed, as words for an error that names the file."""


def mapping(name: str, value: object) -> dict[str, object]:
    """Return a mapping.

    Raises:
        OddError: the value is none.
    """
    if not isinstance(value, dict):
        raise OddError(f"its {name} is {str(value)[:40]!a}; wanted a mapping")
    return value


def flag(value: object) -> bool:
    """Return whether a value is true, false or nothing."""
    return value is None or isinstance(value, bool)


def short(value: object) -> bool:
    """Return whether a value is a text of bearable length."""
    return isinstance(value, str) and len(value) <= _MAX_TEXT


def short_or_none(value: object) -> bool:
    """Return whether a value is such a text, or nothing."""
    return value is None or short(value)


def character(value: object) -> bool:
    """Return whether a value is one character."""
    return isinstance(value, str) and len(value) == 1


def anything(value: object) -> bool:
    """Accept what is looked at elsewhere."""
    del value
    return True


def one_of(*words: str) -> Check:
    """Return a check that a value is one of some words."""
    return lambda value: value in words


def number(least: int, most: int) -> Check:
    """Return a check that a value is a whole number between two, both included."""
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


token_id = number(0, MAX_TOKENS - 1)


def token_and_id(value: object) -> bool:
    """Return whether a value is a token beside its number."""
    return isinstance(value, list) and len(value) == 2 and short(value[0]) and token_id(value[1])
