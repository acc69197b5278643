"""Send to the Hub: one commit, or one pull request, with the new files added and the old ones deleted.

Large files are uploaded before the commit names them, and the Hub keeps them by their hash: when a send that
was killed is repeated, only missing files are uploaded, and the branch is what it was until the commit.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from exporter.errors import RecipeError
from exporter.remote.bucket import version_of
from exporter.remote.difference import Holds, Sent, check_overwrite, difference
from exporter.remote.hub import DEFAULT_BRANCH, hub_errors, hub_source

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from exporter.progress import Progress
    from exporter.remote.address import Place
    from exporter.remote.difference import Delivery, Difference


def commit(
    wanted: Delivery,
    place: Place,
    found: Difference,
    progress: Progress,
    *,
    replace: bool,
    pull_request: bool,
) -> Sent:
    """Commit a delivery to a branch, or open a pull request; a branch that does not exist is made from main.

    Raises:
        RecipeError: the branch holds another artifact, the repository does not exist, or the token may not
            write to it.
        BackendError: the Hub failed, or somebody committed meanwhile.
    """
    with hub_errors(place):
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

        api = HfApi()
        branch = place.version or DEFAULT_BRANCH
        title = f"Publish {wanted.manifest.name} ({version_of(wanted.files)[:12]})"
        if pull_request:
            if opened := _open_request(api, place, title):
                return Sent(place.text, opened, None, len(wanted.files))
        elif not replace and not _is_unborn(place, found.version):
            check_overwrite(wanted, found, place)

        if found.holds is Holds.NOTHING:
            api.create_branch(place.where, branch=branch, exist_ok=True)
            found = difference(wanted, place, replace=replace)
        if found.holds is Holds.NOTHING:
            raise RecipeError(
                f"{place.text}: the repository has no {DEFAULT_BRANCH} branch yet; "
                "make a first commit on its page"
            )
        if found.is_empty:
            return Sent(place.text, found.version, None, len(wanted.files))
        if ".gitignore" in found.there:
            raise RecipeError(
                f"{place.text}: has a .gitignore, by which the Hub drops files without a word; "
                "delete it there"
            )

        additions = [CommitOperationAdd(file.path, str(wanted.folder / file.path)) for file in found.changed]
        deletions = [CommitOperationDelete(path) for path in found.gone]
        with progress.stage(f"{place.text}: {len(additions)} files"):
            done = api.create_commit(
                place.where,
                [*additions, *deletions],
                commit_message=title,
                revision=branch,
                create_pr=pull_request,
                parent_commit=found.version,
            )
    reference = done.pr_url if pull_request else done.oid
    return Sent(place.text, str(reference), len(additions), len(wanted.files))


def _open_request(api: HfApi, place: Place, title: str) -> str | None:
    """Return the URL of the pull request that an earlier send opened, None if it opened none."""
    for found in api.get_repo_discussions(
        place.where, discussion_type="pull_request", discussion_status="open"
    ):
        if found.title == title:
            return str(found.url)
    return None


def _is_unborn(place: Place, commit_there: str) -> bool:
    """Return whether a branch equals main, as one that was made for a send and then killed does."""
    if not commit_there or place.version in (None, DEFAULT_BRANCH):
        return False
    main = hub_source(dataclasses.replace(place, version=DEFAULT_BRANCH))
    return main is not None and main.commit == commit_there
