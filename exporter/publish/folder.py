"""Make the folder that is published: what passed, laid out for its consumers, with its card and its proof; refuse the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.artifact.files import list_files
from exporter.artifact.manifest import write_manifest
from exporter.artifact.plans import plans_sha256, read_plans, write_plans
from exporter.errors import GateRefused, NoVerdict, RecipeError
from exporter.gate import outcome
from exporter.publish.attest import LOCAL_BUILDER, write_statements
from exporter.publish.card import write_card
from exporter.publish.layout import lay_out, place
from exporter.report.write import write_report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from exporter.artifact.manifest import Manifest
    from exporter.consumers.report import ConsumerReport
    from exporter.publish.layout import LayoutProfile
    from exporter.publish.licence import Licence
    from exporter.report.report import Report


def passed_kinds(folder: Path, report: Report, wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """Name the variants that may be published: those that passed, or those of them that are asked for.

    Args:
        folder: the artifact, for errors.
        report: its report, judged.
        wanted: kinds asked for, by default all.

    Raises:
        GateRefused: none passed, or one asked for did not.
        NoVerdict: the same, but measured again it might.
        RecipeError: one asked for is not in the report.
    """
    verdicts = {row.kind: row.verdict for row in report.variants}
    if unknown := [kind for kind in wanted if kind not in verdicts]:
        raise RecipeError(f"{folder} has no {unknown[0]}; it has {', '.join(verdicts)}")
    passed = tuple(
        kind for kind, verdict in verdicts.items() if verdict == "pass" and (kind in wanted or not wanted)
    )
    if not passed or len(passed) < len(set(wanted)):
        asked = {
            kind: verdict
            for kind, verdict in verdicts.items()
            if (kind in wanted or not wanted) and verdict != "pass"
        }
        found = ", ".join(f"{kind}: {verdict}" for kind, verdict in asked.items())
        refused = GateRefused if "fail" in asked.values() else NoVerdict
        raise refused(
            f"{folder}: nothing is published, a variant did not pass ({found}); see {folder}/report.md"
        )
    return passed


def make_publication(
    folder: Path,
    manifest: Manifest,
    report: Report,
    into: Path,
    *,
    kinds: Sequence[str],
    profile: LayoutProfile,
    licence: Licence,
    repo_id: str | None = None,
    builder: str = LOCAL_BUILDER,
    check: Callable[[Path, Manifest], ConsumerReport] | None = None,
) -> Manifest:
    """Write a complete published folder: files, card, manifest, report and statements of just these variants.

    Args:
        folder: the artifact, whose files were checked against `manifest`.
        manifest: its manifest.
        report: its report, judged.
        into: an empty folder.
        kinds: the variants, see `passed_kinds`.
        profile: how files are laid out.
        licence: what the model's source says of it.
        repo_id: `org/name`, where it goes to the Hub.
        builder: who built it, for the provenance; a URI.
        check: loads the folder in other libraries, before the card is written, which has what came of it.

    Raises:
        GateRefused: another library scores wrongly.
        RecipeError: the profile cannot hold these variants, or `builder` is no URI.
        BackendError, BackendMissing: the disk refuses, or a package that writes the card is not installed.
    """
    layout = lay_out(manifest, kinds, profile)
    place(layout, folder, into)
    rows = tuple(row for row in report.variants if row.kind in kinds)
    judged = replace(report, variants=rows, verdict=outcome(rows))
    published = replace(manifest, variants=layout.variants, files=list_files(into))
    consumers = check(into, published) if check else None
    if consumers and consumers.problems:
        raise GateRefused("; ".join(consumers.problems))
    write_card(into, published, judged, licence, repo_id=repo_id, consumers=consumers)
    published = replace(published, files=list_files(into))
    write_manifest(published, into)
    plans = read_plans(folder, manifest)
    kept = {kind: plans.of(kind) for kind in kinds}
    write_plans(replace(plans, manifest_root=published.root, plans=kept), into)
    judged = replace(judged, manifest_root=published.root, plans_sha256=plans_sha256(into))
    write_report(judged, into)
    write_statements(into, published, judged, builder=builder)
    return published
