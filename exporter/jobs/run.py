"""A whole job: cut the input, find what is done already, have the rest scored, and close with a manifest."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from exporter import __version__
from exporter.artifact.access import read_whole
from exporter.artifact.choice import choose_variant
from exporter.artifact.files import Count, Line, Sha256, sealed, to_python
from exporter.artifact.manifest import read_manifest
from exporter.artifact.plans import read_plans
from exporter.errors import BackendError, RecipeError
from exporter.jobs.body import Order, maker_of
from exporter.jobs.cursor import Cursor
from exporter.jobs.cut import check_alike, cut
from exporter.jobs.job import SCHEMA, Columns, DonePart, Job, JobPlan, Maker, OnBadRow
from exporter.jobs.parquet import check_installed, read_part
from exporter.jobs.places import found_files, opened, output_at
from exporter.jobs.processes import Processes
from exporter.jobs.schedule import Crew, Schedule
from exporter.machine import cores_allowed, this_cpu
from exporter.progress import Silent
from exporter.remote import is_remote
from exporter.runtime.folder import local_folder
from exporter.runtime.plan import choose_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from exporter.jobs.job import Part
    from exporter.jobs.places import Output
    from exporter.progress import Progress

MANIFEST = "_manifest.json"
PART_ROWS = 10_000
# Of a part's file beside its rows: what it says of itself, and Parquet's own.
_PART_BYTES = 8192
_SCORE_BYTES = 5

CrewOf: TypeAlias = "Callable[[Order, Path], AbstractContextManager[Crew]]"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user chooses; see `exporter score --help`."""

    variant: str | None = None
    columns: Columns = field(default_factory=Columns)
    part_rows: int = PART_ROWS
    on_bad_row: OnBadRow = "stop"
    any_isa: bool = False


@dataclass(frozen=True, slots=True)
class PartEntry:
    """A part of a job that is done: where it lies, whose rows it holds, and what became of them."""

    name: Line
    input: str
    first_row: Count
    n_rows: Count
    n_null: Count
    n_bad: Count
    maker: Maker
    sha256: Sha256


@dataclass(frozen=True, slots=True)
class InputEntry:
    """A file of the input."""

    name: str
    size_bytes: Count
    content: Line
    n_rows: Count


@dataclass(frozen=True, slots=True)
class JobManifest:
    """What closes a job: what scored which rows. Parts, and rows in them, are in the input's order."""

    schema: int
    version: Line
    key: Sha256
    artifact: str
    artifact_root: Sha256
    kind: Line
    plan: JobPlan
    plan_sha256: Sha256
    columns: Columns
    part_rows: Count
    on_bad_row: OnBadRow
    inputs: tuple[InputEntry, ...]
    n_rows: Count
    n_null: Count
    n_bad: Count
    makers: tuple[Maker, ...]
    parts: tuple[PartEntry, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A job that is done: its manifest, and how many of its rows this run scored."""

    manifest: JobManifest
    n_scored: int


@dataclass(frozen=True, slots=True)
class _Artifact:
    """A variant as a job names it: where it lies here, and how it is run."""

    folder: Path
    root: str
    kind: str
    plan: JobPlan
    maker: Maker


def score(
    artifact: str,
    inputs: Sequence[str],
    out: str,
    settings: Settings,
    *,
    crew_of: CrewOf,
    progress: Progress | None = None,
    watch: Callable[[int, int], None] = lambda _done, _rows: None,
) -> Outcome:
    """Score every row of the input into a folder of parts, or go on where another run was stopped.

    Args:
        artifact: a place as `Reranker.load` takes it.
        inputs: files, folders, or the same in a bucket.
        out: a folder, or a prefix in a bucket.
        settings: what is read, and how.
        crew_of: starts those who score.
        progress: told what goes on beside the rows.
        watch: called with the rows that are done, and all there are.

    Raises:
        RecipeError: the input, or what is typed, cannot be carried out; or the folder holds another job.
        IntegrityError: the artifact, or the folder, is not what it says.
        BackendError: the disk is full or refuses, or workers cannot be kept.
        BackendMissing: pyarrow is not installed, or what an address needs.
    """
    check_installed()
    progress = progress or Silent()
    found = found_files(list(inputs))
    _check_apart(inputs, out)
    output = output_at(out)
    loaded = _artifact(artifact, settings.variant)
    output.prepare()
    with output.alone():
        job = _job(artifact, loaded, found, settings, progress)
        done = _finished(output, job, progress)
        made_on = next((one.footer.maker for one in done.values()), loaded.maker)
        accepts = _same_as(made_on, any_isa=settings.any_isa)
        for one in done.values():
            if problem := accepts(one.footer.maker):
                raise RecipeError(f"{out}: {problem}")
        missing = [part for part in job.parts if part.number not in done]
        n_before = job.n_rows - sum(part.n_rows for part in missing)
        if missing:
            _check_room(output, missing, settings.columns)
            order = _order(loaded, job, out, made_on)

            def tell(n_scored: int) -> None:
                watch(n_before + n_scored, job.n_rows)

            with crew_of(order, loaded.folder) as crew:
                for part in Schedule(missing, crew, accepts, tell, progress.note).run():
                    done[part.footer.number] = part
        manifest = _manifest(job, done)
        output.write(MANIFEST, sealed(to_python(manifest)))
    return Outcome(manifest, job.n_rows - n_before)


def here(threads: int | None = None) -> CrewOf:
    """Return what starts processes of this machine: a core each.

    Args:
        threads: cores to use, by default those this process may use.
    """
    from contextlib import nullcontext

    return lambda order, _folder: nullcontext(Processes(order, threads or cores_allowed()))


def _artifact(artifact: str, variant: str | None) -> _Artifact:
    folder = local_folder(artifact, variant=variant).absolute()

    def read() -> _Artifact:
        manifest = read_manifest(folder)
        plans = read_plans(folder, manifest)
        kind = choose_variant(manifest, plans, this_cpu(), variant).entry.kind
        maker = maker_of(manifest, kind)
        plan = choose_plan(plans.of(kind), maker.isa, 1)
        return _Artifact(folder, manifest.root, kind, JobPlan(plan.token_budget), maker)

    return read_whole(folder, read)


def _job(
    artifact: str,
    loaded: _Artifact,
    found: Sequence[tuple[str, str]],
    settings: Settings,
    progress: Progress,
) -> Job:
    cuts = []
    for name, address in found:
        with progress.stage(f"read {name}") as step:
            cuts.append(cut(name, address, settings.columns, settings.part_rows, step))
    files = tuple(file for file, _ in cuts)
    check_alike(files, settings.columns)
    return Job(
        artifact,
        loaded.root,
        loaded.kind,
        loaded.plan,
        settings.columns,
        settings.part_rows,
        settings.on_bad_row,
        files,
        tuple(starts for _, starts in cuts),
    )


def _order(loaded: _Artifact, job: Job, out: str, made_on: Maker) -> Order:
    return Order(
        folder=str(loaded.folder),
        root=loaded.root,
        kind=loaded.kind,
        plan=loaded.plan,
        key=job.key,
        facts=job.facts,
        columns=job.columns,
        on_bad_row=job.on_bad_row,
        out=out if is_remote(out) else str(Path(out).absolute()),
        made_on=made_on,
    )


def _check_apart(inputs: Sequence[str], out: str) -> None:
    """Check that the output is no part of the input: its parts would be input the next time."""
    for text in inputs:
        if is_remote(text) != is_remote(out):
            continue
        above, below = _whole(text), _whole(out)
        if below == above or below.startswith(f"{above}/"):
            raise RecipeError(f"{out}: lies in the input; give a folder outside of {text}")


def _whole(text: str) -> str:
    return text.rstrip("/") if is_remote(text) else os.path.realpath(text)


def _finished(output: Output, job: Job, progress: Progress) -> dict[int, DonePart]:
    """Return the parts that are done; whatever else lies there that looks like one is refused."""
    wanted = {part.name: part for part in job.parts}
    done: dict[int, DonePart] = {}
    for name in output.names():
        if not (name.startswith("part-") and name.endswith(".parquet")):
            continue
        address = f"{output.text}/{name}"
        found = read_part(output.read(name), address)
        if found is None:
            progress.note(f"{address}: damaged, and scored again")
            continue
        if found.footer.key != job.key or name not in wanted:
            raise RecipeError(
                f"{address} is of another job, with another {_difference(found.footer.facts, job.facts)}; "
                "give another folder, or run what it was made with"
            )
        done[found.footer.number] = found
    return done


def _difference(theirs: Mapping[str, object], ours: Mapping[str, object]) -> str:
    names = [name for name in ours if theirs.get(name) != ours[name]]
    return " and ".join(f"{name}{_shown(theirs.get(name), ours[name])}" for name in names) or "content"


def _shown(theirs: object, ours: object) -> str:
    if isinstance(theirs, str) and isinstance(ours, str):
        return f" ({theirs[:12]}, this is {ours[:12]})"
    if isinstance(theirs, int) and isinstance(ours, int):
        return f" ({theirs}, this is {ours})"
    return ""


def _same_as(made_on: Maker, *, any_isa: bool) -> Callable[[Maker], str]:
    """Return what says why scores made elsewhere do not go with those of a maker."""

    def problem(maker: Maker) -> str:
        if maker == made_on or any_isa:
            return ""
        return (
            f"scores of {made_on} and of {maker} differ; go on with the same, "
            "or allow both with --any-isa: the manifest then names which rows came from which"
        )

    return problem


def _check_room(output: Output, missing: Sequence[Part], columns: Columns) -> None:
    free = output.n_free()
    if free is None:
        return
    n_bytes = sum(_PART_BYTES + _SCORE_BYTES * part.n_rows for part in missing)
    kept = {part.file.name: 0.0 for part in missing}
    if columns.keep:
        cursor = Cursor(columns, opened)
        for part in missing:
            if not kept[part.file.name]:
                chunk = next(cursor.chunks(part), None)
                n = sum(column.nbytes for column in chunk.kept) / len(chunk.pairs) if chunk else 0.0
                kept[part.file.name] = max(n, 1.0)
        n_bytes += int(sum(kept[part.file.name] * part.n_rows for part in missing))
    if n_bytes > free:
        raise BackendError(
            f"{output.text}: about {n_bytes / 1e6:.3g} MB are to be written and {free / 1e6:.3g} MB are free"
        )


def _manifest(job: Job, done: Mapping[int, DonePart]) -> JobManifest:
    footers = [done[part.number].footer for part in job.parts]
    return JobManifest(
        schema=SCHEMA,
        version=__version__,
        key=job.key,
        artifact=job.artifact,
        artifact_root=job.root,
        kind=job.kind,
        plan=job.plan,
        plan_sha256=job.plan.sha256,
        columns=job.columns,
        part_rows=job.part_rows,
        on_bad_row=job.on_bad_row,
        inputs=tuple(InputEntry(one.name, one.size_bytes, one.content, one.n_rows) for one in job.files),
        n_rows=job.n_rows,
        n_null=sum(footer.n_null for footer in footers),
        n_bad=sum(footer.n_bad for footer in footers),
        makers=tuple(dict.fromkeys(footer.maker for footer in footers)),
        parts=tuple(
            PartEntry(
                part.name,
                footer.input,
                footer.first_row,
                footer.n_rows,
                footer.n_null,
                footer.n_bad,
                footer.maker,
                done[part.number].sha256,
            )
            for part, footer in zip(job.parts, footers, strict=True)
        ),
    )
