"""Try an artifact that was fetched: does each variant score a few pairs within limits?

Nothing is compared: that the files are those of the manifest was checked before, and how well a variant
scores its report says. What is found is what no list can show: a graph that never ends, a tokenizer that
takes all memory, a model that gives no scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from exporter import worker
from exporter.artifact.cpus import runs_on
from exporter.artifact.manifest import read_manifest
from exporter.errors import BackendError, BackendMissing, IntegrityError
from exporter.escape import one_line
from exporter.machine import this_machine
from exporter.memory import limit_bytes
from exporter.runtime.model_file import check_artifact
from exporter.worker.job import ArtifactSpec

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.progress import Progress

# Nothing, one of each, any script, and more than any model reads.
PAIRS = (
    ("", ""),
    ("does aspirin prevent stroke?", "Aspirin lowers the risk of a first stroke."),
    ("阿司匹林能预防中风吗?", "阿司匹林可降低首次中风的风险。"),
    ("does aspirin prevent stroke?", "Aspirin lowers the risk of a first stroke. " * 2000),
    ("a" * 20_000, "🙂" * 20_000),
)
# What a fetched artifact may take unless it is said otherwise: enough for the largest rerankers to be loaded.
MAX_SECONDS = 300.0
_SHARE_OF_MEMORY = 2


def max_bytes() -> int | None:
    """Return half of the memory that this machine, or the control group, has; None where nobody tells."""
    most, _ = limit_bytes()
    return most // _SHARE_OF_MEMORY or None


def try_artifact(folder: Path, progress: Progress) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Score `PAIRS` with every variant that this CPU runs, each in a process of its own.

    Args:
        folder: the artifact, whose files were compared with its manifest.
        progress: told how many variants are done.

    Returns:
        The kinds that were tried, and those that this CPU cannot run.

    Raises:
        IntegrityError: a variant brings code, fails, or gives scores that are no numbers.
        LimitReached: a variant takes more than `worker.limited` allows.
        BackendMissing: an engine is not installed.
    """
    manifest, machine = read_manifest(folder), this_machine()
    check_artifact(manifest, folder)
    tried = [entry.kind for entry in manifest.variants if runs_on(entry.traits, machine)]
    with progress.stage("try", len(tried)) as step:
        for done, kind in enumerate(tried, 1):
            _score(folder, kind, machine.n_cores)
            step(done)
    return tuple(tried), tuple(entry.kind for entry in manifest.variants if entry.kind not in tried)


def _score(folder: Path, kind: str, n_cores: int) -> None:
    try:
        scores = worker.score(ArtifactSpec(str(folder), kind, 1, n_cores, 512), PAIRS)
    except BackendMissing:
        raise
    except BackendError as error:
        why = next((text for text in str(error).splitlines() if text.strip()), "no reason given")
        raise IntegrityError(f"{kind}: does not run: {one_line(why)}") from error
    if not np.isfinite(scores).all():
        at = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise IntegrityError(f"{kind}: gives {scores[at]} for a score; do not use it, tell who published it")
