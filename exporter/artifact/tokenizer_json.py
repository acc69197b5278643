"""Hold a tokenizer.json against what one may hold, before tokenizers reads it.

Knows the components of the format, what their parameters may be, and how much each may make of a character.
A file of a kilobyte can otherwise ask for all memory (texts that grow tenfold nine times), for hours (a
pattern that tries every way), or for what ends the process (a table that leads outside of itself).
Source: https://github.com/huggingface/tokenizers/tree/v0.22.1/tokenizers/src (the `Deserialize` of each part)
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from exporter.artifact.configs import MAX_ADDED, MAX_ADDED_CHARACTERS, MAX_TOKEN_CHARACTERS, MAX_TOKENS
from exporter.artifact.forms import (
    OddError,
    anything,
    character,
    flag,
    mapping,
    number,
    one_of,
    short,
    token_and_id,
    token_id,
)
from exporter.artifact.growth import Growth
from exporter.artifact.patterns import odd_pattern
from exporter.artifact.vocabulary import check_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exporter.artifact.forms import Check

    _Part: TypeAlias = dict[str, object]

# How many characters one character of a text may become. A table of SentencePiece's makes 18 of one, and
# pieces that begin with a mark double it.
MAX_GROWTH = 128
# Published tokenizers have a dozen components, in sequences in a sequence; so many are counted in all.
_MAX_PARTS = 64
_MAX_DEPTH = 4
# The longest template of a published tokenizer has eight pieces.
_MAX_PIECES = 64
_MAX_TYPE_ID = 255
_MAX_MULTIPLE = 1 << 10
_MAX_LENGTH = 1 << 24
_KEYS = frozenset(
    (
        *("version", "truncation", "padding", "added_tokens"),
        *("normalizer", "pre_tokenizer", "post_processor", "decoder", "model"),
    )
)


def odd_tokenizer(content: Mapping[str, object]) -> str | None:
    """Return the first thing in a tokenizer.json that may not be there, as words for an error; else None.

    Args:
        content: the JSON object that the file holds.
    """
    try:
        _check(content)
    except OddError as error:
        return str(error)
    return None


def _check(content: Mapping[str, object]) -> None:
    if unknown := sorted(content.keys() - _KEYS):
        raise OddError(f"holds {unknown[0][:80]!a}, which is no part of a tokenizer")
    if content.get("model") is None:
        raise OddError("no tokenizer, it has no model")
    vocabulary = check_model(mapping("model", content.get("model")))
    added = _check_added(content.get("added_tokens"))
    n_ids = 1 + max((*vocabulary, *added), default=0)
    _check_lengths(content)
    parts = {name: [*islice(_flat(name, content.get(name)), _MAX_PARTS + 1)] for name in _COMPONENTS}
    for name, found in parts.items():
        if len(found) > _MAX_PARTS:
            raise OddError(f"its {name} has more than {_MAX_PARTS} parts")
        for part in found:
            _check_part(name, part)
    for part in parts["post_processor"]:
        _check_processor(part, n_ids)
    _check_growth(parts["normalizer"], sum(map(_marks, parts["pre_tokenizer"])))


def _check_growth(normalizers: list[_Part], n_marks: int) -> None:
    try:
        growth = Growth(normalizers).most << n_marks
    except ValueError as error:
        raise OddError(f"its normalizer Precompiled {error}") from None
    if growth > MAX_GROWTH:
        made = f"{growth:,}" if growth < 10**9 else "over 10^9"
        raise OddError(f"its normalizer makes up to {made} characters of one; wanted {MAX_GROWTH} at most")


def _flat(name: str, value: object, depth: int = 0) -> Iterator[_Part]:
    """Yield the components of a part in their order, those of sequences one after the other."""
    if value is None and depth == 0:
        return
    part = mapping(name, value)
    if part.get("type") != "Sequence":
        yield part
        return
    key = _SEQUENCES[name]
    inner = part.get(key)
    if not isinstance(inner, list) or part.keys() - {"type", key}:
        raise OddError(f"its {name} has a sequence without {key}, or with more")
    if depth >= _MAX_DEPTH:
        raise OddError(f"its {name} has sequences more than {_MAX_DEPTH} deep")
    for one in inner:
        yield from _flat(name, one, depth + 1)


# --- what a component's parameters may be ---


def _pattern(value: object) -> bool:
    if not isinstance(value, dict) or len(value) != 1:
        return False
    ((kind, text),) = value.items()
    if kind == "Regex" and isinstance(text, str):
        if why := odd_pattern(text):
            raise OddError(f"its pattern {text[:80]!a} {why}")
        return bool(text)
    return kind == "String" and short(text) and bool(text)


_BEHAVIOR = one_of("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")
_BYTE_LEVEL: dict[str, Check] = {"add_prefix_space": flag, "trim_offsets": flag, "use_regex": flag}
_METASPACE: dict[str, Check] = {
    "replacement": character,
    "str_rep": character,
    "add_prefix_space": flag,
    "prepend_scheme": one_of("first", "never", "always"),
    "split": flag,
}
_REPLACE: dict[str, Check] = {"pattern": _pattern, "content": short}
_NONE: dict[str, Check] = {}
_SEQUENCES = {
    "normalizer": "normalizers",
    "pre_tokenizer": "pretokenizers",
    "post_processor": "processors",
    "decoder": "decoders",
}
_COMPONENTS: dict[str, dict[str, dict[str, Check]]] = {
    "normalizer": {
        "BertNormalizer": dict.fromkeys(
            ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"), flag
        ),
        "ByteLevel": _NONE,
        **dict.fromkeys(("Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "StripAccents"), _NONE),
        "Precompiled": {"precompiled_charsmap": anything},
        "Prepend": {"prepend": short},
        "Replace": _REPLACE,
        "Strip": {"strip_left": flag, "strip_right": flag},
    },
    "pre_tokenizer": {
        **dict.fromkeys(("BertPreTokenizer", "UnicodeScripts", "Whitespace", "WhitespaceSplit"), _NONE),
        "ByteLevel": _BYTE_LEVEL,
        "CharDelimiterSplit": {"delimiter": character},
        "Digits": {"individual_digits": flag},
        "FixedLength": {"length": number(1, _MAX_LENGTH)},
        "Metaspace": _METASPACE,
        "Punctuation": {"behavior": _BEHAVIOR},
        "Split": {"pattern": _pattern, "behavior": _BEHAVIOR, "invert": flag},
    },
    "post_processor": {
        "BertProcessing": {"sep": token_and_id, "cls": token_and_id},
        "ByteLevel": _BYTE_LEVEL,
        "RobertaProcessing": {
            "sep": token_and_id,
            "cls": token_and_id,
            "trim_offsets": flag,
            "add_prefix_space": flag,
        },
        "TemplateProcessing": dict.fromkeys(("single", "pair", "special_tokens"), anything),
    },
    "decoder": {
        "BPEDecoder": {"suffix": short},
        **dict.fromkeys(("ByteFallback", "Fuse"), _NONE),
        "ByteLevel": _BYTE_LEVEL,
        "CTC": {"pad_token": short, "word_delimiter_token": short, "cleanup": flag},
        "Metaspace": _METASPACE,
        "Replace": _REPLACE,
        "Strip": {"content": character, "start": number(0, _MAX_MULTIPLE), "stop": number(0, _MAX_MULTIPLE)},
        "WordPiece": {"prefix": short, "cleanup": flag},
    },
}


def _check_part(name: str, part: _Part) -> None:
    kind = part.get("type")
    parameters = _COMPONENTS[name].get(kind) if isinstance(kind, str) else None
    if parameters is None:
        raise OddError(f"its {name} is a {str(kind)[:80]!a}, which is not allowed")
    for key, value in part.items():
        if key == "type":
            continue
        if key not in parameters:
            raise OddError(f"its {name} {kind} has {key[:80]!a}, which is no parameter of one")
        if not parameters[key](value):
            raise OddError(f"its {name} {kind} has {key} {str(value)[:80]!a}, which is not allowed")


def _marks(part: _Part) -> bool:
    """Return whether a pre-tokenizer puts a character of its own before each piece."""
    return part["type"] in ("Metaspace", "ByteLevel")


# --- special tokens ---


def _check_processor(part: _Part, n_ids: int) -> None:
    for side in ("sep", "cls"):
        pair = part.get(side)
        if isinstance(pair, list) and pair[1] >= n_ids:
            raise OddError(f"its post_processor adds token {pair[1]}, and has no token beyond {n_ids - 1}")
    if part["type"] != "TemplateProcessing":
        return
    special = mapping("post_processor's special_tokens", part.get("special_tokens"))
    if len(special) > _MAX_PIECES:
        raise OddError(f"its post_processor has {len(special)} special tokens; wanted {_MAX_PIECES} at most")
    for name, token in special.items():
        ids = token.get("ids") if isinstance(token, dict) else None
        if not isinstance(ids, list) or len(ids) > _MAX_PIECES or not all(map(token_id, ids)):
            many = f"{len(ids)} tokens" if isinstance(ids, list) else "no tokens"
            raise OddError(f"its post_processor adds {many} for {name[:40]!a}; wanted {_MAX_PIECES} at most")
        if ids and max(ids) >= n_ids:
            raise OddError(f"its post_processor adds token {max(ids)}, and has no token beyond {n_ids - 1}")
    _check_template("single", part.get("single"), special, ["A"])
    _check_template("pair", part.get("pair"), special, ["A", "B"])


def _check_template(name: str, pieces: object, special: Mapping[str, object], wanted: list[str]) -> None:
    """Check that a template has each text once, and beside them special tokens that it knows."""
    if not isinstance(pieces, list) or len(pieces) > _MAX_PIECES:
        raise OddError(f"its post_processor's {name} is no list of {_MAX_PIECES} pieces at most")
    texts = []
    for piece in pieces:
        kind, inner = next(iter(piece.items())) if isinstance(piece, dict) and piece else ("", None)
        said = inner if isinstance(inner, dict) else {}
        if kind not in ("Sequence", "SpecialToken") or not number(0, _MAX_TYPE_ID)(said.get("type_id")):
            raise OddError(f"its post_processor's {name} has {str(piece)[:80]!a}, which is no piece of one")
        if kind == "Sequence":
            texts.append(str(said.get("id")))
        elif str(said.get("id")) not in special:
            raise OddError(f"its post_processor's {name} has {str(said.get('id'))[:80]!a}, and no such token")
    if sorted(texts) != wanted:
        raise OddError(
            f"its post_processor's {name} has the texts {', '.join(texts)[:80]!a}; wanted {wanted}"
        )


def _check_added(value: object) -> list[int]:
    """Check the added tokens, and return their numbers."""
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MAX_ADDED:
        many = f"{len(value)} added tokens" if isinstance(value, list) else "no list of added tokens"
        raise OddError(f"has {many}; wanted {MAX_ADDED} at most")
    ids = []
    for token in value:
        if not isinstance(token, dict) or not token_id(token.get("id")):
            raise OddError(f"has an added token {str(token)[:80]!a} without a number below {MAX_TOKENS}")
        content = token.get("content")
        if not isinstance(content, str) or len(content) > MAX_TOKEN_CHARACTERS:
            raise OddError(
                f"has an added token {token['id']} that is no text of up to {MAX_TOKEN_CHARACTERS} characters"
            )
        ids.append(token["id"])
    if (n := sum(len(token["content"]) for token in value)) > MAX_ADDED_CHARACTERS:
        raise OddError(f"has added tokens of {n} characters; wanted {MAX_ADDED_CHARACTERS} at most")
    return ids


def _check_lengths(content: Mapping[str, object]) -> None:
    """Check how pairs are cut and padded, here only that the numbers can be: each caller wants its own."""
    if (cut := content.get("truncation")) is not None:
        cut = mapping("truncation", cut)
        length, stride = cut.get("max_length"), cut.get("stride", 0)
        if not number(0, 1 << 53)(length) or not number(0, 1 << 53)(stride):
            raise OddError(f"its truncation is {str(cut)[:80]!a}; wanted whole numbers")
    if (pad := content.get("padding")) is not None:
        pad = mapping("padding", pad)
        strategy, multiple = pad.get("strategy"), pad.get("pad_to_multiple_of")
        fixed = strategy.get("Fixed") if isinstance(strategy, dict) else 0
        if not number(0, _MAX_LENGTH)(fixed) or not (multiple is None or number(1, _MAX_MULTIPLE)(multiple)):
            raise OddError(f"its padding is {str(pad)[:80]!a}; wanted {_MAX_LENGTH} tokens at most")
