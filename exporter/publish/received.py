"""Fetch what somebody published, and keep of it only what something vouches for.

A signature that was asked for vouches for every file. Without one, the manifest holds the files it names to
each other, and the reports and plans.json to the manifest; a report as people read it, a page that a browser
opens, is held by nothing. So it is made anew from the reports, or left out.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from exporter.artifact.files import ATTESTATION, REPORT, SIGNATURE, write_together
from exporter.artifact.manifest import read_manifest
from exporter.artifact.plans import read_plans
from exporter.errors import BackendMissing, ExporterError
from exporter.publish.signature import Verifier, check_signature
from exporter.publish.statements import read_statements
from exporter.remote import fetch_artifact
from exporter.remote.source import FORMS
from exporter.report.read import read_reports
from exporter.report.write import report_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def receive(
    address: str,
    into: Path,
    verifier: Verifier | None,
    tell: Callable[[str], object],
    *,
    replace: bool = False,
    then: Callable[[Path], object] | None = None,
) -> tuple[Path, str]:
    """Fetch a published artifact to a folder, which appears once all of it was found right.

    Args:
        address: as in `exporter.remote.fetch_artifact`.
        into: the folder to become the copy.
        verifier: whose signature is expected; None leaves it unchecked.
        tell: told in one line who signed it, or what is not as it was published.
        replace: whether an artifact at `into` may be replaced.
        then: called with the copy before it appears, once all else was found right; what it raises ends it.

    Returns:
        The folder, and the version of its content: a commit, a digest.

    Raises:
        RecipeError, IntegrityError, BackendError, BackendMissing: see `exporter.remote.fetch_artifact` and
            `exporter.publish.signature.check_signature`; or statements or report are about other files.
    """

    def check(folder: Path) -> None:
        try:
            if verifier is not None:
                signed = check_signature(folder, verifier)
                tell(f"signature: right, by {signed.by}, of {len(signed.files)} files")
            elif line := keep_vouched(folder):
                tell(line)
        except ExporterError as error:  # not by the folder that it was fetched to, which nobody knows
            text = str(error).replace(str(folder.resolve()), address).replace(str(folder), address)
            error.args = (text,)
            raise
        if then is not None:
            then(folder)

    return fetch_artifact(address, into, replace=replace, check=check)


def keep_vouched(folder: Path) -> str:
    """Make the forms of a copy's report anew from report.json, or remove them; return a line on what changed.

    Raises:
        IntegrityError: the report or the statements are about other files, or were changed.
        BackendError: the disk refuses.
    """
    manifest = read_manifest(folder)
    brought = {name: (folder / name).read_bytes() for name in FORMS if (folder / name).exists()}
    made: dict[str, bytes] = {}
    if (folder / REPORT).exists():
        reports, plans = read_reports(folder, manifest), read_plans(folder, manifest)
        # What holds statements and draws reports is no part of the base install.
        with suppress(BackendMissing):
            files = report_files(reports, manifest, plans)
            made = {name: content for name, content in files.items() if name in brought}
    lines = [_unstated(folder)]
    if made != brought:
        for name in brought:
            (folder / name).unlink()
        write_together(folder, made)
        lines.append(f"{', '.join(brought)}: {f'made anew from {REPORT}' if made else 'left out'}")

    changed = "; ".join(filter(None, lines))
    signed = "; --key, --root or --identity keeps what is signed" if (folder / SIGNATURE).exists() else ""
    return f"{changed}, since nobody vouches for what was published{signed}" if changed else ""


def _unstated(folder: Path) -> str:
    """Hold a copy's statements against its files; remove them, and say so, where that cannot be done here."""
    if not (folder / ATTESTATION).exists():
        return ""
    if (folder / REPORT).exists():
        with suppress(BackendMissing):
            read_statements(folder)
            return ""
    (folder / ATTESTATION).unlink()
    return f"{ATTESTATION}: left out"
