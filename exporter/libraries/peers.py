"""What a user would pick instead: other ways to run the same cross-encoder on a CPU, as documented.

A peer is prepared once, from the reference's folder, then opened in a worker. Nothing is helped or hindered:
each peer exports and quantizes by its own documented call, and is timed from texts to scores. Peers are
needed for `exporter bench` only; `requirements-peers.lock` pins them.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from exporter.backend import error_line
from exporter.export.folder import write_reference
from exporter.libraries.loading import (
    Score,
    batches,
    cross_encoder_score,
    flashrank_score,
    open_cross_encoder,
    open_fastembed,
    open_optimum,
    query_batches,
)
from exporter.machine import package_version, this_isa, this_machine
from exporter.progress import quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike

    from exporter.context import Context
    from exporter.export.source import Source
    from exporter.pairs import Pair


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to run the model.

    Attributes:
        package: whose version is shown.
        source: where the usage and its defaults are documented.
        batch: the documented number of pairs a batch; None: all candidates of a query at once.
        prepare: turns the reference's folder into what is opened, the second folder.
        load: opens the prepared folder; its scores are raw logits, or anything that rises with them.
        needs_bf16: it is for CPUs with bf16 units; elsewhere it is emulated, and nobody would run it.
    """

    package: str
    source: str
    batch: int | None
    prepare: Callable[[Path, Path], None]
    load: Callable[[Path], Score]
    needs_bf16: bool = False

    @property
    def version(self) -> str | None:
        """The installed version, or None."""
        return package_version(self.package)


def prepare_peers(
    source: Source, peers: Mapping[str, Peer], context: Context
) -> tuple[dict[str, Path], list[tuple[str, str]]]:
    """Prepare peers from the reference, or take them from the cache where that was done before.

    Args:
        source: the model.
        peers: what to prepare, by name.
        context: told how many peers are done; its cache keeps what was prepared.

    Returns:
        Each prepared peer's folder, and (name, reason) of those that could not be prepared.
    """
    folders: dict[str, Path] = {}
    failed = []
    has_bf16 = this_machine().has_bf16
    with context.progress.stage("peers: prepare", len(peers)) as step:
        key = {"source": source.digest, "max_length": source.max_length}
        reference, _ = context.cache.get("reference", key, partial(write_reference, source))
        for done, (name, peer) in enumerate(peers.items(), 1):
            if peer.version is None:
                failed.append((name, f"{peer.package} is not installed, see requirements-peers.lock"))
            elif peer.needs_bf16 and not has_bf16:
                failed.append((name, "this CPU has no bf16 units"))
            else:
                peer_key = {**key, "peer": name, "packages": _versions()}
                try:
                    folders[name], _ = context.cache.get(
                        "peer", peer_key, partial(_prepare_quietly, peer, reference)
                    )
                except Exception as error:  # noqa: BLE001 # other libraries may raise anything
                    failed.append((name, f"it cannot be prepared: {error_line(error)}"))
            step(done)
    return folders, failed


def _prepare_quietly(peer: Peer, reference: Path, into: Path) -> None:
    # Progress bars, and loggers that ignore being silenced, write to stderr.
    with quiet(), redirect_stderr(io.StringIO()):
        peer.prepare(reference, into)


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


def _cross_encoder(folder: Path, **options: Any) -> Any:
    import torch

    return open_cross_encoder(folder, activation_fn=torch.nn.Identity(), **options)


def _load_torch(folder: Path) -> Score:
    return cross_encoder_score(_cross_encoder(folder))


def _load_torch_bf16(folder: Path) -> Score:
    import torch

    return cross_encoder_score(_cross_encoder(folder, model_kwargs={"dtype": torch.bfloat16}))


def _load_torch_int8(folder: Path) -> Score:
    import torch

    model = _cross_encoder(folder)
    torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8, inplace=True)
    return cross_encoder_score(model)


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
    """Quantize on the sample's calibration pairs: the default calibration set is on the Hub."""
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
    return lambda folder: cross_encoder_score(
        _cross_encoder(folder, backend=backend, model_kwargs={"file_name": file_name})
    )


# --- others ---


def _load_fastembed(folder: Path) -> Score:
    return open_fastembed(folder, "onnx/model.onnx")


def _prepare_flashrank(reference: Path, into: Path) -> None:
    """Put the model in the place of FlashRank's 12-layer MiniLM: FlashRank knows models by fixed names."""
    name = "ms-marco-MiniLM-L-12-v2"
    (into / name).mkdir()
    _prepare_st_onnx_int8(reference, into / name)
    (into / name / "onnx" / "model_int8.onnx").rename(into / name / "flashrank-MiniLM-L-12-v2_Q.onnx")


def _load_flashrank(folder: Path) -> Score:
    from flashrank import Ranker

    probabilities = flashrank_score(
        Ranker("ms-marco-MiniLM-L-12-v2", cache_dir=str(folder), log_level="ERROR")
    )

    def score(pairs: Sequence[Pair], batch: int | None) -> ArrayLike:
        shares = np.asarray(probabilities(pairs, batch))
        logits: ArrayLike = np.log(shares) - np.log1p(-shares)
        return logits

    return score


def _load_rerankers(folder: Path) -> Score:
    from rerankers import Reranker

    ranker = Reranker(str(folder), model_type="cross-encoder", device="cpu", verbose=0)

    def score(pairs: Sequence[Pair], batch: int | None) -> ArrayLike:
        scores = np.empty(len(pairs))
        for query, rows in query_batches(pairs, None):
            ids = list(rows)
            ranked = ranker.rank(query, [pairs[i][1] for i in ids], doc_ids=ids, batch_size=batch)
            for result in getattr(ranked, "results", [ranked]):
                scores[result.document.doc_id] = result.score
        return scores

    return score


def _load_optimum(folder: Path) -> Score:
    return open_optimum(folder, "onnx/model.onnx", "np")


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
    """Run encoder and pooler in CTranslate2, and the classifier, which CTranslate2 lacks, in numpy."""
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
        scores: list[float] = []
        parts = batches(len(pairs), batch) if batch else (rows for _, rows in query_batches(pairs, None))
        for rows in parts:
            encodings = tokenizer.encode_batch([pairs[i] for i in rows])
            output = encoder.forward_batch(
                [e.ids for e in encodings], token_type_ids=[e.type_ids for e in encodings]
            )
            pooled = np.array(output.pooler_output)
            scores += (pooled @ head["classifier.weight"].T + head["classifier.bias"])[:, 0].tolist()
        return scores

    return score


_ST = "https://sbert.net/docs/cross_encoder/usage/efficiency.html"
PEERS: dict[str, Peer] = {
    "sentence-transformers torch": Peer("sentence-transformers", _ST, 32, _copy, _load_torch),
    "sentence-transformers torch bf16": Peer(
        "sentence-transformers", _ST, 32, _copy, _load_torch_bf16, needs_bf16=True
    ),
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
