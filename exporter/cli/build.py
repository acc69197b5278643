"""The commands that build: an artifact, the reference, and an artifact once more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exporter.cli.options import (
    ARTIFACTS,
    AsJson,
    Changes,
    Full,
    ModelName,
    Out,
    RecipePath,
    Replace,
    Wide,
    check_full,
    commands_of,
    recipe_of,
)
from exporter.cli.screen import show, show_verdict, tell, watched
from exporter.cli.tables import prose
from exporter.errors import IntegrityError

if TYPE_CHECKING:
    from exporter.preflight import Found
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
    full: Full = False,
    wide: Wide = False,
) -> None:
    """Build a recipe's artifact, verify it against PyTorch, and judge it. The main job."""
    check_full(as_json=as_json, full=full)
    from exporter import pipeline, preflight
    from exporter.recipe.load import read_recipe
    from exporter.report.machines import Reports

    draft = read_recipe(recipe, model=model, changes=changes or ())
    with watched() as context:
        if draft.recipe is None:
            preflight.look(draft, out, context, fetch=False).refuse()
        loaded = draft.recipe
        assert loaded is not None
        if build_only:
            folder = pipeline.build(loaded, out, context, replace_old=replace)
            show({"artifact": str(folder)}, str(folder), as_json=as_json)
            return
        report = pipeline.export(loaded, out, context, replace_old=replace)
    folder = out / loaded.name
    commands = commands_of(recipe, folder, out, model=model, changes=changes)
    show_verdict(Reports(report), folder, commands, as_json=as_json, full=full, wide=wide)


def plan(
    recipe: RecipePath,
    *,
    out: Out = ARTIFACTS,
    model: ModelName = None,
    changes: Changes = None,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Show what `export` would build, and all it would refuse; build nothing.

    Exits as `export` would that refuses. A model on the Hub is not fetched.
    """
    from exporter import pipeline, preflight
    from exporter.recipe.load import read_recipe

    draft = read_recipe(recipe, model=model, changes=changes or ())
    with watched() as context:
        found = preflight.look(draft, out, context, replace_old=replace, fetch=False)
        if as_json:
            for note in found.warnings:
                context.progress.note(f"warning: {note}")
        if draft.recipe and found.source and found.sets and not (found.errors or found.reusable):
            context.expect(pipeline.stages(draft.recipe, found.source, found.sets[0], context))
    if draft.recipe is not None:
        show(draft.recipe, prose(_plan_text(draft.recipe, out, found)), as_json=as_json)
    found.refuse()


def _plan_text(recipe: Recipe, out: Path, found: Found) -> str:
    from exporter.recipe.schema import path_of

    pinned = (found.source.revision if found.source else None) or recipe.model.revision
    revision = f" at {pinned}" if pinned else ""
    sets = [one for one in found.sets or () if one is not None]
    lines = [
        f"{recipe.name}: {recipe.model.source}{revision}, {_length(recipe, found)}",
        *(f"  warning: {note}" for note in found.warnings),
        *(f"  pairs {one.name}: {one.reading}" for one in sets),
        f"  speed over PyTorch in {_speed_over(recipe)}",
    ]
    for name, variant in recipe.by_id.items():
        bars = variant.bars.model_dump(exclude_none=True).items()
        lines += [
            f"  {name} -> {out}/{recipe.name}/{path_of(name, variant)}",
            f"    bars: {', '.join(f'{name} {value:g}' for name, value in bars)}",
        ]
    if found.reusable:
        lines.append(f"  {out / recipe.name} is there already and is reused")
    return "\n".join([*lines, *(f"  note: {note}" for note in found.notes)])


def _length(recipe: Recipe, found: Found) -> str:
    if found.source:
        return f"up to {found.source.max_length} tokens a pair"
    if recipe.model.max_length:
        return f"up to {recipe.model.max_length} tokens a pair"
    return "as many tokens a pair as the model reads"


def _speed_over(recipe: Recipe) -> str:
    if recipe.reference.speed_over == "float32":
        return "float32"
    from exporter.machine import this_machine

    if this_machine().has_bf16:
        return "float32 or bfloat16, whichever is faster"
    return "float32: speed_over is best, and this CPU has no bf16 units"


def reproduce(
    folder: Annotated[
        Path,
        typer.Argument(metavar="ARTIFACT", help="An artifact, or a published copy.", show_default=False),
    ],
    *,
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="A copy of the model, where the recorded folder is not here."),
    ] = None,
    verify_pairs: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A copy of the verify pairs.")
    ] = None,
    calibrate_pairs: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A copy of the calibration pairs.")
    ] = None,
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
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The folder to write.", show_default=False)
    ],
    *,
    model: ModelName = None,
    changes: Changes = None,
) -> None:
    """Write the PyTorch reference as an ordinary sentence-transformers folder."""
    loaded = recipe_of(recipe, model, changes)
    from exporter.export.folder import reference as write_reference_model

    with watched() as context:
        write_reference_model(loaded.model, folder, context)
    tell(str(folder))
