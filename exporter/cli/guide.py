"""The commands that lead a user: a first recipe, and what to do after a verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exporter.cli.after import after_lines, product_lines
from exporter.cli.options import ARTIFACTS, AsJson, Out, Target, commands_of, folder_of
from exporter.cli.screen import say, show, watched
from exporter.invocation import command


def init(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A folder, `sample`, or a Hub id.", show_default=False)
    ],
    pairs: Annotated[
        str, typer.Argument(metavar="PAIRS", help="Pairs to verify on, a file.", show_default=False)
    ],
    *,
    calibrate: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Pairs that static int8 is calibrated on, not those to verify on."),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The recipe to write, by default MODEL.yaml.", show_default=False),
    ] = None,
    out: Out = ARTIFACTS,
    as_json: AsJson = False,
) -> None:
    """Write a first recipe for a model and pairs: kinds for this CPU, bars that these pairs can show."""
    from exporter.guide.first_recipe import Wanted, write_first_recipe

    with watched() as context:
        made = write_first_recipe(Wanted(model, pairs, calibrate), context, to=to, out=out)
        for warning in made.warnings:
            context.progress.note(f"warning: {warning}")
    show(made, made.text.rstrip("\n"), as_json=as_json)
    if not as_json:
        say(f"written to {made.path}; next: {command('export', made.path, *_out(out))}")


def _out(out: Path) -> tuple[str, ...]:
    return () if out == ARTIFACTS else ("--out", str(out))


def advise(target: Target, *, out: Out = ARTIFACTS, as_json: AsJson = False) -> None:
    """Print which variant to deploy, what to try for the others, and what each int8 product loses.

    Exits 0 whatever the verdict is.
    """
    folder = folder_of(target, out)
    from exporter.guide.after import advise as advise_on

    with watched() as context:
        found = advise_on(folder, context, commands_of(target, folder, out))
    show(found, "\n".join([*after_lines(found), *product_lines(found)]), as_json=as_json)
