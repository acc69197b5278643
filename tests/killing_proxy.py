"""A proxy on loopback that counts the requests of a client, and can kill the client at the k-th.

Killed `before`, the server never sees that request; killed `after`, it has done what was asked and nobody
hears.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib
import multiprocessing
import os
import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from exporter.remote.send import send
from tests.hub_stand_in import hub_settings
from tests.published import contents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

When = Literal["before", "after"]
# Its processes have the clients' libraries loaded, so that each starts in milliseconds.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["pytest", "tests.killing_proxy", "exporter.remote.login", "s3fs", "huggingface_hub.file_download"]
)


@dataclass
class Proxy:
    """Where to connect to instead of the server, and what was asked so far."""

    url: str
    asked: list[tuple[str, str]] = field(default_factory=list)  # method, path
    spoil: Callable[[str, bytes], bytes] = lambda _path, content: content  # what becomes of an answer's body
    kill_at: int = 0
    when: When = "before"
    victim: int = 0
    _known: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def host(self) -> str:
        """The address without http://."""
        return self.url.removeprefix("http://")

    def forget(self) -> None:
        """Count from zero again, and kill nobody."""
        self.asked.clear()
        self.kill_at = 0

    def count(self, method: str, path: str) -> bool:
        """Note a request, and return whether its client is to be killed."""
        with self._lock:
            self.asked.append((method, path))
            return len(self.asked) == self.kill_at

    def kill(self) -> None:
        """Kill the client."""
        assert self._known.wait(10)
        os.kill(self.victim, signal.SIGKILL)

    def run(self, folder: Path, address: str, *, kill_at: int = 0, when: When = "before") -> int:
        """Send an artifact in a process of its own, and return its exit code, -9 where it was killed."""
        self.forget()
        self._known.clear()
        self.kill_at, self.when = kill_at, when
        process = _FORKS.Process(target=_send, args=(folder, address, dict(os.environ), self.url))
        process.start()
        self.victim = process.pid or 0
        self._known.set()
        process.join(60)
        assert process.exitcode is not None
        return process.exitcode

    def kill_and_repeat(
        self, old: Path, new: Path, address: Callable[[str], str], pull: Callable[[str], dict[str, bytes]]
    ) -> int:
        """Kill a send at many of its requests, and check what is there then and after a repeat.

        Args:
            old: the artifact that is there.
            new: the one to be sent.
            address: gives an empty place for a word.
            pull: gives the files at a place.

        Returns:
            The number of killed sends after which the new artifact was there.
        """
        before, after = contents(old), contents(new)
        send(old, address("count"))
        assert self.run(new, address("count")) == 0
        n_asked, n_there = len(self.asked), 0
        moments = {
            (k, when)
            for k in range(1, n_asked + 1)
            for when in ("before", "after")
            if (k + (when == "after")) % 4 == 0
        }
        for kill_at, when in sorted(
            moments | {(k, when) for k in (n_asked - 1, n_asked) for when in ("before", "after")}
        ):
            place = address(f"at-{kill_at}-{when}")
            send(old, place)
            assert self.run(new, place, kill_at=kill_at, when=when) == -signal.SIGKILL
            self.forget()
            found = pull(place)
            assert found in (before, after), f"a mixture, killed {when} request {kill_at} of {n_asked}"
            n_there += found == after
            send(new, place, replace=True)
            assert pull(place) == after
        return n_there


def _send(folder: Path, address: str, env: dict[str, str], hub_url: str) -> None:
    os.environ.update(env)
    for name, value in hub_settings(hub_url, env.get("HF_HUB_CACHE", "")).items():
        module, _, attribute = name.rpartition(".")
        setattr(importlib.import_module(module), attribute, value)
    send(folder, address, replace=True)


@contextmanager
def proxy_of(upstream: str) -> Iterator[Proxy]:  # noqa: C901
    """Stand in front of a server."""
    there = urlsplit(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            body = self._body()
            doomed = proxy.count(self.command, self.path)
            if doomed and proxy.when == "before":
                self._end()
                return
            kept = {
                k: v
                for k, v in self.headers.items()
                if k.lower() not in ("transfer-encoding", "expect", "connection")
            }
            connection = http.client.HTTPConnection(there.hostname or "", there.port, timeout=30)
            connection.request(self.command, self.path, body, {**kept, "Content-Length": str(len(body))})
            answer = connection.getresponse()
            content = proxy.spoil(self.path, answer.read())
            connection.close()
            if doomed:
                self._end()
                return
            self.send_response(answer.status)
            for key, value in answer.getheaders():
                if key.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                    self.send_header(key, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(content)

        def _end(self) -> None:
            proxy.kill()
            self.close_connection = True

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on  # noqa: N815

        def handle_one_request(self) -> None:
            # The client may be dead.
            with contextlib.suppress(ConnectionError):
                super().handle_one_request()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy = Proxy(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
