"""The commands that build: an artifact, the reference, and an artifact once more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exporter.cli.options import ARTIFACTS, AsJson, Changes, ModelName, Out, RecipePath, Replace, recipe_of
from exporter.cli.screen import show, show_verdict, watched
from exporter.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.pairs import PairSet
    from exporter.recipe.schema import Recipe


def export(
    recipe: RecipePath,
    *,
    out: Out = ARTIFACTS,
    model: ModelName = None,
    changes: Changes = None,
    replace: Replace = False,
    build_only: Annotated[bool, typer.Option("--build-only", help="Do not verify.")] = False,
    as_json: AsJson = False,
) -> None:
    """Build a recipe's artifact, verify it against PyTorch, and judge it. The main job."""
    loaded = recipe_of(recipe, model, changes)
    from exporter import pipeline

    with watched() as context:
        if build_only:
            folder = pipeline.build(loaded, out, context, replace_old=replace)
            typer.echo(folder)
            return
        report = pipeline.export(loaded, out, context, replace_old=replace)
    show_verdict(report, out / loaded.name, as_json=as_json)


def plan(
    recipe: RecipePath, *, model: ModelName = None, changes: Changes = None, as_json: AsJson = False
) -> None:
    """Show what a recipe would build, and build nothing."""
    loaded = recipe_of(recipe, model, changes)
    from exporter.pairs import load_pair_sets

    sets = [pair_set for pair_set in load_pair_sets(loaded) if pair_set]
    show(loaded, _plan_text(loaded, sets), as_json=as_json)


def _plan_text(recipe: Recipe, sets: Sequence[PairSet]) -> str:
    from exporter.recipe.kinds import KINDS

    revision = f" at {recipe.model.revision}" if recipe.model.revision else ""
    lines = [
        f"{recipe.name}: {recipe.model.source}{revision}, up to {recipe.model.max_length} tokens a pair",
        *(f"  pairs {one.name}: {len(one.pairs)} of {len(one.query_ids)} queries" for one in sets),
    ]
    for variant in recipe.variants:
        row = KINDS[variant.kind]
        path = row.path(getattr(variant, "isa", None))
        missing = ", ".join(row.missing_packages)
        lacking = f"  (cannot be built here: {missing} missing)" if missing else ""
        bars = variant.bars.model_dump(exclude_none=True).items()
        lines += [
            f"  {variant.kind} -> {ARTIFACTS}/{recipe.name}/{path}{lacking}",
            f"    bars: {', '.join(f'{name} {value:g}' for name, value in bars)}",
        ]
    return "\n".join(lines)


def reproduce(
    folder: Annotated[Path, typer.Argument(help="An artifact, or a published copy.", show_default=False)],
    *,
    model: Annotated[
        str | None, typer.Option(help="A copy of the model, where the recorded folder is not here.")
    ] = None,
    verify_pairs: Annotated[Path | None, typer.Option(help="A copy of the verify pairs.")] = None,
    calibrate_pairs: Annotated[Path | None, typer.Option(help="A copy of the calibration pairs.")] = None,
    as_json: AsJson = False,
) -> None:
    """Build an artifact again from its manifest alone, and compare hashes, and scores where they differ.

    Exits 4 if they do.
    """
    from exporter import reproduce as rebuild

    with watched() as context:
        found = rebuild.reproduce(
            folder, context, model=model, verify_pairs=verify_pairs, calibrate_pairs=calibrate_pairs
        )
    show(found, rebuild.text(found), as_json=as_json)
    if not found.same:
        raise typer.Exit(IntegrityError.exit_code)


def reference(
    recipe: RecipePath,
    folder: Annotated[Path, typer.Argument(help="The folder to write.", show_default=False)],
    *,
    model: ModelName = None,
    changes: Changes = None,
) -> None:
    """Write the PyTorch reference as an ordinary sentence-transformers folder."""
    loaded = recipe_of(recipe, model, changes)
    from exporter.export.folder import reference as write_reference_model

    with watched() as context:
        write_reference_model(loaded.model, folder, context)
    typer.echo(folder)
