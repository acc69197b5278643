"""Read protobuf's wire format: fields by number, no schema, and nothing that has two readings.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# How a field is written: the last bits of its tag, and for some the bytes that follow.
_VARINT, _LENGTH, _FIXED = 0, 2, {1: 8, 5: 4}


def fields(message: memoryview, allowance: Iterator[int]) -> Iterator[tuple[int, memoryview]]:
    """Yield the fields of a message that hold bytes: number and bytes.

    Args:
        message: its bytes.
        allowance: yields once for each field that may still be read.

    Raises:
        ValueError, IndexError: see `all_fields`.
    """
    for number, value in all_fields(message, allowance):
        if isinstance(value, memoryview):
            yield number, value


def numbers(message: memoryview, allowance: Iterator[int]) -> Iterator[tuple[int, int]]:
    """Yield the fields of a message that hold whole numbers: the field's number, and the number in it.

    Args:
        message: its bytes.
        allowance: yields once for each field that may still be read.

    Raises:
        ValueError, IndexError: see `all_fields`.
    """
    for number, value in all_fields(message, allowance):
        if isinstance(value, int):
            yield number, value


def all_fields(message: memoryview, allowance: Iterator[int]) -> Iterator[tuple[int, memoryview | int]]:
    """Yield the fields of a message: number, and bytes or whole number; those of fixed size are left out.

    What two parsers might read in two ways is refused: groups, and numbers with more digits than they need.

    Raises:
        ValueError, IndexError: the bytes are no message, or have more fields than are left of `allowance`.
    """
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        wire, length, number = tag & 7, _FIXED.get(tag & 7, 0), 0
        if wire == _LENGTH:
            length, at = _varint(message, at)
        elif wire == _VARINT:
            number, at = _varint(message, at)
        elif wire not in _FIXED:
            raise ValueError
        if at + length > end or not 8 <= tag < 1 << 32 or next(allowance, None) is None:
            raise ValueError
        if wire == _LENGTH:
            yield tag >> 3, message[at : at + length]
        elif wire == _VARINT:
            yield tag >> 3, number
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Read a number of seven bits a byte, the lowest first; return it and the position behind it."""
    byte = message[at]
    if byte < 0x80:
        return byte, at + 1
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    if not 0 < byte < 0x80:
        raise ValueError
    return value, at
