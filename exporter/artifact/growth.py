"""How many characters a tokenizer's normalizers may make of one: a bound from what they say they do.

What Unicode's own tables do to a character (18 for one of them, 4 at most for the rest) is not counted for
texts, and is for what the tokenizer itself puts into them.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from exporter.artifact.charsmap import read_charsmap
from exporter.artifact.patterns import takes_characters

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Characters that stand for all those that no normalizer names.
_OTHERS = "a \u4e00"


class Growth:
    """The normalizers of one tokenizer, whose parameters were checked."""

    def __init__(self, parts: Sequence[Mapping[str, object]]) -> None:
        """Read what each makes of a character.

        Args:
            parts: the components in their order, sequences taken apart.

        Raises:
            ValueError: one has a table of characters that is none.
        """
        self._parts = parts
        self._tables = {i: _table(part) for i, part in enumerate(parts) if part["type"] == "Precompiled"}
        self._known: dict[tuple[int, str], int] = {}

    @property
    def most(self) -> int:
        """The most characters that are made of one, special tokens and pre-tokenizers not counted."""
        named = "".join(text for kind, text in map(_pattern, self._parts) if kind == "String")
        return max(self._made(0, character) for character in {*named, *_OTHERS})

    def _made(self, i: int, character: str) -> int:
        """Return how many characters the normalizers from number i on make of one."""
        if i == len(self._parts):
            return 1
        if (i, character) not in self._known:
            self._known[i, character] = self._made_by(i, character)
        return self._known[i, character]

    def _made_by(self, i: int, character: str) -> int:  # noqa: PLR0911 - one line a normalizer
        part = self._parts[i]
        same = self._made(i + 1, character)
        match part["type"]:
            case "NFC" | "NFD" | "NFKC" | "NFKD" as form:
                return self._text(i, unicodedata.normalize(form, character))
            case "Lowercase":
                return self._text(i, character.lower())
            case "BertNormalizer":  # blanks around each Chinese character
                return self._text(i, f" {unicodedata.normalize('NFD', character.lower())} ")
            case "Nmt":  # some characters become blanks
                return max(same, self._made(i + 1, " "))
            case "ByteLevel":
                return len(character.encode("utf-8", "surrogatepass")) * max(same, self._made(i + 1, "a"))
            case "Prepend":
                return same + self._text(i, str(part.get("prepend", "")))
            case "Precompiled":
                return max(same, self._longest(i))
            case "Replace":
                return self._replaced(i, character, same)
            case _:  # Strip, StripAccents
                return same

    def _replaced(self, i: int, character: str, same: int) -> int:
        kind, pattern = _pattern(self._parts[i])
        made = self._text(i, str(self._parts[i].get("content", "")))
        if kind == "Regex":
            return max(same, made) if takes_characters(pattern) else same + made
        if character not in pattern:
            return same
        return made if len(pattern) == 1 else max(same, -(-made // len(pattern)))

    def _text(self, i: int, text: str) -> int:
        """Return what the normalizers after number i make of a text that it puts in."""
        return sum(self._made(i + 1, character) for character in text)

    def _longest(self, i: int) -> int:
        if (i, "") not in self._known:
            self._known[i, ""] = max((self._text(i, text) for text in self._tables[i]), default=0)
        return self._known[i, ""]


def _table(part: Mapping[str, object]) -> tuple[str, ...]:
    text = part.get("precompiled_charsmap")
    if not isinstance(text, str):
        raise ValueError("is no base64")  # noqa: TRY004 - of a file, not of a call
    return read_charsmap(text)


def _pattern(part: Mapping[str, object]) -> tuple[str, str]:
    """Return the kind and the text of what a component replaces."""
    pattern = part.get("pattern")
    if not isinstance(pattern, dict):
        return "", ""
    kind, text = next(iter(pattern.items()))
    return kind, str(text)
