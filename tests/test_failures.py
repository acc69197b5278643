"""Whatever is raised becomes an error with an exit code."""

from __future__ import annotations

import errno
import os

import pytest

from exporter.errors import BackendError, BackendMissing, ExporterError, NoVerdict, Unplanned
from exporter.failures import planned, trace_of


def refusal(number: int, *paths: str) -> OSError:
    """Return what Python raises where the system refuses."""
    return OSError(number, os.strerror(number), *paths[:1])


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (ModuleNotFoundError("No module named 'scipy'", name="scipy"), BackendMissing, "scipy is not"),
        (refusal(errno.ENOSPC), BackendError, "No space left on device"),
        (refusal(errno.EACCES, "a/b"), BackendError, "a/b: Permission denied"),
        (OSError("a library's own"), Unplanned, "OSError: a library's own"),
        (ValueError("two\nlines"), Unplanned, "ValueError: two"),
        (KeyError(), Unplanned, "KeyError"),
        (RecursionError("too deep"), Unplanned, "RecursionError: too deep"),
        (AssertionError(), Unplanned, "AssertionError"),
    ],
)
def test_planned(error: Exception, kind: type[ExporterError], text: str) -> None:
    """The kind says whose fault it is, the text fits one line."""
    found = planned(error)
    assert type(found) is kind
    assert str(found).startswith(text)
    assert "\n" not in str(found)


def test_short_memory_is_the_machines() -> None:
    """Too little memory is no fault of exporter."""
    found = planned(MemoryError())
    assert found.exit_code == 3
    assert "memory" in str(found)


def test_errors_on_purpose_stay() -> None:
    """What was raised on purpose is handed on as it is."""
    error = NoVerdict("noisy")
    assert planned(error) is error


def test_trace_of_another_process_is_kept() -> None:
    """An error that came from a worker shows where it was raised there."""
    assert trace_of(Unplanned("ValueError: x", "Traceback of a worker")) == "Traceback of a worker"
    assert "NoVerdict: here" in trace_of(NoVerdict("here"))
