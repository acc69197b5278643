"""Find the part of a long text that holds the tokens which truncation keeps.

A tokenizer's time and memory grow with a text, whatever is kept of it, and what it cuts off of a pair it
holds in pieces, each piece of the query beside each of the passage: two texts of 100,000 characters took
72 s. So a text is read from the end that is kept, in parts that grow until they hold enough tokens. Parts end
where no token can reach across, and what makes few tokens of many characters (blanks, words that are too long
to be known) is shortened first, without a change to the tokens.
Source: https://github.com/huggingface/tokenizers/blob/main/tokenizers/src/utils/truncation.rs
"""

from __future__ import annotations

import re
import sys
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import models, normalizers, pre_tokenizers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tokenizers import Tokenizer


# Characters without a blank between them that are looked at, where the tokenizer is not one whose rules are
# known character by character.
_LONGEST_PRE_TOKEN = 10_000
# Characters that the tokenizers' own `\s` and `is_whitespace` match; Python's `\s` matches four more.
# Source: https://www.unicode.org/Public/UCD/latest/ucd/PropList.txt (White_Space)
_BLANKS = "\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_BORDER_OF_BLANKS = rf"(?<=[^{_BLANKS}])(?=[{_BLANKS}])"
# Characters of a text that are counted at a time.
_BLOCK_CHARACTERS = 1 << 14
# Normalizers that treat each character for itself, or, as NFD does with accents, in ways that move no border
# of a word.
_BY_CHARACTER = (
    normalizers.BertNormalizer,
    normalizers.Lowercase,
    normalizers.NFD,
    normalizers.NFKD,
    normalizers.StripAccents,
)


class LongText:
    """Reads long texts for one tokenizer; may be shared between threads."""

    def __init__(self, tokenizer: Tokenizer, n_tokens: int, *, from_end: bool) -> None:
        """Look at a tokenizer's rules.

        Args:
            tokenizer: that of the model.
            n_tokens: how many of a text's tokens have to be right.
            from_end: whether those are its last instead of its first.
        """
        added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        longest_added = max(map(len, added), default=0)
        # A part that is cut within an added token has other tokens at its border, at most one a character.
        self.n_wanted = n_tokens + longest_added + 8
        self._tokenizer, self._added, self._from_end = tokenizer, added, from_end
        self._words = _Words.of(tokenizer, added, longest_added)

    def part(self, text: str, n_characters: int) -> tuple[str, bool]:
        """Return the kept end of a text, in which tokens are those of the whole but for a few at the border.

        Args:
            text: the text.
            n_characters: at most how many characters to look at.

        Returns:
            The part, and whether it holds all tokens of the text. It is empty where no border was found.
        """
        if len(text) <= n_characters:
            return self._shortened(text)[0], True
        shortened, border = self._shortened(text[-n_characters:] if self._from_end else text[:n_characters])
        return (shortened[border:] if self._from_end else shortened[:border]), False

    def blocks(self, text: str, longest: int) -> Iterator[tuple[str, int]]:
        """Yield a text in blocks whose tokens add up to those of the whole, each with the place it ends at.

        Args:
            text: the text.
            longest: characters after which a block that has found no border yet is the last, and left out.
        """
        start, size = 0, _BLOCK_CHARACTERS
        while start < len(text):
            block = text[start : start + size]
            end = len(block) if start + size >= len(text) else self._last_border(block)
            if end:
                start, size = start + end, _BLOCK_CHARACTERS
                yield self._shortened(block[:end])[0] if self._words else block[:end], start
            elif size >= longest:
                return
            else:
                size *= 4

    def _last_border(self, block: str) -> int:
        """Return the last place in a block where a token ends and another begins, or 0."""
        pattern, text = ("[sp]", self._words.shape(block)) if self._words else (_BORDER_OF_BLANKS, block)
        borders = [found.start() for found in re.finditer(pattern, text)]
        return next((border for border in reversed(borders) if not self._in_added(block, border)), 0)

    def _in_added(self, text: str, border: int) -> bool:
        """Return whether an added token of the tokenizer may reach across a place in a text."""
        for token in self._added:
            window = text[max(0, border - len(token) + 1) : border + len(token) - 1]
            if token.casefold() in window.casefold():  # those that are matched after lowercasing too
                return True
        return False

    def _shortened(self, text: str) -> tuple[str, int]:
        """Return a text with fewer characters and the same tokens, and its outermost border."""
        if self._words is not None:
            return self._words.shortened(text, from_end=self._from_end)
        limit, from_end = self._longest_run, self._from_end

        def cut(run: re.Match[str]) -> str:
            return run[0][-limit:] if from_end else run[0][:limit]

        # Tried at the beginning of a run only, or else its time grows with the square of a run's length.
        blanks = rf"(?<![{_BLANKS}])[{_BLANKS}]{{{limit + 1},}}"
        others = rf"(?<![^{_BLANKS}])[^{_BLANKS}]{{{limit + 1},}}"
        text = re.sub(f"{blanks}|{others}", cut, text)
        return text, self._border_of_blanks(text)

    def _border_of_blanks(self, text: str) -> int:
        """Return the outermost place between a character and a blank, or else the end of a run cut before."""
        edge = text[: self._longest_run] if self._from_end else text[-self._longest_run :]
        if len(edge) == self._longest_run and not re.search(f"[{_BLANKS}]", edge):
            return 0 if self._from_end else len(text)
        if self._from_end:
            first = re.search(_BORDER_OF_BLANKS, text)
            return first.start() if first else len(text)
        last = re.match(f"(?s:.*){_BORDER_OF_BLANKS}", text)
        return last.end() if last else 0

    @cached_property
    def _longest_run(self) -> int:
        """Characters without a blank, or blanks, after which the rest of a run is left out."""
        longest = max(map(len, self._tokenizer.get_vocab()), default=1)
        return max(_LONGEST_PRE_TOKEN, longest * self.n_wanted)


class _Words:
    """The borders of words for WordPiece behind BERT's own rules, which look at one character at a time.

    A text has a shape, one letter a character: `w` part of a word, `x` dropped, `s` a blank, `p` a token of
    its own, `?` none of these. What the tokenizer makes of a character is seen by asking it.
    """

    def __init__(self, tokenizer: Tokenizer, longest_added: int) -> None:
        self._shapes = _Shapes(tokenizer.normalizer, tokenizer.pre_tokenizer)
        # Runs are left longer than any added token, so that none appears where characters were left out.
        self._n_blanks = longest_added + 1
        n_unknown = max(tokenizer.model.max_input_chars_per_word, longest_added) + 1
        self._fillers = re.compile(rf"[sx]{{{self._n_blanks + 1},}}")
        self._too_long = re.compile(rf"(?<![wx])((?:x*w){{{n_unknown}}})[wx]{{8,}}")

    @classmethod
    def of(cls, tokenizer: Tokenizer, added: list[str], longest_added: int) -> _Words | None:
        """Return the words of a tokenizer, or None if its rules may look at several characters."""
        if not isinstance(tokenizer.model, models.WordPiece):
            return None
        if not isinstance(tokenizer.pre_tokenizer, pre_tokenizers.BertPreTokenizer):
            return None
        if not _is_by_character(tokenizer.normalizer):
            return None
        words = cls(tokenizer, longest_added)
        # An added token without a border could hide in a word that is shortened.
        return words if all({*words.shape(content)} & {*"sp"} for content in added) else None

    def shape(self, text: str) -> str:
        """Return the shape of a text, of the same length."""
        return self._shapes.of(text)

    def shortened(self, text: str, *, from_end: bool) -> tuple[str, int]:
        """Return a text with the same tokens and bounded runs, and the place of its outermost border."""
        shape = self.shape(text)
        text, shape = _without(text, shape, self._fillers, self._short_filler)
        text, shape = _without(text, shape, self._too_long, self._short_word)
        if from_end:
            borders = [at for at in (shape.find("s"), shape.find("p")) if at >= 0]
            return text, min(borders, default=len(text))
        return text, max(shape.rfind("s"), shape.rfind("p"), 0)

    def _short_filler(self, text: str, run: re.Match[str]) -> tuple[str, str]:
        """Return fewer blanks for a run of them, or fewer dropped characters where there is no blank."""
        blank = run[0].find("s")
        if blank < 0:
            end = run.start() + self._n_blanks
            return text[run.start() : end], run[0][: self._n_blanks]
        return text[run.start() + blank] * self._n_blanks, "s" * self._n_blanks

    @staticmethod
    def _short_word(text: str, run: re.Match[str]) -> tuple[str, str]:
        """Return the beginning of a word that is too long to be known, long enough to stay unknown."""
        return text[run.start() : run.end(1)], run[1]


class _Shapes:
    """The letter of each character's shape, asked of the tokenizer when a character is first seen.

    A table over all characters: looking them up is some twenty times faster than `str.translate`.
    """

    def __init__(
        self, normalizer: normalizers.Normalizer | None, pre_tokenizer: pre_tokenizers.PreTokenizer
    ) -> None:
        self._normalizer, self._pre_tokenizer = normalizer, pre_tokenizer
        self._letters = np.zeros(sys.maxunicode + 1, np.uint8)  # 0: not seen yet

    def of(self, text: str) -> str:
        """Return the shape of a text."""
        starts = range(0, len(text), _BLOCK_CHARACTERS)
        return b"".join(self._of_block(text[i : i + _BLOCK_CHARACTERS]) for i in starts).decode("ascii")

    def _of_block(self, text: str) -> bytes:
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        letters = self._letters[codes]
        if not letters.all():
            for code in np.unique(codes[letters == 0]).tolist():
                self._letters[code] = ord(self._letter(chr(code)))
            letters = self._letters[codes]
        return letters.tobytes()

    def _letter(self, character: str) -> str:
        text = f"a{character}a"
        if self._normalizer is not None:
            text = self._normalizer.normalize_str(text)
        pieces = [piece for piece, _ in self._pre_tokenizer.pre_tokenize_str(text)]
        if len(pieces) == 1:
            letter = "x" if pieces == ["aa"] else "w"
        elif pieces[0] == pieces[-1] == "a":
            letter = "s" if len(pieces) == 2 else "p"
        else:
            letter = "?"
        return letter


def _is_by_character(normalizer: normalizers.Normalizer | None) -> bool:
    if isinstance(normalizer, normalizers.Sequence):
        return all(_is_by_character(part) for part in normalizer)
    return normalizer is None or isinstance(normalizer, _BY_CHARACTER)


def _without(
    text: str,
    shape: str,
    pattern: re.Pattern[str],
    short: Callable[[str, re.Match[str]], tuple[str, str]],
) -> tuple[str, str]:
    """Return text and shape with every run of the shape that a pattern matches replaced by a short one."""
    parts = [*_parts(text, shape, pattern, short)]
    return "".join(part for part, _ in parts), "".join(part for _, part in parts)


def _parts(
    text: str,
    shape: str,
    pattern: re.Pattern[str],
    short: Callable[[str, re.Match[str]], tuple[str, str]],
) -> Iterator[tuple[str, str]]:
    end = 0
    for run in pattern.finditer(shape):
        yield text[end : run.start()], shape[end : run.start()]
        yield short(text, run)
        end = run.end()
    yield text[end:], shape[end:]
