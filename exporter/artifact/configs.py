"""Hold a model's JSON files against what they may hold, before a library opens the folder.

Knows keys and the form of their values, and no library. What is found is said by key; whether that is a
fault of a recipe's model or of an artifact is said by whoever asks. Sizes are bounded here too: a model is
made as large as its config.json says.
"""

from __future__ import annotations

import math
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from exporter.artifact import config_keys as keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

CONFIG = "config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"
ADDED_TOKENS = "added_tokens.json"
# The files that `odd_key` knows.
CHECKED = (CONFIG, TOKENIZER_CONFIG, SPECIAL_TOKENS, ADDED_TOKENS)
# The largest vocabulary of a published model, XLM-V's, has 901,629 tokens; 6,415 of Gemma 3's are added ones.
# Source: https://huggingface.co/facebook/xlm-v-base
# Source: https://huggingface.co/google/gemma-3-4b-it/blob/main/added_tokens.json
MAX_TOKENS = 1 << 20
MAX_ADDED = 1 << 14
MAX_TOKEN_CHARACTERS = 1 << 10
MAX_ADDED_CHARACTERS = 1 << 18
_MAX_ITEMS = 1 << 14
_MAX_DEPTH = 4
_MAX_WORD, _MAX_TEXT = 200, 1 << 16
_WORD = re.compile(r"[\w.+:() ,=|<>\[\]-]*")
_KEY = re.compile(r"[\w.-]{1,100}", re.ASCII)
_CLASS = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_TOKEN_PARTS = frozenset(
    ("__type", "content", "id", "lstrip", "normalized", "rstrip", "single_word", "special")
)
# Activations of PyTorch under the names that CrossEncoder writes and people type.
# Source: https://docs.pytorch.org/docs/stable/nn.html#non-linear-activations-weighted-sum-nonlinearity
_ACTIVATIONS = frozenset(
    (
        *("CELU", "ELU", "GELU", "GLU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh"),
        *("LeakyReLU", "LogSigmoid", "LogSoftmax", "Mish", "PReLU", "RReLU", "ReLU", "ReLU6", "SELU"),
        *("SiLU", "Sigmoid", "Softmax", "Softmax2d", "Softmin", "Softplus", "Softshrink", "Softsign"),
        *("Tanh", "Tanhshrink", "Threshold"),
    )
)
FOREIGN = "brings code or files of others"


def is_activation(name: object) -> bool:
    """Return whether a text names an activation of torch.nn.modules: what CrossEncoder imports and calls.

    Source: https://github.com/huggingface/sentence-transformers/blob/main/sentence_transformers/cross_encoder/model.py
    (_resolve_activation_fn: whatever begins with `torch.`)
    """
    if not isinstance(name, str):
        return False
    module, _, cls = name.rpartition(".")
    if module in ("torch.nn", "torch.nn.modules"):
        return cls in _ACTIVATIONS or cls == "Identity"
    if module == "torch.nn.modules.linear":
        return cls == "Identity"
    return module == "torch.nn.modules.activation" and cls in _ACTIVATIONS


def odd_key(file: str, content: Mapping[str, object]) -> tuple[str, str] | None:
    """Return the first key of a file that may not be there, or not with its value, and why; else None.

    Args:
        file: its name, one of `CHECKED`.
        content: the JSON object it holds.
    """
    foreign = next((key for key, value in content.items() if value and key in keys.FOREIGN), None)
    if foreign and file in (CONFIG, TOKENIZER_CONFIG):
        return foreign, FOREIGN
    check = _FILES[file]
    for key, value in content.items():
        if file == ADDED_TOKENS:
            why = "" if _is_token(key) and _is_id(value) else "is no token and its number"
        elif not _KEY.fullmatch(key):
            why = "is no name of a setting"
        elif key in keys.FOREIGN and file != SPECIAL_TOKENS:
            why = ""
        else:
            why = check(key, value)
        if why:
            return key, why
    if file == ADDED_TOKENS and (why := _odd_tokens([*content])):
        return file, why
    if len(content) > _MAX_ITEMS:
        return file, f"has {len(content)} keys, and no such file has more than {_MAX_ITEMS}"
    return _odd_experts(content) if file == CONFIG else None


def _odd_experts(content: Mapping[str, object]) -> tuple[str, str] | None:
    """Say that a model is made of too many experts: layers and experts may each be many, but not both."""
    n_layers, _ = _largest(content, keys.LAYERS)
    n_experts, key = _largest(content, keys.EXPERTS)
    if n_layers * n_experts <= keys.MOST_EXPERTS or content.get("model_type") in keys.EXPERTS_ARE_ROWS:
        return None
    return key, f"is {n_experts} in each of {n_layers} layers, and no model has {keys.MOST_EXPERTS} in all"


def _largest(content: Mapping[str, object], names: Iterable[str]) -> tuple[int, str]:
    found = [(value, name) for name in names if isinstance(value := content.get(name), int)]
    return max(found, default=(0, ""))


def _of_config(key: str, value: object) -> str:
    if value is None:
        return "" if key in _KEYS_OF_CONFIG else _UNKNOWN
    if key in _FORMS:
        return _FORMS[key](value)
    if key not in keys.PLAIN:
        return _UNKNOWN
    largest = keys.LARGEST.get(key, 1 << 32)
    if isinstance(value, int | float if key in keys.LARGEST else int) and abs(value) > largest:
        return f"is {value}, and no such number is larger than {largest}"
    return "" if _is_plain(value) else _wanted(value, "a number, a flag, a word or a list of them")


def _of_model_type(value: object) -> str:
    if isinstance(value, str) and value in keys.MODEL_TYPES:
        return ""
    return f"is {str(value)[:80]!a}, which is no model that reads text alone and that exporter knows"


def _of_choice(choices: tuple[str, ...], value: object) -> str:
    if "/" in str(value):  # a kernel on the Hub
        return FOREIGN
    return "" if value in choices else _wanted(value, " or ".join(choices))


def _of_activation(value: object) -> str:
    return "" if is_activation(value) else _activation(value)


def _of_labels(value: object) -> str:
    return "" if _is_tree(value, text=True) else _wanted(value, "labels and numbers")


def _of_mapping(value: object) -> str:
    return "" if _is_tree(value) else _wanted(value, "names and numbers")


def _of_text(value: object) -> str:
    return "" if _is_text(value) else _wanted(value, "a text")


def _of_sentence_transformers(value: object) -> str:
    if not isinstance(value, dict):
        return _wanted(value, "a mapping")
    for key, said in value.items():
        if key == "activation_fn" and said is not None and not is_activation(said):
            return _activation(said)
        if key not in ("activation_fn", "version"):
            return f"holds {key[:80]!a}, which exporter does not know"
        if key == "version" and not _is_plain(said):
            return _wanted(said, "a version")
    return ""


def _of_tokenizer(key: str, value: object) -> str:
    if key == "tokenizer_class":
        return "" if value is None or _is_class(value) else _wanted(value, "the name of a class")
    if key == keys.ADDED_TOKENS:
        return _odd_added(value)
    if key == keys.SENTENCE_PIECE:
        fine = value is None or (
            isinstance(value, dict)
            and value.keys() <= keys.SENTENCE_PIECE_PLAIN
            and all(not isinstance(v, str) and _is_plain(v) for v in value.values())
        )
        return "" if fine else _wanted(value, f"{', '.join(sorted(keys.SENTENCE_PIECE_PLAIN))} alone")
    if key in keys.TOKENIZER_TEXTS:
        return "" if _is_template(value) else _wanted(value, "a text")
    if key in keys.TOKENIZER_PLAIN and _is_plain(value):
        return ""
    return _of_tokens(key, value)


def _of_tokens(key: str, value: object) -> str:
    """Check a token under its name, as both files of a tokenizer have them."""
    if key in keys.TOKENS:
        many = value if isinstance(value, list) else [*value.values()] if isinstance(value, dict) else []
        if not isinstance(value, list | dict) and value is not None:
            return _wanted(value, "tokens")
        return _odd_tokens(many) if all(map(_is_token, many)) else _wanted(value, "tokens")
    if not key.endswith(keys.TOKEN_SUFFIX):
        known = key in keys.TOKENIZER_PLAIN
        return _wanted(value, "a number, a flag, a word or a list of them") if known else _UNKNOWN
    if value is None or isinstance(value, bool | int) or _is_token(value):
        return ""
    return _wanted(value, "a token")


def _odd_added(value: object) -> str:
    if not isinstance(value, dict):
        return "" if value is None else _wanted(value, "a mapping")
    odd = (key for key, token in value.items() if not (_is_id(key) and _is_token(token)))
    found = next((f"holds {key[:80]!a}, which is no number of a token" for key in odd), "")
    return found or _odd_tokens([*value.values()])


def _odd_tokens(tokens: Sequence[Any]) -> str:
    """Say that tokens are too many, or too long all together."""
    if len(tokens) > MAX_ADDED:
        return f"has {len(tokens)} tokens, and no tokenizer adds more than {MAX_ADDED}"
    n_characters = sum(len(token if isinstance(token, str) else token["content"]) for token in tokens)
    if n_characters > MAX_ADDED_CHARACTERS:
        return (
            f"has tokens of {n_characters} characters, and no tokenizer adds more than {MAX_ADDED_CHARACTERS}"
        )
    return ""


# The keys of a config.json whose values are not of the plain kind.
_FORMS: dict[str, Callable[[object], str]] = {
    "model_type": _of_model_type,
    keys.SENTENCE_TRANSFORMERS: _of_sentence_transformers,
    **{key: partial(_of_choice, choices) for key, choices in keys.CHOICES.items()},
    **dict.fromkeys(keys.ACTIVATIONS, _of_activation),
    **dict.fromkeys(keys.LABELS, _of_labels),
    **dict.fromkeys(keys.MAPPINGS, _of_mapping),
    **dict.fromkeys(keys.TEXTS, _of_text),
}
_KEYS_OF_CONFIG = keys.PLAIN | _FORMS.keys()
_FILES: dict[str, Callable[[str, object], str]] = {
    CONFIG: _of_config,
    TOKENIZER_CONFIG: _of_tokenizer,
    SPECIAL_TOKENS: _of_tokens,
    ADDED_TOKENS: _of_tokens,
}
_UNKNOWN = "is no key that exporter knows; remove it, if the model does without"


def _wanted(value: object, what: str) -> str:
    return f"is {str(value)[:80]!a}; wanted {what}"


def _activation(value: object) -> str:
    return f"names the activation {str(value)[:80]!a}, which is none of torch.nn"


def _is_plain(value: object, depth: int = 0) -> bool:
    """Return whether a value is a number, a flag, null, a word that is no path, or a list of such."""
    if isinstance(value, list):
        return (
            depth < _MAX_DEPTH
            and len(value) <= _MAX_ITEMS
            and all(_is_plain(item, depth + 1) for item in value)
        )
    if isinstance(value, str):
        return len(value) <= _MAX_WORD and _WORD.fullmatch(value) is not None and ".." not in value
    return (
        value is None or isinstance(value, bool | int) or (isinstance(value, float) and not math.isnan(value))
    )


def _is_tree(value: object, depth: int = 0, *, text: bool = False) -> bool:
    """Return whether a value is a mapping of plain values, or of mappings of them."""
    if isinstance(value, dict):
        return (
            depth < _MAX_DEPTH
            and len(value) <= _MAX_ITEMS
            and all(_is_text(key) and _is_tree(item, depth + 1, text=text) for key, item in value.items())
        )
    return depth > 0 and (_is_plain(value) or (text and _is_text(value)))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _MAX_TEXT


def _is_template(value: object) -> bool:
    """Return whether a value is a text, or a list of mappings of texts, as named chat templates are."""
    if isinstance(value, list):
        return all(isinstance(item, dict) and all(map(_is_text, item.values())) for item in value)
    return value is None or _is_text(value)


def _is_class(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _MAX_WORD and _CLASS.fullmatch(value) is not None


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        return re.fullmatch(r"[0-9]{1,8}", value) is not None and int(value) < MAX_TOKENS
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_TOKENS


def _is_token(value: object) -> bool:
    """Return whether a value is a token: its text, or a mapping of its text and its flags."""
    if isinstance(value, str):
        return len(value) <= MAX_TOKEN_CHARACTERS
    return (
        isinstance(value, dict)
        and value.keys() <= _TOKEN_PARTS
        and isinstance(value.get("content"), str)
        and len(value["content"]) <= MAX_TOKEN_CHARACTERS
        and all(isinstance(part, str | bool | int) for part in value.values())
    )
