"""Write a model's folder: config and tokenizer beside a graph, or the whole PyTorch reference.

The tokenizer written is also the one that the build's own pairs, for proof and calibration, are tokenized
with.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from exporter.artifact.staging import staged
from exporter.errors import RecipeError
from exporter.export.source import WEIGHTS, Source, find_source
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


def artifact_tokenizer(source: Source, max_length: int) -> PairTokenizer:
    """Return the tokenizer that an artifact of this model gets: a build is proven with what users run."""
    with Scratch("tokenizer") as scratch:
        write_config_and_tokenizer(source, max_length, scratch)
        return PairTokenizer(scratch / "tokenizer.json", max_length, source.pad_id)


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


def write_reference(source: Source, max_length: int, into: Path) -> None:
    """Write the PyTorch reference as a sentence-transformers folder: weights, config and tokenizer."""
    shutil.copyfile(source.folder / WEIGHTS, into / WEIGHTS)
    write_config_and_tokenizer(source, max_length, into)


def write_config_and_tokenizer(source: Source, max_length: int, into: Path) -> None:
    """Write config.json and the tokenizer's files, which every consumer of the model reads beside a graph.

    One limit on length, the recipe's, in tokenizer.json and in tokenizer_config.json: fastembed takes the
    strictest it finds, transformers ignores one of them, and a leftover 128 looks like a fourfold speed-up.
    `special_tokens_map.json` always, since transformers 5 stopped writing it.
    Source: https://github.com/qdrant/fastembed/issues/686
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    shutil.copyfile(source.folder / "config.json", into / "config.json")
    tokenizer = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=False, local_files_only=True)
    tokenizer.model_max_length = max_length
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
    plain.enable_truncation(max_length, strategy="longest_first", direction=tokenizer.truncation_side)
    plain.no_padding()
    plain.save(str(into / "tokenizer.json"))


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
        write_reference(source, model.max_length, scratch)
    return source
