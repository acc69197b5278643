"""What long-running work tells whoever watches it; the command line draws it, a library stays silent."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


class Progress(Protocol):
    """Somebody who wants to know how far the work is."""

    def stage(self, name: str, total: int | None = None) -> AbstractContextManager[Callable[[int], None]]:
        """Open a stage; its block calls what it gets with the steps done so far; `total` None is unknown."""
        ...

    def note(self, text: str) -> None:
        """Show one line, for example that a stage was reused."""
        ...


class Silent:
    """Progress that is not shown."""

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Run the block."""
        del name, total
        yield lambda _done: None

    def note(self, text: str) -> None:
        """Drop the line."""
        del text


@contextmanager
def quiet() -> Iterator[None]:
    """Silence libraries while they build: stdout is for results, and what matters they raise."""
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings(), _without_bars():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Switch off the bars that transformers, if it is here, draws on stderr, for example over shards.

    Source: https://huggingface.co/docs/transformers/main_classes/logging#transformers.utils.logging.disable_progress_bar
    """
    bars = getattr(sys.modules.get("transformers.utils"), "logging", None)
    if bars is None or not bars.is_progress_bar_enabled():
        yield
        return
    bars.disable_progress_bar()
    try:
        yield
    finally:
        bars.enable_progress_bar()
