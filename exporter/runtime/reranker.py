"""Score query-passage pairs with an artifact, without torch: tokenizers, numpy and one engine.

The verifier measures candidates through this class, so what is verified is what a user runs.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypedDict, get_args

import numpy as np

from exporter.artifact.access import read_whole
from exporter.artifact.choice import choose_variant
from exporter.artifact.manifest import check_needed, read_manifest
from exporter.artifact.plans import no_plans, read_plans
from exporter.backend import of_untrusted
from exporter.errors import ArgumentTypeError, IntegrityError
from exporter.machine import cores_allowed, this_cpu, this_isa
from exporter.runtime.arguments import (
    check_choice,
    check_flag,
    name_or_none,
    pair_of,
    pairs_of,
    place_of,
    shown,
    text_of,
    texts_of,
    whole_number,
)
from exporter.runtime.daemons import entry
from exporter.runtime.engine import Engine, Numerics, open_engine
from exporter.runtime.folder import local_folder
from exporter.runtime.forked import PerProcess
from exporter.runtime.model_file import check_model
from exporter.runtime.operators import Operation
from exporter.runtime.plan import Plan, batches, choose_plan
from exporter.runtime.pool import Pool
from exporter.runtime.tokenizer import PairTokenizer, TokenizedPair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from exporter.artifact.manifest import Manifest, VariantEntry
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

    Safe to share between threads. A forked process opens an engine of its own when it first scores, from the
    same files; one that is handed a `Reranker` by pickle loads it again from the same place. The scores of a
    pair do not depend on the order in which pairs are passed.
    """

    def __init__(
        self,
        kind: str,
        plan: Plan,
        tokenizer: PairTokenizer,
        engine: Callable[[], Engine],
        *,
        chunk_pairs: int = _CHUNK_PAIRS,
        place: str | None = None,
        reload: Callable[[], Reranker] | None = None,
        why: str = "",
        batch_invariant: bool = True,
        equal_widths: bool = False,
        root: str = "",
    ) -> None:
        """Join a tokenizer and an engine; `Reranker.load` does so for an artifact.

        Args:
            kind: the variant's id.
            plan: how batches are laid over the cores.
            tokenizer: of the artifact.
            engine: opens the variant's graph for the same plan; called once in each process.
            chunk_pairs: pairs that are tokenized at a time.
            place: where the artifact is, to be printed.
            reload: loads the same in another process; without it there is no pickling.
            why: which variant this is and why it was chosen, in a line.
            batch_invariant: whether a pair's score is the same whatever it is scored with, but for rounding.
            equal_widths: whether batches hold pairs of one length only, so that it is the same to the bit.
            root: of the artifact's manifest, which names all its files.
        """
        self.kind, self.plan, self.why, self.batch_invariant = kind, plan, why, batch_invariant
        self._tokenizer, self._chunk_pairs = tokenizer, chunk_pairs
        self._equal_widths, self.root = equal_widths, root
        self._cut_by: Plan | None = None
        self._place, self._reload = place, reload
        self._engine = PerProcess(engine)
        self._pool = PerProcess(partial(Pool, plan.workers))
        self._engine.get()

    def __repr__(self) -> str:
        place = "" if self._place is None else f"{self._place!r}, "
        return f"Reranker({place}{self.kind!r}, plan {self.plan})"

    def with_token_budget(self, token_budget: int) -> Self:
        """Return a Reranker on the same engine that cuts pairs into batches of other sizes.

        Args:
            token_budget: padded tokens of a batch, see `plan`.

        Raises:
            ArgumentTypeError, ArgumentValueError: it is no whole number of one or more.
        """
        token_budget = whole_number("token_budget", token_budget, at_least=1)
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.plan = replace(self.plan, token_budget=token_budget)
        return other

    def with_cut_of(self, plan: Plan) -> Self:
        """Return a Reranker on the same engine, whose batches are cut by another plan and run by its own.

        The cut, and with it the scores of dynamic int8, then does not depend on how many threads there are.
        """
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__, _cut_by=plan)
        return other

    def __reduce__(self) -> tuple[Callable[[], Reranker], tuple[()]]:
        if self._reload is None:
            raise ArgumentTypeError(f"{self!r} was not made by Reranker.load, and cannot be pickled")
        return self._reload, ()

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
            variant: its id, or a kind, which means the best of its variants for this CPU. By default the best
                of all: the fastest that is safe here and passed on a CPU like this one, see `why`; where none
                was judged on such a CPU, the first of the manifest that is safe.
            revision: branch, tag or commit on the Hub.
            threads: cores to use, 1 or more, by default those this process may use.
            plan: overrides the plan `choose_plan` finds among those measured, and `threads`.
            profiled: record every operator's run for `operations`.
            numerics: how the engine computes; other than `pinned` is for comparing, not for use.
            chunk_pairs: pairs that are tokenized, and then scored, at a time.

        Raises:
            ArgumentTypeError: an argument has another type than is said here.
            ArgumentValueError: an argument is out of its range.
            RecipeError: there is no such folder, repository, tag or prefix, it is no artifact, or has no such
                variant.
            IntegrityError: a file is missing or not the one the manifest names, or holds what no build of
                ours makes, or what its engine or tokenizer fails on.
            BackendMissing: the engine is not installed.
            BackendError: memory ran short, the engine is too old, the place it is at cannot be reached, or
                nothing asked for is safe on this CPU.
        """
        place = place_of(folder)
        name_or_none("variant", variant)
        name_or_none("revision", revision)
        n_cores = None if threads is None else whole_number("threads", threads, at_least=1)
        chunk_pairs = whole_number("chunk_pairs", chunk_pairs, at_least=1)
        check_flag("profiled", profiled)
        check_choice("numerics", numerics, get_args(Numerics))
        _check_plan(plan)

        folder = local_folder(place, revision, variant)
        reload = partial(
            cls.load,
            str(folder.absolute()) if str(folder) == str(Path(place)) else place,
            variant,
            revision=revision,
            threads=n_cores,
            plan=plan,
            profiled=profiled,
            numerics=numerics,
            chunk_pairs=chunk_pairs,
        )

        def whole(folder: Path = folder, plan: Plan | None = plan) -> Reranker:
            manifest = read_manifest(folder)
            plans = read_plans(folder, manifest) if plan is None or not variant else no_plans(manifest)
            chosen = choose_variant(manifest, plans, this_cpu(), variant)
            entry = chosen.entry
            tokenizer = PairTokenizer.load(folder, manifest)
            check_needed(manifest, folder, entry.files)
            check_model(manifest, entry, folder)

            if plan is None:
                plan = choose_plan(plans.of(entry.kind), this_isa(), n_cores or cores_allowed())
            engine = partial(
                open_engine, entry.traits, folder / entry.model, plan, profiled=profiled, numerics=numerics
            )
            opened = partial(_opened, engine, manifest, entry, folder, os.getpid())
            return cls(
                entry.kind,
                plan,
                tokenizer,
                opened,
                chunk_pairs=chunk_pairs,
                place=place,
                reload=reload,
                why=chosen.why,
                batch_invariant=entry.traits.batch_invariant,
                equal_widths=entry.traits.equal_widths,
                root=manifest.root,
            )

        with entry()():
            return read_whole(folder, whole)  # type: ignore[return-value] # a subclass makes one of itself

    def score(self, pairs: Iterable[Pair]) -> NDArray[np.float32]:
        """Score pairs.

        Args:
            pairs: (query, passage) texts: an iterable of pairs of strings, or a table of two columns (an
                array, a data frame). An iterator is read as it is scored, and never held whole.

        Returns:
            float32[n_pairs], raw logits in the order of `pairs`.

        Raises:
            ArgumentTypeError: something in `pairs` is not a pair of strings; its position is named.
            ArgumentValueError: it has not two texts, or one that is not valid Unicode.
        """
        rows = pairs_of(pairs)
        if hasattr(pairs, "__len__"):
            rows = [pair_of(i, pair) for i, pair in enumerate(rows)]
        chunks = list(self._chunks(iter(rows)))
        return np.concatenate(chunks) if chunks else np.empty(0, np.float32)

    predict = score

    def stream(self, pairs: Iterable[Pair]) -> Iterator[NDArray[np.float32]]:
        """Score pairs as they come, a chunk at a time, in memory that does not grow with their number.

        Args:
            pairs: (query, passage) texts, as for `score`; it may have no end.

        Returns:
            An iterator of float32[n], raw logits of the next pairs in the order of `pairs`. It raises where a
            pair of an iterator is found to be none.

        Raises:
            ArgumentTypeError: something in `pairs` is not a pair of strings; its position is named.
            ArgumentValueError: it has not two texts, or one that is not valid Unicode.
        """
        rows = iter(pairs_of(pairs))
        if isinstance(pairs, list | tuple):
            for i, pair in enumerate(pairs):
                pair_of(i, pair)
        return self._chunks(rows)

    def rank(
        self,
        query: str,
        documents: Iterable[str],
        top_k: int | None = None,
        *,
        return_documents: bool = False,
    ) -> list[Ranked]:
        """Order documents by relevance to a query, best first; equal scores keep the order of `documents`.

        Args:
            query: the query.
            documents: the passages: any iterable of strings, read once; `corpus_id` counts in its order.
            top_k: how many to return, 0 or more, by default all.
            return_documents: put the text that was scored under `text`.

        Raises:
            ArgumentTypeError: a text is not a string, or another argument has another type than is said here.
            ArgumentValueError: `top_k` is negative, or a text is not valid Unicode.
        """
        query, texts = text_of("query", query), texts_of("document", documents)
        n_rows = None if top_k is None else whole_number("top_k", top_k, at_least=0)
        check_flag("return_documents", return_documents)
        scores = self.score([(query, text) for text in texts])
        order = np.argsort(-scores, kind="stable")[:n_rows]
        rows: list[Ranked] = [{"corpus_id": int(i), "score": float(scores[i])} for i in order]
        if return_documents:
            for row in rows:
                row["text"] = texts[row["corpus_id"]]
        return rows

    def tokenize(self, pairs: Iterable[Pair], *, start: int = 0) -> list[TokenizedPair]:
        """Encode pairs as `PairTokenizer.encode` does: truncated to the artifact's `max_length`, not padded.

        Raises:
            ArgumentTypeError: something in `pairs` is not a pair of strings; its position is named.
            ArgumentValueError: it has not two texts, or one that is not valid Unicode.
        """
        with entry()():
            return self._tokenizer.encode(pairs, start=start)

    def operations(self) -> list[Operation]:
        """Return every operator's run since a `profiled` load, and end the recording."""
        return self._engine.get().operations()

    def _chunks(self, rows: Iterator[object]) -> Iterator[NDArray[np.float32]]:
        start = 0
        while chunk := list(islice(rows, self._chunk_pairs)):
            yield self._score_chunk(chunk, start)
            start += len(chunk)

    def _score_chunk(self, chunk: Sequence[object], start: int) -> NDArray[np.float32]:
        entered = entry()
        with entered():
            engine = self._engine.get()
            tokenized = self._tokenizer.encode(chunk, start=start)
        widths = [min(engine.width(len(pair)), self._tokenizer.max_length) for pair in tokenized]
        by = self._cut_by or self.plan
        cut = batches(widths, by, engine.rows, equal_widths=self._equal_widths)
        scores = np.empty(len(tokenized), np.float32)

        def run(rows: list[int]) -> None:
            width = max(widths[i] for i in rows)
            feed = self._tokenizer.padded([tokenized[i] for i in rows], engine.inputs, width)
            with entered(), of_untrusted():
                scores[rows] = engine.logits(feed)

        if len(cut) == 1 or sys.is_finalizing():  # a pool's threads stand still by then
            for rows in cut:
                run(rows)
        else:
            self._pool.get().run([partial(run, rows) for rows in cut])
        return scores


def _check_plan(plan: object) -> None:
    if plan is None:
        return
    if not isinstance(plan, Plan):
        raise ArgumentTypeError(f"plan is {shown(plan)}; wanted a Plan or None")
    for name in ("workers", "threads", "token_budget"):
        whole_number(f"plan.{name}", getattr(plan, name), at_least=1)


def _opened(
    engine: Callable[[], Engine], manifest: Manifest, entry: VariantEntry, folder: Path, loaded_in: int
) -> Engine:
    """Open a variant's engine; in a forked process, of files that may have changed since they were loaded.

    Raises:
        IntegrityError: they have changed.
    """
    if os.getpid() != loaded_in:
        try:
            check_needed(manifest, folder, entry.files)
        except IntegrityError:
            raise IntegrityError(
                f"{folder} was replaced after it was loaded and before process {os.getpid()} was forked and "
                "opened it; load it again"
            ) from None
    with of_untrusted():
        return engine()
