"""Have an artifact measured and judged by its recipe as it is now: bars are edited more often than built."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.artifact.access import changing, read_whole
from exporter.artifact.files import ATTESTATION, MANIFEST, REPORT, sealed, to_python, write_together
from exporter.artifact.manifest import read_manifest
from exporter.artifact.plans import read_plans
from exporter.errors import BackendMissing, RecipeError
from exporter.invocation import command
from exporter.measure.workspace import bars_of, recipe_of
from exporter.recipe.difference import differences
from exporter.report.machines import Reports
from exporter.report.read import read_reports
from exporter.report.report import rejudge
from exporter.report.write import data_files, report_files

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.artifact.manifest import Manifest
    from exporter.recipe.schema import Recipe


def adopt(recipe: Recipe, folder: Path, *, measures: bool, named: Path | None = None) -> tuple[str, ...]:
    """Record a recipe's bars, `reference`, `measure` and `publish` in the artifact that was built from it.

    The manifest then holds the recipe as it is now; its files, and the root that stands for them, stay. Every
    machine's report is judged again; one that was measured otherwise than the recipe asks keeps its recipe's
    digest.

    Args:
        recipe: as it is now.
        folder: the artifact.
        measures: whether the caller measures again; else a report that was measured otherwise is refused.
        named: the recipe's file, for what to type.

    Returns:
        The keys that changed; none where the artifact holds this recipe already.

    Raises:
        RecipeError: the folder is no artifact, or the recipe asks for another build, or for another
            measurement than the report holds; or it is a published copy, which stays as it is.
        IntegrityError: its files are not what they were.
        BackendError: the disk refuses.
    """
    manifest = read_whole(folder, lambda: read_manifest(folder))
    found = differences(recipe_of(manifest, folder), recipe)
    if found.built:
        raise RecipeError(
            f"the recipe is not the one {folder} was built from, it differs in {', '.join(found.built)}; "
            f"build it with `{command('export', named or 'RECIPE', '--replace')}`"
        )
    if found.measured and not measures:
        raise RecipeError(
            f"the recipe asks for another measurement than {folder} has, by {', '.join(found.measured)}; "
            f"measure it with `{command('verify', named or 'RECIPE')}`"
        )
    if not (changed := (*found.measured, *found.judged)):
        return ()
    if (folder / ATTESTATION).exists():
        raise RecipeError(
            f"{folder} is a published copy, judged by other {', '.join(changed)} than the recipe's; "
            "gate the folder itself, or pass --bars FILE"
        )
    now = replace(manifest, recipe=recipe.model_dump_json(), recipe_digest=recipe.digest)
    files = {} if found.measured else _judged_again(recipe, manifest, folder)
    with changing(folder, manifest.root):
        write_together(folder, {MANIFEST: sealed(to_python(now)), **files})
    return changed


def _judged_again(recipe: Recipe, manifest: Manifest, folder: Path) -> dict[str, bytes]:
    """Return the reports, judged by a recipe's bars, in all their forms; nothing where there are none."""
    if not (folder / REPORT).is_file():
        return {}
    judged = []
    for report in read_reports(folder, manifest):
        # Of another digest where a run was stopped before it measured, or a machine has yet to measure so.
        was_measured_so = report.recipe_digest == manifest.recipe_digest
        digest = recipe.digest if was_measured_so else report.recipe_digest
        judged.append(replace(rejudge(report, bars_of(recipe)), recipe_digest=digest))
    reports, plans = Reports(judged[0], tuple(judged[1:])), read_plans(folder, manifest)
    try:
        return report_files(reports, manifest, plans, recipe)
    except BackendMissing:  # no library here draws charts; `gate` makes the other forms where one does
        return data_files(reports, plans)
