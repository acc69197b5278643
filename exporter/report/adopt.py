"""Have an artifact measured and judged by its recipe as it is now: bars are edited more often than built."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.artifact.access import changing, read_whole
from exporter.artifact.files import ATTESTATION, MANIFEST, PLANS, REPORT, sealed, to_python, write_together
from exporter.artifact.manifest import read_manifest
from exporter.artifact.plans import plans_bytes, read_plans, sha256_of
from exporter.errors import BackendMissing, RecipeError
from exporter.invocation import command
from exporter.measure.workspace import bars_of, recipe_of
from exporter.recipe.difference import differences
from exporter.report.read import read_report
from exporter.report.report import rejudge
from exporter.report.write import proven, with_verdicts

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.artifact.manifest import Manifest
    from exporter.recipe.schema import Recipe


def adopt(recipe: Recipe, folder: Path, *, measures: bool, named: Path | None = None) -> tuple[str, ...]:
    """Record a recipe's bars, `reference`, `measure` and `publish` in the artifact that was built from it.

    The manifest then holds the recipe as it is now; its files, and the root that stands for them, stay. A
    report that was measured as the recipe asks is judged again; one that was not keeps its recipe's digest.

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
    """Return a report, judged by a recipe's bars, in all its forms; nothing where it cannot stand for it."""
    if not (folder / REPORT).is_file():
        return {}
    report = read_report(folder, manifest)
    if report.recipe_digest != manifest.recipe_digest:  # a run before was stopped before it measured
        return {}
    judged = replace(rejudge(report, bars_of(recipe)), recipe_digest=recipe.digest)
    plans = read_plans(folder, manifest)
    try:
        return proven(judged, plans, recipe)[1]
    except BackendMissing:  # no library here draws charts; `gate` makes the other forms where one does
        plans = with_verdicts(judged, plans)
        judged = replace(judged, plans_sha256=sha256_of(plans))
        return {PLANS: plans_bytes(plans), REPORT: sealed(to_python(judged))}
