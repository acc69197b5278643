"""What long-running work tells whoever watches it; `cli.py` draws it, tests and libraries stay silent."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


class Progress(Protocol):
    """Somebody who wants to know how far the work is."""

    def stage(self, name: str, total: int | None = None) -> AbstractContextManager[Callable[[int], None]]:
        """Open a stage; call what it gives with the steps done so far. `total` None means unknown."""
        ...

    def note(self, text: str) -> None:
        """Say one line, for example that a stage was reused."""
        ...


class Silent:
    """Progress nobody watches."""

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Run the block."""
        del name, total
        yield lambda _done: None

    def note(self, text: str) -> None:
        """Drop the line."""
        del text
