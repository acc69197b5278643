"""Turn whatever was raised into an error with an exit code, for the command line and for a worker alike."""

from __future__ import annotations

import os
import traceback

from exporter.errors import BackendError, ExporterError, Unplanned
from exporter.memory import is_tight, ran_short, shortage
from exporter.packages import missing

_MAX_TEXT = 300  # characters of a text that another wrote


def planned(error: BaseException, extra: str | None = None) -> ExporterError:
    """Return what an error is to a user.

    Args:
        error: what was raised, on purpose or not.
        extra: the extra that holds all that is being done needs, see `exporter.packages.missing`.

    Returns:
        The error itself if it was raised on purpose; BackendMissing for an import that failed; BackendError
        where memory is short or the operating system refuses; else Unplanned.
    """
    if said := ran_short(error):
        return shortage(said)
    if isinstance(error, ExporterError):
        return error
    if isinstance(error, ImportError):
        return missing(error, extra)
    if isinstance(error, OSError) and error.errno is not None:
        return BackendError(refused(error))
    text = f"{type(error).__name__}{_reason(error)}"
    return shortage(text) if is_tight() else Unplanned(text, trace_of(error))


def refused(error: OSError) -> str:
    """Return what the operating system refused: the paths, and its words."""
    return ": ".join((*paths_of(error), error.strerror or type(error).__name__))


def paths_of(error: OSError) -> list[str]:
    """Return the paths that the operating system names in an error."""
    names = (error.filename, error.filename2)
    return [os.fsdecode(name) for name in names if isinstance(name, str | bytes)]


def trace_of(error: BaseException) -> str:
    """Return where an error was raised, as Python prints it; a worker's own trace where it came from one."""
    if isinstance(error, Unplanned) and error.trace:
        return error.trace
    return "".join(traceback.format_exception(error)).rstrip("\n")


def _reason(error: BaseException) -> str:
    text = str(error).strip()
    return f": {text.splitlines()[0][:_MAX_TEXT]}" if text else ""
