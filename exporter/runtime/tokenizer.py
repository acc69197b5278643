"""Turn pairs into tokens: the one way for scoring, for counting, and for what a build is proven with.

Needs an artifact's tokenizer.json and no engine, so that counting tokens opens no model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np
from tokenizers import Tokenizer

from exporter.artifact.manifest import check_needed
from exporter.errors import IntegrityError, RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from tokenizers import Encoding

    from exporter.artifact.manifest import Manifest
    from exporter.pairs import Pair


_FILE = "tokenizer.json"
# What a graph of a cross-encoder may ask for: the keys of what `PairTokenizer.padded` returns.
KNOWN_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class PairTokenizer:
    """The tokenizer of an artifact; may be shared between threads."""

    def __init__(self, path: Path, max_length: int, pad_id: int) -> None:
        """Read a tokenizer and check that it truncates and pads as wanted: other libraries obey its file.

        Args:
            path: the tokenizer.json.
            max_length: tokens of a pair, special tokens counted, at which it truncates.
            pad_id: the token that batches are padded with.

        Raises:
            IntegrityError: the file is no tokenizer, or it truncates or pads in another way.
        """
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises Exception itself
            raise IntegrityError(f"{path}: no tokenizer: {str(error)[:200]!a}") from error

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
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, folder: Path, manifest: Manifest) -> Self:
        """Read an artifact's tokenizer; its file is hashed first, the other files are not looked at.

        Raises:
            IntegrityError: the file is missing, is not the one the manifest names, or is another kind of
                tokenizer.
        """
        check_needed(manifest, folder, (_FILE,))
        return cls(folder / _FILE, manifest.max_length, manifest.pad_id)

    def encode(self, pairs: Sequence[Pair], *, start: int = 0) -> list[Encoding]:
        """Encode pairs, special tokens added, truncated to `max_length`, not padded.

        Args:
            pairs: (query, passage) texts.
            start: the position of the first pair among the caller's, for errors.

        Raises:
            RecipeError: something in `pairs` is not a pair of strings; its position is named.
        """
        _check_pairs(pairs, start)
        try:
            texts = [self._shortened(query, passage) for query, passage in pairs]
            encodings: list[Encoding] = self._tokenizer.encode_batch_fast(texts)
        except TypeError:  # what the tokenizer says of a lone surrogate, which no UTF-8 can hold
            raise _not_unicode(pairs, start) from None
        return encodings

    def count(self, pairs: Sequence[Pair]) -> NDArray[np.int64]:
        """Count the tokens of pairs after truncation, special tokens included: int64[n_pairs].

        Raises:
            RecipeError: something in `pairs` is not a pair of strings; its position is named.
        """
        return np.array([len(encoding) for encoding in self.encode(pairs)], np.int64)

    def count_untruncated(self, pairs: Sequence[Pair]) -> NDArray[np.int64]:
        """Count the tokens of pairs before truncation, special tokens included: int64[n_pairs].

        Raises:
            RecipeError: something in `pairs` is not a pair of strings; its position is named.
        """
        _check_pairs(pairs, 0)
        try:
            queries, passages = (self._count_alone([pair[side] for pair in pairs]) for side in (0, 1))
        except TypeError:
            raise _not_unicode(pairs, 0) from None
        n_special: int = self._tokenizer.num_special_tokens_to_add(is_pair=True)
        return queries + passages + n_special

    def padded(self, encodings: Sequence[Encoding], inputs: Iterable[str]) -> dict[str, NDArray[np.int64]]:
        """Return a batch as a graph's inputs: int64[n_rows, n_tokens] each, padded on the right.

        Args:
            encodings: the rows, at least one; the longest gives the width.
            inputs: the names the graph asks for, of `KNOWN_INPUTS`.
        """
        shape = (len(encodings), max(len(encoding) for encoding in encodings))
        fields = {
            "input_ids": np.full(shape, self.pad_id, np.int64),
            "attention_mask": np.zeros(shape, np.int64),
            "token_type_ids": np.zeros(shape, np.int64),
        }
        for row, encoding in enumerate(encodings):
            n = len(encoding)
            fields["input_ids"][row, :n] = encoding.ids
            fields["attention_mask"][row, :n] = 1
            fields["token_type_ids"][row, :n] = encoding.type_ids
        return {name: fields[name] for name in inputs}

    def _shortened(self, query: str, passage: str) -> Pair:
        """Cut very long texts at a space behind the tokens that truncation keeps.

        The tokenizer keeps what it cuts off in pieces, and pairs each piece of the query with each of the
        passage: two texts of 100,000 characters took 72 s. Which of the two is longer must stay so, since an
        odd token goes to the longer one.
        Source: https://github.com/huggingface/tokenizers/blob/main/tokenizers/src/utils/truncation.rs
        """
        n = self.max_length
        if len(query) + len(passage) <= 32 * n or self._tokenizer.truncation["direction"] == "left":
            return query, passage

        n_query, n_passage = self._count_alone((query, passage)).tolist()
        if n_query > n_passage:
            passage = self._cut(passage, n)
            return self._cut(query, max(n, self._count_one(passage) + 1)), passage
        query = self._cut(query, n)
        return query, self._cut(passage, max(n, self._count_one(query)))

    def _cut(self, text: str, n_tokens: int) -> str:
        """Return a beginning of a text, up to a space, of at least `n_tokens`, or else the whole text."""
        n_chars = 8 * n_tokens
        while len(text) > n_chars and (end := text.find(" ", n_chars)) > 0:
            if self._count_one(text[:end]) >= n_tokens:
                return text[:end]
            n_chars *= 2
        return text

    def _count_one(self, text: str) -> int:
        return int(self._count_alone((text,))[0])

    def _count_alone(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Count the tokens of single texts before truncation, special tokens not included: int64[n_texts]."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return np.array([len(e) + sum(map(len, e.overflowing)) for e in encodings], np.int64)


def _check_pairs(pairs: Sequence[Pair], start: int) -> None:
    for i, pair in enumerate(pairs, start):
        if (
            not isinstance(pair, tuple | list)
            or len(pair) != 2
            or not all(isinstance(text, str) for text in pair)
        ):
            raise RecipeError(f"pair {i} is {str(pair)[:80]!r}; wanted (query, passage), two strings")


def _not_unicode(pairs: Sequence[Pair], start: int) -> RecipeError:
    i = next(i for i, pair in enumerate(pairs, start) if not _is_unicode("".join(pair)))
    return RecipeError(f"pair {i} is not valid Unicode; decode its bytes with errors='replace'")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
