"""How each library loads a published folder and scores pairs, as its documentation shows.

Whether the scores are right is not known here, see `exporter/consumers/check.py`; a worker computes them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import TypeAdapter

from exporter.artifact.files import FLAT, QUANTIZED
from exporter.errors import BackendError
from exporter.export.weights import WEIGHTS
from exporter.libraries.loading import (
    Score,
    cross_encoder_score,
    flashrank_score,
    open_cross_encoder,
    open_fastembed,
    open_optimum,
    transformers_score,
)
from exporter.machine import package_version

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.artifact.manifest import Manifest
    from exporter.pairs import Pair


TRUNCATION = "pairs that are too long are cut otherwise"
_NODE = "@huggingface/transformers"
_NODE_SCRIPT = Path(__file__).with_name("transformers_js.mjs")


@dataclass(frozen=True, slots=True)
class Consumer:
    """A library that loads published folders.

    Attributes:
        name: what reports call it.
        package: whose version is shown; None for what is not run.
        engine: the one it runs graphs with; `rules` for what is judged by its sources.
        source: where its usage is documented.
        files: returns the files of a folder that it can load.
        load: opens one file of a folder, given the folder, the file, and how many tokens of a pair the model
            reads. Scores are the library's own, whatever it makes of the logits. None for what cannot be run.
        own_losses: what it loses with any folder.
        why_not: why it cannot be run.
    """

    name: str
    package: str | None
    engine: Literal["onnxruntime", "another onnxruntime", "openvino", "torch", "rules"]
    source: str
    files: Callable[[Manifest], tuple[str, ...]]
    load: Callable[[Path, str, int], Score] | None
    own_losses: tuple[str, ...] = ()
    why_not: str = ""

    @property
    def version(self) -> str | None:
        """The installed version, or None."""
        if self.package == _NODE:
            return _node_version()
        return package_version(self.package) if self.package else None

    @property
    def lacking(self) -> str | None:
        """Why it cannot be run here, and what to type; None where it can."""
        if self.load is None:
            return self.why_not
        if self.version is not None:
            return None
        how = "npm install --ignore-scripts --prefix .venv" if self.package == _NODE else "pip install"
        return f"not installed; {how} {self.package}"


# --- how each loads, as its documentation shows ---


def _load_torch(folder: Path, _file: str, _max_length: int) -> Score:
    return cross_encoder_score(open_cross_encoder(folder))


def _load_cross_encoder(backend: str) -> Callable[[Path, str, int], Score]:
    def load(folder: Path, file: str, _max_length: int) -> Score:
        return cross_encoder_score(
            open_cross_encoder(folder, backend=backend, model_kwargs={"file_name": file})
        )

    return load


def _load_optimum(folder: Path, file: str, _max_length: int) -> Score:
    return open_optimum(folder, file, "pt")


def _load_optimum_intel(folder: Path, file: str, _max_length: int) -> Score:
    from optimum.intel import OVModelForSequenceClassification

    subfolder, _, name = file.rpartition("/")
    model = OVModelForSequenceClassification.from_pretrained(folder, subfolder=subfolder, file_name=name)
    return transformers_score(folder, model, "pt")


def _load_fastembed(folder: Path, file: str, _max_length: int) -> Score:
    return open_fastembed(folder, file)


def _load_flashrank(folder: Path, file: str, max_length: int) -> Score:
    """Open a file with flashrank, whose own list of names and files it is entered in."""
    from flashrank import Ranker
    from flashrank.Config import model_file_map

    model_file_map[folder.name] = file
    return flashrank_score(
        Ranker(folder.name, cache_dir=str(folder.parent), max_length=max_length, log_level="ERROR")
    )


def _load_onnxruntime(folder: Path, file: str, max_length: int) -> Score:
    """Open a file with two packages and nothing else, as a user writes it by hand."""
    import onnxruntime as ort
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(max_length)
    session = ort.InferenceSession(str(folder / file), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def score_one(pair: Pair) -> float:
        encoding = tokenizer.encode(*pair)
        fields = {
            "input_ids": encoding.ids,
            "attention_mask": encoding.attention_mask,
            "token_type_ids": encoding.type_ids,
        }
        feed = {name: np.array([fields[name]], np.int64) for name in names}
        return float(session.run(["logits"], feed)[0][0, 0])

    return lambda pairs, _batch: [score_one(pair) for pair in pairs]


def _load_transformers_js(folder: Path, file: str, _max_length: int) -> Score:
    """Return the scores of a Node process per call, which scores pairs one by one."""

    def score(pairs: Sequence[Pair], _batch: int | None) -> list[float]:
        modules = _node_modules()
        assert modules is not None
        result = folder.parent / "scores.json"
        job = {
            "modules": str(modules),
            "folder": str(folder),
            "dtype": "q8" if file == QUANTIZED else "fp32",
            "pairs": [list(pair) for pair in pairs],
            "result": str(result),
        }
        done = subprocess.run(
            [shutil.which("node") or "node", str(_NODE_SCRIPT)],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            check=False,
        )

        if done.returncode:
            errors = [line.strip() for line in done.stderr.splitlines() if "Error" in line]
            raise BackendError(errors[0] if errors else f"node ended with {done.returncode}")
        return TypeAdapter(list[float]).validate_json(result.read_bytes())

    return score


def _node_modules() -> Path | None:
    """Return the folder with transformers.js: the current one, or that of `npm install --prefix`."""
    if shutil.which("node") is None:
        return None
    places = (Path.cwd(), Path(sys.prefix))
    return next(
        (place for place in places if (place / "node_modules" / _NODE / "package.json").is_file()), None
    )


def _node_version() -> str | None:
    modules = _node_modules()
    if modules is None:
        return None
    return str(json.loads((modules / "node_modules" / _NODE / "package.json").read_bytes())["version"])


# --- which files each can load ---


def _of_engine(engine: str) -> Callable[[Manifest], tuple[str, ...]]:
    return lambda manifest: tuple(entry.model for entry in manifest.variants if entry.traits.engine == engine)


def _weights(manifest: Manifest) -> tuple[str, ...]:
    return tuple(file.path for file in manifest.files if file.path == WEIGHTS)


def _with_dtype(manifest: Manifest) -> tuple[str, ...]:
    """Return the files that transformers.js has a dtype for."""
    return tuple(file.path for file in manifest.files if file.path in (FLAT, QUANTIZED))


def _quantized_first(manifest: Manifest) -> tuple[str, ...]:
    """Return the file that infinity chooses on a CPU: one with `quantize` in its name, else the only one."""
    paths = [file.path for file in manifest.files if file.path.endswith(".onnx")]
    return tuple([path for path in paths if "quantize" in path] or paths)[:1]


_ROWS = (
    Consumer(
        "onnxruntime and tokenizers",
        "onnxruntime",
        "onnxruntime",
        "https://onnxruntime.ai/docs/get-started/with-python.html",
        _of_engine("onnxruntime"),
        _load_onnxruntime,
    ),
    Consumer(
        "sentence-transformers torch",
        "sentence-transformers",
        "torch",
        "https://sbert.net/docs/cross_encoder/usage/usage.html",
        _weights,
        _load_torch,
    ),
    Consumer(
        "sentence-transformers onnx",
        "sentence-transformers",
        "onnxruntime",
        "https://sbert.net/docs/cross_encoder/usage/efficiency.html",
        _of_engine("onnxruntime"),
        _load_cross_encoder("onnx"),
    ),
    Consumer(
        "sentence-transformers openvino",
        "sentence-transformers",
        "openvino",
        "https://sbert.net/docs/cross_encoder/usage/efficiency.html",
        _of_engine("openvino"),
        _load_cross_encoder("openvino"),
    ),
    Consumer(
        "optimum ORTModel",
        "optimum-onnx",
        "onnxruntime",
        "https://huggingface.co/docs/optimum-onnx/onnxruntime/usage_guides/models",
        _of_engine("onnxruntime"),
        _load_optimum,
    ),
    Consumer(
        "optimum-intel OVModel",
        "optimum-intel",
        "openvino",
        "https://huggingface.co/docs/optimum-intel/openvino/inference",
        _of_engine("openvino"),
        _load_optimum_intel,
    ),
    Consumer(
        "fastembed",
        "fastembed",
        "onnxruntime",
        "https://qdrant.github.io/fastembed/examples/Reranking/",
        _of_engine("onnxruntime"),
        _load_fastembed,
    ),
    Consumer(
        "flashrank",
        "flashrank",
        "onnxruntime",
        "https://github.com/PrithivirajDamodaran/FlashRank#getting-started",
        _of_engine("onnxruntime"),
        _load_flashrank,
    ),
    Consumer(
        "infinity",
        None,
        "onnxruntime",
        "https://github.com/michaelfeil/infinity/blob/main/libs/infinity_emb/infinity_emb/transformer/utils_optimum.py",
        _quantized_first,
        None,
        # Forced in beside the rest, infinity asks optimum-onnx 0.1.0 for a file named `onnx/...`, which is
        # not opened.
        why_not="not tried: infinity-emb 0.0.78 wants numpy below 2, so it does not install beside exporter",
    ),
    Consumer(
        "transformers.js",
        _NODE,
        "another onnxruntime",
        "https://huggingface.co/docs/transformers.js",
        _with_dtype,
        _load_transformers_js,
        # It cuts the ends off, the last separator too, where others shorten the longer text.
        # Source: https://github.com/huggingface/transformers.js/blob/main/packages/transformers/src/tokenization_utils.js
        own_losses=(TRUNCATION,),
    ),
    Consumer(
        "text-embeddings-inference",
        None,
        "rules",
        "https://github.com/huggingface/text-embeddings-inference",
        lambda _manifest: (FLAT,),
        None,
    ),
)
CONSUMERS: dict[str, Consumer] = {row.name: row for row in _ROWS}
