r"""Bound how long a regular expression of a tokenizer may take, from its text alone.

Oniguruma, which tokenizers runs them with, tries one way after the other. What is allowed: patterns in which
a failure is found after a number of steps that grows with the text's length at most as often as one part of
it repeats, so ` ?[^\s\p{L}\p{N}]+[\r\n]*` or `\s+(?!\S)`, and not `(a+)+$` or `.*.*x`. Parts that cannot be
taken back because nothing that could fail comes after them cost nothing.
Source: https://github.com/kkos/oniguruma/blob/master/doc/RE (the syntax; tokenizers takes Ruby's)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# The longest pattern of a published tokenizer has some 600 characters.
_MAX_LENGTH = 4096
_MAX_DEPTH = 8
_MAX_TIMES = 1000
# Quantifiers one after the other, each of which repeats what is before it: `a{2}{3}`.
_MAX_STACKED = 3
# Ways to try at one place, where parts are optional or one of several.
_MAX_WAYS = 1000
_INTERVAL = re.compile(r"\{(?:(\d{1,9})(,?)(\d{0,9})|,(\d{1,9}))\}")
# What a backslash may make of the character behind it; numbers, k and g refer to groups.
_ESCAPE = re.compile(
    r"\\(?:[pP]\{\^?[\w ]{1,40}\}|x\{[0-9A-Fa-f]{1,8}\}|x[0-9A-Fa-f]{1,2}|u[0-9A-Fa-f]{4}"
    r"|[0abefnrtvdDhHsSwWRXNOZzABGyY]|[^0-9A-Za-z])"
)
_ZERO_WIDTH = re.compile(r"\\[ABbGZzyY]|\^|\$")
_GROUP = re.compile(r"\((?:\?(?::|>|=|!|<=|<!|<[A-Za-z_]\w{0,40}>|[ims]*(?:-[ims]*)?[:)]))?")


class _Refused(Exception):
    """Why a pattern is not allowed."""


@dataclass(frozen=True, slots=True)
class _Cost:
    """How many parts repeat without end before what can fail, and how many ways there are besides."""

    degree: int = 0
    ways: int = 1


@dataclass(frozen=True, slots=True)
class _Part:
    """An atom or a group, and how often it is there; `most` is None without an end.

    `branches` of a group; `looks`: it takes no characters; `kept`: it is not taken back.
    """

    least: int = 1
    most: int | None = 1
    branches: tuple[tuple[_Part, ...], ...] = ()
    looks: bool = False
    kept: bool = False

    @property
    def can_fail(self) -> bool:
        return self.least > 0 and (self.looks or all(map(_can_fail, self.branches)))


def _can_fail(parts: tuple[_Part, ...]) -> bool:
    return any(part.can_fail for part in parts)


def odd_pattern(pattern: str) -> str | None:
    """Return why a pattern may take too long or cannot be judged, or None."""
    if len(pattern) > _MAX_LENGTH:
        return f"has {len(pattern)} characters, and no such pattern more than {_MAX_LENGTH}"
    try:
        branches, end = _branches(pattern, 0, 0)
        if end < len(pattern):
            return f"cannot be read from character {end + 1} on"
        for parts in branches:
            cost = _sequence(parts, followed=False)
            if cost.degree > 1 or cost.ways > _MAX_WAYS:
                return "may take time that grows faster than the square of a text"
    except _Refused as error:
        return str(error)
    return None


def takes_characters(pattern: str) -> bool:
    """Return whether a pattern that is allowed matches nowhere but where it takes a character at least."""
    branches, _ = _branches(pattern, 0, 0)
    return all(any(map(_takes, parts)) for parts in branches)


def _takes(part: _Part) -> bool:
    if part.looks or part.least == 0:
        return False
    return all(any(map(_takes, parts)) for parts in part.branches)


def _branches(pattern: str, at: int, depth: int) -> tuple[tuple[tuple[_Part, ...], ...], int]:
    """Read alternatives up to a closing bracket or the end."""
    if depth > _MAX_DEPTH:
        raise _Refused(f"has groups in groups, more than {_MAX_DEPTH} deep")
    branches: list[tuple[_Part, ...]] = []
    parts: list[_Part] = []
    while at < len(pattern) and pattern[at] != ")":
        if pattern[at] == "|":
            branches.append(tuple(parts))
            parts, at = [], at + 1
            continue
        part, at = _atom(pattern, at, depth)
        n_times = 0
        while (found := _times(pattern, at)) is not None:
            least, most, at = found
            part, n_times = _repeated(part, least, most), n_times + 1
            if n_times > _MAX_STACKED:
                raise _Refused(f"repeats a repetition, more than {_MAX_STACKED} times over")
        parts.append(part)
    return (*branches, tuple(parts)), at


def _repeated(part: _Part, least: int, most: int | None) -> _Part:
    """Return a part with a quantifier; one that has one already becomes a group."""
    if part.looks and most != 1:
        raise _Refused("repeats a part without characters")
    if (part.least, part.most) == (1, 1):
        return _Part(least, most, part.branches, part.looks, part.kept)
    return _Part(least, most, ((part,),))


def _times(pattern: str, at: int) -> tuple[int, int | None, int] | None:
    """Read a quantifier: least, most, and where it ends; None where there is none."""
    if at >= len(pattern):
        return None
    if (sign := pattern[at]) in "*+?":
        least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
        end = at + 1
        # Lazy, or not to be taken back: never slower than greedy.
        return least, most, end + (pattern[end : end + 1] in ("?", "+"))
    found = _INTERVAL.match(pattern, at)
    if found is None:
        return None
    if found[4]:
        least, most = 0, int(found[4])
    else:
        least, most = int(found[1]), None if found[2] and not found[3] else int(found[3] or found[1])
    if max(least, most or 0) > _MAX_TIMES or (most is not None and most < least):
        raise _Refused(f"repeats a part {found[0]} times; wanted {_MAX_TIMES} at most")
    end = found.end()
    return least, most, end + (pattern[end : end + 1] == "?")


def _atom(pattern: str, at: int, depth: int) -> tuple[_Part, int]:
    sign = pattern[at]
    if found := _ZERO_WIDTH.match(pattern, at):
        return _Part(looks=True), found.end()
    if sign == "\\":
        if (found := _ESCAPE.match(pattern, at)) is None:
            raise _Refused(f"has {pattern[at : at + 2]!a}, which is not allowed")
        return _Part(), found.end()
    if sign == "[":
        return _Part(), _class_end(pattern, at)
    if sign == "(":
        return _group(pattern, at, depth)
    if sign in "*+?":
        raise _Refused(f"repeats nothing at character {at + 1}")
    return _Part(), at + 1


def _group(pattern: str, at: int, depth: int) -> tuple[_Part, int]:
    opening = _GROUP.match(pattern, at)
    if opening is None or (opening[0] == "(" and pattern[at + 1 : at + 2] in ("?", "*")):
        raise _Refused(f"has {pattern[at : at + 4]!a}, which is not allowed")
    if opening[0].endswith(")"):  # flags from here on
        return _Part(0, 0), opening.end()
    branches, end = _branches(pattern, opening.end(), depth + 1)
    if end >= len(pattern):
        raise _Refused("has a group without an end")
    looks = opening[0] in ("(?=", "(?!", "(?<=", "(?<!")
    return _Part(1, 1, branches, looks, looks or opening[0] == "(?>"), end + 1


def _class_end(pattern: str, at: int) -> int:
    """Return where a character class ends; classes may stand in it."""
    depth, i = 0, at
    while i < len(pattern):
        if pattern[i] == "\\":
            i += 1
        elif pattern[i] == "[":
            depth += 1
            i += pattern[i + 1 : i + 2] == "^"
            i += pattern[i + 1 : i + 2] == "]"  # the first one is no end
        elif pattern[i] == "]":
            depth -= 1
            if depth == 0:
                return i + 1
        i += 1
    raise _Refused("has a character class without an end")


def _sequence(parts: tuple[_Part, ...], *, followed: bool) -> _Cost:
    """Return the cost of parts one after the other.

    Args:
        parts: in their order.
        followed: whether something that can fail comes after them.
    """
    degree, ways = 0, 1
    for part in reversed(parts):
        cost = _one(part, followed=followed)
        degree, ways = degree + cost.degree, min(ways * cost.ways, 1 << 60)
        followed = followed or part.can_fail
    return _Cost(degree, ways)


def _one(part: _Part, *, followed: bool) -> _Cost:
    # A repeated group is left as soon as it does not match again; only what comes after it takes back.
    inside = not part.kept and (followed or (part.least > 1 and any(map(_can_fail, part.branches))))
    inner = _Cost()
    if part.branches:
        costs = [_sequence(parts, followed=inside) for parts in part.branches]
        inner = _Cost(max(cost.degree for cost in costs), sum(cost.ways for cost in costs) if inside else 1)
    if part.most is None:
        if inside and not (len(part.branches) < 2 and all(map(_is_fixed, part.branches))):
            raise _Refused("repeats a part that repeats itself, or has a choice in it")
        return _Cost(inner.degree + followed, 1)
    times = part.most if inside else 1
    choices = part.most - part.least + 1 if followed else 1
    return _Cost(inner.degree * times, min(inner.ways ** min(times, 64) * choices, 1 << 60))


def _is_fixed(parts: tuple[_Part, ...]) -> bool:
    """Return whether parts match in one way only: each is there a fixed number of times."""
    return bool(parts) and all(
        part.least == part.most
        and part.least > 0
        and len(part.branches) < 2
        and all(map(_is_fixed, part.branches))
        for part in parts
    )
