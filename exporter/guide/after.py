"""What follows a verdict: which variant to deploy, what would help the others, and what that rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.advice import Commands, Tip, advice, deploy
from exporter.advice.accuracy import ACCURACY
from exporter.artifact.access import read_whole
from exporter.artifact.manifest import read_manifest
from exporter.errors import ExporterError
from exporter.export.product_error import ProductError
from exporter.measure.product_error import found_errors, has_products, measure_errors
from exporter.measure.workspace import bars_of, open_artifact, recipe_of
from exporter.report.read import read_report
from exporter.report.report import Report, rejudge
from exporter.runtime.model_file import check_artifact

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from exporter.artifact.manifest import Manifest
    from exporter.cache import Cache
    from exporter.context import Context
    from exporter.measure.workspace import Workspace
    from exporter.recipe.schema import Bars


@dataclass(frozen=True, slots=True)
class After:
    """What to do after a verdict.

    Attributes:
        deploy: the fastest that passed, its figures and how to load it, a line each; empty if none passed.
        tips: what would help the variants that did not pass, in the order in which to try it.
        products: errors of int8 products by variant, the largest first, where they were measured.
        rebuild: what to type after a change of the recipe or its pairs.
    """

    deploy: tuple[str, ...]
    tips: tuple[Tip, ...]
    products: Mapping[str, tuple[ProductError, ...]]
    rebuild: str


def after(
    report: Report,
    folder: Path,
    kept: Cache,
    commands: Commands | None = None,
    judged_by: Mapping[str, Bars] | None = None,
) -> After:
    """Return what to do after a verdict, from what is measured already; nothing is run.

    Args:
        report: the artifact's.
        folder: the artifact.
        kept: the user's cache, which may have errors of products.
        commands: what to type; by default the recipe is not known.
        judged_by: the bars that the report was judged by, where they are not its recipe's.

    Raises:
        RecipeError, IntegrityError: the folder is no artifact, or its manifest's recipe is none.
        BackendError: others could write into the cache.
    """
    manifest = read_manifest(folder)
    products = {
        entry.kind: found
        for entry in manifest.variants
        if has_products(entry) and (found := found_errors(manifest, entry, kept))
    }
    return _after(report, manifest, folder, products, commands, judged_by=judged_by)


def advise(folder: Path, context: Context, commands: Commands | None = None) -> After:
    """Return what to do with a verified artifact, after measuring the errors of its int8 products.

    Args:
        folder: the artifact.
        context: told what goes on; its cache keeps what is measured.
        commands: what to type; by default the recipe is not known.

    Raises:
        RecipeError: the folder is no artifact, was not verified, or its model or pairs are gone.
        IntegrityError: files, manifest, report or model are not what they were.
        BackendError, BackendMissing: a worker or a library fails, or is missing.
    """
    report = read_whole(folder, lambda: _report(folder))
    manifest = read_manifest(folder)
    entries = [entry for entry in manifest.variants if has_products(entry)]
    products = {}
    if entries:
        workspace = open_artifact(folder, context)
        products = {entry.kind: measure_errors(workspace, entry, context, make=True) for entry in entries}
    return _after(report, manifest, folder, products, commands)


def look_into(workspace: Workspace, report: Report, context: Context) -> None:
    """Measure the products of ONNX int8 variants that are too far from PyTorch, for `after` to find.

    Only where the fp32 graph is in the cache, as it is after a build; that it fails is told, and no more: the
    verdict stands without it.
    """
    missed = {
        row.kind
        for row in report.variants
        if any(check.outcome == "fail" and check.name in ACCURACY for check in row.checks)
    }
    for entry in workspace.manifest.variants:
        if entry.kind in missed and has_products(entry):
            try:
                measure_errors(workspace, entry, context)
            except ExporterError as error:
                context.progress.note(f"{entry.kind}: error per product was not measured: {error}")


def _report(folder: Path) -> Report:
    manifest = read_manifest(folder)
    check_artifact(manifest, folder)
    recipe = recipe_of(manifest, folder)
    return rejudge(read_report(folder, manifest), bars_of(recipe))


def _after(
    report: Report,
    manifest: Manifest,
    folder: Path,
    products: Mapping[str, tuple[ProductError, ...]],
    commands: Commands | None,
    *,
    judged_by: Mapping[str, Bars] | None = None,
) -> After:
    recipe = recipe_of(manifest, folder)
    commands = commands or Commands(str(folder))
    tips = advice(report, recipe, products=products, commands=commands, judged_by=judged_by)
    lines = deploy(report, str(folder))
    if lines and report.verdict != "pass" and judged_by is None:
        lines += (f"  Without what did not pass: {commands.of('publish', 'PLACE')}",)
    return After(lines, tips, products, commands.rebuild)
