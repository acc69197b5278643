"""Where artifacts lie outside this machine, and how they come here: `fetch_artifact`, and `cached_artifact` for the runtime."""

from exporter.remote.fetch import cached_artifact, fetch_artifact
from exporter.remote.place import Place, is_remote, parse_place

__all__ = ["Place", "cached_artifact", "fetch_artifact", "is_remote", "parse_place"]
