"""stdout and stderr that never raise: where nobody reads any more, work that is done must not be undone."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterator


class Unfailing:
    """A text stream that remembers its first error and from then on drops what is written.

    Characters that its encoding lacks are written as escapes. Whatever else is asked of it, the stream below
    answers.
    """

    # Libraries look for the bytes below a stream whose encoding is ASCII, and write past this class.
    buffer = None

    def __init__(self, stream: IO[str] | None) -> None:
        """Wrap a stream; None is one that was closed when Python started."""
        self._stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Write text; return its length."""
        if self._stream is not None and self.error is None:
            try:
                self._stream.write(_encodable(text, self._stream))
            except OSError as error:
                self._drop(error)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write several texts."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Hand on what was written."""
        if self._stream is not None and self.error is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._drop(error)

    def isatty(self) -> bool:
        """Tell whether a person reads."""
        return self._stream is not None and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def lost(self) -> str | None:
        """Why not all that was written arrived; None if it did, or if the reader went away on purpose."""
        if self.error is None or self.error.errno == errno.EPIPE:
            return None
        return self.error.strerror or str(self.error)

    def _drop(self, error: OSError) -> None:
        """Remember an error; what is still buffered goes to the null device, so that Python can end."""
        self.error = error
        with suppress(OSError, ValueError):  # a stream in memory has no number
            assert self._stream is not None
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)


def _encodable(text: str, stream: IO[str]) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.encode(encoding, "backslashreplace").decode(encoding)
    return text


@contextmanager
def unfailing() -> Iterator[tuple[Unfailing, Unfailing]]:
    """Put streams that never raise in the places of stdout and stderr while the block runs; yield both."""
    old = sys.stdout, sys.stderr
    out, err = Unfailing(sys.stdout), Unfailing(sys.stderr)
    sys.stdout, sys.stderr = cast("IO[str]", out), cast("IO[str]", err)
    try:
        yield out, err
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = old
