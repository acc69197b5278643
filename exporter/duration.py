"""How long a command will take: by what its stages took on this machine before, else by a rough figure.

What stages took is kept in the user's cache, a line a stage, by model, instruction set and cores. It is for
people only: no result depends on it, and a file that cannot be read or written is done without.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from exporter.artifact.files import read_sealed, write_sealed
from exporter.errors import ExporterError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.cache import Cache

_FILE = "durations.json"
# Models whose stages are remembered; the oldest is forgotten.
_N_KEPT = 50


@dataclass(frozen=True, slots=True)
class Step:
    """A stage that is to come: its whole name, as it is shown, and about how many seconds it takes.

    `n` is what it grows with, such as pairs. `rough_s` are the seconds of all `n`, for a machine that has not
    done it before.
    """

    name: str
    n: int
    rough_s: float


@dataclass(frozen=True, slots=True)
class Expected:
    """The stages that are to come; `key` says of which model on which machine, `what` in words."""

    key: str
    what: str
    steps: tuple[Step, ...]

    def seconds(self, cache: Cache) -> dict[str, float]:
        """Return about how many seconds each stage takes."""
        known = _read(cache).get(self.key, {})
        return {
            step.name: known[step.name] * step.n if step.name in known else step.rough_s
            for step in self.steps
        }

    def keep(self, cache: Cache, took: Mapping[str, float]) -> None:
        """Remember what stages took, in seconds by name; those that were not expected are left out."""
        if not any(step.name in took for step in self.steps) or cache.root is None:
            return
        found = _read(cache)
        known = found.pop(self.key, {})
        known |= {step.name: took[step.name] / step.n for step in self.steps if step.name in took}
        kept = [*found.items(), (self.key, known)][-_N_KEPT:]
        with suppress(OSError, ExporterError):
            write_sealed(cache.check() / _FILE, {"seconds": kept})


def _read(cache: Cache) -> dict[str, dict[str, float]]:
    """Return seconds by key and stage; nothing where the file is not there or was made by nobody here."""
    if cache.root is None:
        return {}
    try:
        found: Any = read_sealed(cache.check() / _FILE)["seconds"]
        return {
            str(key): {str(name): float(seconds) for name, seconds in stages.items()} for key, stages in found
        }
    except (OSError, ExporterError, KeyError, TypeError, ValueError, AttributeError):
        return {}


def busy(load: float, n_cores: int) -> str:
    """Return that it will take longer, where others keep cores busy; empty where they do not.

    Figures are of a machine that has nothing else to do.

    Args:
        load: processes that ran or waited for a core in the last minute, on average.
        n_cores: those there are.
    """
    if load < max(1.0, n_cores / 4):
        return ""
    return f"; longer, while other processes keep {min(load, n_cores):.0f} of {n_cores} cores busy"


def in_words(seconds: float) -> str:
    """Return a duration, rounded as it is known: to ten seconds, to minutes, or to tenths of an hour."""
    if seconds < 90:
        return f"{max(10, round(seconds, -1)):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
