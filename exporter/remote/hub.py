"""Artifacts and models in repositories of the Hugging Face Hub, through huggingface_hub and its cache."""

from __future__ import annotations

import glob
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from exporter.artifact.files import MANIFEST, MAX_BYTES, MAX_FILES, MAX_MANIFEST_BYTES, PLANS
from exporter.artifact.manifest import read_manifest
from exporter.errors import BackendError, BackendMissing, RecipeError
from exporter.packages import missing
from exporter.remote.address import is_loopback
from exporter.remote.patience import Patience
from exporter.remote.source import RemoteFile, check_size, copy_file, needed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from huggingface_hub import ModelInfo

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
        with hub_errors(self.place):
            from huggingface_hub import hf_hub_download

            # The size was listed, and huggingface_hub holds the download against it.
            fetched = Patience().wait_for(
                lambda: Path(hf_hub_download(self.place.where, path, revision=self.commit)),
                self.place.text,
                limit_bytes,
            )
        copy_file(fetched, to, limit_bytes)


def hub_source(place: Place) -> HubSource | None:
    """Return the newest commit of a branch as a source; None if the repository has no such branch.

    Raises:
        RecipeError: the Hub has no such repository, or hides it from this user.
        BackendError: the Hub cannot be reached.
        BackendMissing: huggingface_hub is not installed.
    """
    with hub_errors(place):
        from huggingface_hub.errors import RevisionNotFoundError

        try:
            info = _info(place.where, place.version or DEFAULT_BRANCH, Patience())
        except RevisionNotFoundError:
            return None
    # What has no size in the listing cannot be held against one, so it is not there.
    siblings = [s for s in info.siblings or [] if s.size is not None]
    files = {s.rfilename: RemoteFile(s.size, s.lfs.sha256 if s.lfs else None) for s in siblings}
    return HubSource(place, info.sha, files, {s.rfilename: s.blob_id or "" for s in siblings})


def _info(repo_id: str, revision: str | None, patience: Patience) -> ModelInfo:
    """Return what the Hub says of a repository, the size of each file included.

    Raises:
        RecipeError: a token would be sent without TLS. Whatever huggingface_hub raises.
    """
    from huggingface_hub import HfApi, constants, get_token

    endpoint = urlsplit(constants.ENDPOINT)
    if endpoint.scheme != "https" and not is_loopback(endpoint.hostname or "") and get_token():
        raise RecipeError(
            f"{constants.ENDPOINT} has no TLS, and would be sent your token of the Hub; "
            "set HF_ENDPOINT to an https address, or HF_HUB_DISABLE_IMPLICIT_TOKEN=1"
        )
    return patience.wait_for(
        lambda: HfApi().model_info(
            repo_id, revision=revision, files_metadata=True, timeout=patience.silent_s
        ),
        f"hf://{repo_id}",
    )


def cached_from_hub(repo_id: str, revision: str | None, variant: str | None, *, instead: str) -> Path:
    """Fetch what one variant needs to the Hub's own cache, and return the folder with it.

    Args:
        repo_id: `org/name`.
        revision: a branch, tag or commit; None is the default branch.
        variant: as `Reranker.load` takes it.
        instead: what to do where the Hub cannot be reached, for the error.

    Raises:
        RecipeError, BackendError, BackendMissing: see `fetch_snapshot`; or the artifact has no such variant.
        IntegrityError: the manifest was changed, or a file is larger than it says; that one is not fetched.
    """
    limits = {MANIFEST: MAX_MANIFEST_BYTES, PLANS: MAX_MANIFEST_BYTES}
    folder, commit = fetch_snapshot(repo_id, revision, [MANIFEST, PLANS], instead=instead, limits=limits)
    manifest = read_manifest(folder)
    names = needed(manifest, folder, variant)
    limits = {file.path: file.size_bytes for file in manifest.files if file.path in names}
    limits[PLANS] = MAX_MANIFEST_BYTES
    wanted = [glob.escape(path) for path in (*names, PLANS)]
    folder, _ = fetch_snapshot(repo_id, commit, wanted, instead=instead, limits=limits)
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
    repo_id: str,
    revision: str | None,
    files: Sequence[str],
    *,
    instead: str,
    limits: Mapping[str, int] | None = None,
    most_bytes: int = MAX_BYTES,
    patience: Patience | None = None,
) -> tuple[Path, str]:
    """Fetch files of a repository at one commit, and return the folder that holds them, and the commit.

    Their sizes are asked for first: what is too large is not fetched.

    Args:
        repo_id: `org/name`.
        revision: a branch, tag or commit; None is the default branch.
        files: names or shell patterns; nothing else is fetched.
        instead: what to use where the Hub cannot be reached, for the error.
        limits: how many bytes a file may have, by its name.
        most_bytes: how many bytes all of them may have.
        patience: how long the Hub is waited for.

    Raises:
        RecipeError: `repo_id` is no Hub id, the Hub has no such repository or revision, or its files are too
            many or too large.
        IntegrityError: a file is larger than its limit.
        BackendError: the Hub cannot be reached and its cache lacks the files, or the Hub wants a licence
            accepted.
        BackendMissing: huggingface_hub is not installed.
    """
    patience = patience or Patience()
    unanswered: tuple[type[Exception], ...] = (*_unanswered(), BackendError)
    with _snapshot_errors(repo_id, revision, instead):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError, RevisionNotFoundError

        try:
            info = _info(repo_id, revision, patience)
        except RevisionNotFoundError:
            raise
        except unanswered as error:  # what was fetched before is found without a network
            try:
                folder = Path(snapshot_download(repo_id, revision=revision, local_files_only=True))
            except LocalEntryNotFoundError:
                raise error from None
            return folder, folder.name  # huggingface_hub lays snapshots out as snapshots/COMMIT

        listed = {s.rfilename: s.size for s in info.siblings or []}
        wanted = {path: size for path, size in listed.items() if any(fnmatchcase(path, f) for f in files)}
        _check_sizes(repo_id, wanted, limits or {}, most_bytes)
        folder = _snapshot_folder(repo_id, info.sha, revision)
        if not all((folder / path).is_file() for path in wanted):
            names = [glob.escape(path) for path in wanted]
            patience.wait_for(
                lambda: snapshot_download(repo_id, revision=info.sha, allow_patterns=names),
                f"hf://{repo_id}",
                sum(size or 0 for size in wanted.values()),
            )
    return folder, str(info.sha)


def _check_sizes(
    repo_id: str, wanted: Mapping[str, int | None], limits: Mapping[str, int], most_bytes: int
) -> None:
    """Raise where files are too large or too many to be fetched; what has no size is too large."""
    for path, size in wanted.items():
        check_size(path, most_bytes + 1 if size is None else size, limits.get(path, most_bytes))
    n_bytes = sum(size or 0 for size in wanted.values())
    if len(wanted) > MAX_FILES or n_bytes > most_bytes:
        raise RecipeError(
            f"{repo_id}: {len(wanted)} files of {n_bytes} bytes are to be fetched, and no model has more "
            f"than {MAX_FILES} of {most_bytes}; nothing was fetched"
        )


def _snapshot_folder(repo_id: str, commit: str, revision: str | None) -> Path:
    """Return the folder of a commit in the Hub's cache, and note there which commit a branch stood for.

    huggingface_hub notes that itself where it is told a branch, which may stand for other files by then.
    Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    repository = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo_id, repo_type="model")
    folder: Path = repository / "snapshots" / commit
    with suppress(OSError):  # a cache that may only be read; whoever needs a file finds that it is not there
        folder.mkdir(parents=True, exist_ok=True)
        if revision != commit:
            note = repository / "refs" / (revision or DEFAULT_BRANCH)
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(commit, encoding="utf-8")
    return folder


def _unanswered() -> tuple[type[Exception], ...]:
    """Return what says that the Hub did not answer: requests' and huggingface_hub's errors are OSErrors."""
    try:
        from httpx import HTTPError  # what huggingface_hub 1 speaks with
    except ImportError:
        return (OSError,)
    return OSError, HTTPError


@contextmanager
def _snapshot_errors(repo_id: str, revision: str | None, instead: str) -> Iterator[None]:
    """Raise what keeps a snapshot from being fetched as ours, one line each."""
    try:
        from huggingface_hub.errors import (
            GatedRepoError,
            HFValidationError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError as error:
        raise BackendMissing(f"{missing(error, what=f'{repo_id} is on the Hub')}; or {instead}") from error

    try:
        yield
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
    except _unanswered() as error:
        reason = type(error).__name__
        raise BackendError(
            f"{repo_id} is not in the local cache and the Hub cannot be reached ({reason}); {instead}"
        ) from error
