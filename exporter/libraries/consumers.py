"""How each library loads a published folder and scores pairs with it: as its documentation shows, and in a process of its own.

Whether the scores are right is not known here, see `consumers.py`. `python -m exporter.libraries.consumers TASK.json RESULT.json` is
the process.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from pydantic import TypeAdapter

from exporter.artifact.files import FLAT, QUANTIZED
from exporter.errors import BackendError
from exporter.export.source import WEIGHTS
from exporter.machine import package_version

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.artifact.manifest import Manifest


Pair: TypeAlias = tuple[str, str]
# Gives the consumer's own scores, whatever it makes of the logits.
Score: TypeAlias = "Callable[[Sequence[Pair]], Sequence[float]]"

TRUNCATION = "pairs that are too long are cut otherwise"
# Enough for a large model on one core.
_TIMEOUT_S = 1200.0
_NODE = "@huggingface/transformers"
_NODE_SCRIPT = Path(__file__).with_name("transformers_js.mjs")
# The copy's name is always the same, so that the folder's own decides nothing.
_COPY = "published"


@dataclass(frozen=True, slots=True)
class Consumer:
    """A library that loads published folders.

    `package` is whose version is shown; None for what is not run. `engine` is the one it runs graphs with, `source` where its
    usage is documented. `files` gives what it can load of a folder, `load` opens one such file; None for what cannot be run,
    `why_not` says why. `own_losses` are those that are its own doing, with any folder.
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


def copy_published(folder: Path, copy: Path) -> None:
    """Copy a folder.

    Raises:
        BackendError: the disk refuses.
    """
    try:
        shutil.copytree(folder, copy)
    except (OSError, shutil.Error) as error:
        raise BackendError(f"{folder} cannot be copied to {copy.parent}: {error}") from error


@dataclass(frozen=True, slots=True)
class _Task:
    """What a process does: let a consumer score all pairs with each of the files."""

    consumer: str
    folder: str
    files: tuple[str, ...]
    max_length: int
    pairs: tuple[Pair, ...]


def score_with(
    consumer: Consumer, folder: Path, files: tuple[str, ...], pairs: tuple[Pair, ...], max_length: int
) -> dict[str, tuple[float, ...] | str]:
    """Let a consumer score pairs one by one, in a process of its own, from a copy of the folder that is its own too.

    Args:
        consumer: one that is installed.
        folder: the published folder.
        files: which of its files to load, one after the other.
        pairs: (query, passage) texts.
        max_length: the folder's, for a consumer that has to be told.

    Returns:
        For each file the consumer's scores, as it gives them, in the order of the pairs; or, as a string, what went wrong.

    Raises:
        BackendError: the disk refuses, or no process can be started.
    """
    with tempfile.TemporaryDirectory(prefix="exporter-consumer-") as scratch:
        copy, job, result = Path(scratch, _COPY), Path(scratch, "job.json"), Path(scratch, "result.json")
        copy_published(folder, copy)
        task = _Task(consumer.name, str(copy), files, max_length, pairs)
        job.write_bytes(TypeAdapter(_Task).dump_json(task))
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(
                Path(scratch, "hf")
            ),  # what one keeps of an earlier folder must not stand for this one
            "TRANSFORMERS_VERBOSITY": "error",
        }
        command = [sys.executable, "-m", "exporter.libraries.consumers", str(job), str(result)]
        try:
            done = subprocess.run(
                command,
                env=environment,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return dict.fromkeys(files, f"did not end within {_TIMEOUT_S:.0f} s")
        except OSError as error:
            raise BackendError(f"{consumer.name} cannot be run: {error}") from error
        if not result.is_file():
            said = ([line for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"])[-1]
            return dict.fromkeys(files, f"its process ended with {done.returncode}: {said[:300]}")
        return TypeAdapter(dict[str, tuple[float, ...] | str]).validate_json(result.read_bytes())


def main() -> None:
    """Read a task, do it, write each file's scores, or what the consumer said instead."""
    task = TypeAdapter(_Task).validate_json(Path(sys.argv[1]).read_bytes())
    load = CONSUMERS[task.consumer].load
    assert load is not None
    found: dict[str, list[float] | str] = {}
    for file in task.files:
        try:
            found[file] = [
                float(score) for score in load(Path(task.folder), file, task.max_length)(task.pairs)
            ]
        except Exception as error:  # noqa: BLE001 # other people's code may raise anything, and what it is is the result
            said = (str(error).strip() or "no reason given").splitlines()[0]
            found[file] = f"{type(error).__name__}: {said[:300]}"
    Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")


# --- how each loads, as its documentation shows ---


def _one_by_one(score: Callable[[str, str], float]) -> Score:
    return lambda pairs: [score(query, passage) for query, passage in pairs]


def _load_cross_encoder(backend: str) -> Callable[[Path, str, int], Score]:
    def load(folder: Path, file: str, _max_length: int) -> Score:
        from sentence_transformers import CrossEncoder

        how: dict[str, Any] = (
            {} if backend == "torch" else {"backend": backend, "model_kwargs": {"file_name": file}}
        )
        model = CrossEncoder(str(folder), device="cpu", local_files_only=True, **how)
        return _one_by_one(
            lambda query, passage: model.predict([(query, passage)], show_progress_bar=False)[0]
        )

    return load


def _load_optimum(folder: Path, file: str, _max_length: int) -> Score:
    from optimum.onnxruntime import ORTModelForSequenceClassification

    subfolder, _, name = file.rpartition("/")
    return _transformers_like(
        folder, ORTModelForSequenceClassification.from_pretrained(folder, subfolder=subfolder, file_name=name)
    )


def _load_optimum_intel(folder: Path, file: str, _max_length: int) -> Score:
    from optimum.intel import OVModelForSequenceClassification

    subfolder, _, name = file.rpartition("/")
    return _transformers_like(
        folder, OVModelForSequenceClassification.from_pretrained(folder, subfolder=subfolder, file_name=name)
    )


def _transformers_like(folder: Path, model: Any) -> Score:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)

    def score(query: str, passage: str) -> float:
        inputs = tokenizer(query, passage, truncation=True, return_tensors="pt")
        return float(model(**inputs).logits[0, 0])

    return _one_by_one(score)


_NUMBERS = count()


def _load_fastembed(folder: Path, file: str, _max_length: int) -> Score:
    from fastembed.common.model_description import ModelSource
    from fastembed.rerank.cross_encoder import TextCrossEncoder

    name = f"local/{next(_NUMBERS)}"
    TextCrossEncoder.add_custom_model(model=name, sources=ModelSource(hf=name), model_file=file)
    model = TextCrossEncoder(name, specific_model_path=str(folder))
    return _one_by_one(lambda query, passage: float(next(iter(model.rerank_pairs([(query, passage)])))))


def _load_flashrank(folder: Path, file: str, max_length: int) -> Score:
    """It finds models by its own list of names and files; ours is entered there."""
    from flashrank import Ranker, RerankRequest
    from flashrank.Config import model_file_map

    model_file_map[folder.name] = file
    ranker = Ranker(folder.name, cache_dir=str(folder.parent), max_length=max_length, log_level="ERROR")
    return _one_by_one(
        lambda query, passage: float(ranker.rerank(RerankRequest(query, [{"text": passage}]))[0]["score"])
    )


def _load_onnxruntime(folder: Path, file: str, max_length: int) -> Score:
    """Two packages and nothing else, as one writes it by hand."""
    import onnxruntime as ort
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(max_length)
    session = ort.InferenceSession(str(folder / file), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def score(query: str, passage: str) -> float:
        found = tokenizer.encode(query, passage)
        fields = {
            "input_ids": found.ids,
            "attention_mask": found.attention_mask,
            "token_type_ids": found.type_ids,
        }
        return float(
            session.run(["logits"], {name: np.array([fields[name]], np.int64) for name in names})[0][0, 0]
        )

    return _one_by_one(score)


def _load_transformers_js(folder: Path, file: str, _max_length: int) -> Score:
    def score(pairs: Sequence[Pair]) -> list[float]:
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
            said = [line for line in done.stderr.splitlines() if "Error" in line] or [
                f"node ended with {done.returncode}"
            ]
            raise BackendError(said[0].strip())
        return TypeAdapter(list[float]).validate_json(result.read_bytes())

    return score


def _node_modules() -> Path | None:
    """Find transformers.js: below the current folder, or where `npm install --prefix` of this environment puts it."""
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


def _every(engine: str) -> Callable[[Manifest], tuple[str, ...]]:
    return lambda manifest: tuple(entry.model for entry in manifest.variants if entry.traits.engine == engine)


def _weights(manifest: Manifest) -> tuple[str, ...]:
    return tuple(file.path for file in manifest.files if file.path == WEIGHTS)


def _by_name(manifest: Manifest) -> tuple[str, ...]:
    """Give the files that transformers.js has a dtype for."""
    return tuple(file.path for file in manifest.files if file.path in (FLAT, QUANTIZED))


def _quantized_first(manifest: Manifest) -> tuple[str, ...]:
    """Give the file infinity chooses on a CPU: one with `quantize` in its name, else the only one."""
    found = [file.path for file in manifest.files if file.path.endswith(".onnx")]
    return tuple([path for path in found if "quantize" in path] or found)[:1]


CONSUMERS: dict[str, Consumer] = {
    consumer.name: consumer
    for consumer in (
        Consumer(
            "onnxruntime and tokenizers",
            "onnxruntime",
            "onnxruntime",
            "https://onnxruntime.ai/docs/get-started/with-python.html",
            _every("onnxruntime"),
            _load_onnxruntime,
        ),
        Consumer(
            "sentence-transformers torch",
            "sentence-transformers",
            "torch",
            "https://sbert.net/docs/cross_encoder/usage/usage.html",
            _weights,
            _load_cross_encoder("torch"),
        ),
        Consumer(
            "sentence-transformers onnx",
            "sentence-transformers",
            "onnxruntime",
            "https://sbert.net/docs/cross_encoder/usage/efficiency.html",
            _every("onnxruntime"),
            _load_cross_encoder("onnx"),
        ),
        Consumer(
            "sentence-transformers openvino",
            "sentence-transformers",
            "openvino",
            "https://sbert.net/docs/cross_encoder/usage/efficiency.html",
            _every("openvino"),
            _load_cross_encoder("openvino"),
        ),
        Consumer(
            "optimum ORTModel",
            "optimum-onnx",
            "onnxruntime",
            "https://huggingface.co/docs/optimum-onnx/onnxruntime/usage_guides/models",
            _every("onnxruntime"),
            _load_optimum,
        ),
        Consumer(
            "optimum-intel OVModel",
            "optimum-intel",
            "openvino",
            "https://huggingface.co/docs/optimum-intel/openvino/inference",
            _every("openvino"),
            _load_optimum_intel,
        ),
        Consumer(
            "fastembed",
            "fastembed",
            "onnxruntime",
            "https://qdrant.github.io/fastembed/examples/Reranking/",
            _every("onnxruntime"),
            _load_fastembed,
        ),
        Consumer(
            "flashrank",
            "flashrank",
            "onnxruntime",
            "https://github.com/PrithivirajDamodaran/FlashRank#getting-started",
            _every("onnxruntime"),
            _load_flashrank,
        ),
        Consumer(
            "infinity",
            None,
            "onnxruntime",
            "https://github.com/michaelfeil/infinity/blob/main/libs/infinity_emb/infinity_emb/transformer/utils_optimum.py",
            _quantized_first,
            None,
            # Forced in beside the rest, it asks optimum-onnx 0.1.0 for a file of the name `onnx/...`, which that does not open.
            why_not="not tried: infinity-emb 0.0.78 wants numpy below 2, so it does not install beside exporter",
        ),
        Consumer(
            "transformers.js",
            _NODE,
            "another onnxruntime",
            "https://huggingface.co/docs/transformers.js",
            _by_name,
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
}


if __name__ == "__main__":
    main()
