"""Find the model a recipe names, and check that it is a cross-encoder that can be exported safely.

The result is an ordinary folder, as sentence-transformers and transformers read it, and scores as the user's
own does: whatever that folder says beside its files' contents is read in `settings`, and carried out or
refused. Weights are safetensors only, no code of the model's author is run. The libraries are shown the files
that were checked and no others. What is built from the folder is not known here.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter import __version__
from exporter.artifact.configs import CHECKED, FOREIGN, odd_key
from exporter.artifact.files import (
    MANIFEST,
    MAX_TEXT_BYTES,
    TOKENIZER,
    FileEntry,
    read_json_object,
    sha256_file,
)
from exporter.artifact.names import plain_file
from exporter.artifact.tokenizer_json import odd_tokenizer
from exporter.backend import of_untrusted
from exporter.cache import Cache
from exporter.errors import IntegrityError, RecipeError
from exporter.export.length import chosen_length, own_length, said_length
from exporter.export.settings import WITNESSES, Settings, read_settings
from exporter.export.weights import (
    INDEX,
    WEIGHTS,
    check_header,
    check_no_pointer,
    inspect_weights,
    shards_of,
    weight_files,
)
from exporter.remote.hub import fetch_snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.recipe.schema import Model


# All a reranker consists of beside its weights and `settings`' files; nothing else is copied or shown to a
# library, so no pickle and no code is ever opened.
_SOURCE_FILES = (
    "config.json",
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spm.model",
    "spiece.model",
    "tokenizer.model",
)


@dataclass(frozen=True, slots=True)
class Source:
    """A cross-encoder on disk.

    `digest` stands for weights, config and tokenizer; `revision` is the Hub commit, or None; `weights` are
    the files of its folder that hold them, `weights_bytes` is the size of its parameters in float32.
    `max_length` is how many tokens of a pair are read, special ones counted: what the recipe says, else the
    model's own. `activation` is the class that CrossEncoder applies to its logits, None for a sigmoid.
    `inputs` are the names its tokenizer gives, in the order of its forward method. `notes` are lines that a
    person should read before trusting a figure.
    """

    name: str
    folder: Path
    revision: str | None
    digest: str
    weights: tuple[str, ...]
    weights_bytes: int
    max_length: int
    activation: str | None
    inputs: tuple[str, ...]
    pad_id: int
    notes: tuple[str, ...] = ()


def find_source(model: Model, cache: Cache) -> Source:
    """Return the model a recipe names; the sample is merged, a Hub id fetched or found in the Hub's cache.

    Raises:
        RecipeError: there is no such folder or model; or the model is no cross-encoder with one score and
            safetensors weights, is not whole, does not fit its tokenizer, or asks for what is not carried
            out.
        BackendError: the Hub cannot be reached.
        BackendMissing: the sample's backbone is not installed.
        IntegrityError: the sample's weights are not the published ones.
    """
    if model.source == "sample":
        folder, revision = _sample_folder(cache), None
    elif Path(model.source).is_absolute():
        folder, revision = Path(model.source), None
    else:
        folder, revision = _fetched(model)
    return _checked(model, folder, revision, cache)


def model_digest(folder: Path) -> str:
    """Return the digest that stands for a model's folder, as a manifest records it; no library opens it.

    Raises:
        RecipeError: the folder holds no model that `find_source` would take.
    """
    where = str(folder)
    if not (folder / "config.json").is_file():
        raise RecipeError(f"{where}: no model, it has no config.json")
    settings = read_settings(where, folder)
    return _digest(_files(where, folder, (*_SOURCE_FILES, *settings.files), weight_files(where, folder)))


def _digest(files: Sequence[FileEntry]) -> str:
    return hashlib.sha256("".join(f"{f.path}\0{f.sha256}\n" for f in files).encode()).hexdigest()


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


def _fetched(model: Model) -> tuple[Path, str]:
    """Fetch a model of the Hub; the shards of its weights once their index says their names."""
    ways_on = "use `--model sample`, or `--model ./FOLDER` with a copy of it"
    names = (*_SOURCE_FILES, WEIGHTS, INDEX, *WITNESSES)
    folder, commit = fetch_snapshot(model.source, model.revision, names, instead=ways_on)
    if os.path.lexists(folder / INDEX) and not os.path.lexists(folder / WEIGHTS):
        shards = shards_of(f"model.source {model.source}", folder)
        folder, commit = fetch_snapshot(model.source, commit, (*names, *shards), instead=ways_on)
    return folder, commit


def _checked(model: Model, folder: Path, revision: str | None, cache: Cache) -> Source:
    """Check a folder, its small files first; a library sees it only after that."""
    where = f"model.source {folder if revision is None else model.source}"
    if not folder.is_dir():
        raise RecipeError(f"{where}: no such folder")
    if not (folder / "config.json").is_file():
        raise RecipeError(f"{where}: no model, it has no config.json")
    _check_architecture(where, folder)
    settings = read_settings(where, folder)
    weights = weight_files(where, folder)
    files = _files(where, folder, (*_SOURCE_FILES, *settings.files), weights)
    source = _described(model, where, _only(files, folder, cache), files, settings, cache=cache)
    return replace(source, revision=revision)


def _check_architecture(where: str, folder: Path) -> None:
    try:
        config = read_json_object(plain_file(folder, "config.json"), wide=True)
    except IntegrityError as error:
        raise RecipeError(f"{where}: {error}") from None
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
    if quantized := next(
        (key for key in ("quantization_config", "compression_config") if config.get(key)), None
    ):
        raise RecipeError(
            f"{where}: config.json has a {quantized}; wanted the weights in float32, float16 or bfloat16"
        )


def _files(where: str, folder: Path, names: Sequence[str], weights: Sequence[str]) -> tuple[FileEntry, ...]:
    """Check and hash the files a model consists of."""
    try:
        paths = [plain_file(folder, name) for name in names if os.path.lexists(folder / name)]
        for path in (held := [*paths, *(plain_file(folder, name) for name in weights)]):
            check_no_pointer(where, path)
        for name in CHECKED:
            if folder / name in paths:
                _check_keys(where, name, read_json_object(folder / name, wide=True))
        if folder / TOKENIZER in paths:
            _check_tokenizer(where, read_json_object(folder / TOKENIZER, unique=True))
        for path in held:
            if path.suffix in (".json", ".txt", ".model") and path.stat().st_size > MAX_TEXT_BYTES:
                raise RecipeError(
                    f"{path}: {path.stat().st_size} bytes, and no such file has more than {MAX_TEXT_BYTES}"
                )
    except IntegrityError as error:
        raise RecipeError(f"{where}: {error}") from None
    for name in weights:
        if name != INDEX:
            check_header(where, folder / name)
    return tuple(FileEntry(path.name, path.stat().st_size, sha256_file(path)) for path in _in_order(held))


def _check_keys(where: str, name: str, content: dict[str, object]) -> None:
    """Refuse a file of settings that holds more than is known, before a library makes something of it."""
    if (found := odd_key(name, content)) is None:
        return
    key, why = found
    if why == FOREIGN:
        asks = "asks to run code of its own, or for files from elsewhere"
        raise RecipeError(f"{where}: its {name} {asks} ({key}), which exporter does not")
    raise RecipeError(f"{where}: {name}: {key[:80]!a} {why}")


def _check_tokenizer(where: str, content: dict[str, object]) -> None:
    if (odd := odd_tokenizer(content)) is not None:
        raise RecipeError(f"{where}: {TOKENIZER}: {odd}")


def _in_order(paths: Sequence[Path]) -> list[Path]:
    """Put the weights' one file where digests of earlier versions have it: after config.json."""
    return sorted(paths, key=lambda path: (path.name != "config.json", path.name != WEIGHTS))


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


def _config_and_tokenizer(where: str, folder: Path, settings: Settings) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoTokenizer

    with of_untrusted(f"{where}: transformers cannot read it", RecipeError):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if not tokenizer.is_fast:
        raise RecipeError(f"{where}: its tokenizer has no tokenizer.json, which the runtime needs")
    if not (folder / TOKENIZER).is_file():  # made from a vocabulary, by rules of transformers' own
        _check_tokenizer(where, json.loads(tokenizer.backend_tokenizer.to_str()))
    if getattr(tokenizer, "split_special_tokens", False):  # stands in no tokenizer.json
        raise RecipeError(
            f"{where}: its tokenizer_config.json sets split_special_tokens; exporter does not carry that out"
        )
    if settings.lowercase and not _lowercases(tokenizer):
        raise RecipeError(
            f"{where}: its sentence-transformers config lowercases texts (do_lower_case) and its tokenizer "
            "does not; exporter does not carry that out"
        )
    return config, tokenizer


def _described(
    model: Model, where: str, folder: Path, files: Sequence[FileEntry], settings: Settings, *, cache: Cache
) -> Source:
    config, tokenizer = _config_and_tokenizer(where, folder, settings)
    said = said_length(where, settings, config, tokenizer)
    facts = inspect_weights(where, folder, files, cache)
    own, notes = own_length(said, settings, facts.n_positions)
    length, more = chosen_length(where, model.max_length, own, facts.n_positions)
    with of_untrusted(f"{where}: its tokenizer fails on empty texts", RecipeError):
        n_empty = len(tokenizer("", "", verbose=False)["input_ids"])
    if n_empty > length:
        raise RecipeError(
            f"{where}: its tokenizer makes {n_empty} tokens of a pair of empty texts, and {length} are read"
        )
    return Source(
        name=model.source,
        folder=folder,
        revision=None,
        digest=_digest(files),
        weights=tuple(
            file.path for file in files if file.path == INDEX or file.path.endswith(".safetensors")
        ),
        weights_bytes=facts.weights_bytes,
        max_length=length,
        activation=settings.activation,
        inputs=tuple(
            n for n in ("input_ids", "attention_mask", "token_type_ids") if n in tokenizer.model_input_names
        ),
        pad_id=int(tokenizer.pad_token_id or 0),
        notes=(*more, *notes, *facts.notes, *settings.notes),
    )


def _lowercases(tokenizer: Any) -> bool:
    """Return whether a tokenizer's own normalizer lowercases texts."""
    normalizer = str(tokenizer.backend_tokenizer.normalizer)
    return "Lowercase()" in normalizer or "lowercase=True" in normalizer
