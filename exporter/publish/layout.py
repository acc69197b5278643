"""Which file of an artifact becomes which file of a published folder, for consumers that find their files by name.

`hub` is the layout of sentence-transformers with every variant under the name it has, and int8 once more as
`onnx/model_quantized.onnx`, which is what transformers.js and infinity look for. `flat` is one variant as `onnx/model.onnx`, for
text-embeddings-inference and whoever else cannot choose a file. What text-embeddings-inference asks of a folder is checked here
too: it is a server in Rust, so its rules are all that can be tried from Python.

Knows names and rules; what a model scores is not known here, see `consumers.py`.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal, get_args

from exporter.errors import BackendError, RecipeError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from exporter.artifact import Manifest, VariantEntry

Profile = Literal["hub", "flat"]
PROFILES: tuple[Profile, ...] = get_args(Profile)
CARD = "README.md"
PLOTS = "plots"
# What transformers.js opens for its dtype q8, and infinity on a CPU.
# Source: https://github.com/huggingface/transformers.js/blob/main/packages/transformers/src/utils/dtypes.js
# Source: https://github.com/michaelfeil/infinity/blob/main/libs/infinity_emb/infinity_emb/transformer/utils_optimum.py
QUANTIZED = "onnx/model_quantized.onnx"
# What text-embeddings-inference opens.
# Source: https://github.com/huggingface/text-embeddings-inference/blob/main/backends/ort/src/lib.rs
FLAT = "onnx/model.onnx"
# text-embeddings-inference is built on ort 2.0.0-rc.8, which brings onnxruntime 1.20.
# Source: https://onnxruntime.ai/docs/reference/compatibility.html (1.20 reads IR 10, opset 21)
_TEI_IR, _TEI_OPSET = 10, 21
_TEI_INPUTS = frozenset(("input_ids", "attention_mask", "token_type_ids", "position_ids"))
# Positions of these start behind the padding token's.
# Source: https://github.com/huggingface/text-embeddings-inference/blob/main/router/src/lib.rs
_OFFSET_POSITIONS = ("xlm-roberta", "camembert", "roberta")


@dataclass(frozen=True, order=True, slots=True)
class Placed:
    """A file of a published folder, and the artifact's file it is; both relative, with forward slashes."""

    path: str
    source: str


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of a published folder, sorted by path, but for those written anew (card, plots, manifest, report).

    `variants` are as the new manifest has them: with the names the files get.
    """

    profile: Profile
    files: tuple[Placed, ...]
    variants: tuple[VariantEntry, ...]


def lay_out(manifest: Manifest, kinds: Collection[str], profile: Profile = "hub") -> Layout:
    """Say which files a published folder consists of. Pure; nothing is read or written.

    Args:
        manifest: the artifact's.
        kinds: the variants to be published; those that passed, or fewer.
        profile: `hub`, or `flat`, which holds exactly one ONNX variant.

    Raises:
        RecipeError: `kinds` names none of the artifact's variants, or `flat` is to hold none or several.
    """
    variants = tuple(entry for entry in manifest.variants if entry.kind in kinds)
    if not variants:
        raise RecipeError(f"{manifest.name} has no {' or '.join(kinds)}; it has {', '.join(e.kind for e in manifest.variants)}")
    owned = {path for entry in manifest.variants for path in entry.files}
    shared = {file.path for file in manifest.files if file.path not in owned and not _is_made_anew(file.path)}
    places = {path: path for path in shared}
    if profile == "flat":
        variants = (_only_onnx(manifest, variants),)
        renamed = {path: FLAT if path == variants[0].model else path for path in variants[0].files}
        places |= {path: source for source, path in renamed.items()}
        if len(places) != len(shared) + len(renamed):
            raise RecipeError(f"{manifest.name}: two files of {variants[0].kind} would be {FLAT}")
        variants = (replace(variants[0], model=FLAT, files=tuple(sorted(renamed.values()))),)
    else:
        places |= {path: path for entry in variants for path in entry.files}
        quantized = next((entry for entry in variants if _is_int8_onnx(entry)), None)
        if quantized and QUANTIZED not in places:
            places[QUANTIZED] = quantized.model
    return Layout(profile, tuple(sorted(Placed(path, source) for path, source in places.items())), variants)


def place(layout: Layout, folder: Path, into: Path) -> None:
    """Make a layout's files from an artifact's; a file under two names is one file on disk, where the disk can do that.

    Args:
        layout: what goes where.
        folder: the artifact, whose files were checked against its manifest.
        into: the staged folder.

    Raises:
        BackendError: the disk refuses.
    """
    done: dict[str, Path] = {}
    for placed in layout.files:
        target = into / placed.path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if placed.source in done:
                second_name(done[placed.source], target)
            else:
                shutil.copyfile(folder / placed.source, target)
        except OSError as error:
            raise BackendError(f"{target}: cannot be written: {error.strerror}") from error
        done[placed.source] = target


def second_name(first: Path, second: Path) -> None:
    """Give a file a second name; a copy where the disk has no hard links. An artifact holds no symbolic ones.

    Raises:
        OSError: the disk refuses.
    """
    try:
        os.link(first, second)
    except OSError:
        shutil.copyfile(first, second)


def _is_made_anew(path: str) -> bool:
    """Tell what an earlier publication left in the folder it came from, and this one makes itself."""
    return path in (CARD, QUANTIZED) or PurePosixPath(path).parts[0] == PLOTS


def _is_int8_onnx(entry: VariantEntry) -> bool:
    return entry.engine == "onnxruntime" and entry.kind.startswith("onnx-int8")


def _only_onnx(manifest: Manifest, variants: tuple[VariantEntry, ...]) -> VariantEntry:
    found = [entry for entry in variants if entry.engine == "onnxruntime"]
    if len(found) != 1:
        has = ", ".join(entry.kind for entry in found) or f"none of {', '.join(entry.kind for entry in variants)}"
        raise RecipeError(f"{manifest.name}: flat holds one ONNX variant, found {has}; name one with --variant KIND")
    return found[0]


def tei_problems(folder: Path) -> tuple[str, ...]:
    """Say why text-embeddings-inference would not serve a folder as a reranker with onnxruntime, or would score otherwise.

    Read from its sources; the program itself is not run.
    Source: https://github.com/huggingface/text-embeddings-inference/blob/main/router/src/lib.rs
    Source: https://github.com/huggingface/text-embeddings-inference/blob/main/backends/ort/src/lib.rs

    Args:
        folder: a published folder.

    Returns:
        A sentence for each broken rule; empty when all hold. Files the rules do not name are not looked at.
    """
    config = _json(folder / "config.json")
    tokenizer_config = _json(folder / "tokenizer_config.json")
    problems = ["config.json: missing, or no JSON object"] if config is None else list(_tei_config(config))
    if tokenizer_config is None:
        problems.append("tokenizer_config.json: missing, or no JSON object")
    elif tokenizer_config.get("padding_side", "right") not in ("left", "right"):
        problems.append(f"tokenizer_config.json: padding_side is {tokenizer_config['padding_side']!r}, wanted left or right")
    problems += _tei_tokenizer(folder / "tokenizer.json", _tei_max_length(folder, config or {}))
    return (*problems, *_tei_graph(folder))


def _json(path: Path) -> dict[str, object] | None:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _tei_config(config: dict[str, object]) -> Iterator[str]:
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not any(str(name).endswith("Classification") for name in architectures):
        yield f"config.json: architectures is {architectures}, wanted a ...ForSequenceClassification"
    for name in ("id2label", "label2id"):
        labels = config.get(name)
        if not isinstance(labels, dict) or len(labels) != 1:
            yield f"config.json: {name} is {labels}, wanted one label"
    if not isinstance(config.get("model_type"), str):
        yield "config.json: no model_type"
    for names in (("max_position_embeddings", "n_positions"), ("hidden_size", "n_embd"), ("num_hidden_layers", "n_layer")):
        if not any(isinstance(config.get(name), int) for name in names):
            yield f"config.json: no {names[0]}, which it requires"


def _tei_max_length(folder: Path, config: dict[str, object]) -> int | None:
    """Give the tokens of a pair it reads: what sentence-transformers' own file says, else every position there is."""
    limit = (_json(folder / "sentence_bert_config.json") or {}).get("max_seq_length")
    if not isinstance(limit, int):
        limit = config.get("max_position_embeddings", config.get("n_positions"))
        pad = config.get("pad_token_id")
        if isinstance(limit, int) and config.get("model_type") in _OFFSET_POSITIONS:
            limit -= (pad if isinstance(pad, int) else 0) + 1
    return limit if isinstance(limit, int) else None


def _tei_tokenizer(path: Path, max_length: int | None) -> Iterator[str]:
    content = _json(path)
    if content is None:
        yield "tokenizer.json: missing, or no JSON object"
        return
    truncation = content.get("truncation")
    ours = truncation.get("max_length") if isinstance(truncation, dict) else None
    if isinstance(ours, int) and max_length is not None and ours != max_length:
        yield f"it would truncate pairs at {max_length} tokens, the folder's tokenizer does at {ours}"


def _tei_graph(folder: Path) -> Iterator[str]:
    import onnx
    from google.protobuf.message import DecodeError

    path = next((folder / name for name in ("model.onnx", FLAT) if (folder / name).is_file()), None)
    if path is None:
        yield f"no {FLAT}, the only file it opens; publish one variant with the profile flat"
        return
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (OSError, DecodeError) as error:
        yield f"{path.name}: cannot be read as ONNX: {error}"
        return
    opset = max((used.version for used in model.opset_import if used.domain in ("", "ai.onnx")), default=0)
    if model.ir_version > _TEI_IR or opset > _TEI_OPSET:
        yield f"{path.name}: IR {model.ir_version}, opset {opset}; its onnxruntime reads up to {_TEI_IR} and {_TEI_OPSET}"
    inputs = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    if unknown := inputs.keys() - _TEI_INPUTS:
        yield f"{path.name}: asks for {', '.join(sorted(unknown))}, which it does not give"
    if missing := {"input_ids", "attention_mask"} - inputs.keys():
        yield f"{path.name}: has no {', '.join(sorted(missing))}, which it always gives"
    if wrong := sorted(name for name, kind in inputs.items() if kind != onnx.TensorProto.INT64):
        yield f"{path.name}: {', '.join(wrong)} is not int64"
    logits = next((value.type.tensor_type for value in model.graph.output if value.name == "logits"), None)
    if logits is None or logits.elem_type != onnx.TensorProto.FLOAT or len(logits.shape.dim) != 2:
        yield f"{path.name}: no output named logits of float32 in two dimensions"
