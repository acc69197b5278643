"""Hold a tokenizer.json against what one may hold, before tokenizers reads it.

Knows the components of the format, what their parameters may be, and how much each may make of a character.
A file of a kilobyte can otherwise ask for all memory (texts that grow tenfold nine times), for hours (a
pattern that tries every way), or for what ends the process (a table that leads outside of itself).
Source: https://github.com/huggingface/tokenizers/tree/v0.22.1/tokenizers/src (the `Deserialize` of each part)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from exporter.artifact.configs import MAX_ADDED, MAX_TOKEN_CHARACTERS, MAX_TOKENS
from exporter.artifact.growth import Growth
from exporter.artifact.patterns import odd_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    _Check: TypeAlias = Callable[[object], bool]
    _Part: TypeAlias = dict[str, object]

# How many characters one character of a text may become. A table of SentencePiece's makes 18 of one, and
# pieces that begin with a mark double it.
MAX_GROWTH = 128
# Published tokenizers have a dozen components, in sequences in a sequence.
_MAX_PARTS = 128
_MAX_DEPTH = 4
# The longest template of a published tokenizer has eight pieces.
_MAX_PIECES = 64
_MAX_TYPE_ID = 255
_MAX_TEXT = 1 << 10
_MAX_VOCABULARY_TOKEN = 1 << 14
# Characters of a word that WordPiece looks up, each beginning with each end; published ones have 100 or 200.
_MAX_WORD = 1000
_MAX_LENGTH = 1 << 24
_KEYS = frozenset(
    (
        *("version", "truncation", "padding", "added_tokens"),
        *("normalizer", "pre_tokenizer", "post_processor", "decoder", "model"),
    )
)


class _OddError(Exception):
    """What of a file is not allowed."""


def odd_tokenizer(content: Mapping[str, object]) -> str | None:
    """Return the first thing in a tokenizer.json that may not be there, as words for an error; else None.

    Args:
        content: the JSON object that the file holds.
    """
    try:
        _check(content)
    except _OddError as error:
        return str(error)
    return None


def _check(content: Mapping[str, object]) -> None:
    if unknown := sorted(content.keys() - _KEYS):
        raise _OddError(f"holds {unknown[0][:80]!a}, which is no part of a tokenizer")
    vocabulary = _check_model(_mapping("model", content.get("model")))
    added = _check_added(content.get("added_tokens"))
    n_ids = 1 + max((*vocabulary, *added), default=0)
    _check_lengths(content)
    parts = {name: [*_flat(name, content.get(name))] for name in _COMPONENTS}
    for name, found in parts.items():
        for part in found:
            _check_part(name, part)
    for part in parts["post_processor"]:
        _check_processor(part, n_ids)
    _check_growth(parts["normalizer"], sum(map(_marks, parts["pre_tokenizer"])))


def _check_growth(normalizers: list[_Part], n_marks: int) -> None:
    try:
        growth = Growth(normalizers).most << n_marks
    except ValueError as error:
        raise _OddError(f"its normalizer Precompiled {error}") from None
    if growth > MAX_GROWTH:
        made = f"{growth:,}" if growth < 10**9 else "over 10^9"
        raise _OddError(f"its normalizer makes up to {made} characters of one; wanted {MAX_GROWTH} at most")


def _mapping(name: str, value: object) -> _Part:
    if not isinstance(value, dict):
        raise _OddError(f"its {name} is {str(value)[:40]!a}; wanted a mapping")
    return value


def _flat(name: str, value: object, depth: int = 0) -> Iterator[_Part]:
    """Yield the components of a part in their order, those of sequences one after the other."""
    if value is None and depth == 0:
        return
    part = _mapping(name, value)
    if part.get("type") != "Sequence":
        yield part
        return
    key = _SEQUENCES[name]
    inner = part.get(key)
    if not isinstance(inner, list) or part.keys() - {"type", key}:
        raise _OddError(f"its {name} has a sequence without {key}, or with more")
    if depth >= _MAX_DEPTH or len(inner) > _MAX_PARTS:
        raise _OddError(
            f"its {name} has sequences more than {_MAX_DEPTH} deep, or of more than {_MAX_PARTS} parts"
        )
    for i, one in enumerate(inner):
        if i >= _MAX_PARTS:
            return
        yield from _flat(name, one, depth + 1)


# --- what a component's parameters may be ---


def _flag(value: object) -> bool:
    return value is None or isinstance(value, bool)


def _short(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _MAX_TEXT


def _short_or_none(value: object) -> bool:
    return value is None or _short(value)


def _character(value: object) -> bool:
    return isinstance(value, str) and len(value) == 1


def _pattern(value: object) -> bool:
    if not isinstance(value, dict) or len(value) != 1:
        return False
    ((kind, text),) = value.items()
    if kind == "Regex" and isinstance(text, str):
        if why := odd_pattern(text):
            raise _OddError(f"its pattern {text[:80]!a} {why}")
        return bool(text)
    return kind == "String" and _short(text) and bool(text)


def _one_of(*words: str) -> _Check:
    return lambda value: value in words


def _number(least: int, most: int) -> _Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _token_and_id(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and _short(value[0]) and _ID(value[1])


def _anything(value: object) -> bool:
    """Accept what is looked at elsewhere."""
    del value
    return True


_ID = _number(0, MAX_TOKENS - 1)
_BEHAVIOR = _one_of("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")
_BYTE_LEVEL: dict[str, _Check] = {"add_prefix_space": _flag, "trim_offsets": _flag, "use_regex": _flag}
_METASPACE: dict[str, _Check] = {
    "replacement": _character,
    "str_rep": _character,
    "add_prefix_space": _flag,
    "prepend_scheme": _one_of("first", "never", "always"),
    "split": _flag,
}
_REPLACE: dict[str, _Check] = {"pattern": _pattern, "content": _short}
_NONE: dict[str, _Check] = {}
_SEQUENCES = {
    "normalizer": "normalizers",
    "pre_tokenizer": "pretokenizers",
    "post_processor": "processors",
    "decoder": "decoders",
}
_COMPONENTS: dict[str, dict[str, dict[str, _Check]]] = {
    "normalizer": {
        "BertNormalizer": dict.fromkeys(
            ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"), _flag
        ),
        "ByteLevel": _NONE,
        **dict.fromkeys(("Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "StripAccents"), _NONE),
        "Precompiled": {"precompiled_charsmap": _anything},
        "Prepend": {"prepend": _short},
        "Replace": _REPLACE,
        "Strip": {"strip_left": _flag, "strip_right": _flag},
    },
    "pre_tokenizer": {
        **dict.fromkeys(("BertPreTokenizer", "UnicodeScripts", "Whitespace", "WhitespaceSplit"), _NONE),
        "ByteLevel": _BYTE_LEVEL,
        "CharDelimiterSplit": {"delimiter": _character},
        "Digits": {"individual_digits": _flag},
        "FixedLength": {"length": _number(1, _MAX_LENGTH)},
        "Metaspace": _METASPACE,
        "Punctuation": {"behavior": _BEHAVIOR},
        "Split": {"pattern": _pattern, "behavior": _BEHAVIOR, "invert": _flag},
    },
    "post_processor": {
        "BertProcessing": {"sep": _token_and_id, "cls": _token_and_id},
        "ByteLevel": _BYTE_LEVEL,
        "RobertaProcessing": {
            "sep": _token_and_id,
            "cls": _token_and_id,
            "trim_offsets": _flag,
            "add_prefix_space": _flag,
        },
        "TemplateProcessing": dict.fromkeys(("single", "pair", "special_tokens"), _anything),
    },
    "decoder": {
        "BPEDecoder": {"suffix": _short},
        **dict.fromkeys(("ByteFallback", "Fuse"), _NONE),
        "ByteLevel": _BYTE_LEVEL,
        "CTC": {"pad_token": _short, "word_delimiter_token": _short, "cleanup": _flag},
        "Metaspace": _METASPACE,
        "Replace": _REPLACE,
        "Strip": {"content": _character, "start": _number(0, _MAX_TEXT), "stop": _number(0, _MAX_TEXT)},
        "WordPiece": {"prefix": _short, "cleanup": _flag},
    },
}


def _check_part(name: str, part: _Part) -> None:
    kind = part.get("type")
    parameters = _COMPONENTS[name].get(kind) if isinstance(kind, str) else None
    if parameters is None:
        raise _OddError(f"its {name} is a {str(kind)[:80]!a}, which is not allowed")
    for key, value in part.items():
        if key == "type":
            continue
        if key not in parameters:
            raise _OddError(f"its {name} {kind} has {key[:80]!a}, which is no parameter of one")
        if not parameters[key](value):
            raise _OddError(f"its {name} {kind} has {key} {str(value)[:80]!a}, which is not allowed")


def _marks(part: _Part) -> bool:
    """Return whether a pre-tokenizer puts a character of its own before each piece."""
    return part["type"] in ("Metaspace", "ByteLevel")


# --- special tokens ---


def _check_processor(part: _Part, n_ids: int) -> None:
    for side in ("sep", "cls"):
        pair = part.get(side)
        if isinstance(pair, list) and pair[1] >= n_ids:
            raise _OddError(f"its post_processor adds token {pair[1]}, and has no token beyond {n_ids - 1}")
    if part["type"] != "TemplateProcessing":
        return
    special = _mapping("post_processor's special_tokens", part.get("special_tokens"))
    if len(special) > _MAX_PIECES:
        raise _OddError(f"its post_processor has {len(special)} special tokens; wanted {_MAX_PIECES} at most")
    for name, token in special.items():
        ids = token.get("ids") if isinstance(token, dict) else None
        if not isinstance(ids, list) or len(ids) > _MAX_PIECES or not all(map(_ID, ids)):
            many = f"{len(ids)} tokens" if isinstance(ids, list) else "no tokens"
            raise _OddError(f"its post_processor adds {many} for {name[:40]!a}; wanted {_MAX_PIECES} at most")
        if ids and max(ids) >= n_ids:
            raise _OddError(f"its post_processor adds token {max(ids)}, and has no token beyond {n_ids - 1}")
    _check_template("single", part.get("single"), special, ["A"])
    _check_template("pair", part.get("pair"), special, ["A", "B"])


def _check_template(name: str, pieces: object, special: Mapping[str, object], wanted: list[str]) -> None:
    """Check that a template has each text once, and beside them special tokens that it knows."""
    if not isinstance(pieces, list) or len(pieces) > _MAX_PIECES:
        raise _OddError(f"its post_processor's {name} is no list of {_MAX_PIECES} pieces at most")
    texts = []
    for piece in pieces:
        kind, inner = next(iter(piece.items())) if isinstance(piece, dict) and piece else ("", None)
        said = inner if isinstance(inner, dict) else {}
        if kind not in ("Sequence", "SpecialToken") or not _number(0, _MAX_TYPE_ID)(said.get("type_id")):
            raise _OddError(f"its post_processor's {name} has {str(piece)[:80]!a}, which is no piece of one")
        if kind == "Sequence":
            texts.append(str(said.get("id")))
        elif said.get("id") not in special:
            raise _OddError(
                f"its post_processor's {name} has {str(said.get('id'))[:80]!a}, and no such token"
            )
    if sorted(texts) != wanted:
        raise _OddError(
            f"its post_processor's {name} has the texts {', '.join(texts)[:80]!a}; wanted {wanted}"
        )


def _check_added(value: object) -> list[int]:
    """Check the added tokens, and return their numbers."""
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MAX_ADDED:
        many = f"{len(value)} added tokens" if isinstance(value, list) else "no list of added tokens"
        raise _OddError(f"has {many}; wanted {MAX_ADDED} at most")
    ids = []
    for token in value:
        if not isinstance(token, dict) or not _ID(token.get("id")):
            raise _OddError(f"has an added token {str(token)[:80]!a} without a number below {MAX_TOKENS}")
        content = token.get("content")
        if not isinstance(content, str) or len(content) > MAX_TOKEN_CHARACTERS:
            raise _OddError(
                f"has an added token {token['id']} that is no text of {MAX_TOKEN_CHARACTERS} characters at most"
            )
        ids.append(token["id"])
    return ids


def _check_lengths(content: Mapping[str, object]) -> None:
    """Check how pairs are cut and padded, here only that the numbers can be: each caller wants its own."""
    if (cut := content.get("truncation")) is not None:
        cut = _mapping("truncation", cut)
        length, stride = cut.get("max_length"), cut.get("stride", 0)
        if not _number(0, 1 << 53)(length) or not _number(0, 1 << 53)(stride):
            raise _OddError(f"its truncation is {str(cut)[:80]!a}; wanted whole numbers")
    if (pad := content.get("padding")) is not None:
        pad = _mapping("padding", pad)
        strategy, multiple = pad.get("strategy"), pad.get("pad_to_multiple_of")
        fixed = strategy.get("Fixed") if isinstance(strategy, dict) else 0
        if not _number(0, _MAX_LENGTH)(fixed) or not (multiple is None or _number(1, _MAX_TEXT)(multiple)):
            raise _OddError(f"its padding is {str(pad)[:80]!a}; wanted {_MAX_LENGTH} tokens at most")


# --- the model ---


def _check_model(model: _Part) -> list[int]:
    """Check a model of tokens, and return the largest of their numbers, or nothing."""
    kind = model.get("type") or _untyped(model)
    check = _MODELS.get(kind) if isinstance(kind, str) else None
    if check is None:
        raise _OddError(f"its model is a {str(kind)[:80]!a}, which is not allowed")
    parameters, look = check
    for key, value in model.items():
        if key not in parameters and key not in ("type", "vocab", "merges"):
            raise _OddError(f"its model {kind} has {key[:80]!a}, which is no parameter of one")
        if key in parameters and not parameters[key](value):
            raise _OddError(f"its model {kind} has {key} {str(value)[:80]!a}, which is not allowed")
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
        raise _OddError(f"its model has no vocabulary of {MAX_TOKENS} tokens at most")
    if odd := [token for token, number in vocab.items() if type(number) is not int]:
        raise _OddError(f"its vocabulary has {odd[0][:80]!a} without a number")
    if vocab and not 0 <= min(vocab.values()) <= max(vocab.values()) < MAX_TOKENS:
        raise _OddError(f"its vocabulary has tokens of other numbers than 0 to {MAX_TOKENS - 1}")
    if max(map(len, vocab), default=0) > _MAX_VOCABULARY_TOKEN:
        raise _OddError(f"its vocabulary has a token of more than {_MAX_VOCABULARY_TOKEN} characters")
    return vocab


def _largest(vocab: Mapping[str, int]) -> list[int]:
    return [max(vocab.values())] if vocab else []


def _words(model: _Part) -> list[int]:
    vocab, unknown = _vocabulary(model), model.get("unk_token")
    if unknown is not None and unknown not in vocab:
        raise _OddError(f"its model has no {str(unknown)[:80]!a}, the token of what it does not know")
    return _largest(vocab)


def _bpe(model: _Part) -> list[int]:
    vocab, merges = _vocabulary(model), model.get("merges")
    if not isinstance(merges, list) or len(merges) > 2 * MAX_TOKENS:
        raise _OddError("its model has no list of merges")
    prefix = model.get("continuing_subword_prefix") or ""
    assert isinstance(prefix, str)
    for merge in merges:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(p, str) for p in pair):
            raise _OddError(f"its model merges {str(merge)[:80]!a}, which are no two tokens")
        first, second = pair
        if (
            not second.startswith(prefix)
            or not {first, second, first + second[len(prefix) :]} <= vocab.keys()
        ):
            raise _OddError(f"its model merges {str(merge)[:80]!a}, and has no such tokens")
    return _largest(vocab)


def _unigram(model: _Part) -> list[int]:
    vocab, unknown = model.get("vocab"), model.get("unk_id")
    if not isinstance(vocab, list) or not 0 < len(vocab) <= MAX_TOKENS:
        raise _OddError(f"its model has no vocabulary of {MAX_TOKENS} tokens at most")
    for row in vocab:
        if (
            not isinstance(row, list)
            or len(row) != 2
            or not isinstance(row[0], str)
            or len(row[0]) > _MAX_VOCABULARY_TOKEN
            or isinstance(row[1], bool)
            or not isinstance(row[1], int | float)
            or not -_MAX_SCORE < row[1] < _MAX_SCORE
        ):
            raise _OddError(f"its vocabulary has {str(row)[:80]!a}, which is no token and its score")
    if unknown is not None and not _number(0, len(vocab) - 1)(unknown):
        raise _OddError(
            f"its model has the token {str(unknown)[:40]!a} for what it does not know, of {len(vocab)}"
        )
    return [len(vocab) - 1]


# Logarithms of probabilities; added up over a text they have to stay finite.
_MAX_SCORE = 1e9
_MODELS: dict[str, tuple[dict[str, _Check], Callable[[_Part], list[int]]]] = {
    "BPE": (
        {
            # Drops merges at random where it is more than nothing.
            "dropout": lambda value: value is None or value in (0, 0.0),
            "unk_token": _short_or_none,
            "continuing_subword_prefix": _short_or_none,
            "end_of_word_suffix": _short_or_none,
            "fuse_unk": _flag,
            "byte_fallback": _flag,
            "ignore_merges": _flag,
        },
        _bpe,
    ),
    "Unigram": ({"unk_id": _anything, "byte_fallback": _flag}, _unigram),
    "WordLevel": ({"unk_token": _short}, _words),
    "WordPiece": (
        {
            "unk_token": _short,
            "continuing_subword_prefix": _short,
            "max_input_chars_per_word": _number(1, _MAX_WORD),
        },
        _words,
    ),
}
