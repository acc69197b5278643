"""Hold the model of a tokenizer.json, its vocabulary, against what one may be.

That a model fits itself is checked too: that merges are of tokens it has, that the token for what it does not
know is one. Its library finds that out in the middle of a text, or by a panic.
Source: https://github.com/huggingface/tokenizers/tree/v0.22.1/tokenizers/src/models
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from exporter.artifact.configs import MAX_TOKENS
from exporter.artifact.forms import OddError, anything, flag, number, short, short_or_none

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exporter.artifact.forms import Check

    _Part: TypeAlias = dict[str, object]

_MAX_TOKEN = 1 << 14
# SentencePiece's pieces, each character of which is a node of a tree. They have 16 unless asked for more,
# and XLM-V's have 6 million all together.
# Source: https://github.com/google/sentencepiece/blob/master/doc/options.md (max_sentencepiece_length)
_MAX_PIECE, _MAX_PIECES = 1 << 9, 1 << 23
# Characters of a word that WordPiece looks up, each beginning with each end; published ones: 100 or 200.
_MAX_WORD = 1000


def check_model(model: _Part) -> list[int]:
    """Check a model of tokens, and return the largest of their numbers; an empty list where it has no token.

    Args:
        model: the `model` of a tokenizer.json.

    Raises:
        OddError: it is of no known kind, or does not fit itself.
    """
    kind = model.get("type") or _untyped(model)
    check = _MODELS.get(kind) if isinstance(kind, str) else None
    if check is None:
        raise OddError(f"its model is a {str(kind)[:80]!a}, which is not allowed")
    parameters, look = check
    for key, value in model.items():
        if key not in parameters and key not in ("type", "vocab", "merges"):
            raise OddError(f"its model {kind} has {key[:80]!a}, which is no parameter of one")
        if key in parameters and not parameters[key](value):
            raise OddError(f"its model {kind} has {key} {str(value)[:80]!a}, which is not allowed")
    return look(model)


def _untyped(model: _Part) -> str:
    """Return what a model is whose file does not say it, as those of old versions do not."""
    if "merges" in model:
        return "BPE"
    if isinstance(model.get("vocab"), list):
        return "Unigram"
    return "WordPiece" if "max_input_chars_per_word" in model else "WordLevel"


def _vocabulary(model: _Part) -> dict[str, int]:
    vocab = model.get("vocab")
    if not isinstance(vocab, dict) or len(vocab) > MAX_TOKENS:
        raise OddError(f"its model has no vocabulary of {MAX_TOKENS} tokens at most")
    if odd := [token for token, number in vocab.items() if type(number) is not int]:
        raise OddError(f"its vocabulary has {odd[0][:80]!a} without a number")
    if vocab and not 0 <= min(vocab.values()) <= max(vocab.values()) < MAX_TOKENS:
        raise OddError(f"its vocabulary has tokens of other numbers than 0 to {MAX_TOKENS - 1}")
    if max(map(len, vocab), default=0) > _MAX_TOKEN:
        raise OddError(f"its vocabulary has a token of more than {_MAX_TOKEN} characters")
    return vocab


def _largest(vocab: Mapping[str, int]) -> list[int]:
    return [max(vocab.values())] if vocab else []


def _words(model: _Part) -> list[int]:
    vocab, unknown = _vocabulary(model), model.get("unk_token")
    if unknown is not None and unknown not in vocab:
        raise OddError(f"its model has no {str(unknown)[:80]!a}, the token of what it does not know")
    return _largest(vocab)


def _bpe(model: _Part) -> list[int]:
    vocab, merges = _vocabulary(model), model.get("merges")
    if not isinstance(merges, list) or len(merges) > 2 * MAX_TOKENS:
        raise OddError("its model has no list of merges")
    prefix = model.get("continuing_subword_prefix") or ""
    assert isinstance(prefix, str)
    for merge in merges:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(p, str) for p in pair):
            raise OddError(f"its model merges {str(merge)[:80]!a}, which are no two tokens")
        first, second = pair
        if (
            not second.startswith(prefix)
            or not {first, second, first + second[len(prefix) :]} <= vocab.keys()
        ):
            raise OddError(f"its model merges {str(merge)[:80]!a}, and has no such tokens")
    return _largest(vocab)


def _unigram(model: _Part) -> list[int]:
    vocab, unknown = model.get("vocab"), model.get("unk_id")
    if not isinstance(vocab, list) or not 0 < len(vocab) <= MAX_TOKENS:
        raise OddError(f"its model has no vocabulary of {MAX_TOKENS} tokens at most")
    for row in vocab:
        if (
            not isinstance(row, list)
            or len(row) != 2
            or not isinstance(row[0], str)
            or len(row[0]) > _MAX_PIECE
            or isinstance(row[1], bool)
            or not isinstance(row[1], int | float)
            or not -_MAX_SCORE < row[1] < _MAX_SCORE
        ):
            raise OddError(f"its vocabulary has {str(row)[:80]!a}, which is no token and its score")
    if (n_characters := sum(len(row[0]) for row in vocab)) > _MAX_PIECES:
        raise OddError(f"its vocabulary has {n_characters} characters; wanted {_MAX_PIECES} at most")
    if unknown is not None and not number(0, len(vocab) - 1)(unknown):
        raise OddError(
            f"its model has the token {str(unknown)[:40]!a} for what it does not know, of {len(vocab)}"
        )
    return [len(vocab) - 1]


# Logarithms of probabilities; added up over a text they have to stay finite.
_MAX_SCORE = 1e9
_MODELS: dict[str, tuple[dict[str, Check], Callable[[_Part], list[int]]]] = {
    "BPE": (
        {
            # Drops merges at random where it is more than nothing.
            "dropout": lambda value: value is None or value in (0, 0.0),
            "unk_token": short_or_none,
            "continuing_subword_prefix": short_or_none,
            "end_of_word_suffix": short_or_none,
            "fuse_unk": flag,
            "byte_fallback": flag,
            "ignore_merges": flag,
        },
        _bpe,
    ),
    "Unigram": ({"unk_id": anything, "byte_fallback": flag}, _unigram),
    "WordLevel": ({"unk_token": short}, _words),
    "WordPiece": (
        {
            "unk_token": short,
            "continuing_subword_prefix": short,
            "max_input_chars_per_word": number(1, _MAX_WORD),
        },
        _words,
    ),
}
