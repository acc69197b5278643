"""Our own scores of the probe's pairs, which a consumer's scores are compared with."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from exporter import worker
from exporter.artifact.files import list_files
from exporter.artifact.manifest import write_manifest
from exporter.errors import BackendError
from exporter.machine import this_machine
from exporter.worker.job import ArtifactSpec

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.artifact.manifest import Manifest
    from exporter.consumers.diagnose import Scores
    from exporter.consumers.probe import Probe
    from exporter.runtime.engine import Numerics


class OurScores:
    """Our own scores with a published folder's variants, each pair alone; computed when first asked for."""

    def __init__(self, folder: Path, manifest: Manifest, probe: Probe, scratch: Path) -> None:
        """Copy the folder twice, the second copy with a tokenizer that gives every token type 0.

        Args:
            folder: the published folder.
            manifest: its manifest.
            probe: the pairs to score.
            scratch: an empty folder for the copies, kept as long as scores are asked for.

        Raises:
            BackendError: the disk refuses.
        """
        self.folder, self.manifest, self.probe = folder, manifest, probe
        self._folders = {False: scratch / "ours", True: scratch / "typeless"}
        self._known: dict[tuple[str, Numerics, bool], Scores] = {}
        for copy in self._folders.values():
            copy_published(folder, copy)
        self._has_typeless = _drop_types(self._folders[True] / "tokenizer.json")
        for copy in self._folders.values():  # a staged folder may have no manifest yet
            write_manifest(replace(manifest, files=list_files(copy)), copy)

    def scores(self, kind: str, numerics: Numerics) -> Scores:
        """Return a variant's raw logits, float64[n_pairs].

        Raises:
            BackendError: our runtime cannot score.
        """
        return self._scored(kind, numerics, typeless=False)

    def typeless_scores(self, kind: str, numerics: Numerics) -> Scores | None:
        """Return a variant's raw logits with every token's type 0, as computed by a library that drops types.

        Returns:
            float64[n_pairs]; None for a model without types, or a tokenizer whose types cannot be changed.

        Raises:
            BackendError: our runtime cannot score.
        """
        if not self._has_typeless or "token_type_ids" not in self.manifest.variant(kind).inputs:
            return None
        return self._scored(kind, numerics, typeless=True)

    def _scored(self, kind: str, numerics: Numerics, *, typeless: bool) -> Scores:
        key = (kind, numerics, typeless)
        if key not in self._known:
            # A budget of one token: every pair is a batch of its own.
            n_cores = this_machine().n_cores
            spec = ArtifactSpec(str(self._folders[typeless]), kind, 1, n_cores, 1, numerics=numerics)
            self._known[key] = worker.score(spec, self.probe.pairs).astype(np.float64)
        return self._known[key]


def copy_published(folder: Path, copy: Path) -> None:
    """Copy a folder.

    Raises:
        BackendError: the disk refuses.
    """
    try:
        shutil.copytree(folder, copy)
    except (OSError, shutil.Error) as error:
        raise BackendError(f"{folder} cannot be copied to {copy.parent}: {error}") from error


def _drop_types(path: Path) -> bool:
    """Make a tokenizer give every token type 0; return False where its file does not say which types."""
    content = json.loads(path.read_bytes())
    template = (content.get("post_processor") or {}).get("pair")
    if not isinstance(template, list):
        return False

    for part in template:
        for piece in part.values():
            piece["type_id"] = 0
    path.write_text(json.dumps(content), encoding="utf-8")
    return True
