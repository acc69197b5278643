"""Where artifacts lie outside this machine, and how they come here and go there.

`fetch_artifact` copies a published artifact to a folder, `cached_artifact` does so for the runtime.
"""

from exporter.remote.address import Place, is_remote, parse_place
from exporter.remote.fetch import cached_artifact, fetch_artifact

__all__ = ["Place", "cached_artifact", "fetch_artifact", "is_remote", "parse_place"]
