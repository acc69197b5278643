"""The weights of a model: which files hold them, and whether they are all a model has and fit together.

Safetensors only. The header of each file is read first, so that a broken one is refused before a library
opens it; then the model is loaded once, as the reference is, and asked what it has.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, replace
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.artifact.files import Bytes, Count, from_json, read_json_object, sha256_file, to_json
from exporter.artifact.lfs import IS_POINTER, is_pointer
from exporter.artifact.names import plain_file, shown
from exporter.backend import is_fault, of_untrusted
from exporter.errors import IntegrityError, RecipeError
from exporter.machine import package_version
from exporter.progress import quiet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.artifact.files import FileEntry
    from exporter.cache import Cache


WEIGHTS = "model.safetensors"
# Names the shards of weights that are kept in several files.
# Source: https://huggingface.co/docs/safetensors/metadata_parsing (sharded checkpoints)
INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.safetensors")
_FACTS = "facts.json"
_SHOWN = 5  # names of tensors in an error
# Tensors that published models carry along and no classifier reads: buffers that are made anew, the pooler of
# a model without one, the heads of pre-training.
_UNREAD = re.compile(
    r"(^|\.)(position_ids|token_type_ids|inv_freq)$|(^|\.)pooler\."
    r"|^(cls|lm_head|predictions|(lm|mask|discriminator|generator)_predictions)\."
    r"|^vocab_(transform|layer_norm|projector)\."
)
# Weights that a config may ask for beyond twice the files': those of a head that is missing are told by name.
_SPARE_WEIGHTS = 1 << 26
# How far a score may move by padding that a model ignores, in logits: rounding moves it by 1e-6 or so.
_PADDING_TOLERANCE = 1e-3
_N_PADDED = 4  # tokens of padding


@dataclass(frozen=True, slots=True)
class Facts:
    """What a loaded model has.

    `weights_bytes` is the size of its parameters in float32, shared ones counted once; `n_embeddings`,
    `n_positions` and `n_token_types` are the tokens, the positions of a pair and the token types it has
    embeddings for, 0 where it has no such table. `notes` are lines that a person should read.
    """

    weights_bytes: Bytes
    n_embeddings: Count
    n_positions: Count
    n_token_types: Count
    notes: tuple[str, ...] = ()


def weight_files(where: str, folder: Path) -> tuple[str, ...]:
    """Return the names of the files that hold a model's weights: one file, or an index and its shards.

    Args:
        where: how errors name the folder.
        folder: the model.

    Raises:
        RecipeError: there are none, a shard is missing, or an index names files outside the folder.
    """
    if os.path.lexists(folder / WEIGHTS):
        return (WEIGHTS,)
    if not os.path.lexists(folder / INDEX):
        raise RecipeError(f"{where}: wanted {WEIGHTS}, {_other_weights(folder)}")
    shards = shards_of(where, folder)
    if absent := [name for name in shards if not os.path.lexists(folder / name)]:
        raise RecipeError(
            f"{where}: {INDEX} names {', '.join(absent[:_SHOWN])}, which "
            f"{'is' if len(absent) == 1 else 'are'} missing ({len(absent)} of {len(shards)} files)"
        )
    return (INDEX, *shards)


def shards_of(where: str, folder: Path) -> tuple[str, ...]:
    """Return the files that the index of a folder names, sorted.

    Raises:
        RecipeError: the index cannot be read, names no file, or one outside the folder.
    """
    try:
        check_no_pointer(where, plain_file(folder, INDEX))
        listed = read_json_object(folder / INDEX).get("weight_map")
    except IntegrityError as error:
        raise RecipeError(f"{where}: {error}") from None
    if not isinstance(listed, dict) or not listed:
        raise RecipeError(f"{where}: {INDEX} has no weight_map of tensors and files")
    names = {str(name) for name in listed.values()}
    if odd := sorted(name for name in names if not _SHARD.fullmatch(name)):
        raise RecipeError(f"{where}: {INDEX} names {shown(odd[0])}; wanted .safetensors files of this folder")
    return tuple(sorted(names))


def _other_weights(folder: Path) -> str:
    kinds = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
    found = sorted(shown(path.name) for kind in kinds for path in folder.glob(kind))
    pickled = [name for name in found if not name.endswith((".h5", ".msgpack"))]
    if pickled:
        names = ", ".join(pickled[:_SHOWN])
        return f"found {names}, which can run code when opened; save it with safe_serialization=True"
    other = [*found, *sorted(shown(path.name) for path in folder.glob("*.safetensors"))]
    if other:
        return f"found {', '.join(other[:_SHOWN])}; save it with safe_serialization=True"
    return "found no weights; save it with safe_serialization=True"


def check_no_pointer(where: str, path: Path) -> None:
    """Refuse a file that only points to the real one, as a clone without Git LFS leaves it.

    Raises:
        RecipeError: the file is a pointer.
    """
    if is_pointer(path):
        raise RecipeError(f"{where}: {path.name} {IS_POINTER}")


def check_header(where: str, path: Path) -> None:
    """Read the header only: safetensors refuses tensors that overlap, reach past the end or leave holes.

    Raises:
        RecipeError: the file is no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np"):
            pass
    except (SafetensorError, OSError) as error:
        raise RecipeError(
            f"{where}: {path.name} is no safetensors file: {str(error).splitlines()[0]}"
        ) from None


def inspect_weights(where: str, folder: Path, files: Sequence[FileEntry], cache: Cache) -> Facts:
    """Load a model once, check its weights, and score one pair; remembered for the next command.

    Args:
        where: how errors name the folder.
        folder: holds `files` and nothing that a library would open besides.
        files: the model's.
        cache: keeps what was found.

    Raises:
        RecipeError: tensors are missing, not the model's, of other shapes, or not finite; the model cannot be
            loaded or does not run; its scores depend on padding.
        BackendError: the cache cannot be written.
    """

    def make(into: Path) -> None:
        (into / _FACTS).write_bytes(to_json(_inspected(where, folder)))

    key = {
        "files": [[file.path, file.sha256] for file in files],
        "packages": [
            package_version(name) for name in ("torch", "transformers", "tokenizers", "safetensors")
        ],
        "code": sha256_file(Path(__file__)),
    }
    made, _ = cache.get("weights", key, make)
    return from_json(Facts, (made / _FACTS).read_bytes())


def _inspected(where: str, folder: Path) -> Facts:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    common: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    with of_untrusted(f"{where}: transformers cannot load it", RecipeError):
        _check_size(where, folder, common)
        with quiet():
            model, info = AutoModelForSequenceClassification.from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **common,
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, **common)
    model.eval()
    if finding := next(_wrong_tensors(model, folder, info), None):
        raise RecipeError(f"{where}: {finding}")
    facts = _facts(model)
    if finding := next(_misfits(facts, tokenizer), None) or next(_unscored(model, tokenizer), None):
        raise RecipeError(f"{where}: {finding}")
    return replace(facts, notes=_checked_scores(where, model, tokenizer))


def _check_size(where: str, folder: Path, common: dict[str, Any]) -> None:
    """Make the model without memory for its weights, and hold its size against the files'.

    What a config asks for and the files do not have would be made up, in as much memory as it asks for.

    Raises:
        RecipeError: the config asks for far more than the files hold.
    """
    import torch
    from safetensors import safe_open
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.from_pretrained(folder, **common)
    with quiet(), torch.device("meta"):
        empty = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    wanted = sum(parameter.numel() for parameter in empty.parameters())
    found = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "np") as file:
            found += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 - no mapping
    if wanted > 2 * found + _SPARE_WEIGHTS:
        raise RecipeError(
            f"{where}: its config.json asks for {wanted:,} weights, and its files hold {found:,}"
        )


def _wrong_tensors(model: Any, folder: Path, info: dict[str, Any]) -> Iterator[str]:
    import torch

    name = type(model).__name__
    # transformers counts what an index of shards names as found: if no file has it, it is left without data.
    without_data = {key for key, tensor in model.state_dict().items() if tensor.is_meta}
    missing = sorted({*info["missing_keys"], *without_data})
    unexpected = sorted(key for key in info["unexpected_keys"] if not _UNREAD.search(key))
    also = f"; {_listed(unexpected)} of the file {_are(unexpected)} not a {name}'s" if unexpected else ""
    if missing:
        yield f"its weights lack {_listed(missing)}, which a {name} has and would be made up at random{also}"
    if odd := sorted(str(key if isinstance(key, str) else key[0]) for key in info["mismatched_keys"]):
        wanted, found = tuple(model.state_dict()[odd[0]].shape), _shape_in_file(folder, odd[0])
        shapes = f"found {found}, wanted {wanted}"
        yield f"its weights have {_listed(odd)} in other shapes than its config.json asks for: {shapes}"
    if unexpected:
        yield f"its weights hold {_listed(unexpected)}, which a {name} of its config.json does not read"
    for key, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        if tensor.dtype != torch.float32:  # asked for when it was loaded
            yield f"its weights are {_type(tensor)} in {key}; wanted float32, float16 or bfloat16"
        elif not torch.isfinite(tensor).all():
            yield f"its weights hold NaN or infinity, in {key}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (
        ", ".join(name if name.isascii() and name.isprintable() else ascii(name) for name in names[:_SHOWN])
        + more
    )


def _type(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _shape_in_file(folder: Path, name: str) -> tuple[int, ...] | str:
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "np") as file:
            if name in file.keys():  # noqa: SIM118 - no mapping
                return tuple(file.get_slice(name).get_shape())
    return "another shape"


def _facts(model: Any) -> Facts:
    """Ask a loaded model for the sizes of its tables, by the names transformers gives them."""
    from torch.nn import Embedding

    tables = {
        name.rpartition(".")[2]: module
        for name, module in model.named_modules()
        if isinstance(module, Embedding)
    }
    positions, types = tables.get("position_embeddings"), tables.get("token_type_embeddings")
    try:
        words = model.get_input_embeddings()
    except (NotImplementedError, AttributeError):  # transformers raises them where a model has no such table
        words = None
    said = getattr(model.config, "max_position_embeddings", None)
    n_positions = said if isinstance(said, int) and said > 0 else 0
    if positions is not None:
        # RoBERTa and its kind count positions from the padding token's number on: two of 514 are no token's.
        # Source: https://github.com/huggingface/transformers/blob/main/src/transformers/models/roberta/modeling_roberta.py
        offset = 0 if positions.padding_idx is None else positions.padding_idx + 1
        n_positions = max(positions.num_embeddings - offset, 0)
    return Facts(
        weights_bytes=4 * sum(parameter.numel() for parameter in model.parameters()),
        n_embeddings=int(getattr(words, "num_embeddings", 0)),
        n_positions=n_positions,
        n_token_types=0 if types is None else types.num_embeddings,
    )


def _misfits(facts: Facts, tokenizer: Any) -> Iterator[str]:
    largest = max(tokenizer.get_vocab().values(), default=0)
    if facts.n_embeddings and largest >= facts.n_embeddings:
        yield (
            f"its tokenizer has tokens up to number {largest}, and its weights embeddings for "
            f"{facts.n_embeddings}, numbers 0 to {facts.n_embeddings - 1}; they belong to different models"
        )
    types = tokenizer("a", "b", verbose=False).get("token_type_ids")
    if types and facts.n_token_types and max(types) >= facts.n_token_types:
        yield (
            f"its tokenizer gives token types up to {max(types)}, and its weights have "
            f"{facts.n_token_types} (type_vocab_size); they belong to different models"
        )


def _unscored(model: Any, tokenizer: Any) -> Iterator[str]:
    """Return why CrossEncoder itself fails with the model."""
    parameters = signature(model.forward).parameters
    takes_any = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values())
    if (
        "token_type_ids" in tokenizer.model_input_names
        and "token_type_ids" not in parameters
        and not takes_any
    ):
        yield (
            f"its tokenizer gives token_type_ids, and a {type(model).__name__} takes none, "
            'so sentence-transformers fails; set "model_input_names": ["input_ids", "attention_mask"] in '
            "tokenizer_config.json"
        )


def _checked_scores(where: str, model: Any, tokenizer: Any) -> tuple[str, ...]:
    """Score a pair as CrossEncoder does, alone and padded, and return what a person should know of it.

    Raises:
        RecipeError: it is not one finite score, or one that only padding on the left decides.
    """
    try:
        finding, notes = _scored_alone_and_padded(model, tokenizer)
    except BaseException as error:  # a model may fail by anything, its tokenizer by a panic
        if not is_fault(error):
            raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise RecipeError(
            f"{where}: it does not score a pair as its tokenizer gives it: {reason[:300]}"
        ) from error
    if finding:
        raise RecipeError(f"{where}: {finding}")
    return notes


def _scored_alone_and_padded(model: Any, tokenizer: Any) -> tuple[str, tuple[str, ...]]:
    import torch

    alone = _logits(model, tokenizer)
    if tuple(alone.shape) != (1, 1):
        return f"it gives {tuple(alone.shape)} scores for one pair; wanted one", ()
    if not torch.isfinite(alone).all():
        return "its score of a pair is not finite", ()
    if tokenizer.pad_token is None:
        return "", ()
    n_tokens = len(tokenizer("a", "b", verbose=False)["input_ids"])
    padded = _logits(model, tokenizer, padding="max_length", max_length=n_tokens + _N_PADDED)
    if torch.allclose(alone, padded, rtol=_PADDING_TOLERANCE, atol=_PADDING_TOLERANCE):
        return "", ()
    both = f"{alone.item():.4f} alone, {padded.item():.4f} beside a longer one"
    if tokenizer.padding_side == "left":
        pads = "tokenizer_config.json pads on the left (padding_side)"
        return f"{pads}, and this model's score of a pair then depends on its batch: {both}", ()
    return "", (f"the model's score of a pair depends on its batch, in PyTorch too: {both}",)


def _logits(model: Any, tokenizer: Any, **padding: Any) -> Any:
    import torch

    taken = {*signature(model.forward).parameters, "token_type_ids"}
    with quiet(), torch.inference_mode():
        encoded = tokenizer([["a", "b"]], return_tensors="pt", **padding)
        given = {key: value for key, value in encoded.items() if key in taken}
        return model(**given, return_dict=True).logits
