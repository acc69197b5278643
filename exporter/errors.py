"""Everything that can go wrong, and the exit code it ends with.

* ExporterError
  x GateRefused      1   measured, and not good enough to publish
  x RecipeError      2   the recipe, or what was typed, cannot be carried out as written
    + ArgumentTypeError  an argument of the Python interface has the wrong type; a TypeError too
    + ArgumentValueError an argument of the Python interface is out of range; a ValueError too
  x BackendError     3   torch, onnxruntime, openvino, the hub or the disk failed
    + BackendMissing     the package that would do it is not installed
  x IntegrityError   4   the files on disk are not the files the manifest names, or hold what no build makes
    + LimitReached       what they made a process do took more memory or time than it was given
  x NoVerdict        5   the measurement cannot be trusted; measure again
  x Unplanned       70   nobody planned for it: a fault of exporter, whatever Python raised

1 and 5 are apart for a reason: CI may retry a 5; retrying a 1 until it passes is fishing. 70 is
`EX_SOFTWARE`, an internal software error.
Source: https://man.freebsd.org/cgi/man.cgi?query=sysexits
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# As many as a person reads; a recipe of a few kilobytes can have hundreds of mistakes.
_MAX_FINDINGS = 50


class ExporterError(Exception):
    """Base of every error this package raises on purpose. Its text is one line or a list of findings."""

    exit_code: ClassVar[int] = 3


class GateRefused(ExporterError):
    """Measured, and not good enough to publish."""

    exit_code = 1


class RecipeError(ExporterError):
    """The recipe, or what was typed, cannot be carried out as written."""

    exit_code = 2


class ArgumentTypeError(RecipeError, TypeError):
    """An argument of the Python interface has the wrong type."""


class ArgumentValueError(RecipeError, ValueError):
    """An argument of the Python interface has the right type, and a value it cannot have."""


class BackendError(ExporterError):
    """A library, the hub or the disk failed."""

    exit_code = 3


class BackendMissing(BackendError):
    """The package that would do it is not installed."""


class IntegrityError(ExporterError):
    """The files on disk are not the files the manifest names."""

    exit_code = 4


class LimitReached(IntegrityError):
    """What untrusted files made a process do took more memory or time than it was given."""


class NoVerdict(ExporterError):
    """The measurement cannot be trusted; measure again."""

    exit_code = 5


class Unplanned(ExporterError):
    """Nobody planned for it: a fault of exporter.

    Raised where such an error crosses from one process to another; within one, the error itself goes up to
    the command line, which words it.

    Args:
        text: the error's type and text, one line.
        trace: where it was raised, as Python prints it.
    """

    exit_code = 70

    def __init__(self, text: str, trace: str = "") -> None:
        super().__init__(text)
        self.trace = trace


def nearest(word: str, known: Sequence[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known word most like a misspelt one, or None if no word is like it.

    Args:
        word: what was typed.
        known: what could have been meant.
        cutoff: 0...1, how much of both has to match.
    """
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=cutoff)), None)


def did_you_mean(word: str, known: Sequence[str], *, cutoff: float = 0.6) -> str:
    """Return the end of a message about an unknown word: the nearest known word, or else all known words.

    Args:
        word: what was typed.
        known: what could have been meant.
        cutoff: see `nearest`.
    """
    near = nearest(word, known, cutoff=cutoff)
    return f", did you mean {near!r}?" if near else f"; known are {', '.join(known)}"


def each_once(findings: Iterable[str]) -> tuple[str, ...]:
    """Return each finding once, and of very many the first, with how many more there are."""
    once = tuple(dict.fromkeys(findings))
    more = (f"and {len(once) - _MAX_FINDINGS} more",) if len(once) > _MAX_FINDINGS else ()
    return (*once[:_MAX_FINDINGS], *more)
