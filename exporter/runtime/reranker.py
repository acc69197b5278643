"""Score query-passage pairs with an artifact, without torch: tokenizers, numpy and one engine.

The verifier measures candidates through this class, so what is verified is what a user runs.
"""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypedDict

import numpy as np

from exporter.artifact.access import read_whole
from exporter.artifact.manifest import check_needed, read_manifest
from exporter.artifact.plans import read_plans
from exporter.errors import RecipeError
from exporter.machine import cores_allowed, this_isa
from exporter.remote import cached_artifact, is_remote
from exporter.runtime.engine import Engine, Numerics, open_engine
from exporter.runtime.model_file import check_model
from exporter.runtime.operators import Operation
from exporter.runtime.plan import Plan, batches, choose_plan
from exporter.runtime.tokenizer import PairTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from tokenizers import Encoding

    from exporter.pairs import Pair


# Pairs that are tokenized at a time: seconds of work, so that the idle end of a chunk costs nothing, in tens
# of megabytes.
_CHUNK_PAIRS = 1024


class _RankedRequired(TypedDict):
    corpus_id: int
    score: float


class Ranked(_RankedRequired, total=False):
    """One row of `Reranker.rank`, as sentence-transformers' `CrossEncoder.rank` returns it."""

    text: str


class Reranker:
    """A loaded variant, which turns pairs into raw logits.

    Safe to share between threads, and to use in a forked process where the plan has one thread a worker and
    the engine is onnxruntime. The scores of a pair do not depend on the order in which pairs are passed.
    """

    def __init__(
        self,
        kind: str,
        plan: Plan,
        tokenizer: PairTokenizer,
        engine: Engine,
        *,
        chunk_pairs: int = _CHUNK_PAIRS,
    ) -> None:
        """Join a tokenizer and an engine; `Reranker.load` does so for an artifact.

        Args:
            kind: the variant's.
            plan: how batches are laid over the cores; the engine was opened for the same plan.
            tokenizer: of the artifact.
            engine: with the variant's graph.
            chunk_pairs: pairs that are tokenized at a time.
        """
        self.kind, self.plan = kind, plan
        self._tokenizer, self._engine, self._chunk_pairs = tokenizer, engine, chunk_pairs
        self._pool, self._pid = ThreadPoolExecutor(plan.workers), os.getpid()

    @classmethod
    def load(
        cls,
        folder: str | Path,
        variant: str | None = None,
        *,
        revision: str | None = None,
        threads: int | None = None,
        plan: Plan | None = None,
        profiled: bool = False,
        numerics: Numerics = "pinned",
        chunk_pairs: int = _CHUNK_PAIRS,
    ) -> Self:
        """Load a variant of an artifact, after its files were hashed and its model's operators checked.

        Args:
            folder: the artifact's folder; or `org/name` on the Hub, `hf://org/name@branch`,
                `oci://registry/name:tag` or `s3://bucket/prefix`, of which only the files needed are fetched.
            variant: its kind, by default the first the manifest names.
            revision: branch, tag or commit on the Hub.
            threads: cores to use, by default those this process may use.
            plan: overrides the plan `choose_plan` finds among those measured, and `threads`.
            profiled: record every operator's run for `operations`.
            numerics: how the engine computes; other than `pinned` is for comparing, not for use.
            chunk_pairs: pairs that are tokenized, and then scored, at a time.

        Raises:
            RecipeError: there is no such folder, repository, tag or prefix, it is no artifact, or has no such
                variant.
            IntegrityError: a file is missing or not the one the manifest names, or holds what no build of
                ours makes.
            BackendMissing: the engine is not installed.
            BackendError: the engine cannot load the file, or the place it is at cannot be reached.
        """
        folder = _local_folder(str(folder), revision, variant)

        def parts(folder: Path = folder, plan: Plan | None = plan) -> tuple[str, Plan, PairTokenizer, Engine]:
            manifest = read_manifest(folder)
            entry = manifest.variant(variant) if variant else manifest.variants[0]
            tokenizer = PairTokenizer.load(folder, manifest)
            check_needed(manifest, folder, entry.files)
            check_model(manifest, entry, folder)

            if plan is None:
                measured = read_plans(folder, manifest).of(entry.kind)
                plan = choose_plan(measured, this_isa(), threads or cores_allowed())
            model = folder / entry.model
            engine = open_engine(entry.traits, model, plan, profiled=profiled, numerics=numerics)
            return entry.kind, plan, tokenizer, engine

        return cls(*read_whole(folder, parts), chunk_pairs=chunk_pairs)

    def score(self, pairs: Iterable[Pair]) -> NDArray[np.float32]:
        """Score pairs.

        Args:
            pairs: (query, passage) texts; an iterator is read as it is scored, and never held whole.

        Returns:
            float32[n_pairs], raw logits in the order of `pairs`.

        Raises:
            RecipeError: something in `pairs` is not a pair of strings; its position is named.
        """
        chunks = list(self.stream(pairs))
        return np.concatenate(chunks) if chunks else np.empty(0, np.float32)

    predict = score

    def stream(self, pairs: Iterable[Pair]) -> Iterator[NDArray[np.float32]]:
        """Score pairs as they come, a chunk at a time, in memory that does not grow with their number.

        Args:
            pairs: (query, passage) texts.

        Yields:
            float32[n], raw logits of the next pairs in the order of `pairs`.

        Raises:
            RecipeError: something in `pairs` is not a pair of strings; its position is named.
        """
        try:
            rest = iter(pairs)
        except TypeError:
            raise RecipeError(f"pairs is {pairs!r:.80}; wanted (query, passage) pairs") from None
        start = 0
        while chunk := list(islice(rest, self._chunk_pairs)):
            yield self._score_chunk(self.tokenize(chunk, start=start))
            start += len(chunk)

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        *,
        return_documents: bool = False,
    ) -> list[Ranked]:
        """Order documents by relevance to a query, best first; equal scores keep the order of `documents`.

        Args:
            query: the query.
            documents: the passages.
            top_k: how many to return, by default all.
            return_documents: put each document's text under `text`.

        Raises:
            RecipeError: a document is not a string.
        """
        scores = self.score([(query, document) for document in documents])
        order = np.argsort(-scores, kind="stable")[:top_k]
        rows: list[Ranked] = [{"corpus_id": int(i), "score": float(scores[i])} for i in order]
        if return_documents:
            for row in rows:
                row["text"] = documents[row["corpus_id"]]
        return rows

    def tokenize(self, pairs: Sequence[Pair], *, start: int = 0) -> list[Encoding]:
        """Encode pairs as `PairTokenizer.encode` does: truncated to the artifact's `max_length`, not padded.

        Raises:
            RecipeError: something in `pairs` is not a pair of strings; its position is named.
        """
        return self._tokenizer.encode(pairs, start=start)

    def operations(self) -> list[Operation]:
        """Return every operator's run since a `profiled` load, and end the recording."""
        return self._engine.operations()

    def _score_chunk(self, encodings: Sequence[Encoding]) -> NDArray[np.float32]:
        cut = batches([len(encoding) for encoding in encodings], self.plan)
        scores = np.empty(len(encodings), np.float32)

        def run(rows: list[int]) -> None:
            feed = self._tokenizer.padded([encodings[i] for i in rows], self._engine.inputs)
            scores[rows] = self._engine.logits(feed)

        if len(cut) == 1:
            run(cut[0])
        else:
            list(self._workers().map(run, cut))
        return scores

    def _workers(self) -> ThreadPoolExecutor:
        """Return the pool; a forked process makes its own, since no threads live in its parent's."""
        if self._pid != os.getpid():
            self._pool, self._pid = ThreadPoolExecutor(self.plan.workers), os.getpid()
        return self._pool


def _is_hub_id(name: str) -> bool:
    """Return whether a name is a Hub id: `org/name`, where neither it nor the folder `org` exists here."""
    return (
        bool(re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name))
        and not Path(name).exists()
        and not Path(name).parent.is_dir()
    )


def _local_folder(name: str, revision: str | None, variant: str | None) -> Path:
    """Return a folder of this machine with what one variant needs."""
    if is_remote(name):
        return cached_artifact(name, variant)
    if _is_hub_id(name):
        from exporter.remote.hub import cached_from_hub

        return cached_from_hub(name, revision, variant, instead=f"{name} is no folder here either")
    return Path(name)
