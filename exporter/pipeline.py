"""The story in one file: recipe → build → verify → gate → publish, each one call."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.artifact.access import changing, read_whole, steady
from exporter.artifact.cpus import fits, runs_on, why_not_judged
from exporter.artifact.files import ATTESTATION, REPORT, machine_reports, write_together
from exporter.artifact.manifest import read_manifest
from exporter.artifact.names import AT
from exporter.artifact.plans import no_plans, read_plans, write_plans
from exporter.artifact.staging import reserved, stage
from exporter.context import Context
from exporter.errors import BackendError, NoVerdict, RecipeError
from exporter.export.build import build_artifact, is_current, pair_entries
from exporter.gate import judge_all, unsettled
from exporter.guide.after import look_into
from exporter.invocation import command
from exporter.machine import this_machine
from exporter.measure.expected import expected
from exporter.measure.run import measure
from exporter.measure.settings import MeasureSettings
from exporter.measure.tune import with_plans
from exporter.measure.workspace import bars_of, open_artifact, recipe_of
from exporter.packages import require
from exporter.preflight import Ready, check
from exporter.publish.folder import Publication, passed_kinds, staged_publication
from exporter.publish.signature import sign
from exporter.recipe.kinds import KINDS
from exporter.recipe.schema import Recipe, isa_of
from exporter.remote.send import destination, send
from exporter.report.adopt import adopt
from exporter.report.machines import Reports
from exporter.report.read import other_reports, read_report, read_reports
from exporter.report.report import Report, assemble, rejudge, why_stale
from exporter.report.write import is_complete, report_files
from exporter.runtime.model_file import check_artifact

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.artifact.manifest import Manifest
    from exporter.artifact.plans import Plans
    from exporter.duration import Expected
    from exporter.export.source import Source
    from exporter.measure.run import Measurements
    from exporter.measure.workspace import Workspace
    from exporter.pairs import PairSet
    from exporter.recipe.schema import Bars
    from exporter.remote.difference import Sent


@dataclass(frozen=True, slots=True)
class Published:
    """What was delivered.

    `left` are the kinds that did not pass or were not asked for; `left_out` names what the published report
    lacks, such as texts.
    """

    sent: Sent
    left: tuple[str, ...]
    left_out: tuple[str, ...]


def export(
    recipe: Recipe,
    out: Path,
    context: Context | None = None,
    settings: MeasureSettings | None = None,
    *,
    replace_old: bool = False,
) -> Report:
    """Build a recipe's artifact, verify it and judge it: the main job. What is unchanged is reused.

    A report without a verdict is not: it is measured again.

    Args:
        recipe: what to build.
        out: the folder that holds artifacts.
        context: told what goes on; by default nobody is, and the user's cache is used.
        settings: how much is measured, and for how long.
        replace_old: build again over an artifact of the same name that differs.

    Raises:
        ExporterError: see `build` and `verify`.
    """
    context = context or Context()
    ready = check(recipe, out, context, replace_old=replace_old)
    _announce(ready, context, settings, judged=True)
    folder = _built(ready, out, context, settings, replace_old=replace_old)
    if (folder / REPORT).is_file():
        machine, (reports, _) = this_machine(), _gated(folder)
        report = reports.of(machine) or reports.newest
        why = why_stale(report, machine)
        if report.recipe_digest != recipe.digest:
            why = f"the report of {report.started_at} was measured otherwise than the recipe asks now"
        if why is None:
            again = f"`{command('verify', folder)}` measures again"
            context.progress.note(f"verify: report of {report.started_at} reused; {again}")
            return report
        context.progress.note(f"verify: {why}; measuring again")
    report = verify(folder, context, settings)
    _check_recipe(report.recipe_digest, recipe, folder)
    return report


def _check_recipe(digest: str, recipe: Recipe, folder: Path) -> None:
    """Check that nobody put another recipe's artifact in the place of the one that was built."""
    if digest != recipe.digest:
        raise NoVerdict(f"{folder} was replaced by another run, with another recipe; run this one again")


def build(
    recipe: Recipe,
    out: Path,
    context: Context | None = None,
    settings: MeasureSettings | None = None,
    *,
    replace_old: bool = False,
) -> Path:
    """Build a recipe's artifact folder, every variant with its best plan on this machine; nothing is judged.

    Args:
        recipe: what to build.
        out: the folder that holds artifacts.
        context: told what goes on; by default nobody is, and the user's cache is used.
        settings: which plans are tried.
        replace_old: build again over an artifact of the same name that differs.

    Returns:
        The artifact's folder, `out/NAME`.

    Raises:
        RecipeError: the recipe cannot be carried out, or another artifact of this name exists.
        BackendError: a library, the hub or the disk failed.
        BackendMissing: a package is missing.
        IntegrityError: an artifact of this recipe exists, and its files were changed.
    """
    context = context or Context()
    ready = check(recipe, out, context, replace_old=replace_old, judged=False)
    _announce(ready, context, settings, judged=False)
    return _built(ready, out, context, settings, replace_old=replace_old)


def _announce(ready: Ready, context: Context, settings: MeasureSettings | None, *, judged: bool) -> None:
    """Tell which stages a build has, and its measurement; of an artifact that is there `verify` tells."""
    if not ready.reusable:
        to_come = stages(ready.recipe, ready.source, ready.verify_set, context, settings, judged=judged)
        context.expect(to_come)


def stages(
    recipe: Recipe,
    source: Source,
    verify_set: PairSet,
    context: Context,
    settings: MeasureSettings | None = None,
    *,
    judged: bool = True,
) -> Expected:
    """Return the stages of building a recipe on this machine, and of measuring it where it is judged."""
    machine = this_machine()
    variants = recipe.by_id
    runnable = [
        name
        for name, one in variants.items()
        if runs_on(KINDS[one.kind].traits, machine)
        and (AT not in name or fits(isa_of(one) or machine.isa, machine.isa))
    ]
    return expected(
        recipe,
        source,
        verify_set,
        context,
        settings,
        built=tuple(variants),
        swept=runnable,
        measured=runnable if judged else (),
    )


def _built(
    ready: Ready, out: Path, context: Context, settings: MeasureSettings | None, *, replace_old: bool
) -> Path:
    """Return the folder of an artifact that is there already, or build it."""
    recipe, final = ready.recipe, out / ready.recipe.name
    for pair_set in (ready.verify_set, ready.calibrate_set):
        if pair_set:
            context.progress.note(f"pairs {pair_set.name}: {pair_set.reading}")
    for warning in ready.warnings:
        context.progress.note(f"warning: {warning}")
    pairs = pair_entries(ready.verify_set, ready.calibrate_set)
    current = partial(is_current, final, recipe, ready.source, pairs)
    if ready.reusable:
        changed = ", ".join(adopt(recipe, final, measures=True))
        but = f", but for the recipe's {changed}, which no build depends on" if changed else ""
        context.progress.note(f"build: {final} reused, recipe, model, pairs and tools have not changed{but}")
        return final

    with ExitStack() as stack:
        place = stack.enter_context(reserved(final, context.progress.note))
        if final.exists() and not replace_old and current():
            adopt(recipe, final, measures=True)
            context.progress.note(f"build: {final} reused, another run has just built it")
            return final

        scratch = stack.enter_context(stage(place, final, replace=replace_old))
        manifest = build_artifact(
            recipe, ready.source, ready.verify_set, ready.calibrate_set, into=scratch, context=context
        )
        machine = this_machine()
        kinds = [entry.kind for entry in manifest.variants if not why_not_judged(entry, machine)]
        plans = with_plans(
            no_plans(manifest),
            kinds,
            scratch,
            ready.verify_set,
            machine=machine,
            settings=settings or MeasureSettings(),
            progress=context.progress,
        )
        write_plans(plans, scratch)
    return final


def verify(folder: Path, context: Context | None = None, settings: MeasureSettings | None = None) -> Report:
    """Measure every variant of an artifact against the PyTorch reference, judge it, and write the report.

    It takes the place of an earlier report of this machine's type; those of other types stay.

    Args:
        folder: the artifact.
        context: told what goes on; by default nobody is, and the user's cache is used.
        settings: how much is measured, and for how long.

    Raises:
        RecipeError: the folder is no artifact, or its model or pairs are gone.
        IntegrityError: its files, or its model, are not what its manifest says; or another machine's report
            is not what was written.
        BackendError: the reference or an engine fails.
        BackendMissing: a package is missing.
    """
    context = context or Context()
    require("verify")
    workspace = open_artifact(folder, context)
    _others(workspace)  # what is wrong with them shows now, not after minutes
    kinds = [entry.kind for entry in workspace.runnable]
    to_come = expected(
        workspace.recipe, workspace.source, workspace.pair_set, context, settings, measured=kinds
    )
    context.expect(to_come)
    bars, precision, root = workspace.bars, workspace.recipe.measure.precision, workspace.manifest.root
    settled = partial(unsettled, bars, precision)
    with steady(folder, root):
        measured = measure(workspace, settings or MeasureSettings(), context, settled)
    checks = judge_all(bars, measured.variants)
    report = assemble(workspace, measured, checks, context.started_at)
    _store(report, workspace, measured)
    look_into(workspace, report, context)
    return report


def _store(report: Report, workspace: Workspace, measured: Measurements) -> None:
    """Write a report, and all that is made of an artifact's reports and plans, into the artifact."""
    folder, manifest = workspace.folder, workspace.manifest

    def drawn() -> tuple[tuple[Reports, Plans], dict[str, bytes]]:
        of = Reports(report, _others(workspace)), read_plans(folder, manifest)
        return of, report_files(of[0], manifest, of[1], workspace.recipe)

    of, files = drawn()  # drawing takes seconds: not in the lock
    with changing(folder, manifest.root):
        now = Reports(report, _others(workspace)), read_plans(folder, manifest)
        _check_plans(measured, now[1], folder)
        if now != of:  # another machine's were added meanwhile
            _, files = drawn()
        write_together(folder, files)
        for name in machine_reports(folder):
            if name not in files:  # of other files than the manifest's
                (folder / name).unlink(missing_ok=True)


def _others(workspace: Workspace) -> tuple[Report, ...]:
    """Return the reports of an artifact's other machine types, judged by its recipe's bars."""
    found = other_reports(workspace.folder, workspace.manifest, workspace.machine)
    return tuple(rejudge(one, workspace.bars) for one in found)


def _check_plans(measured: Measurements, plans: Plans, folder: Path) -> None:
    """Check that the plans that were measured are those that stand in the artifact."""
    if gone := [one.kind for one in measured.variants if one.plan not in plans.of(one.kind)]:
        raise NoVerdict(
            f"{folder}: the plan of {', '.join(gone)} was changed while it was measured; verify it again"
        )


def gate(folder: Path, bars: Mapping[str, Bars] | None = None, *, here: bool = False) -> Reports:
    """Judge an artifact's stored reports again, against its recipe's bars or others; no model is run.

    There is one of each type of machine that it was verified on. By its recipe's bars, what people read is
    made again where it is missing, cut off or of another verdict.

    Args:
        folder: the artifact.
        bars: others than its recipe's.
        here: only the report of a machine like this one.

    Raises:
        RecipeError: the folder is no artifact, was not verified, or not on a machine like this one; a machine
            measured otherwise than the recipe asks by now; or the bars are for none of its variants.
        IntegrityError: files, manifest or reports are not what they were.
    """
    judged, manifest = _gated(folder, bars)
    if here:
        judged = _here(judged, folder)
    if other := [str(one.machine) for one in judged if one.recipe_digest != manifest.recipe_digest]:
        raise RecipeError(
            f"the recipe asks for another measurement than {folder} has of {'; '.join(other)}; "
            f"run `{command('verify', folder)}` there"
        )
    return judged


def _gated(folder: Path, bars: Mapping[str, Bars] | None = None) -> tuple[Reports, Manifest]:
    """Return an artifact's reports judged again, however they were measured, and its manifest."""
    judged, manifest = read_whole(folder, partial(_judged, folder, bars))
    is_delivered = (folder / ATTESTATION).exists()  # and perhaps signed: nothing in it may change
    if bars is None and not is_delivered and not is_complete(judged, manifest, folder):
        with suppress(BackendError):  # what is there stays, where it cannot be written
            _renew(judged, manifest, folder)
    return judged, manifest


def _renew(judged: Reports, manifest: Manifest, folder: Path) -> None:
    """Write reports anew, and their verdicts beside the plans, unless some were added meanwhile."""
    plans = read_plans(folder, manifest)
    files = report_files(judged, manifest, plans, recipe_of(manifest, folder))
    with changing(folder, manifest.root):
        if _rejudged(folder, manifest, None) == judged and read_plans(folder, manifest) == plans:
            write_together(folder, files)


def _judged(folder: Path, bars: Mapping[str, Bars] | None) -> tuple[Reports, Manifest]:
    manifest = read_manifest(folder)
    check_artifact(manifest, folder)
    return _rejudged(folder, manifest, bars), manifest


def _rejudged(folder: Path, manifest: Manifest, bars: Mapping[str, Bars] | None) -> Reports:
    by = bars or bars_of(recipe_of(manifest, folder))
    newest, *others = (rejudge(report, by) for report in read_reports(folder, manifest))
    return Reports(newest, tuple(others))


def _here(reports: Reports, folder: Path) -> Reports:
    """Return of an artifact's reports that of this machine's type alone."""
    machine = this_machine()
    if (found := reports.of(machine)) is None:
        others = "; ".join(str(one.machine) for one in reports)
        raise RecipeError(
            f"{folder} was not verified on a machine like this one ({machine}), only on: {others}; "
            f"run `{command('verify', folder)}` here"
        )
    return Reports(found)


def publish(
    folder: Path, address: str, context: Context | None = None, options: Publication | None = None
) -> Published:
    """Lay out what passed with its card and proof, sign and deliver it; readers see all of it or nothing.

    Args:
        folder: the artifact.
        address: a folder, `hf://org/name[@branch]`, `oci://registry/name:tag` or `s3://bucket/prefix`.
        context: told what goes on; by default nobody is.
        options: which variants, in which form, signed by whom; by default all that passed, unsigned, and
            without what tells of private pairs.

    Raises:
        GateRefused, NoVerdict: no variant passed, or one asked for did not; or another library scores
            wrongly.
        RecipeError: the address cannot be parsed, another artifact is there, or a signature is demanded.
        IntegrityError: files, manifest or report are not what they were.
        BackendError, BackendMissing: the place, the disk or a library failed.
    """
    context, options = context or Context(), options or Publication()
    place = destination(address, pull_request=options.pull_request)
    if place.kind == "dir" and Path(place.where).resolve().is_relative_to(folder.resolve()):
        raise RecipeError(f"{place.where} lies in the artifact {folder} itself; choose another folder")

    repo_id = place.where if place.kind == "hf" else None
    with ExitStack() as stack:
        reports = gate(folder)
        with steady(folder, reports.newest.manifest_root):
            manifest = read_manifest(folder)
            if recipe_of(manifest, folder).publish.signed and options.signer is None:
                raise RecipeError(
                    f"{folder}: its recipe demands a signature (publish.signed); "
                    "sign it, for example with --sign-key FILE"
                )
            kinds = passed_kinds(folder, reports, options.kinds)
            staging = staged_publication(folder, reports, kinds, options, context, repo_id=repo_id)
            staged_copy = stack.enter_context(staging)
        if options.signer:
            sign(staged_copy, options.signer, ask=options.ask)
        sent = send(
            staged_copy,
            address,
            context.progress,
            replace=options.replace,
            pull_request=options.pull_request,
        )
        left_out = read_report(staged_copy, read_manifest(staged_copy)).left_out
    left = tuple(entry.kind for entry in manifest.variants if entry.kind not in kinds)
    return Published(sent, left, left_out)
