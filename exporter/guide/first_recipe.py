"""Write a first recipe: the kinds for this CPU, under bars that the pairs at hand can show.

What it names is looked at as `plan` looks at it, so that the recipe can be carried out as it is.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter import preflight
from exporter.errors import BackendError, RecipeError
from exporter.guide.recipe_text import Names, recipe_text
from exporter.machine import this_machine
from exporter.pairs import load_pair_sets
from exporter.recipe.load import load_recipe, read_recipe
from exporter.scratch import Scratch

if TYPE_CHECKING:
    from exporter.context import Context
    from exporter.recipe.load import Draft
    from exporter.recipe.schema import Recipe

# What is filled in; the kind is only there to be a recipe.
_BLANK = """\
name: sample
model: {source: sample}
variants: [{kind: onnx, bars: {max_abs_diff: 1.0e-3}}]
"""


@dataclass(frozen=True, slots=True)
class FirstRecipe:
    """Where a recipe was written, its text, and what its user should know all the same."""

    path: Path
    text: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a recipe is for, as typed: a model, and pair sets to verify and, perhaps, to calibrate on."""

    model: str
    pairs: str
    calibrate: str | None = None


def write_first_recipe(
    wanted: Wanted, context: Context, *, to: Path | None = None, out: Path = Path("artifacts")
) -> FirstRecipe:
    """Write a recipe for a model and pairs on this CPU.

    Args:
        wanted: model and pairs; paths are taken from the working directory.
        context: told what goes on.
        to: the file, by default the model's name, in the working directory.
        out: the folder that holds artifacts: the recipe gets a name that is free there.

    Raises:
        RecipeError: the file is there already, or what `plan` says of model and pairs.
        IntegrityError, BackendMissing: what `plan` says of them.
        BackendError: the same, or the disk refuses.
    """
    draft = _draft(wanted, out)
    name = draft.recipe.name if draft.recipe else "recipe"
    path = to or Path(f"{name}.yaml")
    if path.suffix not in (".yaml", ".yml"):
        raise RecipeError(f"{path}: a recipe's file name ends in .yaml")
    if os.path.lexists(path):
        raise RecipeError(f"{path} is there already and is left alone; choose another name with --to")
    found = preflight.look(draft, out, context, fetch=False)
    found.refuse()
    assert draft.recipe is not None
    assert found.sets is not None
    text = recipe_text(_names(draft.recipe, wanted, path), found.sets[0], this_machine())
    _write(text, path)
    return FirstRecipe(path, text, tuple(found.warnings))


def _draft(wanted: Wanted, out: Path) -> Draft:
    """Return a recipe for model and pairs, as far as they can be named, under a name that is free."""
    sets = [f"pairs.verify={_quoted(wanted.pairs)}"]
    if wanted.calibrate is not None:
        sets.append(f"pairs.calibrate={_quoted(wanted.calibrate)}")
    with Scratch("recipe") as scratch:
        path = scratch / "init.yaml"
        path.write_text(_BLANK, encoding="utf-8")
        draft = read_recipe(path, model=wanted.model, changes=sets)
        if draft.recipe is None:
            raise RecipeError("\n".join(draft.findings).replace(f"{path}: ", ""))
        plain, number = draft.recipe.name, 1
        while os.path.lexists(out / draft.recipe.name):
            number += 1
            name = f"{plain[:90]}-{number}"
            draft = type(draft).of(draft.recipe.model_copy(update={"name": name}))
            assert draft.recipe is not None
    return draft


def _quoted(text: str) -> str:
    return "'{}'".format(text.replace("'", "''"))


def _names(recipe: Recipe, wanted: Wanted, path: Path) -> Names:
    """Return what the recipe names, as it is named there: what was typed relatively, from its own folder."""
    model = recipe.model
    return Names(
        name=recipe.name,
        file=path.name,
        model=_from(path, model.source, wanted.model),
        revision=model.revision,
        verify=_from(path, recipe.pairs.verify, wanted.pairs),
        calibrate=_from(path, recipe.pairs.calibrate, wanted.calibrate)
        if recipe.pairs.calibrate and wanted.calibrate
        else None,
    )


def _from(recipe: Path, absolute: str, typed: str) -> str:
    """Return a path as the recipe names it; what is none as it is."""
    if not Path(absolute).is_absolute() or typed.startswith(("/", "~")):
        return absolute
    relative = os.path.relpath(absolute, recipe.parent.resolve())
    return relative if relative.startswith("..") else f"./{relative}"


def _write(text: str, path: Path) -> None:
    """Write a recipe that is read back before: beside where it will stand, since its paths start there."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", suffix=".yaml", prefix=".init-", dir=path.parent
        ) as trial:
            trial.write(text)
            trial.flush()
            load_pair_sets(load_recipe(Path(trial.name)))
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise RecipeError(f"{path} is there already and is left alone; choose another name") from None
    except OSError as error:
        raise BackendError(f"{path}: cannot be written: {error.strerror}") from error
