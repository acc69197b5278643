"""The tree of errors is the one its docstring draws, and each ends with its own exit code."""

from __future__ import annotations

import inspect
import re

import pytest

from exporter import errors
from exporter.errors import (
    BackendError,
    BackendMissing,
    ExporterError,
    GateRefused,
    IntegrityError,
    NoVerdict,
    RecipeError,
    Unplanned,
    did_you_mean,
    nearest,
)

_LINE = re.compile(r"^( *)[*x+] (\w+)(?: +(\d+))?", re.MULTILINE)


def test_docstring_draws_the_classes() -> None:
    """Names and parents in the drawn tree are the classes of the module, none missing, none extra."""
    drawn: dict[str, str] = {}
    path: list[str] = []
    for indent, name, _ in _LINE.findall(errors.__doc__ or ""):
        depth = len(indent) // 2
        path[depth:] = [name]
        drawn[name] = path[depth - 1] if depth else "Exception"
    classes = {
        name: cls.__bases__[0].__name__
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, Exception)
    }
    assert drawn == classes


def test_docstring_gives_the_exit_codes() -> None:
    """The number beside a drawn name is that class's exit code."""
    drawn = {name: int(code) for _, name, code in _LINE.findall(errors.__doc__ or "") if code}
    assert drawn == {name: getattr(errors, name).exit_code for name in drawn}
    assert len(drawn) == 6


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (GateRefused, 1),
        (RecipeError, 2),
        (BackendError, 3),
        (BackendMissing, 3),
        (IntegrityError, 4),
        (NoVerdict, 5),
        (Unplanned, 70),
    ],
)
def test_exit_code(error: type[ExporterError], code: int) -> None:
    """Each branch has the exit code that CI scripts rely on."""
    assert error.exit_code == code


def test_branches_have_codes_of_their_own() -> None:
    """No two branches of the tree, and neither success nor a usage error of the shell, share a code."""
    codes = [branch.exit_code for branch in ExporterError.__subclasses__()]
    assert len(set(codes)) == len(codes)
    assert 0 not in codes


def test_text_is_the_message() -> None:
    """What is raised with a text prints as that text."""
    assert str(RecipeError("recipes/x.yaml:3: name: missing")) == "recipes/x.yaml:3: name: missing"


def test_a_near_miss_is_named_or_all_that_is_known() -> None:
    """A misspelt word brings the nearest known one; a word unlike all of them brings the list."""
    assert did_you_mean("varaints", ("name", "variants")) == ", did you mean 'variants'?"
    assert did_you_mean("xyz", ("name", "variants")) == "; known are name, variants"
    assert nearest("labels", ("query", "label"), cutoff=0.95) is None
