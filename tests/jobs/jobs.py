"""Jobs for tests: the kilobyte artifact, inputs, and a crew of one worker in this process."""

from __future__ import annotations

import json
from collections import deque
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from exporter.errors import ExporterError
from exporter.jobs.body import Body, Order
from exporter.jobs.run import Outcome, Settings, score
from exporter.jobs.schedule import Done, Failed, Ready

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.jobs.job import Part
    from exporter.jobs.schedule import Event

WORDS = ("a", "b", "c", "d")


def rows(n: int) -> list[dict[str, object]]:
    """Rows of a few words each, with an id."""
    return [
        {"id": f"row{i}", "query": WORDS[i % 4], "passage": " ".join(WORDS[: 1 + i % 3])} for i in range(n)
    ]


def write_jsonl(path: Path, found: Sequence[object]) -> Path:
    """Write one object a line; a text is a line as it is."""
    lines = (row if isinstance(row, str) else json.dumps(row) for row in found)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def parts(out: Path) -> dict[str, bytes]:
    """The content of every part, by name."""
    return {path.name: path.read_bytes() for path in sorted(out.glob("part-*.parquet"))}


def table(out: Path) -> pa.Table:
    """All parts, in order."""
    return pa.concat_tables([pq.read_table(path) for path in sorted(out.glob("part-*.parquet"))])


class Solo:
    """A crew of one worker, which works while events are waited for."""

    size, doubles = 1, False

    def __init__(self, order: Order, folder: Path) -> None:
        self.name = "solo"
        self._body = Body(order, folder)
        self._parts: deque[Part] = deque()
        self._is_new = True

    def hire(self) -> Solo:
        return self

    def give(self, part: Part) -> None:
        self._parts.append(part)

    def stop(self) -> None:
        self._parts.clear()

    def events(self, timeout_s: float) -> list[tuple[Solo, Event]]:
        if self._is_new:
            self._is_new = False
            return [(self, Ready(self._body.maker))]
        try:
            return [(self, Done(self._body.score(self._parts.popleft(), lambda _n: None)))]
        except ExporterError as error:
            return [(self, Failed(error))]


def run(artifact: Path, source: Path | str, out: Path | str, settings: Settings | None = None) -> Outcome:
    """Score in this process."""
    return score(
        str(artifact),
        [str(source)],
        str(out),
        settings or Settings(),
        crew_of=lambda order, folder: nullcontext(Solo(order, folder)),
    )
