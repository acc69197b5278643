"""Make the folder that is published: what passed, laid out for its consumers, with its card and its proof.

What did not pass is refused. `Publication` holds the choices of whoever publishes.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from exporter.artifact.files import list_files, write_together
from exporter.artifact.manifest import Manifest, read_manifest, write_manifest
from exporter.artifact.names import kind_of
from exporter.artifact.plans import read_plans
from exporter.consumers.check import CheckOptions, batch_tolerances, check_consumers
from exporter.errors import GateRefused, IntegrityError, NoVerdict, RecipeError
from exporter.export.folder import without_origin
from exporter.gate import outcome
from exporter.measure.workspace import recipe_of
from exporter.pairs import load_pair_sets
from exporter.publish.attest import LOCAL_BUILDER, write_statements
from exporter.publish.card import write_card
from exporter.publish.layout import Layout, LayoutProfile, lay_out, place
from exporter.publish.licence import Licence, licence_of
from exporter.publish.reduced import Extent, reduced_manifest, reduced_report
from exporter.report.machines import Reports, chosen, outcomes
from exporter.report.write import report_files, with_verdicts
from exporter.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from exporter.consumers.report import ConsumerReport
    from exporter.context import Context
    from exporter.publish.signature import Signer
    from exporter.report.report import Report


@dataclass(frozen=True, slots=True)
class Publication:
    """How an artifact is published: what of it, in which form, and with whose proof.

    `kinds` are the variants, by default all that passed. `builder` is a URI for who built the artifact, for
    the provenance. `consumers` first loads the folder in other libraries, whose scores go into the card.
    `pull_request` opens a pull request on the Hub instead of committing. `replace` permits to publish over
    another artifact. `report` is `reduced`, without what tells of private pairs or of this machine's folders,
    or `full`. `ask` is called with a prompt for the password of an encrypted key.
    """

    kinds: tuple[str, ...] = ()
    layout: LayoutProfile = "hub"
    signer: Signer | None = None
    builder: str = LOCAL_BUILDER
    consumers: bool = False
    pull_request: bool = False
    replace: bool = False
    report: Extent = "reduced"
    ask: Callable[[str], str] | None = None


def passed_kinds(folder: Path, reports: Reports, wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the variants that may be published: those that passed, or those of them that are asked for.

    One that passed on a machine has passed, unless it failed or is invalid on another.

    Args:
        folder: the artifact, for errors.
        reports: its reports, judged.
        wanted: ids asked for, by default all; a bare kind means all its variants.

    Raises:
        GateRefused: none passed, or one asked for did not.
        NoVerdict: the same, but measured again it might.
        RecipeError: one asked for is not in the report.
    """
    verdicts = outcomes(reports)
    names = [(one, [kind for kind in verdicts if one in (kind, kind_of(kind))]) for one in wanted]
    if unknown := [one for one, found in names if not found]:
        raise RecipeError(f"{folder} has no {unknown[0]}; it has {', '.join(verdicts)}")
    wanted = [kind for _, found in names for kind in found]
    passed = tuple(
        kind for kind, verdict in verdicts.items() if verdict == "pass" and (kind in wanted or not wanted)
    )
    if not passed or len(passed) < len(set(wanted)):
        asked = {
            kind: verdict
            for kind, verdict in verdicts.items()
            if (kind in wanted or not wanted) and verdict != "pass"
        }
        found = ", ".join(f"{kind}: {verdict}{_where(reports, kind)}" for kind, verdict in asked.items())
        refused = GateRefused if "fail" in asked.values() else NoVerdict
        raise refused(
            f"{folder}: nothing is published, a variant did not pass ({found}); see {folder}/report.md"
        )
    return passed


def _where(reports: Reports, kind: str) -> str:
    """Return on which machines a variant did not pass, where there are several."""
    rows = [(report, row) for report in reports for row in report.variants if row.kind == kind]
    missed = [str(report.machine) for report, row in rows if row.verdict != "pass"]
    return f" on {' and on '.join(missed)}" if missed and reports.others else ""


@contextmanager
def staged_publication(
    folder: Path,
    reports: Reports,
    kinds: Sequence[str],
    options: Publication,
    context: Context,
    *,
    repo_id: str | None = None,
) -> Iterator[Path]:
    """Yield the complete published folder of an artifact, in a scratch directory that is removed afterwards.

    Args:
        folder: the artifact, whose files were checked.
        reports: its reports, judged.
        kinds: the variants, see `passed_kinds`.
        options: the choices of whoever publishes.
        context: told what goes on.
        repo_id: `org/name`, where the folder goes to the Hub.

    Raises:
        ExporterError: see `make_publication`.
    """
    manifest = read_manifest(folder)

    def check(staged: Path, published: Manifest) -> ConsumerReport:
        recipe = recipe_of(manifest, folder)
        pair_set, _ = load_pair_sets(recipe)
        tolerances = batch_tolerances(recipe, reports)
        return check_consumers(staged, published, pair_set, context, CheckOptions(tolerances=tolerances))

    with Scratch("publish") as scratch:
        staged = scratch / manifest.name  # a signature holds the name of the folder it was made in
        staged.mkdir()
        make_publication(
            folder,
            reports,
            staged,
            kinds,
            options,
            licence=licence_of(manifest.source, folder),
            repo_id=repo_id,
            check=check if options.consumers else None,
        )
        yield staged


def make_publication(
    folder: Path,
    reports: Reports,
    into: Path,
    kinds: Sequence[str],
    options: Publication,
    *,
    licence: Licence,
    repo_id: str | None = None,
    check: Callable[[Path, Manifest], ConsumerReport] | None = None,
) -> Manifest:
    """Write a complete published folder with just these variants, and return its manifest.

    Args:
        folder: the artifact, whose files were checked against its manifest.
        reports: its reports, judged; those of machines that judged none of the variants are left behind.
        into: an empty folder.
        kinds: the variants, see `passed_kinds`.
        options: `layout`, `builder` and `report` are used.
        licence: what the model's source says of its licence.
        repo_id: `org/name`, where the folder goes to the Hub.
        check: loads the folder in other libraries before the card is written, which shows the result.

    Raises:
        GateRefused: another library scores wrongly.
        RecipeError: the layout cannot hold these variants, or `builder` is no URI.
        BackendError, BackendMissing: the disk refuses, or a package that writes the card is not installed.
    """
    manifest = read_manifest(folder)
    layout = lay_out(manifest, kinds, options.layout)
    place(layout, folder, into)
    judged = _of_kinds(reports, kinds)
    published = manifest
    if options.report == "reduced":
        judged = [reduced_report(report, manifest, folder) for report in judged]
        published = reduced_manifest(manifest, folder)
        config = into / "config.json"
        config.write_bytes(without_origin(config.read_bytes()))

    published = replace(published, variants=layout.variants, files=list_files(into))
    _check_copied(layout, manifest, published)
    consumers = check(into, published) if check else None
    if consumers and consumers.problems:
        raise GateRefused("; ".join(consumers.problems))
    found = Reports(judged[0], tuple(judged[1:]))
    plans = with_verdicts(found, read_plans(folder, manifest).only(kinds, published.root))
    write_card(
        into,
        published,
        found,
        licence,
        repo_id=repo_id,
        consumers=consumers,
        loaded=chosen(found, published, plans),
    )
    published = replace(published, files=list_files(into))
    write_manifest(published, into)

    newest, *others = (replace(report, manifest_root=published.root) for report in judged)
    found, plans = Reports(newest, tuple(others)), replace(plans, manifest_root=published.root)
    write_together(into, report_files(found, published, plans))
    write_statements(into, published, found, builder=options.builder)
    return published


def _of_kinds(reports: Reports, kinds: Sequence[str]) -> list[Report]:
    """Return what reports say of some variants, the newest that judged any of them first."""
    rows = [(report, tuple(row for row in report.variants if row.kind in kinds)) for report in reports]
    return [replace(report, variants=found, verdict=outcome(found)) for report, found in rows if found]


def _check_copied(layout: Layout, manifest: Manifest, copied: Manifest) -> None:
    """Check that the files copied are the artifact's: it may have been replaced since it was checked."""
    hashes = {file.path: file.sha256 for file in manifest.files}
    sources = {placed.path: placed.source for placed in layout.files}
    if other := [file.path for file in copied.files if file.sha256 != hashes[sources[file.path]]]:
        raise IntegrityError(f"{other[0]}: changed while it was published; run the same command again")
