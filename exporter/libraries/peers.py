"""What a user would pick instead: other ways to run the same cross-encoder on a CPU, each as its own documentation shows it.

A peer is prepared once, from the reference's folder, then opened in a worker. Nothing is helped or hindered: each exports and
quantizes by its own documented call, and is timed from texts to scores. None is needed for anything else;
`requirements-peers.lock` pins them.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from contextlib import redirect_stderr
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from exporter.export.folder import write_reference
from exporter.machine import package_version, this_isa
from exporter.progress import quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike

    from exporter.context import Context
    from exporter.export.source import Source


Pair: TypeAlias = tuple[str, str]
# Gives raw logits, or anything that rises with them; the second argument is pairs a batch, None all candidates of a query.
Score: TypeAlias = "Callable[[Sequence[Pair], int | None], ArrayLike]"


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to run the model.

    `package` is whose version is shown, `source` where the usage and its defaults are documented, `batch` the documented number
    of pairs a batch (None: all candidates of a query at once). `prepare` turns the reference's folder into what is opened; `load`
    opens it and gives the function that scores.
    """

    package: str
    source: str
    batch: int | None
    prepare: Callable[[Path, Path], None]
    load: Callable[[Path], Score]

    @property
    def version(self) -> str | None:
        """The installed version, or None."""
        return package_version(self.package)


def prepare_peers(
    source: Source, max_length: int, names: Sequence[str], context: Context
) -> tuple[dict[str, Path], list[tuple[str, str]]]:
    """Prepare peers from the reference, from the cache where that was done before.

    Returns:
        Each peer's folder, and those that could not be prepared with the reason.
    """
    folders: dict[str, Path] = {}
    failed = []
    with context.progress.stage("peers: prepare", len(names)) as step:
        key = {"source": source.digest, "max_length": max_length}
        reference, _ = context.cache.get(
            "reference", key, lambda into: write_reference(source, max_length, into)
        )
        for done, name in enumerate(names, 1):
            peer = PEERS[name]
            if peer.version is None:
                failed.append((name, f"{peer.package} is not installed, see requirements-peers.lock"))
                continue

            def make(into: Path, prepare: Callable[[Path, Path], None] = peer.prepare) -> None:
                with (
                    quiet(),
                    redirect_stderr(io.StringIO()),
                ):  # their progress bars, and loggers that ignore being told
                    prepare(reference, into)

            try:
                folders[name], _ = context.cache.get(
                    "peer", {**key, "peer": name, "packages": _versions()}, make
                )
            except Exception as error:  # noqa: BLE001 # other people's code may raise anything; the rest is measured all the same
                reason = (str(error).strip() or "no reason given").splitlines()[0]
                failed.append((name, f"it cannot be prepared: {type(error).__name__}: {reason}"))
            step(done)
    return folders, failed


def _versions() -> dict[str, str | None]:
    packages = {peer.package for peer in PEERS.values()} | {
        "onnxruntime",
        "openvino",
        "transformers",
        "optimum-onnx",
        "optimum-intel",
    }
    return {name: package_version(name) for name in sorted(packages)}


def _copy(reference: Path, into: Path) -> None:
    shutil.copytree(reference, into, dirs_exist_ok=True)


# --- sentence-transformers ---


def _cross_encoder(folder: Path, **how: Any) -> Any:
    import torch
    from sentence_transformers import CrossEncoder

    return CrossEncoder(
        str(folder), device="cpu", activation_fn=torch.nn.Identity(), local_files_only=True, **how
    )


def _predict(model: Any) -> Score:
    def score(pairs: Sequence[Pair], batch: int | None) -> ArrayLike:
        found: ArrayLike = model.predict(
            [list(pair) for pair in pairs], batch_size=batch, show_progress_bar=False
        )
        return found

    return score


def _load_torch(folder: Path) -> Score:
    return _predict(_cross_encoder(folder))


def _load_torch_int8(folder: Path) -> Score:
    import torch

    model = _cross_encoder(folder)
    torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8, inplace=True)
    return _predict(model)


def _prepare_st_onnx(reference: Path, into: Path) -> None:
    _copy(reference, into)
    _cross_encoder(reference, backend="onnx", model_kwargs={"export": True}).save_pretrained(str(into))


def _prepare_st_onnx_int8(reference: Path, into: Path) -> None:
    from sentence_transformers import export_dynamic_quantized_onnx_model

    _prepare_st_onnx(reference, into)
    model = _cross_encoder(into, backend="onnx", model_kwargs={"file_name": "onnx/model.onnx"})
    export_dynamic_quantized_onnx_model(model, this_isa(), str(into), file_suffix="int8")


def _prepare_st_openvino(reference: Path, into: Path) -> None:
    _copy(reference, into)
    _cross_encoder(reference, backend="openvino", model_kwargs={"export": True}).save_pretrained(str(into))


def _prepare_st_openvino_int8(reference: Path, into: Path) -> None:
    """Its default calibration set is on the Hub; the sample's calibration pairs take its place."""
    from sentence_transformers import export_static_quantized_openvino_model

    from exporter.pairs import load_pairs

    _prepare_st_openvino(reference, into)
    texts = into / "texts"
    texts.mkdir()
    rows = ({"text": f"{query} [SEP] {passage}"} for query, passage in load_pairs("sample/calibrate").pairs)
    (texts / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    model = _cross_encoder(
        into, backend="openvino", model_kwargs={"file_name": "openvino/openvino_model.xml"}
    )
    export_static_quantized_openvino_model(
        model,
        None,
        str(into),
        dataset_name=str(texts),
        dataset_config_name="default",
        dataset_split="train",
        column_name="text",
        file_suffix="int8",
    )


def _load_st(backend: str, file_name: str) -> Callable[[Path], Score]:
    return lambda folder: _predict(
        _cross_encoder(folder, backend=backend, model_kwargs={"file_name": file_name})
    )


# --- others ---


def _load_fastembed(folder: Path) -> Score:
    from fastembed.common.model_description import ModelSource
    from fastembed.rerank.cross_encoder import TextCrossEncoder

    TextCrossEncoder.add_custom_model(model="local/reference", sources=ModelSource(hf="local/reference"))
    model = TextCrossEncoder("local/reference", specific_model_path=str(folder))
    return lambda pairs, batch: list(model.rerank_pairs(list(pairs), batch_size=batch or len(pairs)))


def _prepare_flashrank(reference: Path, into: Path) -> None:
    """FlashRank ships int8 models of its own under fixed names; ours takes the place of its 12-layer MiniLM."""
    name = "ms-marco-MiniLM-L-12-v2"
    (into / name).mkdir()
    _prepare_st_onnx_int8(reference, into / name)
    (into / name / "onnx" / "model_int8.onnx").rename(into / name / "flashrank-MiniLM-L-12-v2_Q.onnx")


def _load_flashrank(folder: Path) -> Score:
    from flashrank import Ranker, RerankRequest

    ranker = Ranker("ms-marco-MiniLM-L-12-v2", cache_dir=str(folder), log_level="ERROR")

    def score(pairs: Sequence[Pair], batch: int | None) -> ArrayLike:
        scores = np.empty(len(pairs))
        for query, rows in _queries(pairs, batch):
            found = ranker.rerank(RerankRequest(query, [{"id": i, "text": pairs[i][1]} for i in rows]))
            scores[[row["id"] for row in found]] = [row["score"] for row in found]
        return np.log(scores) - np.log1p(-scores)  # it gives probabilities

    return score


def _load_rerankers(folder: Path) -> Score:
    from rerankers import Reranker

    ranker = Reranker(str(folder), model_type="cross-encoder", device="cpu", verbose=0)

    def score(pairs: Sequence[Pair], batch: int | None) -> ArrayLike:
        scores = np.empty(len(pairs))
        for query, rows in _queries(pairs, None):
            ids = list(rows)
            found = ranker.rank(query, [pairs[i][1] for i in ids], doc_ids=ids, batch_size=batch)
            for result in getattr(found, "results", [found]):
                scores[result.document.doc_id] = result.score
        return scores

    return score


def _load_optimum(folder: Path) -> Score:
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = ORTModelForSequenceClassification.from_pretrained(
        folder, subfolder="onnx", file_name="model.onnx"
    )

    def score(pairs: Sequence[Pair], batch: int | None) -> ArrayLike:
        found: list[float] = []
        for start in range(0, len(pairs), batch or len(pairs)):
            texts = list(zip(*pairs[start : start + (batch or len(pairs))], strict=True))
            inputs = tokenizer(*map(list, texts), padding=True, truncation=True, return_tensors="np")
            found += model(**inputs).logits[:, 0].tolist()
        return found

    return score


def _prepare_ctranslate2(reference: Path, into: Path) -> None:
    from ctranslate2.converters import TransformersConverter
    from safetensors.numpy import load_file, save_file

    TransformersConverter(str(reference)).convert(str(into), quantization="int8", force=True)
    shutil.copyfile(reference / "tokenizer.json", into / "tokenizer.json")
    shutil.copyfile(reference / "config.json", into / "reference.json")
    head = {
        name: value
        for name, value in load_file(reference / "model.safetensors").items()
        if name.startswith("classifier.")
    }
    save_file(head, into / "classifier.safetensors")


def _load_ctranslate2(folder: Path) -> Score:
    """The encoder and its pooler run in CTranslate2; the classifier's one product, of which it knows nothing, in numpy."""
    import ctranslate2
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    encoder = ctranslate2.Encoder(
        str(folder), device="cpu", intra_threads=int(os.environ.get("OMP_NUM_THREADS", "0"))
    )
    head = load_file(folder / "classifier.safetensors")

    def score(pairs: Sequence[Pair], batch: int | None) -> ArrayLike:
        found: list[float] = []
        for _, rows in _queries(pairs, None) if batch is None else _cut(len(pairs), batch):
            encodings = tokenizer.encode_batch([pairs[i] for i in rows])
            output = encoder.forward_batch(
                [e.ids for e in encodings], token_type_ids=[e.type_ids for e in encodings]
            )
            pooled = np.array(output.pooler_output)
            found += (pooled @ head["classifier.weight"].T + head["classifier.bias"])[:, 0].tolist()
        return found

    return score


def _queries(pairs: Sequence[Pair], batch: int | None) -> Iterator[tuple[str, Sequence[int]]]:
    """Give each query and the positions of its candidates, at most `batch` at a time; pairs of a query stand together."""
    for query, group in groupby(range(len(pairs)), key=lambda i: pairs[i][0]):
        rows = list(group)
        for start in range(0, len(rows), batch or len(rows)):
            yield query, rows[start : start + (batch or len(rows))]


def _cut(n_pairs: int, batch: int) -> Iterator[tuple[str, Sequence[int]]]:
    for start in range(0, n_pairs, batch):
        yield "", range(start, min(start + batch, n_pairs))


_ST = "https://sbert.net/docs/cross_encoder/usage/efficiency.html"
PEERS: dict[str, Peer] = {
    "sentence-transformers torch": Peer("sentence-transformers", _ST, 32, _copy, _load_torch),
    "sentence-transformers onnx": Peer(
        "sentence-transformers", _ST, 32, _prepare_st_onnx, _load_st("onnx", "onnx/model.onnx")
    ),
    "sentence-transformers onnx int8": Peer(
        "sentence-transformers", _ST, 32, _prepare_st_onnx_int8, _load_st("onnx", "onnx/model_int8.onnx")
    ),
    "sentence-transformers openvino": Peer(
        "sentence-transformers",
        _ST,
        32,
        _prepare_st_openvino,
        _load_st("openvino", "openvino/openvino_model.xml"),
    ),
    "sentence-transformers openvino int8": Peer(
        "sentence-transformers",
        _ST,
        32,
        _prepare_st_openvino_int8,
        _load_st("openvino", "openvino/openvino_model_int8.xml"),
    ),
    "torch dynamic int8": Peer(
        "torch",
        "https://docs.pytorch.org/tutorials/recipes/recipes/dynamic_quantization.html",
        32,
        _copy,
        _load_torch_int8,
    ),
    "optimum ORTModel": Peer(
        "optimum",
        "https://huggingface.co/docs/optimum-onnx/onnxruntime/usage_guides/models",
        1,
        _prepare_st_onnx,
        _load_optimum,
    ),
    "fastembed": Peer(
        "fastembed",
        "https://qdrant.github.io/fastembed/examples/Reranking/",
        64,
        _prepare_st_onnx,
        _load_fastembed,
    ),
    "flashrank": Peer(
        "flashrank",
        "https://github.com/PrithivirajDamodaran/FlashRank#getting-started",
        None,
        _prepare_flashrank,
        _load_flashrank,
    ),
    "rerankers": Peer(
        "rerankers", "https://github.com/AnswerDotAI/rerankers#usage", 16, _copy, _load_rerankers
    ),
    "ctranslate2 int8": Peer(
        "ctranslate2",
        "https://opennmt.net/CTranslate2/guides/transformers.html#bert",
        None,
        _prepare_ctranslate2,
        _load_ctranslate2,
    ),
}
