"""The story in one file: recipe → build → verify → gate → publish, each one call."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.artifact.files import REPORT
from exporter.artifact.manifest import Manifest, read_manifest
from exporter.artifact.plans import no_plans, write_plans
from exporter.artifact.staging import staged
from exporter.consumers.check import CheckOptions, batch_tolerances, check_consumers
from exporter.consumers.report import ConsumerReport
from exporter.context import Context
from exporter.errors import RecipeError
from exporter.export.build import build_artifact, is_current, pair_entries
from exporter.export.source import find_source
from exporter.gate import judge_all, unsettled
from exporter.machine import this_machine
from exporter.measure.run import measure
from exporter.measure.settings import MeasureSettings
from exporter.measure.tune import with_plans
from exporter.measure.workspace import bars_of, open_artifact, recipe_of
from exporter.pairs import load_pair_sets
from exporter.publish.attest import LOCAL_BUILDER
from exporter.publish.folder import make_publication, passed_kinds
from exporter.publish.licence import licence_of
from exporter.publish.signature import sign
from exporter.recipe.kinds import runs_on
from exporter.recipe.schema import Recipe
from exporter.remote.send import destination, send
from exporter.report.report import Report, assemble, read_report, rejudge
from exporter.report.write import write_report
from exporter.runtime.model_file import check_artifact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from exporter.publish.layout import LayoutProfile
    from exporter.publish.signature import Signer
    from exporter.recipe.schema import Bars
    from exporter.remote.difference import Sent


@dataclass(frozen=True, slots=True)
class Published:
    """What was delivered, and the kinds left behind because they did not pass or were not asked for."""

    sent: Sent
    left: tuple[str, ...]


def export(
    recipe: Recipe,
    out: Path,
    context: Context | None = None,
    settings: MeasureSettings | None = None,
    *,
    replace_old: bool = False,
) -> Report:
    """Do the main job: build a recipe's artifact, verify it, judge it. What is there already and unchanged is reused.

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
    folder = build(recipe, out, context, settings, replace_old=replace_old)
    if (folder / REPORT).is_file():
        report = gate(folder)
        if not report.machine.differences(this_machine()):
            again = f"`exporter verify {folder}` measures again"
            context.progress.note(f"verify: report of {report.started_at} reused; {again}")
            return report
        context.progress.note("verify: the report is of another machine or other packages; measuring again")
    return verify(folder, context, settings)


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
        IntegrityError: an artifact of this recipe exists, and its files were changed.
    """
    context, final = context or Context(), out / recipe.name
    verify_set, calibrate_set = load_pair_sets(recipe)
    with context.progress.stage("model"):
        source = find_source(recipe.model, context.cache)
    pairs = pair_entries(verify_set, calibrate_set)
    if final.exists() and not replace_old and is_current(final, recipe, source, pairs):
        context.progress.note(f"build: {final} reused, recipe, model, pairs and tools have not changed")
        return final

    with staged(final, replace=replace_old) as scratch:
        manifest = build_artifact(recipe, source, verify_set, calibrate_set, into=scratch, context=context)
        machine = this_machine()
        kinds = [entry.kind for entry in manifest.variants if runs_on(entry.traits, machine)]
        plans = with_plans(
            no_plans(manifest),
            kinds,
            scratch,
            verify_set,
            machine=machine,
            settings=settings or MeasureSettings(),
            progress=context.progress,
        )
        write_plans(plans, scratch)
    return final


def verify(folder: Path, context: Context | None = None, settings: MeasureSettings | None = None) -> Report:
    """Measure every variant of an artifact against the PyTorch reference, judge it, and write the report.

    Args:
        folder: the artifact.
        context: told what goes on; by default nobody is, and the user's cache is used.
        settings: how much is measured, and for how long.

    Raises:
        RecipeError: the folder is no artifact, or its model or pairs are gone.
        IntegrityError: its files, or its model, are not what its manifest says.
        BackendError: the reference or an engine fails.
    """
    context = context or Context()
    workspace = open_artifact(folder, context)
    bars, precision = workspace.bars, workspace.recipe.measure.precision
    measured = measure(workspace, settings or MeasureSettings(), context, partial(unsettled, bars, precision))
    checks = judge_all(bars, measured.variants)
    report = assemble(workspace, measured, checks, context.started_at)
    write_report(report, folder)
    return report


def gate(folder: Path, bars: Mapping[str, Bars] | None = None) -> Report:
    """Judge an artifact's stored report again, against its recipe's bars or others; no model is run, nothing is written.

    Raises:
        RecipeError: the folder is no artifact, was not verified, or the bars are for none of its variants.
        IntegrityError: files, manifest or report are not what they were.
    """
    manifest = read_manifest(folder)
    check_artifact(manifest, folder)
    recipe = recipe_of(manifest, folder)
    return rejudge(read_report(folder, manifest), bars or bars_of(recipe))


def publish(
    folder: Path,
    address: str,
    context: Context,
    *,
    kinds: Sequence[str] = (),
    layout: LayoutProfile = "hub",
    signer: Signer | None = None,
    ask: Callable[[str], str] | None = None,
    builder: str = LOCAL_BUILDER,
    with_consumers: bool = False,
    pull_request: bool = False,
    replace_there: bool = False,
) -> Published:
    """Lay out what passed with its card and its proof, sign it, and deliver it; nothing is seen there before it is whole.

    Args:
        folder: the artifact.
        address: a folder, `hf://org/name[@branch]`, `oci://registry/name:tag` or `s3://bucket/prefix`.
        context: told what goes on.
        kinds: the variants, by default all that passed.
        layout: `hub` or `flat`.
        signer: what to sign with.
        ask: called with a prompt for a key's password.
        builder: who built it, a URI.
        with_consumers: first load the folder in other libraries, and put what comes of it into the card.
        pull_request: open a pull request on the Hub instead of committing.
        replace_there: over another artifact.

    Raises:
        GateRefused, NoVerdict: no variant passed, or one asked for did not; or another library scores wrongly.
        RecipeError: the address is none, another artifact is there, or the recipe demands a signature.
        IntegrityError: files, manifest or report are not what they were.
        BackendError, BackendMissing: the place, the disk or a library failed.
    """
    place = destination(address, pull_request=pull_request)
    if place.kind == "dir" and Path(place.where).resolve().is_relative_to(folder.resolve()):
        raise RecipeError(f"{place.where} lies in the artifact {folder} itself; choose another folder")
    report = gate(folder)
    manifest = read_manifest(folder)
    recipe = recipe_of(manifest, folder)
    if recipe.publish.signed and signer is None:
        raise RecipeError(
            f"{folder}: its recipe demands a signature (publish.signed); sign it, for example with --sign-key FILE"
        )
    chosen = passed_kinds(folder, report, kinds)

    def check(staged: Path, published: Manifest) -> ConsumerReport:
        pair_set, _ = load_pair_sets(recipe)
        options = CheckOptions(tolerances=batch_tolerances(recipe, report))
        return check_consumers(staged, published, pair_set, context, options)

    with tempfile.TemporaryDirectory(prefix="exporter-publish-") as scratch:
        staged_copy = Path(scratch, manifest.name)  # a signature holds the name of the folder it was made in
        staged_copy.mkdir()
        make_publication(
            folder,
            manifest,
            report,
            staged_copy,
            kinds=chosen,
            profile=layout,
            licence=licence_of(manifest.source),
            repo_id=place.where if place.kind == "hf" else None,
            builder=builder,
            check=check if with_consumers else None,
        )
        if signer:
            sign(staged_copy, signer, ask=ask)
        sent = send(staged_copy, address, context.progress, replace=replace_there, pull_request=pull_request)
    return Published(sent, tuple(entry.kind for entry in manifest.variants if entry.kind not in chosen))
