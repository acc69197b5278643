"""Score query-passage pairs with an artifact, without torch: tokenizers, numpy and one engine.

The verifier measures candidates through this class, so what is verified is what a user runs.
"""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypedDict

import numpy as np
from tokenizers import Tokenizer

from exporter.artifact.manifest import check_needed, read_manifest
from exporter.artifact.plans import read_plans
from exporter.errors import IntegrityError, RecipeError
from exporter.machine import cores_allowed, this_isa
from exporter.remote import cached_artifact, is_remote
from exporter.runtime.engine import Engine, Numerics, open_engine
from exporter.runtime.model_file import check_model
from exporter.runtime.operators import Operation
from exporter.runtime.plan import Plan, batches, choose_plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from tokenizers import Encoding

    from exporter.artifact.manifest import Manifest, VariantEntry


Pair = tuple[str, str]
# So many pairs are tokenized at a time: seconds of work, so that the idle end of one costs nothing, in tens of megabytes.
CHUNK_PAIRS = 1024


class _RankedRequired(TypedDict):
    corpus_id: int
    score: float


class Ranked(_RankedRequired, total=False):
    """One row of `Reranker.rank`, as sentence-transformers' `CrossEncoder.rank` gives it."""

    text: str


@dataclass(slots=True)
class Reranker:
    """A loaded variant. Give it pairs, get raw logits.

    Safe to share between threads, and to use in a forked process where the plan has one thread a worker and the engine is
    onnxruntime. The scores of a pair do not depend on the order in which pairs are given.
    """

    kind: str
    plan: Plan
    _tokenizer: Tokenizer
    _engine: Engine
    _pad_id: int
    _max_length: int
    _pool: ThreadPoolExecutor
    _pid: int

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
    ) -> Self:
        """Load a variant of an artifact; the files it needs are hashed, and the model's operators looked at, first.

        Args:
            folder: the artifact's folder; or `org/name` on the Hub, `hf://org/name@branch`, `oci://registry/name:tag` or
                `s3://bucket/prefix`, of which only the files needed are fetched.
            variant: its kind, by default the first the manifest names.
            revision: branch, tag or commit on the Hub.
            threads: cores to use, by default those this process may use.
            plan: overrides the plan `choose_plan` finds among those measured, and `threads`.
            profiled: record every operator's run for `operations`.
            numerics: how the engine computes; other than `stated` is for comparing, not for use.

        Raises:
            RecipeError: there is no such folder, repository, tag or prefix, it is no artifact, or has no such variant.
            IntegrityError: a file is missing or not the one the manifest names, or holds what no build of ours makes.
            BackendMissing: the engine is not installed.
            BackendError: the engine cannot load the file, or the place it is at cannot be reached.
        """
        folder = _at_hand(str(folder), revision, variant)
        manifest = read_manifest(folder)
        entry = _entry(manifest, variant)
        check_needed(manifest, folder, ("tokenizer.json", *entry.files))
        check_model(manifest, entry, folder)
        if plan is None:
            plan = choose_plan(
                read_plans(folder, manifest).of(entry.kind), this_isa(), threads or cores_allowed()
            )
        tokenizer = _tokenizer(manifest, folder / "tokenizer.json")
        engine = open_engine(
            entry.traits.engine, folder / entry.model, plan, profiled=profiled, numerics=numerics
        )
        pool = ThreadPoolExecutor(plan.workers)
        return cls(
            entry.kind, plan, tokenizer, engine, manifest.pad_id, manifest.max_length, pool, os.getpid()
        )

    def score(self, pairs: Iterable[Pair]) -> NDArray[np.float32]:
        """Score pairs.

        Args:
            pairs: (query, passage) texts; an iterator is read as it is scored, and never held whole.

        Returns:
            float32[n_pairs], raw logits in the order given.

        Raises:
            RecipeError: something in `pairs` is not a pair of strings; its position is named.
        """
        chunks = list(self.stream(pairs))
        return np.concatenate(chunks) if chunks else np.empty(0, np.float32)

    def stream(self, pairs: Iterable[Pair]) -> Iterator[NDArray[np.float32]]:
        """Score pairs as they come, `CHUNK_PAIRS` at a time, in memory that does not grow with their number.

        Args:
            pairs: (query, passage) texts.

        Yields:
            float32[n], raw logits of the next pairs in the order given.

        Raises:
            RecipeError: something in `pairs` is not a pair of strings; its position is named.
        """
        try:
            rest = iter(pairs)
        except TypeError:
            raise RecipeError(f"pairs is {pairs!r:.80}; wanted (query, passage) pairs") from None
        start = 0
        while chunk := list(islice(rest, CHUNK_PAIRS)):
            yield self._score_chunk(self.tokenize(chunk, start=start))
            start += len(chunk)

    def _score_chunk(self, encodings: Sequence[Encoding]) -> NDArray[np.float32]:
        lengths = [len(encoding) for encoding in encodings]
        cut = batches(lengths, self.plan)
        scores = np.empty(len(encodings), np.float32)

        def run(rows: list[int]) -> None:
            scores[rows] = self._engine.logits(self._padded([encodings[i] for i in rows]))

        if len(cut) == 1:
            run(cut[0])
        else:
            list(self._workers().map(run, cut))
        return scores

    def operations(self) -> list[Operation]:
        """Give every operator's run since a `profiled` load, and end the recording."""
        return self._engine.operations()

    def _workers(self) -> ThreadPoolExecutor:
        """Give the pool; a forked process has its parent's, but not the threads in it, and waits for them for good."""
        if self._pid != os.getpid():
            self._pool, self._pid = ThreadPoolExecutor(self.plan.workers), os.getpid()
        return self._pool

    predict = score

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        *,
        return_documents: bool = False,
    ) -> list[Ranked]:
        """Order documents by relevance to a query, best first; equal scores keep the order given.

        Args:
            query: the query.
            documents: the passages.
            top_k: how many to give back, by default all.
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
        """Encode pairs, truncated to the artifact's `max_length`, not padded; `start` is the first one's position, for errors.

        Raises:
            RecipeError: something in `pairs` is not a pair of strings; its position is named.
        """
        for i, pair in enumerate(pairs, start):
            if (
                not isinstance(pair, tuple | list)
                or len(pair) != 2
                or not all(isinstance(text, str) for text in pair)
            ):
                raise RecipeError(f"pair {i} is {str(pair)[:80]!r}; wanted (query, passage), two strings")
        try:
            texts = [self._shortened(query, passage) for query, passage in pairs]
            encodings: list[Encoding] = self._tokenizer.encode_batch_fast(texts)
        except TypeError:  # what the tokenizer says of a lone surrogate, which no UTF-8 can hold
            i = next(i for i, pair in enumerate(pairs, start) if not _is_unicode("".join(pair)))
            raise RecipeError(
                f"pair {i} is not valid Unicode; decode its bytes with errors='replace'"
            ) from None
        return encodings

    def _shortened(self, query: str, passage: str) -> Pair:
        """Cut very long texts at a space behind the tokens that truncation keeps.

        The tokenizer keeps what it cuts off in pieces, and pairs each piece of the query with each of the passage: two texts of
        100,000 characters took 72 s. Which of the two is longer must stay so, since an odd token goes to the longer one.
        Source: https://github.com/huggingface/tokenizers/blob/main/tokenizers/src/utils/truncation.rs
        """
        if (
            len(query) + len(passage) <= 32 * self._max_length
            or self._tokenizer.truncation["direction"] == "left"
        ):
            return query, passage
        if self._count(query) > self._count(passage):
            passage = self._cut(passage, self._max_length)
            return self._cut(query, max(self._max_length, self._count(passage) + 1)), passage
        query = self._cut(query, self._max_length)
        return query, self._cut(passage, max(self._max_length, self._count(query)))

    def _cut(self, text: str, n_tokens: int) -> str:
        """Give a beginning of a text, up to a space, that still has so many tokens; all of it where there is none."""
        n_chars = 8 * n_tokens
        while len(text) > n_chars and (end := text.find(" ", n_chars)) > 0:
            if self._count(text[:end]) >= n_tokens:
                return text[:end]
            n_chars *= 2
        return text

    def _count(self, text: str) -> int:
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return len(encoding) + sum(len(piece) for piece in encoding.overflowing)

    def _padded(self, encodings: list[Encoding]) -> dict[str, NDArray[np.int64]]:
        width = max(len(encoding) for encoding in encodings)
        shape = (len(encodings), width)
        fields = {
            "input_ids": np.full(shape, self._pad_id, np.int64),
            "attention_mask": np.zeros(shape, np.int64),
            "token_type_ids": np.zeros(shape, np.int64),
        }
        for row, encoding in enumerate(encodings):
            n = len(encoding)
            fields["input_ids"][row, :n] = encoding.ids
            fields["attention_mask"][row, :n] = 1
            fields["token_type_ids"][row, :n] = encoding.type_ids
        return {name: fields[name] for name in self._engine.inputs}


def _entry(manifest: Manifest, variant: str | None) -> VariantEntry:
    return manifest.variant(variant) if variant else manifest.variants[0]


def _tokenizer(manifest: Manifest, path: Path) -> Tokenizer:
    """Read the tokenizer and hold it against the manifest: other consumers cut and pad as this file says.

    Raises:
        IntegrityError: it is none, or cuts or pads in another way.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises Exception itself
        raise IntegrityError(f"{path}: no tokenizer: {str(error)[:200]!a}") from error
    found = tokenizer.truncation or {}
    wanted = {"max_length": manifest.max_length, "strategy": "longest_first", "stride": 0}
    if {key: found.get(key) for key in wanted} != wanted or tokenizer.padding:
        how = f"truncation {found or 'none'}, padding {tokenizer.padding or 'none'}"
        raise IntegrityError(
            f"{path}: wanted pairs cut at {manifest.max_length} tokens and not padded, found {how}"
        )
    if tokenizer.id_to_token(manifest.pad_id) is None:
        raise IntegrityError(f"{path}: has no token {manifest.pad_id}, with which its manifest pads")
    return tokenizer


def _is_hub_id(name: str) -> bool:
    """Tell `org/name` from a folder: nothing of that name is here, not even the folder it would lie in."""
    return (
        bool(re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name))
        and not Path(name).exists()
        and not Path(name).parent.is_dir()
    )


def _at_hand(name: str, revision: str | None, variant: str | None) -> Path:
    """Give a folder of this machine with what one variant needs."""
    if is_remote(name):
        return cached_artifact(name, variant)
    if _is_hub_id(name):
        from exporter.remote.hub import cached_from_hub

        return cached_from_hub(name, revision, variant, instead=f"{name} is no folder here either")
    return Path(name)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
