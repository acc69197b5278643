"""Write a model's folder: config and tokenizer beside a graph, or the whole PyTorch reference.

The tokenizer written is also the one that the build's own pairs, for proof and calibration, are tokenized
with.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from exporter.artifact.files import read_json_object
from exporter.artifact.staging import staged
from exporter.errors import RecipeError
from exporter.export.source import Source, find_source
from exporter.recipe.schema import Model
from exporter.runtime.tokenizer import PairTokenizer
from exporter.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from exporter.context import Context
    from exporter.pairs import Pair


def artifact_tokenizer(source: Source) -> PairTokenizer:
    """Return the tokenizer that an artifact of this model gets: a build is proven with what users run."""
    with Scratch("tokenizer") as scratch:
        write_config_and_tokenizer(source, scratch)
        return PairTokenizer(scratch / "tokenizer.json", source.max_length, source.pad_id)


def feeds_of(
    pairs: Sequence[Pair], tokenizer: PairTokenizer, inputs: Sequence[str], *, batch_size: int = 1
) -> list[dict[str, NDArray[np.int64]]]:
    """Return pairs as batches for a graph, padded to the longest pair of each batch.

    Args:
        pairs: in the order of the batches.
        tokenizer: see `artifact_tokenizer`.
        inputs: the graph's input names.
        batch_size: pairs of a batch.

    Returns:
        Per batch and input, int64[batch_size, n_tokens].
    """
    encodings = tokenizer.encode(pairs)
    starts = range(0, len(encodings), batch_size)
    return [tokenizer.padded(encodings[start : start + batch_size], inputs) for start in starts]


def write_reference(source: Source, into: Path) -> None:
    """Write the PyTorch reference as a sentence-transformers folder: weights, config and tokenizer."""
    for name in source.weights:
        shutil.copyfile(source.folder / name, into / name)
    write_config_and_tokenizer(source, into)


def write_config_and_tokenizer(source: Source, into: Path) -> None:
    """Write config.json and the tokenizer's files, which every consumer of the model reads beside a graph.

    One limit on length, the source's, in tokenizer.json and in tokenizer_config.json: fastembed takes the
    strictest it finds, transformers ignores one of them, and a leftover 128 looks like a fourfold speed-up.
    `special_tokens_map.json` always, since transformers 5 stopped writing it.
    Source: https://github.com/qdrant/fastembed/issues/686
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    _write_config(source, into / "config.json")
    tokenizer = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=False, local_files_only=True)
    tokenizer.model_max_length = source.max_length
    tokenizer.padding_side = "right"
    tokenizer.chat_template = None  # a program in Jinja, which rates no pair
    tokenizer.init_kwargs = {
        k: v
        for k, v in tokenizer.init_kwargs.items()
        if k not in ("max_length", "stride", "pad_to_multiple_of", "chat_template")
    }
    tokenizer.save_pretrained(into)

    special = {key: value for key, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}
    if not (into / "special_tokens_map.json").is_file():
        (into / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n", encoding="utf-8")

    plain = Tokenizer.from_file(str(into / "tokenizer.json"))
    plain.enable_truncation(source.max_length, strategy="longest_first", direction=tokenizer.truncation_side)
    plain.no_padding()
    plain.save(str(into / "tokenizer.json"))


def without_origin(config: bytes) -> bytes:
    """Return a model's config.json without the folder that transformers noted the model was loaded from.

    Nothing reads that back, and it may be a path of whoever saved the model. Without it, the same bytes.
    Source: https://github.com/huggingface/transformers/blob/main/src/transformers/configuration_utils.py
    """
    content = json.loads(config)
    if content.pop("_name_or_path", None) is None:
        return config
    return (json.dumps(content, indent=2) + "\n").encode()


def _write_config(source: Source, path: Path) -> None:
    """Copy config.json; the activation goes with it where the model keeps that in a file of its own."""
    config = read_json_object(source.folder / "config.json", wide=True)
    own = config.get("sentence_transformers", {})
    assert isinstance(own, dict)
    said = own.get("activation_fn", config.get("sbert_ce_default_activation_function"))
    content = (source.folder / "config.json").read_bytes()
    if source.activation != said:
        config["sentence_transformers"] = {**own, "activation_fn": source.activation}
        content = (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()
    path.write_bytes(without_origin(content))


def reference(model: Model, dest: Path, context: Context, *, replace_dest: bool = False) -> Source:
    """Write a recipe's PyTorch reference as an ordinary sentence-transformers folder.

    Raises:
        RecipeError: there is no such model, or `dest` exists.
    """
    with context.progress.stage("model"):
        source = find_source(model, context.cache)
    if dest.exists() and not replace_dest:
        raise RecipeError(f"{dest} already exists; choose another folder")
    with staged(dest) as scratch:
        write_reference(source, scratch)
    return source
