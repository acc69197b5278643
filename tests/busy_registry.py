"""A stand-in for an OCI registry that is overloaded: it refuses a request some times before it answers."""

from __future__ import annotations

import hashlib
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

Request = tuple[str, str]  # method, and path with query
Answer = tuple[int, dict[str, str], bytes]


@dataclass
class BusyRegistry:
    """What the registry holds, what was asked of it, and what of that it served.

    Before it serves a request it refuses the same `n_refusals` times: with 503, or, where `hangs_up` is
    set, by closing the connection.
    """

    address: str
    n_refusals: int = 1
    retry_after: str = "0"
    hangs_up: bool = False
    asked: list[Request] = field(default_factory=list)
    served: list[Request] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    refused: Counter[Request] = field(default_factory=Counter)

    def refuses(self, request: Request) -> bool:
        """Note a request, and return whether it is refused."""
        self.asked.append(request)
        if self.refused[request] < self.n_refusals:
            self.refused[request] += 1
            return True
        self.refused[request] = 0
        self.served.append(request)
        return False

    def answer(self, method: str, target: str, body: bytes) -> Answer:
        """Do what a request asks."""
        path, _, query = target.partition("?")
        name = path.rpartition("/")[2]
        held = self.manifests if "/manifests/" in path else self.blobs
        match method:
            case "POST":
                return 202, {"Location": f"{path.rstrip('/')}/{len(self.served)}"}, b""
            case "PUT" if "/uploads/" in path:
                digest = query.removeprefix("digest=")
                if f"sha256:{hashlib.sha256(body).hexdigest()}" != digest:
                    return 400, {}, b""
                self.blobs[digest] = body
                return 201, {}, b""
            case "PUT":
                self.manifests[name] = body
                return 201, {"OCI-Subject": "kept"}, b""
            case _ if name in held:
                return 200, {}, held[name]
            case _:
                return 404, {}, b""


@contextmanager
def busy_registry() -> Iterator[BusyRegistry]:
    """Run a registry on loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if not registry.refuses((self.command, self.path)):
                self.send(*registry.answer(self.command, self.path, body))
            elif registry.hangs_up:
                self.close_connection = True
            else:
                self.send(503, {"Retry-After": registry.retry_after}, b"")

        do_GET = do_HEAD = do_POST = do_PUT = do_any  # noqa: N815

        def send(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for key, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry = BusyRegistry(f"127.0.0.1:{server.server_port}")
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
