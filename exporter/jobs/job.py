"""What a job is: which artifact scores which rows under which plan; and what is known of a part that is done.

Two runs are of one job exactly if their `key` is the same. The instruction set and the engine's version are
no part of it, as one job may be allowed to mix them: they stand in each part, see `Maker`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Literal

from exporter.artifact.files import Count, Line, Sha256, Tokens, to_python

SCHEMA = 1
# Pairs that are tokenized at a time; which batches they are cut into depends on it.
CHUNK_PAIRS = 1024

Kind = Literal["jsonl", "table", "parquet"]
OnBadRow = Literal["stop", "skip"]


@dataclass(frozen=True, slots=True)
class Form:
    """How a file is read.

    `delimiter`, `quoted`, `strict` and `has_header` are of tables; `names` are the columns of tables and
    Parquet files.
    """

    kind: Kind
    delimiter: str = ""
    quoted: bool = False
    strict: bool = False
    has_header: bool = False
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file of rows: its name below the input, its address, what tells it from others, and its rows."""

    name: str
    address: str
    size_bytes: Count
    content: Line  # `sha256:` and its hash, or `etag:` and what a store says of it
    form: Form
    n_rows: Count


@dataclass(frozen=True, slots=True)
class Start:
    """Where a part begins: rows before it, and of text the lines before it, and bytes if it can be sought."""

    row: Count
    line: Count = 0
    position: Count | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one file that are scored together. `number` counts over all files, in their order."""

    number: Count
    file: InputFile
    start: Start
    n_rows: Count

    @property
    def name(self) -> str:
        """Return the name of its file in the output."""
        return f"part-{self.number:06d}.parquet"

    @property
    def rows(self) -> str:
        """Return which rows it holds, for people; rows count from 1."""
        return f"{self.file.address}, rows {self.start.row + 1} to {self.start.row + self.n_rows}"


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of the input's columns, and of the output's scores."""

    query: str = "query"
    passage: str = "passage"
    keep: tuple[str, ...] = ()
    score: str = "score"


@dataclass(frozen=True, slots=True)
class JobPlan:
    """How a worker runs the artifact: on one thread, in batches that only the part decides on."""

    token_budget: Tokens
    workers: int = 1
    threads: int = 1
    chunk_pairs: int = CHUNK_PAIRS

    @property
    def sha256(self) -> str:
        """Return the hash of the plan."""
        return _hash(to_python(self))


@dataclass(frozen=True, slots=True)
class Maker:
    """What else scores depend on: the instruction set they were computed with, and the engine."""

    isa: Line
    engine: Line

    def __str__(self) -> str:
        """Format as `ISA, ENGINE`."""
        return f"{self.isa}, {self.engine}"


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that decides what is written, but for the maker."""

    artifact: str
    root: Sha256
    kind: Line
    plan: JobPlan
    columns: Columns
    part_rows: Count
    on_bad_row: OnBadRow
    files: tuple[InputFile, ...]
    starts: tuple[tuple[Start, ...], ...] = field(repr=False)  # of each file's parts

    @property
    def facts(self) -> dict[str, object]:
        """Return what must be the same in two runs of one job, by the words that a message has for it."""
        return {
            "artifact": self.root,
            "kind": self.kind,
            "plan": to_python(self.plan),
            "columns": to_python(self.columns),
            "rows of a part": self.part_rows,
            "answer to a bad row": self.on_bad_row,
            "input": _hash([[file.name, file.content, file.n_rows] for file in self.files]),
        }

    @property
    def key(self) -> str:
        """Return one hash of all facts."""
        return _hash(self.facts)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Return every part, in the input's order."""
        found: list[Part] = []
        for file, starts in zip(self.files, self.starts, strict=True):
            for i, start in enumerate(starts):
                end = starts[i + 1].row if i + 1 < len(starts) else file.n_rows
                found.append(Part(len(found), file, start, end - start.row))
        return tuple(found)

    @property
    def n_rows(self) -> int:
        """Return the rows of all files."""
        return sum(file.n_rows for file in self.files)


@dataclass(frozen=True, slots=True)
class Footer:
    """What a part's file says of itself: which job it is of, what made it, and what became of its rows.

    Rows and `bad_rows`, the first of them, are numbered in their file from 1; lines of text likewise.
    """

    schema: int
    version: Line
    key: Sha256
    facts: dict[str, object]
    plan_sha256: Sha256
    maker: Maker
    number: Count
    input: str
    content: Line
    first_row: Count
    n_rows: Count
    n_null: Count
    n_bad: Count
    bad_rows: tuple[Count, ...]


@dataclass(frozen=True, slots=True)
class DonePart:
    """A part that is in the output: what it says of itself, and the hash of its file."""

    footer: Footer
    sha256: Sha256


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
