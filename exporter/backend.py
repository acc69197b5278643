"""The edge to other libraries: whatever one of them raises becomes a BackendError of one line."""

from __future__ import annotations

import errno
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from exporter.errors import BackendError, BackendMissing, ExporterError
from exporter.escape import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator


_MAX_CAUSE = 300  # characters; what libraries raise may hold a whole graph
# OpenVINO and PyTorch begin with where in their own source they were.
_NO_CAUSE = re.compile(r"Exception from \S+:|Check '.*' failed at \S+:|Traceback .*:|=+.*=+")
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
        # Rust's panics come as PanicException, which is no Exception; what else is none is not an error.
        # Source: https://pyo3.rs/main/doc/pyo3/panic/struct.panicexception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise BackendError(f"{step}: {error_line(error)}{tail}") from error


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
