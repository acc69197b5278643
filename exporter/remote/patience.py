"""How long a place is waited for: one that sends a byte a minute is given up like one that sends none."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

from exporter.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a place is waited for.

    `connect_s`: seconds for a connection. `backoff_s`: before the second repetition twice that; urllib3
    does not wait before the first. `silent_s`: seconds between two bytes. `small_s`: seconds for a
    whole exchange, repetitions counted; one that carries a file has longer, as if it came at
    `bytes_per_s`. `hashed_per_s`: bytes a second that a registry hashes before it answers an upload.
    """

    connect_s: float = 10
    backoff_s: float = 2
    silent_s: float = 60
    small_s: float = 180
    bytes_per_s: int = 10_000
    hashed_per_s: int = 10_000_000

    def total_s(self, n_bytes: int = 0) -> float:
        """Return how long an exchange may take, in seconds."""
        return self.small_s + n_bytes / self.bytes_per_s

    def wait_for(self, call: Callable[[], _T], what: str, n_bytes: int = 0) -> _T:
        """Return what a client library's call returns, if it does so in time.

        The libraries bound the time between two bytes only. A call that takes too long is left behind in a
        thread of its own, which ends with the process.

        Args:
            call: what to do.
            what: is asked or fetched, for the error.
            n_bytes: how large a file comes with it.

        Raises:
            BackendError: it takes too long. Whatever `call` raises.
        """
        done: list[_T] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                done.append(call())
            except BaseException as error:  # noqa: BLE001 - raised again, by whoever waits
                failed.append(error)

        thread = Thread(target=run, daemon=True)
        thread.start()
        thread.join(self.total_s(n_bytes))
        if failed:
            raise failed[0]
        if not done:
            raise BackendError(
                f"{what}: took longer than {self.total_s(n_bytes):.0f} seconds; run the same again"
            )
        return done[0]
