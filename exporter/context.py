"""What surrounds one command: who watches it, where finished steps are kept, and when it began.

One value handed down from the command line, or from whoever calls the library, so that nothing below reads
the environment or the clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from exporter.cache import Cache
from exporter.duration import Expected
from exporter.progress import Progress, Silent

if TYPE_CHECKING:
    from collections.abc import Callable


def utc_now() -> str:
    """Return the time, ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _nobody_asks(_expected: Expected) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Context:
    """The surroundings of a command.

    `progress` is told what goes on, `cache` keeps finished steps, `started_at` (ISO 8601, UTC) stands in
    reports, `expect` is told which stages are to come.
    """

    progress: Progress = field(default_factory=Silent)
    cache: Cache = field(default_factory=Cache.of_user)
    started_at: str = field(default_factory=utc_now)
    expect: Callable[[Expected], object] = _nobody_asks
