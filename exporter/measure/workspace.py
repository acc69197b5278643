"""Open an artifact for measuring: manifest, plans, recipe, pairs and model, checked against each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from exporter.artifact.access import read_whole
from exporter.artifact.cpus import why_not_judged
from exporter.artifact.manifest import NOT_PUBLISHED, Manifest, VariantEntry, read_manifest
from exporter.artifact.plans import Plans, read_plans
from exporter.errors import IntegrityError, RecipeError
from exporter.export.source import Source, find_source
from exporter.machine import Machine, this_machine
from exporter.pairs import PairSet, load_pair_sets
from exporter.recipe.schema import Recipe
from exporter.runtime import choose_plan
from exporter.runtime.model_file import check_artifact
from exporter.worker.job import ArtifactSpec

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.context import Context
    from exporter.recipe.schema import Bars


@dataclass(frozen=True, slots=True)
class Workspace:
    """An artifact, checked, with all that it is measured by."""

    folder: Path
    manifest: Manifest
    plans: Plans
    recipe: Recipe
    pair_set: PairSet
    source: Source
    machine: Machine

    @property
    def runnable(self) -> tuple[VariantEntry, ...]:
        """The variants that are measured on this CPU, in the manifest's order."""
        return tuple(entry for entry in self.manifest.variants if not why_not_judged(entry, self.machine))

    @property
    def not_runnable(self) -> tuple[VariantEntry, ...]:
        """The variants that this CPU cannot run, or is not among those that they are for."""
        return tuple(entry for entry in self.manifest.variants if why_not_judged(entry, self.machine))

    @property
    def bars(self) -> dict[str, Bars]:
        """The recipe's bars by variant."""
        return bars_of(self.recipe)

    def spec(self, entry: VariantEntry) -> ArtifactSpec:
        """Return how a variant is run on this machine."""
        plan = choose_plan(self.plans.of(entry.kind), self.machine.isa, self.machine.n_cores)
        return ArtifactSpec(str(self.folder), entry.kind, plan.workers, plan.threads, plan.token_budget)


def open_artifact(folder: Path, context: Context) -> Workspace:
    """Read an artifact, check its files, and find the pairs and the model that it is measured against.

    Raises:
        RecipeError: the folder is no artifact, its model or pairs are gone, or it is a published copy that
            does not say where they are.
        IntegrityError: its files, or its model, are not what its manifest says.
        NoVerdict: other runs replace it over and over.
    """
    return read_whole(folder, lambda: _opened(folder, context))


def _opened(folder: Path, context: Context) -> Workspace:
    manifest = read_manifest(folder)
    if f"{NOT_PUBLISHED}/" in manifest.recipe:
        raise RecipeError(
            f"{folder} was published without the places of its model or pairs, so it cannot be measured; "
            "verify the artifact it was published from, or check its files with `exporter reproduce`"
        )
    check_artifact(manifest, folder)
    plans = read_plans(folder, manifest)
    recipe = recipe_of(manifest, folder)
    pair_set, _ = load_pair_sets(recipe)
    with context.progress.stage("model"):
        model = recipe.model.model_copy(update={"revision": manifest.source.revision})
        source = find_source(model, context.cache)
    if source.digest != manifest.source.digest:
        raise IntegrityError(
            f"{source.name} is not the model {folder} was built from; build it again with --replace"
        )
    return Workspace(folder, manifest, plans, recipe, pair_set, source, this_machine())


def recipe_of(manifest: Manifest, folder: Path) -> Recipe:
    """Return the recipe an artifact was built from.

    Raises:
        IntegrityError: the text in the manifest is no recipe.
    """
    try:
        return Recipe.model_validate_json(manifest.recipe)
    except ValidationError as error:
        raise IntegrityError(f"{folder}: its manifest's recipe is none: {error.errors()[0]['msg']}") from None


def bars_of(recipe: Recipe) -> dict[str, Bars]:
    """Return a recipe's bars by the ids of its variants."""
    return {name: variant.bars for name, variant in recipe.by_id.items()}
