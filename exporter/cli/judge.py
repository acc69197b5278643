"""The commands that measure and judge, and that show what was found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exporter.cli.options import (
    ARTIFACTS,
    AsJson,
    Full,
    MaxMemory,
    MaxSeconds,
    Out,
    Target,
    Wide,
    check_full,
    commands_of,
    current_folder,
    folder_of,
    limits_of,
)
from exporter.cli.screen import say, short_verdict, show, show_verdict, watched, write_text
from exporter.cli.tables import comparison_line, findings_text, prose, reports_text
from exporter.errors import GateRefused, NoVerdict
from exporter.invocation import command

if TYPE_CHECKING:
    from exporter.artifact.manifest import Manifest
    from exporter.artifact.plans import Plans
    from exporter.report.machines import Reports


def verify(
    target: Target,
    *,
    out: Out = ARTIFACTS,
    max_memory: MaxMemory = None,
    max_seconds: MaxSeconds = None,
    as_json: AsJson = False,
    full: Full = False,
    wide: Wide = False,
) -> None:
    """Measure an artifact against PyTorch again, judge it, and write its report.

    Models run in processes of their own, without limits unless you set some.
    """
    check_full(as_json=as_json, full=full)
    limits = limits_of(max_memory, max_seconds)
    folder, changed = current_folder(target, out, measures=True)
    from exporter import pipeline, worker
    from exporter.report.machines import Reports

    with watched() as context, worker.limited(*limits):
        if changed:
            context.progress.note(f"measured by the recipe's new {changed}")
        report = pipeline.verify(folder, context)
    commands = commands_of(target, folder, out)
    show_verdict(Reports(report), folder, commands, as_json=as_json, full=full, wide=wide)


def gate(
    target: Target,
    *,
    bars: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Other bars: a YAML file of kind: {bar: limit}."),
    ] = None,
    here: Annotated[
        bool, typer.Option("--here", help="Judge only what was measured on a machine like this one.")
    ] = False,
    out: Out = ARTIFACTS,
    as_json: AsJson = False,
    full: Full = False,
    wide: Wide = False,
) -> None:
    """Judge an artifact's stored reports again, without running a model.

    There is one of each type of machine that it was verified on; all of them have to pass.
    """
    check_full(as_json=as_json, full=full)
    folder, changed = current_folder(target, out)
    if changed:
        how = f"to try bars without recording them: {command('gate', folder, '--bars', 'FILE')}"
        say(f"recorded in {folder} from the recipe: {changed}; {how}")
    from exporter import pipeline
    from exporter.recipe.load import load_bars

    judged_by = load_bars(bars) if bars else None
    reports = pipeline.gate(folder, judged_by, here=here)
    commands = commands_of(target, folder, out, bars=bars)
    show_verdict(reports, folder, commands, as_json=as_json, full=full, wide=wide, judged_by=judged_by)


def show_artifact(
    target: Target,
    *,
    here: Annotated[
        bool,
        typer.Option("--here", help="What each variant is worth on this CPU, and which is chosen."),
    ] = False,
    out: Out = ARTIFACTS,
    as_json: AsJson = False,
    full: Full = False,
    wide: Wide = False,
) -> None:
    """Print what an artifact holds and its verdict. Exits 0 whatever the verdict is."""
    check_full(as_json=as_json, full=full)
    folder = folder_of(target, out)
    from exporter.artifact.access import read_whole
    from exporter.artifact.files import REPORT
    from exporter.artifact.manifest import read_manifest
    from exporter.artifact.plans import read_plans
    from exporter.cli.after import lines_after
    from exporter.report.read import read_reports
    from exporter.report.words import TERMS
    from exporter.runtime.model_file import check_artifact

    def read() -> tuple[Manifest, Plans, Reports | None]:
        manifest = read_manifest(folder)
        check_artifact(manifest, folder)
        plans = read_plans(folder, manifest)
        return manifest, plans, read_reports(folder, manifest) if (folder / REPORT).is_file() else None

    manifest, plans, reports = read_whole(folder, read)
    if here:
        from exporter.artifact.choice import standing_text, standings
        from exporter.machine import this_cpu

        found = standings(manifest, plans, cpu := this_cpu())
        lines = [standing_text(one, cpu) for one in found]
        if not plans.verdicts:
            lines.append(f"nothing was measured yet; run `{command('verify', folder)}`")
        show(found, "\n".join(lines), as_json=as_json)
        return
    if as_json and not full:
        show(short_verdict(reports, manifest.name, folder), as_json=True)
        return
    text = prose(_artifact_text(folder, manifest, plans))
    later = f"not verified yet; run `{command('verify', folder)}`"
    verdict = reports_text(reports, wide=wide) if reports else later
    show({"manifest": manifest, "reports": tuple(reports or ())}, text, verdict, as_json=as_json)
    if reports and not as_json:
        for line in lines_after(reports, folder, commands_of(target, folder, out)):
            say(line)
        say(TERMS)


def _artifact_text(folder: Path, manifest: Manifest, plans: Plans) -> str:
    source = manifest.source.source
    lines = [f"{folder}: {manifest.name}, from {source}, up to {manifest.max_length} tokens a pair"]
    lines += [f"  warning: {note}" for note in manifest.source.notes]
    for entry in manifest.variants:
        lines.append(f"  {entry.kind}: {entry.model}, {manifest.size_bytes(entry) / 1e6:.1f} MB")
        for found in plans.of(entry.kind):
            plan = f"{found.workers}x{found.threads}, {found.token_budget} tokens"
            where = f"on {found.n_cores} cores of {found.isa}"
            lines.append(f"    plan {where}: {plan}, the best of {len(found.sweep)}")
    return "\n".join(lines)


def compare(
    old: Annotated[
        Path,
        typer.Argument(metavar="OLD", help="An artifact folder or a report.json.", show_default=False),
    ],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The other one.", show_default=False)],
    *,
    min_effect: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=SHARE",
            help="Count no smaller change of a metric: ndcg, tau and size (0.005 unless set), speed and rss "
            "(0.10). May be repeated.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="A file for the table, Markdown.")] = None,
    as_json: AsJson = False,
    wide: Annotated[bool, typer.Option("--wide", help="The interval of each change too.")] = False,
) -> None:
    """Print what got better or worse from one report to another, beyond noise.

    Exits 1 if anything got worse, 5 if nothing can be compared or a report is invalid.
    """
    from exporter.report.compare import compare_with, min_effects
    from exporter.report.text import findings

    found = compare_with(old, new, min_effects(min_effect or ()))
    if to:
        write_text(to, findings(found))
    show(found, findings_text(found.findings, wide=wide), as_json=as_json)
    if not as_json:
        say(comparison_line(found))
    if found.outcome == "worse":
        raise GateRefused(found.why)
    if found.outcome == "no verdict":
        raise NoVerdict(found.why)


def selftest(
    target: Target,
    *,
    variant: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="Which ONNX kind, by default the artifact's first."),
    ] = None,
    trials: Annotated[
        int,
        typer.Option(
            metavar="N", help="Speed trials of the artifact against itself, 1 to 3 minutes each.", min=0
        ),
    ] = 0,
    to: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="A folder for selftest.json and selftest.md."),
    ] = None,
    out: Out = ARTIFACTS,
    as_json: AsJson = False,
) -> None:
    """Try the gate on artifacts that are wrong on purpose.

    With --trials also measure how often the gate is wrong.
    """
    folder = folder_of(target, out)
    from exporter.selftest import report, run

    with watched() as context:
        found = run.selftest(folder, context, kind=variant, n_trials=trials)
    if to:
        report.write_selftest(found, to)
    show(found, report.markdown(found), as_json=as_json)
    if found.problems:
        raise GateRefused("; ".join(found.problems))
