"""Memory that ran short is told from other errors, whatever library says it."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from exporter.errors import BackendError, RecipeError
from exporter.failures import planned
from exporter.memory import limit_bytes, peak_bytes, ran_short, says_short, shortage

SHORT = [
    "Unable to allocate 3.00 GiB for an array with shape (805306368,) and data type float32",
    "std::bad_alloc",
    "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: not enough memory: you tried to allocate 8",
    "libtorch_cpu.so: failed to map segment from shared object",
    "libgomp.so.1: cannot allocate memory in static TLS block",
    "[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer of size 1234",
    "memory allocation of 134217728 bytes failed",
    "OpenBLAS blas_thread_init: pthread_create failed for thread 1 of 2: Resource temporarily unavailable",
    "can't start new thread",
]


@pytest.mark.parametrize("text", SHORT)
def test_what_libraries_say(text: str) -> None:
    """The line that says it is found in a log, whoever wrote it, and stands in the error with its numbers."""
    assert says_short(f"Traceback\n  File\nRuntimeError: {text}\n") == f"RuntimeError: {text}"
    found = planned(RuntimeError(text))
    assert type(found) is BackendError
    assert str(found).startswith(f"not enough memory: {text}; exporter had used up to ")


@pytest.mark.parametrize("text", ["no such file", "a worker ended with 1", "disk quota exceeded", ""])
def test_other_errors_are_none(text: str) -> None:
    """What says nothing of memory is no shortage."""
    assert ran_short(RuntimeError(text)) is None
    assert says_short(text) is None


def test_an_error_worded_as_something_else() -> None:
    """A shortage is one also where it was taken for a fault of the recipe, or of a package."""
    worded = RecipeError("transformers cannot read it")
    worded.__cause__ = ImportError(SHORT[3])
    assert planned(worded).exit_code == 3
    assert planned(OSError(12, "Cannot allocate memory")).exit_code == 3
    assert "MemoryError" in str(planned(MemoryError()))


def test_how_much() -> None:
    """The line says what was used and what is allowed, in the size that fits."""
    limit, whose = limit_bytes()
    assert 0 < peak_bytes() < limit
    assert peak_bytes(addresses=True) > peak_bytes()
    line = str(shortage("no", 2_340_000_000, who="the worker"))
    assert "the worker had used up to 2.3 GB of " in line
    assert line.endswith(f"that {whose} allows; free some, raise the limit, or use a smaller model")


def test_limit_of_the_shell() -> None:
    """`ulimit -v` is the limit where it is the lowest one."""
    script = "from exporter.memory import limit_bytes; print(*limit_bytes())"
    done = subprocess.run(
        [sys.executable, "-c", script],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (600_000_000, 600_000_000)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "600000000 ulimit -v\n"
