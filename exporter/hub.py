"""Fetch files of a Hugging Face Hub repository, or find them in the Hub's cache. Its errors become ours, one line each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from exporter.errors import BackendError, BackendMissing, RecipeError

if TYPE_CHECKING:
    from collections.abc import Sequence


def fetch(repo_id: str, revision: str | None, files: Sequence[str], *, instead: str) -> tuple[Path, str]:
    """Give the folder that holds the wanted files of a repository, and their commit.

    Args:
        repo_id: `org/name`.
        revision: a branch, tag or commit; None is the default branch.
        files: names or shell patterns; nothing else is fetched.
        instead: what to use where the Hub cannot be reached, for the error.

    Raises:
        RecipeError: this is no Hub id, or the Hub has no such repository or revision.
        BackendError: the Hub cannot be reached and the files are not in its cache, or it wants a licence accepted.
        BackendMissing: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError
    except ImportError:
        raise BackendMissing(f"{repo_id} is on the Hub: pip install huggingface_hub, or {instead}") from None
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
    except OSError as error:  # requests' and huggingface_hub's errors are OSErrors: no route, time-out, nothing cached
        reason = type(error).__name__
        raise BackendError(f"{repo_id} is not in the local cache and the Hub cannot be reached ({reason}); {instead}") from error
    # huggingface_hub lays snapshots out as snapshots/COMMIT.
    return folder, folder.name
