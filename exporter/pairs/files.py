"""The lines of a text file: gzip or not, in the encoding its first bytes say, with every limit on its size.

A line ends in LF or CR LF, or in CR where a file has no LF at all. Whatever else ends a line elsewhere
(U+2028, U+0085, VT, FF, a lone CR) is a character of the text.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, TextIO

from exporter.artifact.lfs import is_pointer
from exporter.errors import RecipeError
from exporter.pairs.reading import MAX_LINE, Reading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


# UTF-32's mark begins as UTF-16's does, so it is tried first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8 with BOM"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_CARRIAGE_RETURN_LINES = re.compile(r"[^\r]*+\r|[^\r]++$")


class LineError(RecipeError):
    """One line is no text that a pair may hold; those after it can be read."""


class Lines:
    """The lines of one file, each with its terminator; `number` is that of the last one, from 1.

    `position` is the number of bytes up to here, None where the file cannot be read from there on: it is
    packed, or not in UTF-8.
    """

    def __init__(
        self, file: TextIO, reading: Reading, *, number: int = 0, position: int | None = None
    ) -> None:
        self.number, self.position = number, position
        self._file = file
        self._reading = reading
        self._n_characters = 0
        self._waiting: list[str] | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._read()
        if not line:
            raise StopIteration
        self.number += 1
        self._n_characters += len(line)
        if self.position is not None:
            self.position += _n_bytes(line)
        self._check(line, self._reading.place(self.number))
        return line

    def _read(self) -> str:
        if self._waiting is not None:
            return self._waiting.pop() if self._waiting else ""
        try:
            line = self._file.readline(MAX_LINE + 1)
        except UnicodeError as error:
            place = self._reading.place(self.number + 1)
            raise RecipeError(f"{place}: here or soon after, {error}; save it as UTF-8") from None
        if self.number == 0 and "\r" in line and not line.endswith("\n"):
            self.position = None
            self._waiting = _CARRIAGE_RETURN_LINES.findall(line)[::-1] if len(line) <= MAX_LINE else None
            return self._waiting.pop() if self._waiting else line
        return line

    def _check(self, line: str, place: str) -> None:
        limit = self._reading.limit
        if len(line) > MAX_LINE:
            raise RecipeError(f"{place}: a line of more than {MAX_LINE} characters, which no pair has")
        if limit is not None and self._n_characters > limit:
            raise RecipeError(f"{place}: more than {limit} characters up to here; give fewer pairs")
        if "\0" in line:
            raise LineError(
                f"{place}: holds NUL, so it is no text, or UTF-16 without a byte-order mark; save it as UTF-8"
            )
        if line.startswith("\ufeff"):
            raise LineError(
                f"{place}: begins with a byte-order mark, as where two files were joined; remove it"
            )
        if not line.isascii() and (bad := _SURROGATE.search(line)):
            raise LineError(f"{place}: {_undecodable(line, bad.start())}")


def _n_bytes(line: str) -> int:
    """Return the bytes of a line of a file in UTF-8; of what was no UTF-8, those that stood there."""
    return len(line) if line.isascii() else len(line.encode("utf-8", "surrogateescape"))


def _undecodable(line: str, position: int) -> str:
    code = ord(line[position])
    if not 0xDC80 <= code <= 0xDCFF:
        return f"half a surrogate pair, U+{code:04X}, which no text has; remove it"
    n_before = len(line[:position].encode("utf-8", "surrogateescape"))
    return (
        f"byte {n_before + 1} of the line, 0x{code & 0xFF:02x}, is not UTF-8; "
        "write the file as UTF-8, from Windows for example with `iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW`"
    )


@contextmanager
def text_lines(reading: Reading, *, position: int = 0, number: int = 0) -> Iterator[Lines]:
    """Open a text file, unpacked if it ends in .gz, decoded as its byte-order mark says or else as UTF-8.

    Args:
        reading: the file.
        position: begin at this byte, a `position` of its lines.
        number: the lines before it.

    Raises:
        RecipeError: it cannot be read, is no text, or holds more than a pair file may.
    """
    try:
        check_no_pointer(reading)
        with _opened(reading) as file:
            head = file.read(4)
            _check_head(head, reading)
            file.seek(position)
            encoding = next((name for mark, name, _ in _MARKS if head.startswith(mark)), "utf-8")
            # What is not UTF-8 becomes a surrogate that `Lines` finds, with its place in the line.
            errors = "surrogateescape" if encoding.startswith("utf-8") else "surrogatepass"
            with io.TextIOWrapper(file, encoding, errors, newline="\n") as text:
                can_seek = encoding.startswith("utf-8") and not _is_gzip(reading.path)
                n_mark = len(codecs.BOM_UTF8) if encoding == "utf-8-sig" and not position else 0
                yield Lines(text, reading, number=number, position=position + n_mark if can_seek else None)
    except (OSError, EOFError, zlib.error) as error:
        raise RecipeError(f"pairs {reading.name}: cannot be read: {error}") from None


def encoding_of(reading: Reading) -> str:
    """Return a text file's encoding and packing, in words."""
    with _opened(reading) as file:
        head = file.read(4)
    name = next((words for mark, _, words in _MARKS if head.startswith(mark)), "UTF-8")
    return f"{name}, gzip" if _is_gzip(reading.path) else name


def _is_gzip(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _opened(reading: Reading) -> BinaryIO | gzip.GzipFile:
    path, packed = reading.path, _is_gzip(reading.path)
    if reading.open is not None:
        return gzip.GzipFile(fileobj=reading.open()) if packed else reading.open()
    return gzip.open(path) if packed else path.open("rb")


def check_no_pointer(reading: Reading) -> None:
    """Refuse what Git LFS leaves where a file was not fetched.

    Raises:
        RecipeError: the file is such a pointer.
    """
    if reading.open is None and is_pointer(reading.path):
        raise RecipeError(
            f"pairs {reading.path}: a pointer of Git LFS; fetch the file itself with `git lfs pull`"
        )


def _check_head(head: bytes, reading: Reading) -> None:
    name = reading.name
    if head.startswith(b"\x1f\x8b"):
        raise RecipeError(f"pairs {name}: packed with gzip; name it {reading.path.name}.gz, or unpack it")
    if head.startswith((b"PAR1", b"PK\x03\x04")):
        kind = ".parquet" if head.startswith(b"PAR1") else ".xlsx or .zip"
        raise RecipeError(f"pairs {name}: the content of a {kind} file, no text")
