"""Check SentencePiece's table of characters and what stands for them, before tokenizers walks through it.

The table is a trie in one array of 32-bit units, then the texts that stand for what it finds. tokenizers
believes its offsets: one that leads outside is a panic in the middle of a text.
Source: https://github.com/google/sentencepiece/blob/master/src/normalizer.cc (DecodePrecompiledCharsMap)
Source: https://github.com/s-yata/darts-clone/blob/master/include/darts.h (DoubleArrayUnit)
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Published tables have 240 kB; the largest that SentencePiece itself makes, 500 kB.
_MAX_BYTES = 4 << 20
_LABELS = np.arange(1, 256, dtype=np.int64)
_CHUNK = 1 << 10


def read_charsmap(text: str) -> tuple[str, ...]:
    """Return the texts of a table, each of which may stand for one character.

    Args:
        text: the table in base64, as tokenizer.json has it.

    Raises:
        ValueError: it is no table, or leads outside of itself; the text says which.
    """
    if len(text) > _MAX_BYTES:
        raise ValueError(f"has {len(text)} characters, and no such table more than {_MAX_BYTES}")
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is no base64") from None
    n_bytes = int.from_bytes(raw[:4], "little")
    if len(raw) < 8 or n_bytes % 4 or not 4 <= n_bytes <= len(raw) - 4:
        raise ValueError(f"has {len(raw)} bytes, and says that {n_bytes} of them are a trie")
    texts = raw[4 + n_bytes :]
    try:
        decoded = texts.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("holds texts that are not UTF-8") from None
    values = _values(np.frombuffer(raw, "<u4", n_bytes // 4, 4).astype(np.int64))
    if values.size and values.max() > len(texts):
        raise ValueError("leads past the end of its texts")
    continued = np.append((np.frombuffer(texts, np.uint8) & 0xC0) == 0x80, False)
    if continued[values].any():
        raise ValueError("leads into the middle of a character")
    return tuple(decoded.split("\0"))


def _values(units: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return every value that a text can lead to.

    Raises:
        ValueError: a text can lead outside of the array.
    """
    seen = np.zeros(len(units), bool)
    found: list[NDArray[np.int64]] = []
    open_nodes = _offsets(units[:1])
    while open_nodes.size:
        # Any byte may come next, and is looked up before it is compared.
        if (open_nodes | 255).max() >= len(units):
            raise ValueError("leads outside of its trie")
        open_nodes = open_nodes[~seen[open_nodes]]
        seen[open_nodes] = True
        following = [
            _following(units, part, found)
            for part in np.split(open_nodes, range(_CHUNK, len(open_nodes), _CHUNK))
        ]
        open_nodes = np.unique(np.concatenate(following))
    return np.concatenate(found) if found else np.empty(0, np.int64)


def _following(
    units: NDArray[np.int64], nodes: NDArray[np.int64], found: list[NDArray[np.int64]]
) -> NDArray[np.int64]:
    """Return the nodes that one byte more leads to, and note the values of those that have one."""
    at = nodes[:, None] ^ _LABELS
    matching = (units[at] & 0x800000FF) == _LABELS
    reached = units[at[matching]]
    nodes = at[matching] ^ _offsets(reached)
    with_value = nodes[(reached >> 8) & 1 == 1]
    if with_value.size and with_value.max() >= len(units):
        raise ValueError("leads outside of its trie")
    found.append(units[with_value] & 0x7FFFFFFF)
    return nodes


def _offsets(units: NDArray[np.int64]) -> NDArray[np.int64]:
    return (units >> 10) << ((units & (1 << 9)) >> 6)
