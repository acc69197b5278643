"""The edge to other libraries: one line, of one type, whatever they raise."""

from __future__ import annotations

import errno

import pytest

from exporter.backend import backend, error_line, of_untrusted
from exporter.errors import BackendError, BackendMissing, IntegrityError, RecipeError


class PanicException(BaseException):  # as Rust's bindings call it
    """What a panic in Rust code comes as."""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "ValueError: one"),
        (ValueError("\n\n  one  \n"), "ValueError: one"),
        (KeyError(), "KeyError: no reason given"),
        (RuntimeError("x" * 999), f"RuntimeError: {'x' * 286}"),
        (RuntimeError("a\x1b[31mred\x00"), r"RuntimeError: a\x1b[31mred\x00"),
        (MemoryError(), "MemoryError: out of memory"),
        (
            RuntimeError(
                "Exception from src/core.cpp:133:\nCheck 'it->second' failed at src/ops.cpp:12:\nno operator"
            ),
            "RuntimeError: no operator",
        ),
        (
            RuntimeError("Exception from src/core.cpp:133:\n"),
            "RuntimeError: Exception from src/core.cpp:133:",
        ),
    ],
)
def test_error_is_one_line(error: Exception, line: str) -> None:
    """An error's type and the first line that is its cause, printable, of at most 300 characters."""
    assert error_line(error) == line


@pytest.mark.parametrize("error", [ValueError("why"), Exception("why"), PanicException("why")])
def test_whatever_is_raised_is_one_line(error: BaseException) -> None:
    """Step, cause and what to do instead; a panic of Rust's too, which is no Exception."""
    with (
        pytest.raises(BackendError, match=f"^step: {type(error).__name__}: why; do that$"),
        backend("step", "do that"),
    ):
        raise error


def test_nested_steps_stand_in_front() -> None:
    """The line of an inner step gets the outer one's name, so that both are known."""
    with (
        pytest.raises(BackendError, match="^outer: inner: ValueError: why$"),
        backend("outer"),
        backend("inner"),
    ):
        raise ValueError("why")


@pytest.mark.parametrize(
    "error",
    [
        IntegrityError("changed"),
        BackendMissing("pip install it"),
        KeyboardInterrupt(),
        SystemExit(2),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
)
def test_what_passes_through(error: BaseException) -> None:
    """Errors of this package, the user's interrupt, and a full disk, which is told with its folder."""
    with pytest.raises(type(error)) as raised, backend("step"):
        raise error
    assert raised.value is error


@pytest.mark.parametrize("error", [ValueError("why"), Exception("why"), PanicException("why")])
def test_what_a_strangers_file_raises(error: BaseException) -> None:
    """The file is at fault: exit 4, or 2 where it is a recipe's model."""
    with (
        pytest.raises(IntegrityError, match=f"^x.json: {type(error).__name__}: why$"),
        of_untrusted("x.json"),
    ):
        raise error
    with pytest.raises(RecipeError, match="^x.json: "), of_untrusted("x.json", RecipeError):
        raise error


def test_what_an_engine_raises_over_a_strangers_graph() -> None:
    """An engine's error is the file's fault, in the words it has."""
    with (
        pytest.raises(IntegrityError, match="^onnxruntime cannot load x: ValueError: why$"),
        of_untrusted(),
        backend("onnxruntime cannot load x"),
    ):
        raise ValueError("why")


@pytest.mark.parametrize(
    "error",
    [
        BackendMissing("pip install it"),
        BackendError("x: NotImplemented: [ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find"),
        MemoryError(),
        KeyboardInterrupt(),
        RecipeError("no such folder"),
    ],
)
def test_what_no_file_can_help(error: BaseException) -> None:
    """A library that is missing or too old, memory that ran short, and whoever types Ctrl-C."""
    with pytest.raises(type(error)) as raised, of_untrusted("x"):
        raise error
    assert raised.value is error


def test_memory_that_ran_short_over_a_file() -> None:
    """It stays an error of the machine's, with exit code 3."""
    with pytest.raises(BackendError), of_untrusted(), backend("x"):
        raise MemoryError("std::bad_alloc")
