"""Find an artifact's folder on this machine, fetched from wherever it is."""

from __future__ import annotations

from pathlib import Path

from exporter.artifact.bare import means_hub
from exporter.remote import cached_artifact, is_remote, parse_place


def local_folder(name: str, revision: str | None = None, variant: str | None = None) -> Path:
    """Return a folder of this machine with what one variant needs.

    Args:
        name: as `Reranker.load` takes it.
        revision: likewise.
        variant: likewise.

    Raises:
        RecipeError, IntegrityError, BackendError, BackendMissing: see `exporter.remote.cached_artifact`.
    """
    if is_remote(name):
        return cached_artifact(name, variant)
    if means_hub(name):
        from exporter.remote.hub import cached_from_hub

        place, instead = parse_place(name), f"{name} is no folder here either"
        return cached_from_hub(place.where, place.version or revision, variant, instead=instead)
    return Path(name)
