"""Open libraries that are both peers and consumers, and score pairs, as their documentation shows."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike

    from exporter.pairs import Pair

# Returns a score for each pair. The second argument is pairs a batch; None: all candidates of a query.
Score: TypeAlias = "Callable[[Sequence[Pair], int | None], ArrayLike]"


def open_cross_encoder(folder: Path, **options: Any) -> Any:
    """Open a folder with sentence-transformers on the CPU.

    Args:
        folder: a model, as sentence-transformers reads it.
        options: further arguments of `CrossEncoder`.
    """
    from sentence_transformers import CrossEncoder

    return CrossEncoder(str(folder), device="cpu", local_files_only=True, **options)


def cross_encoder_score(model: Any) -> Score:
    """Return the scores of `CrossEncoder.predict`."""

    def score(pairs: Sequence[Pair], batch: int | None) -> ArrayLike:
        texts = [list(pair) for pair in pairs]
        scores: ArrayLike = model.predict(texts, batch_size=batch, show_progress_bar=False)
        return scores

    return score


def transformers_score(folder: Path, model: Any, tensors: Literal["np", "pt"]) -> Score:
    """Return the logits of a model of optimum, with the folder's tokenizer.

    Args:
        folder: holds the tokenizer's files.
        model: called as a model of transformers is.
        tensors: what the library's documentation hands to its models, numpy's arrays or PyTorch's tensors.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)

    def score(pairs: Sequence[Pair], batch: int | None) -> ArrayLike:
        logits: list[float] = []
        for rows in batches(len(pairs), batch):
            queries, passages = zip(*(pairs[i] for i in rows), strict=True)
            inputs = tokenizer(
                list(queries), list(passages), padding=True, truncation=True, return_tensors=tensors
            )
            logits += model(**inputs).logits[:, 0].tolist()
        return logits

    return score


def open_optimum(folder: Path, file: str, tensors: Literal["np", "pt"]) -> Score:
    """Open a folder's ONNX file with optimum, and return its logits; see `transformers_score`."""
    from optimum.onnxruntime import ORTModelForSequenceClassification

    subfolder, _, name = file.rpartition("/")
    model = ORTModelForSequenceClassification.from_pretrained(folder, subfolder=subfolder, file_name=name)
    return transformers_score(folder, model, tensors)


def open_fastembed(folder: Path, file: str) -> Score:
    """Open a folder's ONNX file with fastembed, whose list of models it is entered in; once a process."""
    from fastembed.common.model_description import ModelSource
    from fastembed.rerank.cross_encoder import TextCrossEncoder

    name = "local/model"
    TextCrossEncoder.add_custom_model(model=name, sources=ModelSource(hf=name), model_file=file)
    model = TextCrossEncoder(name, specific_model_path=str(folder))
    return lambda pairs, batch: list(model.rerank_pairs(list(pairs), batch_size=batch or len(pairs)))


def flashrank_score(ranker: Any) -> Score:
    """Return the probabilities of `flashrank.Ranker.rerank`, which takes one query at a time."""
    from flashrank import RerankRequest

    def score(pairs: Sequence[Pair], batch: int | None) -> ArrayLike:
        scores = np.empty(len(pairs))
        for query, rows in query_batches(pairs, batch):
            ranked = ranker.rerank(RerankRequest(query, [{"id": i, "text": pairs[i][1]} for i in rows]))
            scores[[row["id"] for row in ranked]] = [row["score"] for row in ranked]
        return scores

    return score


def batches(n_pairs: int, batch: int | None) -> Iterator[range]:
    """Return positions, at most `batch` at a time; all at once where `batch` is None."""
    step = batch or n_pairs or 1
    for start in range(0, n_pairs, step):
        yield range(start, min(start + step, n_pairs))


def query_batches(pairs: Sequence[Pair], batch: int | None) -> Iterator[tuple[str, Sequence[int]]]:
    """Return each query with the positions of its candidates, at most `batch` at a time.

    Args:
        pairs: (query, passage) texts, those of one query in a row.
        batch: candidates at a time; None: all of a query.
    """
    for query, group in groupby(range(len(pairs)), key=lambda i: pairs[i][0]):
        rows = list(group)
        for part in batches(len(rows), batch):
            yield query, rows[part.start : part.stop]
