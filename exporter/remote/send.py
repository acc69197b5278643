"""Deliver a published folder to a place: readers see the old artifact or the new one, never a mixture.

What makes a delivery visible is always the last step, and one step: a rename, a commit, a tag, a pointer.
When a send that was killed is repeated, everything before that step is found again by its hash.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from exporter.artifact.files import SIGNATURE
from exporter.errors import RecipeError
from exporter.progress import Silent
from exporter.remote.address import parse_destination
from exporter.remote.difference import Sent, check_overwrite, delivery, difference

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.progress import Progress
    from exporter.remote.address import Place
    from exporter.remote.difference import Delivery, Difference


def send(
    folder: Path,
    address: str,
    progress: Progress | None = None,
    *,
    replace: bool = False,
    pull_request: bool = False,
) -> Sent:
    """Deliver a published folder, and return what was sent; sending the same folder again sends nothing.

    Args:
        folder: whole and final, with its manifest, report and whatever proof it has.
        address: a folder, `hf://org/name[@branch]`, `oci://registry/name:tag` or `s3://bucket/prefix`.
        progress: told of each stage.
        replace: deliver over another artifact, which is one with other files in its manifest. The same files
            with another report, card or signature need no permission.
        pull_request: open a pull request on the Hub instead of committing to the branch.

    Raises:
        RecipeError: the address cannot be parsed, the place holds another artifact, its repository or bucket
            does not exist, or the credentials found may not write to it.
        IntegrityError: the folder is not what its manifest says.
        BackendError: the place cannot be reached or failed. It keeps, unseen, what was sent; send again.
        BackendMissing: the place's client library is not installed.
    """
    place = destination(address, pull_request=pull_request)
    wanted = delivery(folder)
    found = difference(wanted, place, replace=replace)
    if found.is_empty:
        reference = place.text if place.kind == "dir" else found.version
        return Sent(place.text, reference, None, len(wanted.files))

    sent = _delivered(wanted, place, found, progress or Silent(), replace=replace, pull_request=pull_request)
    is_signed = any(file.path == SIGNATURE for file in wanted.files)
    return dataclasses.replace(sent, lost_signature=SIGNATURE in found.there and not is_signed)


def _delivered(
    wanted: Delivery,
    place: Place,
    found: Difference,
    progress: Progress,
    *,
    replace: bool,
    pull_request: bool,
) -> Sent:
    if place.kind == "hf":
        from exporter.remote.hub_push import commit

        return commit(wanted, place, found, progress, replace=replace, pull_request=pull_request)
    if not replace:
        check_overwrite(wanted, found, place)

    match place.kind:
        case "dir":
            from exporter.remote.folder_push import write as write_folder

            return write_folder(wanted, place, progress, replace=replace)
        case "oci":
            from exporter.remote.oci_push import push

            return push(wanted, place, progress)
        case "s3":
            from exporter.remote.bucket_push import write

            return write(wanted, place, found, progress)


def destination(address: str, *, pull_request: bool = False) -> Place:
    """Return the place to send to; no network is asked, so a misspelt address is found before any work.

    Raises:
        RecipeError: the address cannot be parsed, or nothing can be sent to it.
    """
    place = parse_destination(address)
    if pull_request and (place.kind != "hf" or place.version not in (None, "main")):
        raise RecipeError(
            f"{place.text}: a pull request is to the main branch of a Hub repository; wanted hf://org/name"
        )
    if place.kind == "oci" and (place.version or "").startswith("sha256:"):
        raise RecipeError(
            f"{place.text}: a digest names what is there already; wanted oci://registry/name:tag"
        )
    return place
