"""Open an artifact for measuring: manifest, recipe, pairs and model, each checked against the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from exporter.artifact.manifest import Manifest, VariantEntry, read_manifest
from exporter.errors import IntegrityError
from exporter.export.source import Source, find_source
from exporter.machine import Machine
from exporter.pairs import PairSet, load_pair_sets
from exporter.recipe.schema import Recipe
from exporter.runtime import choose_plan
from exporter.runtime.model_file import check_artifact
from exporter.worker.job import ArtifactSpec

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.artifact.plans import Plans
    from exporter.context import Context
    from exporter.recipe.schema import Bars


def open_artifact(folder: Path, context: Context) -> tuple[Manifest, Recipe, PairSet, Source]:
    """Read an artifact, check its files, and find the pairs and the model it is measured against."""
    manifest = read_manifest(folder)
    check_artifact(manifest, folder)
    recipe = recipe_of(manifest, folder)
    pair_set, _ = load_pair_sets(recipe)
    with context.progress.stage("model"):
        source = find_source(
            recipe.model.model_copy(update={"revision": manifest.source.revision}), context.cache
        )
    if source.digest != manifest.source.digest:
        raise IntegrityError(
            f"{source.name} is not the model {folder} was built from; build it again with --replace"
        )
    return manifest, recipe, pair_set, source


def recipe_of(manifest: Manifest, folder: Path) -> Recipe:
    """Give the recipe an artifact was built from.

    Raises:
        IntegrityError: it is none.
    """
    try:
        return Recipe.model_validate_json(manifest.recipe)
    except ValidationError as error:
        raise IntegrityError(f"{folder}: its manifest's recipe is none: {error.errors()[0]['msg']}") from None


def spec_of(folder: Path, entry: VariantEntry, plans: Plans, machine: Machine) -> ArtifactSpec:
    """Say how a variant is run on this machine."""
    plan = choose_plan(plans.of(entry.kind), machine.isa, machine.n_cores)
    return ArtifactSpec(str(folder), entry.kind, plan.workers, plan.threads, plan.token_budget)


def bars_of(recipe: Recipe) -> dict[str, Bars]:
    return {variant.kind: variant.bars for variant in recipe.variants}
