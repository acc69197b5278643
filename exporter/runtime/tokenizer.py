"""Turn pairs into tokens: the one way for scoring, for counting, and for what a build is proven with.

Needs an artifact's tokenizer.json and no engine, so that counting tokens opens no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, groupby
from typing import TYPE_CHECKING, Self

import numpy as np
from tokenizers import Tokenizer

from exporter.artifact.files import TOKENIZER, read_json_object
from exporter.artifact.manifest import check_needed
from exporter.artifact.tokenizer_json import odd_tokenizer
from exporter.backend import of_untrusted
from exporter.errors import IntegrityError
from exporter.runtime.arguments import pair_of
from exporter.runtime.long_text import LongText

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from tokenizers import Encoding

    from exporter.artifact.manifest import Manifest
    from exporter.pairs import Pair


# What a graph of a cross-encoder may ask for: the keys of what `PairTokenizer.padded` returns.
KNOWN_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# Characters that are tokenized at a time: a token of the library takes about a hundred bytes.
_BATCH_CHARACTERS = 1 << 18
# Characters of a text of which tokens are counted to see which of two texts is the longer one. Beyond it, the
# texts' lengths and the tokens so far decide.
_COUNTED_CHARACTERS = 1 << 16
# Tokens of the vocabulary that are tried as texts, until one has tokens: `a` has some nearly everywhere.
_MAX_TRIED = 1 << 12


@dataclass(frozen=True, slots=True)
class TokenizedPair:
    """The tokens of a pair, truncated: `ids` and `type_ids`, int32[n_tokens] each."""

    ids: NDArray[np.int32]
    type_ids: NDArray[np.int32]

    def __len__(self) -> int:
        """Return the number of tokens, special tokens included."""
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class _Side:
    """One text of a pair: the tokens that may be kept, and how many the text has, at least.

    `is_whole`: `n_tokens` is exact.
    """

    text: str
    ids: NDArray[np.int32]
    n_tokens: int
    is_whole: bool


class PairTokenizer:
    """The tokenizer of an artifact; may be shared between threads.

    Time and memory for a pair are bounded by `max_length`, whatever the length of its texts; the tokens are
    those that the tokenizer gives for the whole texts. Where it is not WordPiece with BERT's rules, a run of
    more than 10,000 characters without a blank may be an exception (see `long_text`), and with any tokenizer
    a pair of which each text has more than 65,536 characters: which one has more tokens, and gets the odd one
    at truncation, is then an estimate.
    """

    def __init__(self, path: Path, max_length: int, pad_id: int) -> None:
        """Read a tokenizer and check that it truncates and pads as wanted: other libraries obey its file.

        Args:
            path: the tokenizer.json.
            max_length: tokens of a pair, special tokens counted, at which it truncates.
            pad_id: the token that batches are padded with.

        Raises:
            IntegrityError: the file is no tokenizer, or it truncates or pads in another way.
        """
        check_tokenizer(path)
        with of_untrusted(f"{path}: no tokenizer"):
            tokenizer = Tokenizer.from_file(str(path))
            self._read(tokenizer, path, max_length, pad_id)

    def _read(self, tokenizer: Tokenizer, path: Path, max_length: int, pad_id: int) -> None:
        """Check a tokenizer that its library could read, and keep it."""
        found = tokenizer.truncation or {}
        wanted = {"max_length": max_length, "strategy": "longest_first", "stride": 0}
        if {key: found.get(key) for key in wanted} != wanted or tokenizer.padding:
            how = f"truncation {found or 'none'}, padding {tokenizer.padding or 'none'}"
            raise IntegrityError(
                f"{path}: wanted pairs cut at {max_length} tokens and not padded, found {how}"
            )
        if tokenizer.id_to_token(pad_id) is None:
            raise IntegrityError(f"{path}: has no token {pad_id}, with which its manifest pads")

        self.max_length, self.pad_id = max_length, pad_id
        self._from_end = found["direction"] == "left"
        # The tokenizer's own truncation keeps what it cuts off, in pieces, each piece of one text paired with
        # each of the other.
        tokenizer.no_truncation()
        self._tokenizer, self._path = tokenizer, path
        n_empty = len(tokenizer.encode("", ""))
        if n_empty > max_length:
            raise IntegrityError(
                f"{path}: makes {n_empty} tokens of a pair of empty texts, and {max_length} are read"
            )
        self._layout = _layout(tokenizer, path)
        self._room = max_length - sum(side is None for side, _, _ in self._layout)
        self._long = LongText(tokenizer, max_length, from_end=self._from_end)
        # Texts of usual length go to the tokenizer as they are.
        self._n_short = 8 * self._long.n_wanted

    @classmethod
    def load(cls, folder: Path, manifest: Manifest) -> Self:
        """Read an artifact's tokenizer; its file is hashed first, the other files are not looked at.

        Raises:
            IntegrityError: the file is missing, is not the one the manifest names, or is another kind of
                tokenizer.
        """
        check_needed(manifest, folder, (TOKENIZER,))
        return cls(folder / TOKENIZER, manifest.max_length, manifest.pad_id)

    def encode(self, pairs: Iterable[object], *, start: int = 0) -> list[TokenizedPair]:
        """Encode pairs, special tokens added, truncated to `max_length`, not padded.

        Args:
            pairs: (query, passage) texts.
            start: the position of the first pair among the caller's, for errors.

        Raises:
            ArgumentTypeError: something in `pairs` is not a pair of strings; its position is named.
            ArgumentValueError: it has not two texts, or one that is not valid Unicode.
        """
        checked = [pair_of(i, pair) for i, pair in enumerate(pairs, start)]
        with of_untrusted(f"{self._path}: cannot tokenize a text"):
            sides = self._sides(dict.fromkeys(chain.from_iterable(checked)))
            return [self._joined(sides[query], sides[passage]) for query, passage in checked]

    def count(self, pairs: Iterable[Pair]) -> NDArray[np.int64]:
        """Count the tokens of pairs after truncation, special tokens included: int64[n_pairs].

        Raises:
            ArgumentTypeError: something in `pairs` is not a pair of strings; its position is named.
            ArgumentValueError: it has not two texts, or one that is not valid Unicode.
        """
        return np.array([len(pair) for pair in self.encode(pairs)], np.int64)

    def count_untruncated(self, pairs: Iterable[Pair]) -> NDArray[np.int64]:
        """Count the tokens of pairs before truncation, special tokens included: int64[n_pairs].

        Raises:
            ArgumentTypeError: something in `pairs` is not a pair of strings; its position is named.
            ArgumentValueError: it has not two texts, or one that is not valid Unicode.
        """
        checked = [pair_of(i, pair) for i, pair in enumerate(pairs)]
        texts = dict.fromkeys(chain.from_iterable(checked))
        short = [text for text in texts if len(text) <= self._n_short]
        with of_untrusted(f"{self._path}: cannot tokenize a text"):
            counts = dict(zip(short, map(len, self._encoded(short)), strict=True))
            counts |= {text: self._count(text, len(text))[0] for text in texts if text not in counts}
        n_special = self.max_length - self._room
        return np.array([counts[query] + counts[passage] + n_special for query, passage in checked], np.int64)

    def padded(
        self, rows: Sequence[TokenizedPair], inputs: Iterable[str], width: int = 0
    ) -> dict[str, NDArray[np.int64]]:
        """Return a batch as a graph's inputs: int64[n_rows, n_tokens] each, padded on the right.

        Args:
            rows: the pairs, at least one; the longest gives the width.
            inputs: the names the graph asks for, of `KNOWN_INPUTS`.
            width: tokens of a row at least.
        """
        shape = (len(rows), max(width, *(len(row) for row in rows)))
        fields = {
            "input_ids": np.full(shape, self.pad_id, np.int64),
            "attention_mask": np.zeros(shape, np.int64),
            "token_type_ids": np.zeros(shape, np.int64),
        }
        for i, row in enumerate(rows):
            n = len(row)
            fields["input_ids"][i, :n] = row.ids
            fields["attention_mask"][i, :n] = 1
            fields["token_type_ids"][i, :n] = row.type_ids
        return {name: fields[name] for name in inputs}

    def _sides(self, texts: Iterable[str]) -> dict[str, _Side]:
        """Return the tokens of each text that truncation may keep, reading long ones as far as needed."""
        found: dict[str, _Side] = {}
        open_texts, n_characters = [*texts], self._n_short
        while open_texts:
            parts = [self._part(text, n_characters) for text in open_texts]
            rest = []
            encodings = self._encoded([part for part, _ in parts])
            for text, (_, is_whole), encoding in zip(open_texts, parts, encodings, strict=True):
                if is_whole or len(encoding) >= self._long.n_wanted:
                    found[text] = _Side(text, self._kept(encoding.ids, self._room), len(encoding), is_whole)
                else:
                    rest.append(text)
            open_texts, n_characters = rest, 8 * n_characters
        return found

    def _part(self, text: str, n_characters: int) -> tuple[str, bool]:
        """Return what of a text to tokenize, and whether it is all."""
        return (text, True) if len(text) <= self._n_short else self._long.part(text, n_characters)

    def _encoded(self, texts: Sequence[str]) -> Iterator[Encoding]:
        """Yield each text's tokens, without special tokens; few are in memory at a time."""
        size = 0

        def batch_of(text: str) -> int:
            nonlocal size
            size += len(text)
            return size // _BATCH_CHARACTERS

        for _, batch in groupby(texts, batch_of):
            yield from self._tokenizer.encode_batch_fast([*batch], add_special_tokens=False)

    def _kept(self, ids: Sequence[int] | NDArray[np.int32], n_tokens: int) -> NDArray[np.int32]:
        return np.array(ids[max(0, len(ids) - n_tokens) :] if self._from_end else ids[:n_tokens], np.int32)

    def _joined(self, query: _Side, passage: _Side) -> TokenizedPair:
        """Return a pair's tokens, truncated as the tokenizer's own `longest_first` does.

        The longer text is cut until both have half of the room, and the odd token goes to the longer one, or
        to the passage of two equally long ones.
        Source: https://github.com/huggingface/tokenizers/blob/main/tokenizers/src/utils/truncation.rs
        """
        room, n_query, n_passage = self._room, query.n_tokens, passage.n_tokens
        if n_query + n_passage > room:
            half = room // 2
            if n_query <= half:
                n_passage = room - n_query
            elif n_passage <= half:
                n_query = room - n_passage
            elif room % 2 and self._is_longer(query, passage):
                n_query, n_passage = room - half, half
            else:
                n_query, n_passage = half, room - half
        ids = (self._kept(query.ids, n_query), self._kept(passage.ids, n_passage))
        parts = [
            (np.array([token], np.int32) if side is None else ids[side], type_id)
            for side, token, type_id in self._layout
        ]
        return TokenizedPair(
            np.concatenate([part for part, _ in parts]),
            np.repeat(
                np.array([type_id for _, type_id in parts], np.int32), [len(part) for part, _ in parts]
            ),
        )

    def _is_longer(self, query: _Side, passage: _Side) -> bool:
        """Return whether a query has more tokens than a passage.

        Both are counted a part at a time, until the shorter one has ended or enough was seen for an estimate.
        """
        n_characters = 32 * self._long.n_wanted
        while True:
            n_query, query_read = self._counted(query, n_characters)
            n_passage, passage_read = self._counted(passage, n_characters)
            query_ended, passage_ended = query_read == len(query.text), passage_read == len(passage.text)
            if query_ended and (passage_ended or n_passage >= n_query):
                return n_query > n_passage
            if passage_ended and n_query > n_passage:
                return True
            if n_characters >= _COUNTED_CHARACTERS:
                break
            n_characters = min(4 * n_characters, _COUNTED_CHARACTERS)
        # In whole numbers: two texts of one kind and length are equally long.
        return n_query * len(query.text) * passage_read > n_passage * len(passage.text) * query_read

    def _counted(self, side: _Side, n_characters: int) -> tuple[int, int]:
        if side.is_whole:
            return side.n_tokens, len(side.text)
        return self._count(side.text, n_characters)

    def _count(self, text: str, n_characters: int) -> tuple[int, int]:
        """Count the tokens of a text before truncation, special tokens not included.

        Args:
            text: the text.
            n_characters: how many of its characters to look at.

        Returns:
            The tokens, and the characters that were looked at.
        """
        n_tokens = read = 0
        for block, end in self._long.blocks(text, n_characters):
            (encoding,) = self._encoded([block])
            n_tokens, read = n_tokens + len(encoding), end
            if read >= n_characters:
                break
        return n_tokens, read


def check_tokenizer(path: Path) -> None:
    """Check a tokenizer.json before its library reads it, see `odd_tokenizer`.

    Raises:
        IntegrityError: the file is missing, no JSON object, or holds what no tokenizer needs.
    """
    try:
        content = read_json_object(path, unique=True)
    except IntegrityError as error:
        raise IntegrityError(f"{path}: no tokenizer, {str(error).removeprefix(f'{path}: ')}") from None
    if (odd := odd_tokenizer(content)) is not None:
        raise IntegrityError(f"{path}: {odd}")


def _layout(tokenizer: Tokenizer, path: Path) -> list[tuple[int | None, int, int]]:
    """Return what a pair is made of, in order: each a side (0 query, 1 passage) or None, a token, a type id.

    Seen in a pair of the first text that has tokens; a side's token stands for all of its tokens.

    Raises:
        IntegrityError: no text has tokens.
    """
    n_tried = min(tokenizer.get_vocab_size(), _MAX_TRIED)
    texts = chain(("a",), filter(None, map(tokenizer.id_to_token, range(n_tried))))
    for text in texts:
        pair = tokenizer.encode(text, text)
        if {0, 1} <= {*pair.sequence_ids}:
            layout: list[tuple[int | None, int, int]] = []
            for side, token, type_id in zip(pair.sequence_ids, pair.ids, pair.type_ids, strict=True):
                if side is None or not layout or layout[-1][0] != side:
                    layout.append((side, token, type_id))
            return layout
    raise IntegrityError(f"{path}: gives no text a token")
