"""Artifacts and models in repositories of the Hugging Face Hub, through huggingface_hub and its cache."""

from __future__ import annotations

import glob
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.artifact.files import MANIFEST, PLANS
from exporter.artifact.manifest import read_manifest
from exporter.errors import BackendError, BackendMissing, RecipeError
from exporter.packages import missing
from exporter.remote.source import RemoteFile, needed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.artifact.files import FileEntry
    from exporter.remote.address import Place


DEFAULT_BRANCH = "main"


@dataclass(frozen=True, slots=True)
class HubSource:
    """One commit of a repository; `blobs` has git's own hash of each file."""

    place: Place
    commit: str
    files: dict[str, RemoteFile]
    blobs: dict[str, str]

    @property
    def version(self) -> str:
        """Return the commit."""
        return self.commit

    def same(self, entry: FileEntry, file: Path) -> bool:
        """Return whether the place holds the content of a local file at the path of its `entry`."""
        listed = self.files.get(entry.path)
        if listed is None or listed.size_bytes != entry.size_bytes:
            return False
        if listed.sha256:
            return listed.sha256 == entry.sha256
        from huggingface_hub.utils.sha import git_hash

        return bool(self.blobs.get(entry.path) == git_hash(file.read_bytes()))

    def copy(self, path: str, to: Path, limit_bytes: int) -> None:
        """Fetch a file to the Hub's cache, and write it to the new local file `to`."""
        del limit_bytes  # the size was listed, and huggingface_hub holds the download against it
        # `fetch_snapshot` takes patterns, and a name may look like one.
        folder, _ = fetch_snapshot(self.place.where, self.commit, [glob.escape(path)], instead="try again")
        if not (folder / path).is_file():
            raise BackendError(f"{self.place.text}: {path} was not fetched; try again")
        with (folder / path).open("rb") as there, to.open("xb") as here:
            shutil.copyfileobj(there, here)


def hub_source(place: Place) -> HubSource | None:
    """Return the newest commit of a branch as a source; None if the repository has no such branch.

    Raises:
        RecipeError: the Hub has no such repository, or hides it from this user.
        BackendError: the Hub cannot be reached.
        BackendMissing: huggingface_hub is not installed.
    """
    with hub_errors(place):
        from huggingface_hub import HfApi
        from huggingface_hub.errors import RevisionNotFoundError

        try:
            info = HfApi().model_info(
                place.where, revision=place.version or DEFAULT_BRANCH, files_metadata=True
            )
        except RevisionNotFoundError:
            return None
    siblings = info.siblings or []
    files = {s.rfilename: RemoteFile(s.size or 0, s.lfs.sha256 if s.lfs else None) for s in siblings}
    return HubSource(place, info.sha, files, {s.rfilename: s.blob_id or "" for s in siblings})


def cached_from_hub(repo_id: str, revision: str | None, variant: str | None, *, instead: str) -> Path:
    """Fetch what one variant needs to the Hub's own cache, and return the folder with it.

    Args:
        repo_id: `org/name`.
        revision: a branch, tag or commit; None is the default branch.
        variant: its kind, by default the first that the manifest names.
        instead: what to do where the Hub cannot be reached, for the error.

    Raises:
        RecipeError, BackendError, BackendMissing: see `fetch_snapshot`; or the artifact has no such variant.
        IntegrityError: the manifest was changed.
    """
    folder, commit = fetch_snapshot(repo_id, revision, [MANIFEST], instead=instead)
    wanted = [glob.escape(path) for path in (*needed(read_manifest(folder), variant), PLANS)]
    folder, _ = fetch_snapshot(repo_id, commit, wanted, instead=instead)
    return folder


@contextmanager
def hub_errors(place: Place) -> Iterator[None]:
    """Raise huggingface_hub's errors as ours, one line each; the library's texts may quote what was sent."""
    try:
        from huggingface_hub.errors import (
            EntryNotFoundError,
            GatedRepoError,
            HfHubHTTPError,
            HFValidationError,
            RepositoryNotFoundError,
            XetError,
        )
    except ImportError as error:
        raise missing(error, what=place.text) from error
    try:
        from httpx import HTTPError  # what huggingface_hub 1 speaks with
    except ImportError:
        HTTPError = OSError  # noqa: N806
    repo = place.where
    try:
        yield
    except HFValidationError:
        raise RecipeError(f"{repo!r} is no Hub id, which is org/name") from None
    except GatedRepoError:
        raise BackendError(
            f"{repo} asks for a licence to be accepted; do so on its page, and `hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        raise RecipeError(
            f"the Hub has no {repo}, or not for you; `hf auth login`, or set HF_TOKEN, "
            f"or make it: `hf repo create {repo}`"
        ) from None
    except EntryNotFoundError as error:
        raise BackendError(
            f"{place.text}: a file was not there ({type(error).__name__}); run the same again"
        ) from error
    except HfHubHTTPError as error:
        raise _http_error(place, getattr(error.response, "status_code", 0), error) from error
    # RuntimeError: an upload failed. ValueError: the answer could not be read.
    except (OSError, RuntimeError, ValueError, HTTPError, XetError) as error:
        if isinstance(cause := error.__cause__, HfHubHTTPError):
            raise _http_error(place, getattr(cause.response, "status_code", 0), cause) from cause
        reason = type(error).__name__
        raise BackendError(
            f"{place.text}: the Hub cannot be reached or failed ({reason}); run the same again"
        ) from error


def _http_error(place: Place, status: int, error: Exception) -> BackendError | RecipeError:
    if status in (401, 403):
        return RecipeError(
            f"{place.text}: the Hub refuses ({status}); "
            "log in with `hf auth login`, or set HF_TOKEN to a token that may do this"
        )
    if status in (409, 412):
        return BackendError(f"{place.text}: somebody else committed meanwhile; run the same again")
    what = status or type(error).__name__
    return BackendError(f"{place.text}: the Hub answered {what}; run the same again, what was sent is kept")


def fetch_snapshot(
    repo_id: str, revision: str | None, files: Sequence[str], *, instead: str
) -> tuple[Path, str]:
    """Fetch files of a repository at one commit, and return the folder that holds them, and the commit.

    Args:
        repo_id: `org/name`.
        revision: a branch, tag or commit; None is the default branch.
        files: names or shell patterns; nothing else is fetched.
        instead: what to use where the Hub cannot be reached, for the error.

    Raises:
        RecipeError: `repo_id` is no Hub id, or the Hub has no such repository or revision.
        BackendError: the Hub cannot be reached and its cache lacks the files, or the Hub wants a licence
            accepted.
        BackendMissing: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            GatedRepoError,
            HFValidationError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError as error:
        raise BackendMissing(f"{missing(error, what=f'{repo_id} is on the Hub')}; or {instead}") from error

    try:
        folder = Path(snapshot_download(repo_id, revision=revision, allow_patterns=list(files)))
    except HFValidationError:
        raise RecipeError(f"{repo_id!r} is no folder and no Hub id, which is org/name") from None
    except GatedRepoError:
        raise BackendError(
            f"{repo_id} asks for a licence to be accepted; log in with `hf auth login` or use a local folder"
        ) from None
    except RevisionNotFoundError:
        raise RecipeError(f"{repo_id} has no revision {revision!r}") from None
    except RepositoryNotFoundError:
        raise RecipeError(f"the Hub has no {repo_id}, or not for you; check the name, or log in") from None
    # requests' and huggingface_hub's errors are OSErrors: no route, time-out, nothing cached.
    except OSError as error:
        reason = type(error).__name__
        raise BackendError(
            f"{repo_id} is not in the local cache and the Hub cannot be reached ({reason}); {instead}"
        ) from error

    # huggingface_hub lays snapshots out as snapshots/COMMIT.
    return folder, folder.name
