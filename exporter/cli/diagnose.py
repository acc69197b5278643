"""The commands that say where time goes, what this machine can do, and what our files look like."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from exporter.cli.options import (
    ARTIFACTS,
    AsJson,
    Changes,
    ModelName,
    Out,
    RecipePath,
    Target,
    VariantName,
    folder_of,
    recipe_of,
)
from exporter.cli.screen import say, show, watched
from exporter.cli.tables import profile_text, prose
from exporter.errors import GateRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.machine import Machine
    from exporter.recipe.kinds import Kind


def profile(
    target: Target,
    *,
    variant: VariantName = None,
    out: Out = ARTIFACTS,
    as_json: AsJson = False,
) -> None:
    """Print where a variant's time goes: each operator's share, on one thread, over real pairs."""
    folder = folder_of(target, out)
    from exporter.measure.profile import profile as profile_variant

    profiled = profile_variant(folder, variant)
    show(profiled, profile_text(profiled), as_json=as_json)


def bench(
    target: Target,
    *,
    out: Out = ARTIFACTS,
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder for table, JSON and charts.")] = Path(
        "bench"
    ),
    peer: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this peer; may be given again. By default all."),
    ] = None,
    lengths: Annotated[bool, typer.Option("--lengths", help="Also on short, medium and long pairs.")] = False,
    scaling: Annotated[
        bool, typer.Option("--scaling", help="Also how the cost grows with tokens, cores and pairs.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Time an artifact beside other libraries that run the same model, in one run."""
    folder = folder_of(target, out)
    from exporter.bench import report, run

    with watched() as context:
        found = run.bench(folder, context, only=peer or (), lengths=lengths, scaling=scaling)
    report.write_bench(found, to)
    show(found, report.markdown(found), as_json=as_json)
    say(f"written to {to}: {', '.join(name for name in report.FILES if (to / name).is_file())}")


def gpu_check(
    recipe: RecipePath,
    *,
    model: ModelName = None,
    changes: Changes = None,
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder for the report.")] = Path(),
    as_json: AsJson = False,
) -> None:
    """Score and time PyTorch on an NVIDIA GPU in float32, float16 and bfloat16, against float32 on the CPU.

    Builds nothing.
    """
    loaded = recipe_of(recipe, model, changes)
    from exporter.bench import gpu

    with watched() as context:
        found = gpu.gpu_check(loaded, context)
    say(f"written to {gpu.write_gpu_report(found, to)}")
    show(found, gpu.markdown(found), as_json=as_json)
    if found.problems:
        raise GateRefused("; ".join(found.problems))


def schema(
    *,
    report: Annotated[bool, typer.Option("--report", help="Of report.json instead.")] = False,
    manifest: Annotated[bool, typer.Option("--manifest", help="Of manifest.json instead.")] = False,
    plans: Annotated[bool, typer.Option("--plans", help="Of plans.json instead.")] = False,
) -> None:
    """Print the JSON schema of recipes, for editors, or of a file of an artifact, for those who read it."""
    from exporter.artifact.files import sealed_schema
    from exporter.artifact.manifest import Manifest
    from exporter.artifact.plans import Plans
    from exporter.recipe.schema import Recipe
    from exporter.report.report import Report

    chosen = [cls for cls, asked in ((Report, report), (Manifest, manifest), (Plans, plans)) if asked]
    if len(chosen) > 1:
        raise typer.BadParameter("one of --report, --manifest and --plans")
    found = sealed_schema(chosen[0]) if chosen else Recipe.model_json_schema()
    typer.echo(json.dumps(found, indent=2))


def doctor(*, as_json: AsJson = False) -> None:
    """Print the machine, which kinds and `isa` are right on its CPU, and what is missing to build them."""
    from exporter.cache import Cache
    from exporter.machine import this_machine
    from exporter.recipe.kinds import KINDS

    machine, cache = this_machine(), Cache.of_user().root
    kinds = [_fit(row, machine) for row in KINDS.values()]
    value = {
        "machine": machine,
        "cache": None if cache is None else str(cache),
        "missing": {fit.kind: fit.missing for fit in kinds},
        "kinds": kinds,
    }
    show(value, prose(_doctor_text(machine, cache, kinds)), as_json=as_json)


@dataclass(frozen=True, slots=True)
class Fit:
    """What a kind is on this machine.

    `missing` are the packages to install before it can be built, `install` says how; `runs` is False where
    the CPU lacks one of `cpu_features`; `isa` are the values of a recipe's `isa` that are right on this CPU,
    and None for kinds without that option.
    """

    kind: str
    missing: tuple[str, ...]
    install: str | None
    runs: bool
    cpu_features: tuple[str, ...]
    isa: tuple[str, ...] | None


def _fit(row: Kind, machine: Machine) -> Fit:
    from exporter.artifact.cpus import fits, runs_on
    from exporter.machine import Isa
    from exporter.packages import install
    from exporter.recipe.schema import options_of

    has_isa = "isa" in options_of(row.name).model_fields
    right = tuple(isa for isa in get_args(Isa) if fits(isa, machine.isa))
    return Fit(
        kind=row.name,
        missing=row.missing_packages,
        install=install("build") if row.missing_packages else None,
        runs=runs_on(row.traits, machine),
        cpu_features=row.traits.cpu_features,
        isa=right if has_isa else None,
    )


def _doctor_text(machine: Machine, cache: Path | None, kinds: Sequence[Fit]) -> str:
    from exporter.artifact.cpus import saturates
    from exporter.machine import allowance
    from exporter.owners import folder_problem

    vnni = "no VNNI: int8 weights must keep to 7 bits" if saturates(machine.isa) else "int8 sums in int32"
    lines = [
        f"{machine.cpu}, {machine.isa} ({vnni})",
        f"{machine.n_cores} cores allowed, {machine.memory_gb} GiB, {machine.system}, "
        f"Python {machine.python}",
        f"cores: {', '.join(allowance().limits)}",
        ", ".join(f"{name} {version}" for name, version in machine.packages),
        f"cache {cache or 'nowhere, there is no home folder: set EXPORTER_CACHE to a folder'}",
    ]
    if cache and (problem := folder_problem(cache)):
        lines.append(f"the cache is not used: {problem}")
    for fit in kinds:
        said = [f"cannot be built, {', '.join(fit.missing)} missing" if fit.missing else "can be built"]
        if fit.isa is not None:
            said.append(f"for this CPU with isa {', '.join(fit.isa)}")
        if not fit.runs:
            said.append(f"not judged here, it needs {' or '.join(fit.cpu_features)}")
        lines.append(f"  {fit.kind}: {'; '.join(said)}")
    if how := next((fit.install for fit in kinds if fit.install), None):
        lines.append(f"to build: {how}")
    return "\n".join(lines)
