"""Find the model a recipe names, and check that it is a cross-encoder that can be exported safely.

The result is an ordinary folder, as sentence-transformers and transformers read it. Weights are safetensors
only, no code of the model's author is run. The libraries are shown the files of `_SOURCE_FILES` and no
others: a `modules.json` beside them names Python files that sentence-transformers runs when the folder is a
local one, an `adapter_config.json` another model. What is built from the folder is not known here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter import __version__
from exporter.artifact.files import (
    MANIFEST,
    MAX_TEXT_BYTES,
    FileEntry,
    foreign_key,
    plain_file,
    read_json_object,
    sha256_file,
)
from exporter.cache import Cache
from exporter.errors import IntegrityError, RecipeError
from exporter.remote.hub import fetch_snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.recipe.schema import Model


WEIGHTS = "model.safetensors"
# All a reranker consists of; nothing else is fetched, copied or shown to a library, so no pickle and no code
# is ever opened.
_SOURCE_FILES = (
    "config.json",
    WEIGHTS,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spm.model",
)


@dataclass(frozen=True, slots=True)
class Source:
    """A cross-encoder on disk.

    `digest` stands for weights, config and tokenizer; `revision` is the Hub commit, or None; `inputs` are the
    names its tokenizer gives, in the order of its forward method; `weights_bytes` is the size of the float32
    weights.
    """

    name: str
    folder: Path
    revision: str | None
    digest: str
    weights_bytes: int
    inputs: tuple[str, ...]
    pad_id: int


def find_source(model: Model, cache: Cache) -> Source:
    """Return the model a recipe names; the sample is merged, a Hub id fetched or found in the Hub's cache.

    Raises:
        RecipeError: there is no such folder or model, or the model is no cross-encoder with one score and
            safetensors weights.
        BackendError: the Hub cannot be reached.
        BackendMissing: the sample's backbone is not installed.
        IntegrityError: the sample's weights are not the published ones.
    """
    if model.source == "sample":
        folder, revision = _sample_folder(cache), None
    elif Path(model.source).is_absolute():
        folder, revision = Path(model.source), None
    else:
        ways_on = "use `--model sample`, or `--model ./FOLDER` with a copy of it"
        folder, revision = fetch_snapshot(model.source, model.revision, _SOURCE_FILES, instead=ways_on)
    return _checked(model, folder, revision, cache)


def _sample_folder(cache: Cache) -> Path:
    from exporter.sample.model import backbone_dir, sample_digest

    names = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "config.json")
    files = {name: sha256_file(backbone_dir() / name) for name in names}
    folder, _ = cache.get(
        "sample", {"weights": sample_digest(), "files": files, "exporter": __version__}, write_sample
    )
    return folder


def write_sample(into: Path) -> None:
    """Write the merged sample as an ordinary sentence-transformers cross-encoder folder."""
    from exporter.sample.model import backbone_dir, write_sample_model

    write_sample_model(into)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copyfile(backbone_dir() / name, into / name)


def _checked(model: Model, folder: Path, revision: str | None, cache: Cache) -> Source:
    """Check a folder before anything of it is loaded."""
    where = f"model.source {folder if revision is None else model.source}"
    if not folder.is_dir():
        raise RecipeError(f"{where}: no such folder")
    if not (folder / "config.json").is_file():
        raise RecipeError(f"{where}: no model, it has no config.json")
    if not (folder / WEIGHTS).is_file():
        pickled = [p.name for p in folder.glob("*.bin")]
        found = (
            f"found {', '.join(pickled)}, which can run code when opened" if pickled else "found no weights"
        )
        raise RecipeError(f"{where}: wanted {WEIGHTS}, {found}; save it with safe_serialization=True")
    files, config = _files(where, folder)
    architectures = config.get("architectures")
    architecture = str(architectures[0]) if isinstance(architectures, list) and architectures else "none"
    if not architecture.endswith("ForSequenceClassification"):
        raise RecipeError(
            f"{where}: {architecture[:80]!a} is no cross-encoder; wanted a ...ForSequenceClassification"
        )
    names = config.get("id2label")
    n_labels = config.get("num_labels", len(names) if isinstance(names, dict) and names else 2)
    if n_labels != 1:
        raise RecipeError(f"{where}: gives {n_labels} labels; a reranker gives one score per pair")
    return _described(model, where, _only(files, folder, cache), revision, files)


def _files(where: str, folder: Path) -> tuple[tuple[FileEntry, ...], dict[str, object]]:
    """Check and hash the files a model consists of; return them and its config."""
    try:
        paths = [plain_file(folder, name) for name in _SOURCE_FILES if os.path.lexists(folder / name)]
        config = read_json_object(folder / "config.json")
        for name in ("config.json", "tokenizer_config.json"):
            if folder / name in paths and (key := foreign_key(read_json_object(folder / name))):
                asks = "asks to run code of its own, or for files from elsewhere"
                raise RecipeError(f"{where}: its {name} {asks} ({key}), which exporter does not")
        for path in paths:
            if path.suffix in (".json", ".txt", ".model") and path.stat().st_size > MAX_TEXT_BYTES:
                raise RecipeError(
                    f"{path}: {path.stat().st_size} bytes, and no such file has more than {MAX_TEXT_BYTES}"
                )
    except IntegrityError as error:
        raise RecipeError(f"{where}: {error}") from None
    _check_weights(where, folder / WEIGHTS)
    return tuple(FileEntry(path.name, path.stat().st_size, sha256_file(path)) for path in paths), config


def _check_weights(where: str, path: Path) -> None:
    """Read the header only: safetensors refuses tensors that overlap, reach past the end or leave holes."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np"):
            pass
    except (SafetensorError, OSError) as error:
        raise RecipeError(
            f"{where}: {WEIGHTS} is no safetensors file: {str(error).splitlines()[0]}"
        ) from None


def _only(files: Sequence[FileEntry], folder: Path, cache: Cache) -> Path:
    """Return a folder that holds a model's files and nothing else: this one, or a copy in the cache."""
    if {path.name for path in folder.iterdir()} <= {
        MANIFEST,
        *(file.path for file in files),
    }:  # MANIFEST: the cache's own
        return folder

    def fill(into: Path) -> None:
        for file in files:
            shutil.copyfile(folder / file.path, into / file.path)

    only, _ = cache.get("source", {"files": [[file.path, file.sha256] for file in files]}, fill)
    return only


def _described(
    model: Model, where: str, folder: Path, revision: str | None, files: Sequence[FileEntry]
) -> Source:
    from transformers import AutoConfig, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # OSError, ValueError, KeyError ..., and tokenizers raises Exception itself
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise RecipeError(f"{where}: transformers cannot read it: {reason[:300]}") from error
    if not tokenizer.is_fast:
        raise RecipeError(f"{where}: its tokenizer has no tokenizer.json, which the runtime needs")
    # RoBERTa's positions start at pad_token_id + 1: two of its 514 are never a token's.
    n_positions = getattr(config, "max_position_embeddings", None)
    if n_positions and model.max_length > n_positions:
        raise RecipeError(f"model.max_length is {model.max_length}, {where} has {n_positions} positions")
    digest = hashlib.sha256("".join(f"{f.path}\0{f.sha256}\n" for f in files).encode()).hexdigest()
    return Source(
        name=model.source,
        folder=folder,
        revision=revision,
        digest=digest,
        weights_bytes=(folder / WEIGHTS).stat().st_size,
        inputs=tuple(
            n for n in ("input_ids", "attention_mask", "token_type_ids") if n in tokenizer.model_input_names
        ),
        pad_id=int(tokenizer.pad_token_id or 0),
    )
