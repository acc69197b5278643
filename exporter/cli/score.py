"""The commands that use an artifact: score files of pairs, and rank passages for a query."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from exporter.cli.options import AsJson
from exporter.cli.screen import Terminal, say, show, tell_row
from exporter.duration import in_words
from exporter.errors import RecipeError
from exporter.escape import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from exporter.jobs.job import Columns, OnBadRow
    from exporter.jobs.run import CrewOf, JobManifest, Outcome, Settings

_STREAM = "-"
_STREAMS = "`-` is standard input and output as JSON lines; give it for both, INPUT and OUT"
_SAY_EVERY_S = 30.0

Where = Annotated[
    str,
    typer.Argument(
        metavar="ARTIFACT",
        help="An artifact: a folder, or hf://, oci:// or s3://.",
        show_default=False,
    ),
]
Variant = Annotated[
    str | None,
    typer.Option(
        metavar="KIND", help="Which kind, by default the best one for this CPU.", show_default=False
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(metavar="N", help="Cores to use, by default all allowed.", min=1, show_default=False),
]
PassageColumn = Annotated[str, typer.Option(metavar="NAME", help="The column with the passage.")]


def score(
    artifact: Where,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Files of rows (.parquet, .jsonl, .tsv, .csv; .gz), or a folder of them; s3:// too; or -",
            show_default=False,
        ),
    ],
    out: Annotated[
        str,
        typer.Argument(
            metavar="OUT", help="A folder for the scores, or s3://bucket/prefix; or -", show_default=False
        ),
    ],
    *,
    query_column: Annotated[str, typer.Option(metavar="NAME", help="The column with the query.")] = "query",
    passage_column: PassageColumn = "passage",
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Carry this column over; may be repeated.", show_default=False),
    ] = None,
    score_column: Annotated[str, typer.Option(metavar="NAME", help="What to call the scores.")] = "score",
    part_rows: Annotated[
        int, typer.Option(metavar="N", help="Rows that are scored and written together.", min=1)
    ] = 10_000,
    on_bad_row: Annotated[
        str,
        typer.Option(metavar="stop|skip", help="A row that cannot be read: stop, or give it no score."),
    ] = "stop",
    variant: Variant = None,
    threads: Threads = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Score on a Ray cluster, HOST:PORT or auto; its nodes need exporter, INPUT and OUT.",
            show_default=False,
        ),
    ] = None,
    any_isa: Annotated[
        bool, typer.Option("--any-isa", help="Allow scores of several instruction sets in one job.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Score files of pairs, in parts: run again, it goes on where it was stopped.

    Rows come out in the input's order, one score a row; a row without a query or passage gets null.
    """
    settings = _settings(
        variant=variant,
        columns=_columns(query_column, passage_column, keep or [], score_column),
        part_rows=part_rows,
        on_bad_row=on_bad_row,
        any_isa=any_isa,
    )
    if _STREAM in inputs or out == _STREAM:
        if [*inputs, out] != [_STREAM, _STREAM]:
            raise RecipeError(_STREAMS)
        if ray is not None:
            raise RecipeError("--ray scores files into a folder; `-` is scored here")
        _stream(artifact, settings, threads)
        return
    from exporter.jobs.run import score as score_job

    with Terminal() as terminal, _rate(terminal) as watch:
        found = score_job(
            artifact,
            inputs,
            out,
            settings,
            crew_of=_crew_of(ray, threads),
            progress=terminal,
            watch=watch,
        )
    show(found.manifest, _summary(found, out), as_json=as_json)


def _settings(
    *, variant: str | None, columns: Columns, part_rows: int, on_bad_row: str, any_isa: bool
) -> Settings:
    from exporter.jobs.run import Settings

    if on_bad_row not in ("stop", "skip"):
        raise RecipeError(f"--on-bad-row {on_bad_row!r}: wanted stop or skip")
    answer: OnBadRow = "skip" if on_bad_row == "skip" else "stop"
    return Settings(variant, columns, part_rows, answer, any_isa)


def _columns(query: str, passage: str, keep: Sequence[str], score_name: str) -> Columns:
    from exporter.jobs.job import Columns

    if score_name in keep:
        raise RecipeError(
            f"--keep {score_name}: the scores have this name; call them something else with --score-column"
        )
    if twice := next((name for name in keep if keep.count(name) > 1), None):
        raise RecipeError(f"--keep {twice}: stands there twice")
    if query == passage:
        raise RecipeError(f"--query-column and --passage-column are both {query!r}")
    return Columns(query, passage, tuple(keep), score_name)


def _crew_of(ray: str | None, threads: int | None) -> CrewOf:
    if ray is None:
        from exporter.jobs.run import here

        return here(threads)
    from exporter.jobs.cluster import cluster

    return cluster(ray, threads)


def _stream(artifact: str, settings: Settings, threads: int | None) -> None:
    from exporter.jobs.stream import Counts, scored_lines, text_of_lines
    from exporter.runtime import Reranker

    reranker = Reranker.load(artifact, settings.variant, threads=threads)
    counts = Counts()
    lines = text_of_lines(sys.stdin.buffer)
    for i, line in enumerate(scored_lines(reranker, lines, settings.columns, settings.on_bad_row, counts), 1):
        tell_row(line)
        if i % 1024 == 0:
            sys.stdout.flush()
            if getattr(sys.stdout, "error", None) is not None:  # nobody reads any more
                return
    say(_counted(counts.n_rows, counts.n_null, counts.n_bad))


def _summary(found: Outcome, out: str) -> str:
    manifest: JobManifest = found.manifest
    makers = " and ".join(map(str, manifest.makers)) or "nothing"
    before = manifest.n_rows - found.n_scored
    n_parts = "1 part" if len(manifest.parts) == 1 else f"{len(manifest.parts)} parts"
    earlier = f", {before} of them by an earlier run" if before else ""
    return (
        f"{_counted(manifest.n_rows, manifest.n_null, manifest.n_bad)}{earlier}\n"
        f"{out}: {n_parts} by {manifest.kind} of {manifest.artifact_root[:12]} on {makers}"
    )


def _counted(n_rows: int, n_null: int, n_bad: int) -> str:
    null = f", {n_null} without a query or passage" if n_null else ""
    bad = f", {n_bad} that could not be read" if n_bad else ""
    return f"{n_rows} rows{null}{bad}"


@contextmanager
def _rate(terminal: Terminal) -> Iterator[Callable[[int, int], None]]:
    """Yield what says how far a job is, how fast, and for how long: now and then, or a bar on a terminal."""
    started = said = time.monotonic()
    first: int | None = None
    step: Callable[[int], None] | None = None
    with ExitStack() as stages:

        def watch(n_done: int, n_rows: int) -> None:
            nonlocal started, first, step, said
            if first is None or step is None:
                step = stages.enter_context(terminal.stage("score", n_rows))
                first, started = n_done, time.monotonic()
            step(n_done)
            now = time.monotonic()
            rate = (n_done - first) / max(now - started, 1e-9)
            if rate and now - said >= _SAY_EVERY_S:
                said = now
                left = in_words((n_rows - n_done) / rate)
                terminal.note(f"{n_done} of {n_rows} rows, {rate:.0f} pairs/s, about {left} left")

        yield watch


def rank(
    artifact: Where,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="The query.", show_default=False)],
    *,
    top_k: Annotated[
        int | None, typer.Option(metavar="K", help="How many to print, by default all.", min=1)
    ] = None,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Lines are JSON: strings, or objects with a passage.")
    ] = False,
    passage_column: PassageColumn = "passage",
    variant: Variant = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Rank the passages on standard input for a query, one a line, best first.

    Prints the score, the number of the passage among those given, from 0, and its text.
    """
    from exporter.jobs.stream import passages_of, text_of_lines
    from exporter.runtime import Reranker

    if sys.stdin is None or sys.stdin.isatty():
        raise RecipeError("the passages are read from standard input: exporter rank ARTIFACT QUERY < FILE")
    passages = list(passages_of(text_of_lines(sys.stdin.buffer), passage_column if jsonl else None))
    reranker = Reranker.load(artifact, variant, threads=threads)
    found = reranker.rank(query, passages, top_k, return_documents=True)
    lines = [f"{row['score']:9.4f}  {row['corpus_id']:>6}  {one_line(row['text'])}" for row in found]
    show(found, *lines, as_json=as_json)
