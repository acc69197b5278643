"""A server that does what no honest one does: it notes what it is sent, and answers as it is told to.

With TLS it has a certificate for `registry.test`; `names` leads all names under `.test` to this machine.
"""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest


TLS_NAME = "registry.test"


@dataclass
class Request:
    """What came, and the ways to answer."""

    method: str
    path: str
    authorization: str
    handler: BaseHTTPRequestHandler

    def answer(self, status: int = 200, body: bytes = b"", **headers: str) -> None:
        """Answer as servers do; underscores in names of headers are hyphens."""
        self.head(status, Content_Length=str(len(body)), **headers)
        if self.method != "HEAD":
            self.write(body)

    def head(self, status: int, **headers: str) -> None:
        """Send status and headers."""
        self.handler.send_response(status)
        for name, value in headers.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.end_headers()

    def write(self, raw: bytes) -> None:
        """Send bytes as they are."""
        self.handler.wfile.write(raw)
        self.handler.wfile.flush()

    def drip(self, raw: bytes = b"x") -> None:
        """Send a byte now and then, until nobody listens."""
        for _ in range(600):
            self.write(raw)
            time.sleep(0.05)

    def flood(self, n_bytes: int = 1 << 30) -> None:
        """Send a gigabyte of zeros."""
        for _ in range(n_bytes >> 20):
            self.write(bytes(1 << 20))


Answers = Callable[[Request], object]


@dataclass
class HostileServer:
    """Where it listens, what it was asked, and how it answers."""

    scheme: str
    address: str
    answers: Answers
    seen: list[Request] = field(default_factory=list)

    @property
    def logins(self) -> list[str]:
        """What it was shown of logins."""
        return [request.authorization for request in self.seen if request.authorization]


@contextmanager
def hostile(
    answers: Answers = Request.answer, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> Iterator[HostileServer]:
    """Run a server on loopback.

    Args:
        answers: is called with each request; may be set later.
        tls: see `a_certificate`.
        host: the name in its address.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_any(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(self.command, self.path, self.headers.get("Authorization", ""), self)
            server.seen.append(request)
            with suppress(OSError):
                server.answers(request)

        do_GET = do_HEAD = do_POST = do_PUT = do_any  # noqa: N815

        def handle(self) -> None:
            with suppress(OSError):
                super().handle()

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass

    listening = Server(("127.0.0.1", 0), Handler)
    if tls:
        listening.socket = tls.wrap_socket(listening.socket, server_side=True, do_handshake_on_connect=False)
    server = HostileServer("https" if tls else "http", f"{host}:{listening.server_port}", answers)
    threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()


def a_certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """Return what a server with TLS needs, and the file by which clients trust it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(TLS_NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    trusted, private = folder / "tls.pem", folder / "tls.key"
    trusted.write_bytes(certificate.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted, private)
    return context, trusted


def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lead every name under `.test` to this machine."""
    found = socket.getaddrinfo

    def lookup(host: str, *args: object, **kwargs: object) -> object:
        return found("127.0.0.1" if str(host).endswith(".test") else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
