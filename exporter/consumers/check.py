"""Does a published folder score the same in the libraries that are expected to load it?

Most failures in the field are in the folder, not in the graph: a file that one library wants and nobody
wrote, a tokenizer's file that cuts pairs at 128 tokens, token types that are dropped, a sigmoid applied
twice. So each library loads a copy of the folder as its documentation shows, in a worker of its own for each
file, scores the same pairs, and its scores are compared in logits with our own scores of the same file. Ours
are taken at the engine's own defaults, as every library takes its own; our runtime, which sets the engine
otherwise, has a row of its own. What a library applies to the logits and what it loses is found from its
scores, not taken from its documentation.

Pairs are scored one by one on both sides: a score of dynamic int8 depends on the batch it is computed in,
which is measured elsewhere (`BatchInvariance`) and no fault of a consumer.

How each library is loaded stands in `exporter/libraries/consumers.py`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from exporter import __version__, worker
from exporter.artifact.files import FLAT, REPORT
from exporter.artifact.manifest import Manifest, read_manifest
from exporter.consumers.diagnose import Bound, Scores, bound_of, losses, undo_activation
from exporter.consumers.ours import OurScores, copy_published
from exporter.consumers.probe import LONG, RULE, pick_pairs
from exporter.consumers.report import CONSUMERS_SCHEMA, ConsumerOutcome, ConsumerReport, ConsumerRow
from exporter.consumers.tei import tei_problems
from exporter.errors import ExporterError, LimitReached, RecipeError
from exporter.export.weights import WEIGHTS
from exporter.libraries.consumers import CONSUMERS, Consumer
from exporter.machine import this_machine
from exporter.measure.workspace import bars_of, recipe_of
from exporter.pairs import load_pair_sets
from exporter.recipe.schema import Recipe
from exporter.report.read import read_reports
from exporter.report.report import Report
from exporter.runtime.model_file import check_artifact
from exporter.scratch import Scratch
from exporter.worker.job import ConsumerSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from exporter.artifact.manifest import VariantEntry
    from exporter.context import Context
    from exporter.pairs import PairSet
    from exporter.runtime.engine import Numerics


# The copy's name is always the same, so that the name of the folder itself decides nothing.
_COPY = "published"
_MAX_REASON = 300  # characters


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """Which consumers load the folder, and how exact they have to be.

    Attributes:
        only: names of consumers; empty for all of them and our own runtime.
        tolerances: allowed score change from batching, per kind, in logits; see `batch_tolerances`.
        known: the consumers by name.
    """

    only: tuple[str, ...] = ()
    tolerances: Mapping[str, float] = field(default_factory=dict)
    known: Mapping[str, Consumer] = field(default_factory=lambda: CONSUMERS)


def consumers(folder: Path, context: Context, *, only: Sequence[str] = ()) -> ConsumerReport:
    """Score pairs with a published folder in the libraries expected to load it, and compare with our scores.

    Args:
        folder: the published folder, or an artifact.
        context: told how many consumers are done.
        only: names of consumers, by default all.

    Raises:
        RecipeError: the folder is no artifact, its pairs are gone, or there is no such consumer.
        IntegrityError: its files are not what its manifest says.
        BackendError: our own runtime cannot score.
        LimitReached: within `worker.limited`, and a library took more.
    """
    manifest = read_manifest(folder)
    check_artifact(manifest, folder)
    recipe = recipe_of(manifest, folder)
    pair_set, _ = load_pair_sets(recipe)
    reports = read_reports(folder, manifest) if (folder / REPORT).is_file() else ()
    options = CheckOptions(tuple(only), batch_tolerances(recipe, reports))
    return check_consumers(folder, manifest, pair_set, context, options)


def batch_tolerances(recipe: Recipe, reports: Iterable[Report]) -> dict[str, float]:
    """Return the allowed score change from batching, per kind, in logits.

    Args:
        recipe: its bars are what is allowed where nothing was measured.
        reports: what was measured; of several machines the largest change counts.
    """
    bars = {
        kind: bars.max_batch_delta
        for kind, bars in bars_of(recipe).items()
        if bars.max_batch_delta is not None
    }
    measured: dict[str, float] = {}
    for report in reports:
        for row in report.variants:
            measured[row.kind] = max(measured.get(row.kind, 0.0), row.fidelity.batches.max_delta)
    return bars | measured


def check_consumers(
    folder: Path,
    manifest: Manifest,
    pair_set: PairSet,
    context: Context,
    options: CheckOptions | None = None,
) -> ConsumerReport:
    """Load a copy of a published folder in every consumer, and compare its scores with ours.

    Args:
        folder: the published folder, or one staged to become it; its files were checked against `manifest`.
        manifest: its manifest, or the one it is to get.
        pair_set: the artifact's verify set.
        context: told how many consumers are done.
        options: which consumers, and how exact they have to be; by default all, and as for float32.

    Raises:
        RecipeError: `options` names no consumer.
        BackendError: our own runtime cannot score, or the disk refuses.
    """
    options = options or CheckOptions()
    if unknown := [name for name in options.only if name not in options.known]:
        raise RecipeError(f"{unknown[0]!r} is no consumer; they are {', '.join(options.known)}")
    names = options.only or tuple(options.known)
    with worker.CountWorker(folder, manifest) as tokens:
        probe = pick_pairs(pair_set, tokens.count, manifest.max_length)

    rows: list[ConsumerRow] = []
    with (
        context.progress.stage("consumers", len(names)) as step,
        Scratch("check") as scratch,
    ):
        ours = OurScores(folder, manifest, probe, scratch)
        if not options.only:
            rows += [
                _own_runtime(entry, ours, options)
                for entry in manifest.variants
                if entry.traits.engine == "onnxruntime"
            ]
        for done, name in enumerate(names, 1):
            rows += _rows(options.known[name], ours, options)
            step(done)

    return ConsumerReport(
        schema=CONSUMERS_SCHEMA,
        name=manifest.name,
        started_at=context.started_at,
        machine=this_machine(),
        rule=RULE,
        n_pairs=len(probe.pairs),
        n_long=int((probe.n_tokens > LONG).sum()),
        n_truncated=int((probe.n_tokens > probe.max_length).sum()),
        rows=tuple(rows),
    )


def _own_runtime(entry: VariantEntry, ours: OurScores, options: CheckOptions) -> ConsumerRow:
    """Compare our runtime with the engine's own defaults, at which every consumer loads the file."""
    runtime = Consumer("exporter", None, "another onnxruntime", "", lambda _: (entry.model,), None)
    bound = bound_of("ours", entry.traits, options.tolerances.get(entry.kind))
    row = _compared(runtime, entry, ours.scores(entry.kind, "pinned"), ours, bound)
    return replace(row, version=__version__)


def _rows(consumer: Consumer, ours: OurScores, options: CheckOptions) -> Iterator[ConsumerRow]:
    """Return a consumer's rows: one for each file that it can load."""
    manifest = ours.manifest
    if consumer.engine == "rules":
        yield _by_rules(consumer, ours.folder, manifest)
        return
    files = {file: kind for file in consumer.files(manifest) if (kind := _kind_of(manifest, file))}
    if not files:
        return
    if (lacking := consumer.lacking) is not None:
        yield _unscored(consumer, "", "", "not run", lacking)
        return

    with Scratch("consumer") as scratch:
        copy = scratch / _COPY
        copy_published(ours.folder, copy)
        for file, kind in files.items():
            n_cores = this_machine().n_cores
            spec = ConsumerSpec(consumer.name, str(copy), file, manifest.max_length, threads=n_cores)
            yield _scored(spec, consumer, manifest.variant(kind), ours, options)


def _scored(
    spec: ConsumerSpec, consumer: Consumer, entry: VariantEntry, ours: OurScores, options: CheckOptions
) -> ConsumerRow:
    try:
        theirs = worker.score(spec, ours.probe.pairs)
    except LimitReached:
        raise
    except ExporterError as error:
        return _unscored(consumer, entry.kind, spec.file, "fails", _reason(error))

    bound = bound_of(consumer.engine, entry.traits, options.tolerances.get(entry.kind))
    return replace(_compared(consumer, entry, theirs.astype(np.float64), ours, bound), file=spec.file)


def _reason(error: ExporterError) -> str:
    """Return in one line what a library raised, or how its process ended and the last line of the log."""
    first, *log = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = re.sub("^a worker", "its process", first).removesuffix(":")
    return ": ".join([reason, *log[-1:]])[:_MAX_REASON]


def _by_rules(consumer: Consumer, folder: Path, manifest: Manifest) -> ConsumerRow:
    """Judge text-embeddings-inference by its sources; folders without the file it opens are not for it."""
    if not (folder / FLAT).is_file():
        why = f"it opens {FLAT} only; publish one variant with --profile flat"
        return _unscored(consumer, "", "", "not run", why)
    problems = tei_problems(folder)
    outcome: ConsumerOutcome = "fails" if problems else "keeps its rules"
    why = "; ".join(problems) or "the program was not run"
    return _unscored(consumer, _kind_of(manifest, FLAT) or "", FLAT, outcome, why)


def _unscored(consumer: Consumer, kind: str, file: str, outcome: ConsumerOutcome, why: str) -> ConsumerRow:
    return ConsumerRow(
        consumer=consumer.name,
        version=consumer.version,
        kind=kind,
        file=file,
        outcome=outcome,
        bound=None,
        bound_why="",
        max_abs_diff=None,
        pearson=None,
        activation="",
        n_incomparable=0,
        loses=(),
        why=why,
    )


def _kind_of(manifest: Manifest, file: str) -> str | None:
    """Return the kind of a file's variant, also under a second name; float32 ONNX for PyTorch's weights."""
    if file == WEIGHTS:
        same = (
            e.kind
            for e in manifest.variants
            if (e.traits.engine, e.traits.weights) == ("onnxruntime", "fp32")
        )
        return next(same, None)
    hashes = {listed.path: listed.sha256 for listed in manifest.files}
    if file not in hashes:
        return None
    return next((entry.kind for entry in manifest.variants if hashes.get(entry.model) == hashes[file]), None)


def _compared(
    consumer: Consumer, entry: VariantEntry, theirs: Scores, ours: OurScores, bound: Bound
) -> ConsumerRow:
    numerics: Numerics = "pinned" if consumer.engine == "torch" else "engine-default"
    wanted = ours.scores(entry.kind, numerics)
    activation, logits, resolution = undo_activation(theirs, wanted)
    comparable = resolution <= bound.logits
    off = ~(np.abs(logits - wanted) <= bound.logits) & comparable  # true for NaN, as it must be

    typeless = ours.typeless_scores(entry.kind, numerics)
    lost = losses(logits, wanted, typeless, ours.probe, np.where(comparable, bound.logits, np.inf))
    if activation == "two sigmoids":
        lost = ("one sigmoid too many", *lost)
    outcome: ConsumerOutcome = "agrees" if comparable.any() and not off.any() and not lost else "differs"
    if lost and set(lost) <= set(consumer.own_losses):
        outcome = "loses"

    diff = float(np.abs(logits - wanted)[comparable].max()) if comparable.any() else math.nan
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
