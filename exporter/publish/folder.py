"""Copy what passed into a folder, and refuse the rest."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.artifact import staged, write_manifest
from exporter.errors import GateRefused, NoVerdict, RecipeError
from exporter.verify.gate import outcome
from exporter.verify.report import write_report

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.artifact import Manifest
    from exporter.verify.report import Report


def publish_to_folder(folder: Path, manifest: Manifest, report: Report, dest: Path, *, replace_dest: bool) -> tuple[str, ...]:
    """Copy the variants that passed, with the files they share, and a manifest and report of just them.

    Args:
        folder: the artifact, whose files were checked against `manifest`.
        manifest: its manifest.
        report: its report, judged.
        dest: the folder to become the copy.
        replace_dest: replace an artifact that stands there.

    Returns:
        The kinds left behind, because they failed or have no verdict.

    Raises:
        GateRefused: no variant passed.
        NoVerdict: none passed, but one might if measured again.
        RecipeError: `dest` exists and is not to be replaced, is no artifact, or lies in `folder`.
        BackendError: the disk refuses.
    """
    if dest.resolve().is_relative_to(folder.resolve()):
        raise RecipeError(f"{dest} lies in the artifact {folder} itself; choose another folder")
    passed = {row.kind for row in report.variants if row.verdict == "pass"}
    if not passed:
        found = ", ".join(f"{row.kind}: {row.verdict}" for row in report.variants)
        refused = GateRefused if report.verdict == "fail" else NoVerdict
        raise refused(f"{folder}: nothing to publish, no variant passed ({found}); see {folder}/report.md")
    kept = {path for entry in manifest.variants if entry.kind in passed for path in entry.files}
    left = {path for entry in manifest.variants for path in entry.files} - kept
    copied = replace(
        manifest,
        variants=tuple(entry for entry in manifest.variants if entry.kind in passed),
        files=tuple(file for file in manifest.files if file.path not in left),
    )
    rows = tuple(row for row in report.variants if row.kind in passed)
    judged = replace(report, manifest_root=copied.root, variants=rows, verdict=outcome(rows))
    with staged(dest, replace=replace_dest) as scratch:
        for file in copied.files:
            (scratch / file.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / file.path, scratch / file.path)
        write_manifest(copied, scratch)
        write_report(judged, scratch)
    return tuple(entry.kind for entry in manifest.variants if entry.kind not in passed)
