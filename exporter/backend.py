"""The edge to other libraries: whatever one of them raises becomes a BackendError of one line."""

from __future__ import annotations

import errno
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from exporter.errors import BackendError, BackendMissing, ExporterError, IntegrityError
from exporter.escape import one_line
from exporter.memory import ran_short

if TYPE_CHECKING:
    from collections.abc import Iterator


_MAX_CAUSE = 300  # characters; what libraries raise may hold a whole graph
# OpenVINO and PyTorch begin with where in their own source they were.
_NO_CAUSE = re.compile(r"Exception from \S+:|Check '.*' failed at \S+:|Traceback .*:|=+.*=+")
# The engine is older than the graph: onnxruntime's words for an operator or an opset it does not have.
# Source: https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/core/graph/model.cc (opset)
_TOO_NEW = re.compile(
    r"NOT_IMPLEMENTED|NotImplemented|[Oo]pset \d+ is under development|Unsupported model IR version"
)
# The disk is full: told by whoever knows which folder is meant.
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def backend(step: str, instead: str = "") -> Iterator[None]:
    """Turn whatever a block's libraries raise into a BackendError; errors of this package pass through.

    Blocks may be nested: a BackendError that crosses one gets its step in front, so that the line says which
    file was built when which library refused what.

    Args:
        step: what is done, first words of the line.
        instead: what to type or to change, last words of the line.

    Raises:
        BackendError: the block raised; the line has the first line of the cause.
        OSError: the disk is full.
    """
    tail = f"; {instead}" if instead else ""
    try:
        yield
    except BackendError as error:
        if isinstance(error, BackendMissing):  # says what to install
            raise
        raise BackendError(f"{step}: {error}{tail}") from error
    except ExporterError:
        raise
    except BaseException as error:
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            raise
        if not is_fault(error):
            raise
        raise BackendError(f"{step}: {error_line(error)}{tail}") from error


@contextmanager
def of_untrusted(
    step: str = "it cannot be run", kind: type[ExporterError] = IntegrityError
) -> Iterator[None]:
    """Turn whatever a library raises over somebody's file into an error that says that the file is at fault.

    What the file cannot help stays a BackendError: memory that ran short, a library that is missing, or one
    that does not have an operator yet.

    Args:
        step: the file and what is done with it, first words of the line; errors that `backend` has worded
            have theirs already.
        kind: the error: IntegrityError for what is in an artifact, RecipeError for a recipe's model.

    Raises:
        IntegrityError, or another `kind`: the block raised; the line has the first line of the cause.
        BackendError: see above.
    """
    try:
        yield
    except BackendMissing:
        raise
    except BackendError as error:
        if ran_short(error) or _TOO_NEW.search(str(error)):
            raise
        raise kind(str(error)) from error
    except ExporterError:
        raise
    except BaseException as error:
        if not is_fault(error) or ran_short(error):
            raise
        raise kind(f"{step}: {error_line(error)}") from error


def is_fault(error: BaseException) -> bool:
    """Return whether what was raised is an error of the code that ran, and no signal or end of a program.

    Rust's panics come as PanicException, which is no Exception.
    Source: https://pyo3.rs/main/doc/pyo3/panic/struct.panicexception
    """
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def error_line(error: BaseException) -> str:
    """Return what another library raised as one line: its type and the first line of its text.

    Lines that only say where in the library it was are left out, control characters are escaped, and no more
    than 300 characters are returned.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = [line for line in lines if not _NO_CAUSE.fullmatch(line)] or lines
    text = causes[0] if causes else "no reason given"
    if isinstance(error, MemoryError):
        text = "out of memory" if not causes else f"out of memory, {text}"
    return one_line(f"{type(error).__name__}: {text}")[:_MAX_CAUSE]
