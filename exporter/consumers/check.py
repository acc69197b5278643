"""Does a published folder score the same in the libraries that are expected to load it?

Most failures in the field are in the folder, not in the graph: a file that one library wants and nobody wrote, a tokenizer's
file that cuts pairs at 128 tokens, token types that are dropped, a sigmoid applied twice. So each library loads a copy of the
folder as its documentation shows, in a process of its own, scores the same pairs, and is held in logits against our own scores of
the same file. Ours are taken at the engine's own defaults, as everybody else's are; our runtime, which sets the engine otherwise,
has a row of its own. What a library applies to the logits and what it loses is found from its scores, not taken from its
documentation.

Pairs are scored one by one on both sides: a score of dynamic int8 depends on the company it is computed in, which is measured
elsewhere (`BatchInvariance`) and is nobody's mistake here.

How each library is loaded stands in `loaders.py`.
"""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from exporter import worker
from exporter.artifact.files import FLAT, REPORT, list_files
from exporter.artifact.manifest import Manifest, read_manifest, write_manifest
from exporter.consumers.diagnose import Bound, Scores, bound_of, losses, undo_activation
from exporter.consumers.probe import LONG, RULE, Probe, pick_pairs
from exporter.consumers.tei import tei_problems
from exporter.errors import RecipeError
from exporter.export.source import WEIGHTS
from exporter.libraries.consumers import CONSUMERS, Consumer, copy_published, score_with
from exporter.machine import Machine, this_machine
from exporter.measure.workspace import bars_of, recipe_of
from exporter.pairs import load_pair_sets
from exporter.recipe.schema import Recipe
from exporter.report.report import Report, read_report
from exporter.report.table import Table, md_table
from exporter.runtime import PairTokenizer
from exporter.runtime.model_file import check_artifact
from exporter.worker.job import ArtifactSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from exporter.artifact.manifest import VariantEntry
    from exporter.context import Context
    from exporter.pairs import PairSet
    from exporter.progress import Progress
    from exporter.runtime.engine import Numerics

# `loses`: it differs as it does with any folder, and is known to. `keeps its rules`: judged from its sources, not scored.
ConsumerOutcome = Literal["agrees", "loses", "differs", "fails", "keeps its rules", "not run"]

CONSUMERS_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class ConsumerRow:
    """What one consumer made of one file.

    `max_abs_diff` is in logits and over the pairs that can be compared: `n_incomparable` of them came through a sigmoid so near
    to 1 that float32 does not hold the logit to within the bound. `activation` is what the consumer applied, `loses` what its
    scores show to be missing. `why` says why it was not run, or what is wrong.
    """

    consumer: str
    version: str | None
    kind: str
    file: str
    outcome: ConsumerOutcome
    bound: float | None
    bound_why: str
    max_abs_diff: float | None
    pearson: float | None
    activation: str
    n_incomparable: int
    loses: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class ConsumerReport:
    """Every consumer's row; `n_long` of the pairs have over 128 tokens, `n_truncated` more than the model reads."""

    schema: int
    name: str
    started_at: str
    machine: Machine
    rule: str
    n_pairs: int
    n_long: int
    n_truncated: int
    rows: tuple[ConsumerRow, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """A line for each consumer that scores wrongly or cannot load; not being installed is none."""
        wrong = [row for row in self.rows if row.outcome in ("differs", "fails")]
        return tuple(f"{row.consumer}, {row.file}: {row.outcome}: {row.why}" for row in wrong)


def check_consumers(
    folder: Path,
    manifest: Manifest,
    pair_set: PairSet,
    progress: Progress,
    *,
    started_at: str,
    only: Sequence[str] = (),
    effects: Mapping[str, float] | None = None,
) -> ConsumerReport:
    """Let every consumer load a copy of a published folder, and compare its scores with ours.

    Args:
        folder: the published folder, or one staged to become it; its files were checked against `manifest`.
        manifest: its manifest, or the one it is to get.
        pair_set: the artifact's verify set.
        progress: told how many consumers are done.
        started_at: now, ISO 8601 in UTC.
        only: names of consumers, by default all.
        effects: by kind, what company does to a pair's score in logits, as measured (`BatchInvariance.max_delta`).

    Raises:
        RecipeError: `only` names no consumer.
        BackendError: our own runtime cannot score, or the disk refuses.
    """
    if unknown := [name for name in only if name not in CONSUMERS]:
        raise RecipeError(f"{unknown[0]!r} is no consumer; they are {', '.join(CONSUMERS)}")
    count = PairTokenizer.load(folder, manifest).count_untruncated
    probe = pick_pairs(pair_set, count, manifest.max_length)
    rows: list[ConsumerRow] = []
    with (
        progress.stage("consumers", len(only or CONSUMERS)) as step,
        tempfile.TemporaryDirectory(prefix="exporter-") as scratch,
    ):
        ours = _Ours(folder, manifest, probe, Path(scratch))
        if not only:
            rows += [
                _ourselves(entry, ours, effects or {})
                for entry in manifest.variants
                if entry.traits.engine == "onnxruntime"
            ]
        for done, name in enumerate(only or CONSUMERS, 1):
            rows += _checked(CONSUMERS[name], folder, manifest, ours, effects or {})
            step(done)
    return ConsumerReport(
        schema=CONSUMERS_SCHEMA,
        name=manifest.name,
        started_at=started_at,
        machine=this_machine(),
        rule=RULE,
        n_pairs=len(probe.pairs),
        n_long=int((probe.n_tokens > LONG).sum()),
        n_truncated=int((probe.n_tokens > probe.max_length).sum()),
        rows=tuple(rows),
    )


def _checked(
    consumer: Consumer, folder: Path, manifest: Manifest, ours: _Ours, effects: Mapping[str, float]
) -> Iterator[ConsumerRow]:
    """Give a consumer's rows: one per file it can load."""
    if consumer.engine == "rules":
        yield _by_rules(consumer, folder, manifest)
        return
    files = {file: kind for file in consumer.files(manifest) if (kind := _kind_of(manifest, file))}
    if not files:
        return
    if (lacking := consumer.lacking) is not None:
        yield _not_run(consumer, "", "", "not run", lacking)
        return
    found = score_with(consumer, folder, tuple(files), ours.probe.pairs, manifest.max_length)
    for file, kind in files.items():
        theirs = found[file]
        if isinstance(theirs, str):
            yield _not_run(consumer, kind, file, "fails", theirs)
        else:
            entry = manifest.variant(kind)
            yield replace(
                _compared(
                    consumer, entry, theirs, ours, bound_of(consumer.engine, entry.traits, effects.get(kind))
                ),
                file=file,
            )


def _ourselves(entry: VariantEntry, ours: _Ours, effects: Mapping[str, float]) -> ConsumerRow:
    """Say how far our runtime is from the engine's own defaults, at which everybody else loads the file."""
    runtime = Consumer("exporter", "exporter", "another onnxruntime", "", lambda _: (entry.model,), None)
    bound = bound_of("ours", entry.traits, effects.get(entry.kind))
    return _compared(runtime, entry, ours.scores(entry.kind, "pinned").tolist(), ours, bound)


def _by_rules(consumer: Consumer, folder: Path, manifest: Manifest) -> ConsumerRow:
    """Judge text-embeddings-inference by the rules in its sources; a folder without the file it opens is not meant for it."""
    if not (folder / FLAT).is_file():
        return _not_run(
            consumer, "", "", "not run", f"it opens {FLAT} only; publish one variant with --profile flat"
        )
    problems = tei_problems(folder)
    outcome: ConsumerOutcome = "fails" if problems else "keeps its rules"
    return _not_run(
        consumer,
        _kind_of(manifest, FLAT) or "",
        FLAT,
        outcome,
        "; ".join(problems) or "the program was not run",
    )


def _not_run(consumer: Consumer, kind: str, file: str, outcome: ConsumerOutcome, why: str) -> ConsumerRow:
    return ConsumerRow(
        consumer.name, consumer.version, kind, file, outcome, None, "", None, None, "", 0, (), why
    )


def _kind_of(manifest: Manifest, file: str) -> str | None:
    """Name the variant a file is, also under a second name; the reference's weights are compared with the exact export."""
    if file == WEIGHTS:
        return next((entry.kind for entry in manifest.variants if entry.kind == "onnx"), None)
    hashes = {listed.path: listed.sha256 for listed in manifest.files}
    if file not in hashes:
        return None
    return next((entry.kind for entry in manifest.variants if hashes.get(entry.model) == hashes[file]), None)


# --- our own scores ---


class _Ours:
    """Our own scores of the probe's pairs, each pair alone; computed when first asked for."""

    def __init__(self, folder: Path, manifest: Manifest, probe: Probe, scratch: Path) -> None:
        self.probe = probe
        self._manifest = manifest
        self._folders = {False: scratch / "ours", True: scratch / "typeless"}
        self._known: dict[tuple[str, Numerics, bool], Scores] = {}
        for copy in self._folders.values():
            copy_published(folder, copy)
        self._has_typeless = _drop_types(self._folders[True] / "tokenizer.json")
        for copy in self._folders.values():  # a staged folder may have no manifest yet
            write_manifest(replace(manifest, files=list_files(copy)), copy)

    def scores(self, kind: str, numerics: Numerics) -> Scores:
        """Give a variant's, float64[n_pairs], raw logits."""
        return self._scored(kind, numerics, typeless=False)

    def typeless_scores(self, kind: str, numerics: Numerics) -> Scores | None:
        """Give them with every token's type 0, as a consumer that drops the types has them; None where that cannot be had."""
        if not self._has_typeless or "token_type_ids" not in self._manifest.variant(kind).inputs:
            return None
        return self._scored(kind, numerics, typeless=True)

    def _scored(self, kind: str, numerics: Numerics, *, typeless: bool) -> Scores:
        key = (kind, numerics, typeless)
        if key not in self._known:
            # A budget of one token: every pair is a batch of its own.
            n_cores = this_machine().n_cores
            spec = ArtifactSpec(str(self._folders[typeless]), kind, 1, n_cores, 1, numerics=numerics)
            scores = worker.score(spec, self.probe.pairs)
            self._known[key] = scores.astype(np.float64)
        return self._known[key]


def _drop_types(path: Path) -> bool:
    """Make a tokenizer give every token type 0; false where its file does not say which types it gives."""
    content = json.loads(path.read_bytes())
    template = (content.get("post_processor") or {}).get("pair")
    if not isinstance(template, list):
        return False
    for part in template:
        for piece in part.values():
            piece["type_id"] = 0
    path.write_text(json.dumps(content), encoding="utf-8")
    return True


def _compared(
    consumer: Consumer, entry: VariantEntry, theirs: Sequence[float], ours: _Ours, bound: Bound
) -> ConsumerRow:
    numerics: Numerics = "pinned" if consumer.engine == "torch" else "engine-default"
    wanted = ours.scores(entry.kind, numerics)
    activation, logits, resolution = undo_activation(np.array(theirs, np.float64), wanted)
    comparable = resolution <= bound.logits
    off = ~(np.abs(logits - wanted) <= bound.logits) & comparable  # true for NaN, as it must be
    typeless = ours.typeless_scores(entry.kind, numerics)
    lost = losses(logits, wanted, typeless, ours.probe, np.where(comparable, bound.logits, np.inf))
    if activation == "two sigmoids":
        lost = ("one sigmoid too many", *lost)
    diff = float(np.abs(logits - wanted)[comparable].max()) if comparable.any() else math.nan
    outcome: ConsumerOutcome = "agrees" if comparable.any() and not off.any() and not lost else "differs"
    if lost and set(lost) <= set(consumer.own_losses):
        outcome = "loses"
    return ConsumerRow(
        consumer=consumer.name,
        version=consumer.version,
        kind=entry.kind,
        file=entry.model,
        outcome=outcome,
        bound=bound.logits,
        bound_why=bound.why,
        max_abs_diff=diff if math.isfinite(diff) else None,
        pearson=_pearson(logits[comparable], wanted[comparable]),
        activation=activation,
        n_incomparable=int((~comparable).sum()),
        loses=lost,
        why="" if outcome == "agrees" else f"{int(off.sum())} of {int(comparable.sum())} pairs are off",
    )


def _pearson(theirs: Scores, ours: Scores) -> float | None:
    if len(theirs) < 2 or not np.isfinite(theirs).all() or theirs.std() == 0 or ours.std() == 0:
        return None
    return float(np.corrcoef(theirs, ours)[0, 1])


# --- as text ---


def table(found: ConsumerReport) -> Table:
    """Give the rows for people."""
    titles = ("consumer", "version", "file", "max diff", "bound", "r", "applies", "loses", "outcome")
    return Table(titles, [_cells(row) for row in found.rows])


def _cells(row: ConsumerRow) -> tuple[str, ...]:
    return (
        row.consumer,
        row.version or "",
        row.file,
        "" if row.max_abs_diff is None else f"{row.max_abs_diff:.2g}",
        "" if row.bound is None else f"{row.bound:.2g}",
        "" if row.pearson is None else f"{row.pearson:.6f}",
        row.activation
        if not row.n_incomparable
        else f"{row.activation}, {row.n_incomparable} too near 1 to compare",
        ", ".join(row.loses),
        f"{row.outcome}: {row.why}" if row.why else row.outcome,
    )


def markdown(found: ConsumerReport) -> str:
    """Write the table and what it is made of."""
    bounds = dict.fromkeys(f"{row.bound:.2g}: {row.bound_why}" for row in found.rows if row.bound is not None)
    return "\n".join(
        [
            f"# {found.name} in the libraries that load it",
            "",
            f"{found.started_at}, {found.machine.cpu}, {found.machine.isa}. {found.n_pairs} pairs, {found.n_long} of them over "
            f"{LONG} tokens and {found.n_truncated} truncated, scored one by one; differences from our own scores of the same "
            "file, at the engine's own defaults, are in logits.",
            "",
            *md_table(*table(found)),
            "",
            f"Pairs: {found.rule}.",
            "",
            *(f"Bound {bound}.  " for bound in bounds),
        ]
    )


def consumers(folder: Path, context: Context, *, only: Sequence[str] = ()) -> ConsumerReport:
    """Load a published folder in the libraries that are expected to load it, and compare their scores with ours.

    Raises:
        RecipeError: the folder is no artifact, its pairs are gone, or there is no such consumer.
        IntegrityError: its files are not what its manifest says.
        BackendError: our own runtime cannot score.
    """
    manifest = read_manifest(folder)
    check_artifact(manifest, folder)
    recipe = recipe_of(manifest, folder)
    pair_set, _ = load_pair_sets(recipe)
    report = read_report(folder, manifest) if (folder / REPORT).is_file() else None
    effects = batch_tolerances(recipe, report)
    return check_consumers(
        folder,
        manifest,
        pair_set,
        context.progress,
        started_at=context.started_at,
        only=only,
        effects=effects,
    )


def batch_tolerances(recipe: Recipe, report: Report | None) -> dict[str, float]:
    """Say by kind what company may do to a score, in logits: as measured, or, where nothing was, up to the recipe's bar."""
    bars = {
        kind: bars.max_batch_delta
        for kind, bars in bars_of(recipe).items()
        if bars.max_batch_delta is not None
    }
    return bars | {row.kind: row.fidelity.batches.max_delta for row in (report.variants if report else ())}
