"""What a worker does, wherever it runs: load the artifact once, and score one part after the other.

Which batches a part is cut into depends on the part alone, a batch runs on one thread, and nothing that is
written tells the time: a part that is scored twice on machines of one kind has the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from exporter import __version__
from exporter.artifact.cpus import why_unsafe
from exporter.artifact.manifest import read_manifest
from exporter.errors import BackendError, IntegrityError, RecipeError
from exporter.jobs.cursor import Cursor
from exporter.jobs.job import CHUNK_PAIRS, SCHEMA, Columns, DonePart, Footer, JobPlan, Maker, OnBadRow
from exporter.jobs.parquet import part_bytes, read_part
from exporter.jobs.places import check_unchanged, opened, output_at
from exporter.machine import package_version, this_cpu, this_isa
from exporter.runtime.plan import Plan
from exporter.runtime.reranker import Reranker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pyarrow as pa

    from exporter.artifact.manifest import Manifest
    from exporter.jobs.job import Part
    from exporter.pairs import Pair

_MAX_NAMED = 100  # bad rows that a footer names


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is told when it starts, as plain values: it may be on another machine."""

    folder: str
    root: str
    kind: str
    plan: JobPlan
    key: str
    facts: dict[str, object]
    columns: Columns
    on_bad_row: OnBadRow
    out: str
    made_on: Maker  # where others of the job are scored
    n_cores: int = 1  # each runs a batch on one thread


def maker_of(manifest: Manifest, kind: str) -> Maker:
    """Return what scores of a variant depend on here."""
    engine = manifest.named(kind)[0].traits.engine
    return Maker(this_isa(), f"{engine} {package_version(engine) or ''}".strip())


class Body:
    """A worker's own state: the loaded artifact, and the file that was read last."""

    def __init__(self, order: Order, folder: Path) -> None:
        """Load the artifact.

        Args:
            order: what is to be done.
            folder: where the artifact lies here.

        Raises:
            IntegrityError: another artifact lies there.
            BackendError: it is not safe on this CPU, or cannot be loaded.
        """
        manifest = read_manifest(folder)
        if manifest.root != order.root:
            raise IntegrityError(
                f"{folder} was replaced while the job ran (root {manifest.root[:12]}, it began with "
                f"{order.root[:12]}); run it again with the artifact it began with, or into another folder"
            )
        self.maker = maker_of(manifest, order.kind)
        unsafe = why_unsafe(manifest.named(order.kind)[0], this_cpu())
        if unsafe and self.maker.isa != order.made_on.isa:
            raise BackendError(f"{order.kind} {unsafe}")
        self._order = order
        plan = Plan(order.plan.workers, order.plan.threads, order.plan.token_budget)
        own = replace(plan, workers=order.n_cores)
        loaded = Reranker.load(folder, order.kind, plan=own, chunk_pairs=CHUNK_PAIRS)
        self._reranker = loaded.with_cut_of(plan)
        self._cursor = Cursor(order.columns, opened)
        self._output = output_at(order.out)

    def score(self, part: Part, tell: Callable[[int], None]) -> DonePart:
        """Score a part, and write its file.

        Args:
            part: the part.
            tell: called with the rows done since it was last called.

        Raises:
            RecipeError: the input cannot be read, or a row is bad and none is to be skipped.
            BackendError: the output cannot be written.
        """
        columns = self._order.columns
        check_unchanged(part.file.address, part.file.size_bytes, part.file.content)
        rows = _Rows(part, self._order.on_bad_row, len(columns.keep))
        scores = np.zeros(part.n_rows, np.float32)
        n_done = 0
        for found in self._reranker.stream(rows.pairs(self._cursor)):
            scores[rows.scored[n_done : n_done + len(found)]] = found
            n_done += len(found)
            tell(len(found))
        is_null = np.ones(part.n_rows, np.bool_)
        is_null[rows.scored] = False
        footer = self._footer(part, int(is_null.sum()) - len(rows.bad), rows.bad)
        raw = part_bytes(scores, is_null, rows.kept, columns, footer)
        self._output.write(part.name, raw)
        done = read_part(raw, part.name)
        assert done is not None  # it was made here
        return done

    def _footer(self, part: Part, n_null: int, bad: list[int]) -> Footer:
        return Footer(
            schema=SCHEMA,
            version=__version__,
            key=self._order.key,
            facts=self._order.facts,
            plan_sha256=self._order.plan.sha256,
            maker=self.maker,
            number=part.number,
            input=part.file.name,
            content=part.file.content,
            first_row=part.start.row,
            n_rows=part.n_rows,
            n_null=n_null,
            n_bad=len(bad),
            bad_rows=tuple(bad[:_MAX_NAMED]),
        )


class _Rows:
    """The rows of a part as they are read: which are scored, which are bad, and what is kept."""

    def __init__(self, part: Part, on_bad_row: OnBadRow, n_kept: int) -> None:
        self.scored: list[int] = []
        self.bad: list[int] = []
        self.kept: list[list[pa.Array]] = [[] for _ in range(n_kept)]
        self._part, self._on_bad_row = part, on_bad_row

    def pairs(self, cursor: Cursor) -> Iterator[Pair]:
        """Yield the pairs that are to be scored."""
        at = 0
        for chunk in cursor.chunks(self._part):
            for pieces, column in zip(self.kept, chunk.kept, strict=True):
                pieces.append(column)
            for i, (query, passage) in enumerate(chunk.pairs):
                if (problem := chunk.problems.get(i)) is not None:
                    self._note(*problem)
                elif query is not None and passage is not None:
                    self.scored.append(at + i)
                    yield query, passage
            at += len(chunk.pairs)

    def _note(self, number: int, text: str) -> None:
        if self._on_bad_row == "stop":
            raise RecipeError(f"{text}; `--on-bad-row skip` goes on without a score for it")
        self.bad.append(number)
