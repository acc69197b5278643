"""Requests to a registry that a stranger may have named, each bounded in time and size.

Redirects are followed here, so that a login is sent to the host it belongs to and to no other, and nothing
for a registry with TLS is ever asked or told without. A server that sends a byte a minute ends with the time
a request has in all, whatever requests' own time-outs say: those begin anew with every byte.
Source: https://requests.readthedocs.io/en/latest/user/advanced/#timeouts
"""

from __future__ import annotations

import socket
from contextlib import contextmanager, suppress
from http.cookiejar import DefaultCookiePolicy
from threading import Lock, Timer
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from requests import RequestException, Session
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from exporter.errors import BackendError, IntegrityError, RecipeError
from exporter.remote.address import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import BinaryIO

    from requests import PreparedRequest, Response

    from exporter.remote.patience import Patience


OVERLOADED = (429, 500, 502, 503, 504)
_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 5
_N_RETRIES = 2
_MAX_RETRY_AFTER_S = 60  # a registry that asks for a longer pause is reported as failed after this one
_CHUNK_BYTES = 1 << 20
# Read of an answer nobody wants, so that its connection can be used again; what is longer is cut off.
_MAX_IGNORED_BYTES = 64 << 10
_PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """Whom a login belongs to, and what decides whether two addresses are of one server."""

    scheme: str
    host: str
    port: int

    @property
    def netloc(self) -> str:
        """Return host and port as they stand in an address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS.get(self.scheme) else f"{host}:{self.port}"


class Login(NamedTuple):
    """The value of an Authorization header, and the one server that may see it."""

    origin: Origin
    authorization: str


def origin_of(url: str) -> Origin | None:
    """Return the server of a URL; None where it is no plain address of one, as with a password in it."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not host or not port or "@" in parts.netloc or not url.isprintable():
        return None
    return Origin(parts.scheme, host, port)


class Client:
    """A session with one registry: its requests, redirects and limits. No two requests at a time."""

    def __init__(self, place: str, registry: Origin, patience: Patience) -> None:
        """Set up a session; no request is sent yet.

        Args:
            place: the address the user gave, for errors.
            registry: the server it names.
            patience: how long it is waited for.
        """
        self.registry = registry
        self._place, self._patience = place, patience
        self._watch = _Watch()
        self._session = Session()
        # Some registries set a cookie, and take whoever returns it for a browser.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        # Who a request is for decides what login goes with it; without this a line for `default` in ~/.netrc
        # goes to everybody, and replaces the header that is given.
        self._session.auth = _as_it_is
        # An answer is hashed as it comes: what is packed could be a terabyte once unpacked.
        self._session.headers["Accept-Encoding"] = "identity"
        # Every request may be repeated, whatever its method: POST opens an upload that nobody sees before its
        # PUT, and PUT names its content by digest, or sets one tag to one manifest.
        # Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-blobs
        retries = Retry(
            _N_RETRIES,
            status_forcelist=OVERLOADED,
            allowed_methods=None,
            backoff_factor=patience.backoff_s,
            retry_after_max=_MAX_RETRY_AFTER_S,
            raise_on_status=False,
        )
        for scheme in _PORTS:
            self._session.mount(f"{scheme}://", _Adapter(self._watch, retries))

    @contextmanager
    def exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        data: bytes | BinaryIO | None = None,
        *,
        login: Login | None = None,
        n_bytes: int = 0,
    ) -> Iterator[Response]:
        """Send a request, follow redirects of what is read, and yield the answer, whose body is unread.

        Args:
            method: of HTTP.
            url: whole, with its scheme.
            headers: beside those of the session.
            data: the body.
            login: sent to its own server only, wherever the request is redirected to.
            n_bytes: how large a file comes or goes with it; time is given for that.

        Raises:
            BackendError: the server is out of reach, failed, or took longer than a request may, also while
                the block reads the answer.
            RecipeError: it names an address that nobody may be sent to.
        """
        patience = self._patience
        total_s = patience.total_s(n_bytes)
        silent_s = patience.silent_s + (n_bytes / patience.hashed_per_s if data is not None else 0)
        try:
            with self._watch.during(total_s):
                for _ in range(_MAX_REDIRECTS + 1):
                    origin = self._checked(url)
                    sent = dict(headers or {})
                    if login and login.origin == origin:
                        sent["Authorization"] = login.authorization
                    response = self._session.request(
                        method,
                        url,
                        data=data,
                        headers=sent,
                        timeout=(patience.connect_s, silent_s),
                        stream=True,
                        allow_redirects=False,
                    )
                    with response:
                        self._watch.check()  # what was cut off may look like a whole answer
                        where = response.headers.get("Location")
                        if data is not None or response.status_code not in _REDIRECTS or not where:
                            yield response
                            self._watch.check()
                            _drain(response)
                            return
                        _drain(response)
                    url = urljoin(url, where)
        except (RequestException, HTTPError, _OverError, OSError, ValueError) as error:
            # ValueError: a header that urllib3 cannot read, such as a Retry-After of 5,000 digits.
            if self._watch.is_over:
                raise self._failed(f"took longer than {total_s:.0f} seconds") from error
            raise self._failed(type(error).__name__) from error
        raise self._failed(f"more than {_MAX_REDIRECTS} redirects")

    def _checked(self, url: str) -> Origin:
        """Return the server of a URL, after checking that it may be asked.

        Raises:
            RecipeError: it may not: no TLS where the registry has TLS, or no address at all.
        """
        origin = origin_of(url)
        if origin is None:
            raise RecipeError(f"{self._place}: the registry leads to {url[:200]!a}, which is no http address")
        if origin.scheme == "http" and not (self.registry.scheme == "http" and is_loopback(origin.host)):
            raise RecipeError(
                f"{self._place}: the registry leads to http://{origin.netloc[:200]}, without TLS; "
                "nothing was sent there"
            )
        return origin

    def _failed(self, what: str) -> BackendError:
        return BackendError(
            f"{self._place}: the registry is out of reach or failed ({what}); run the same again"
        )


def chunks(response: Response) -> Iterator[bytes]:
    """Yield an answer's body as it comes."""
    yield from response.raw.stream(_CHUNK_BYTES, decode_content=False)


def body_of(response: Response, limit_bytes: int, what: str) -> bytes:
    """Return an answer's body.

    Raises:
        IntegrityError: it has more than `limit_bytes`.
    """
    body = bytearray()  # which grows in place: it may come byte by byte
    for chunk in chunks(response):
        body += chunk
        if len(body) > limit_bytes:
            raise IntegrityError(f"{what} has more than {limit_bytes} bytes")
    return bytes(body)


def _drain(response: Response) -> None:
    """Read what is left of a short answer, so that its connection can be used again."""
    with suppress(HTTPError, OSError):
        if len(response.raw.read(_MAX_IGNORED_BYTES, decode_content=False)) == _MAX_IGNORED_BYTES:
            response.close()


class _OverError(Exception):
    """The time of a request is over. No OSError, which urllib3 would take for a reason to try again."""


class _Watch:
    """Ends the connections of a session when the time of a request is over, whatever they wait for."""

    def __init__(self) -> None:
        self._open: dict[HTTPConnection, socket.socket] = {}
        self._lock = Lock()
        self.is_over = False

    @contextmanager
    def during(self, seconds: float) -> Iterator[None]:
        """Bound a block: after so many seconds no byte comes or goes any more."""
        self.is_over = False
        timer = Timer(seconds, self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with self._lock:
                for connection in [one for one in self._open if one.sock is None]:
                    self._open.pop(connection).close()

    def check(self) -> None:
        """Raise where the time is over.

        Raises:
            _OverError: it is.
        """
        if self.is_over:
            raise _OverError

    def add(self, connection: HTTPConnection, its_socket: socket.socket) -> None:
        """Have a connection ended with the others.

        A second descriptor of its socket is kept, since the first is handed to TLS, and given up by a
        connection whose answer is still read.

        Raises:
            _OverError: the time is over already.
        """
        with self._lock:
            if before := self._open.pop(connection, None):
                before.close()
            if not self.is_over:
                self._open[connection] = its_socket.dup()
                return
        its_socket.close()
        raise _OverError

    def _end(self) -> None:
        with self._lock:
            self.is_over = True
            for its_socket in self._open.values():
                with suppress(OSError):
                    its_socket.shutdown(socket.SHUT_RDWR)


class _Adapter(HTTPAdapter):
    """Connections that a watch can end."""

    def __init__(self, watch: _Watch, retries: Retry) -> None:
        self._pools = _watched_pools(watch)
        super().__init__(max_retries=retries)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager


def _watched_pools(watch: _Watch) -> dict[str, type[HTTPConnectionPool]]:
    """Return urllib3's pools by scheme, with connections that a watch knows from their first byte on.

    `_new_conn` is where urllib3's own `contrib.socks` steps in too.
    Source: https://github.com/urllib3/urllib3/blob/main/src/urllib3/contrib/socks.py
    """

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            made = super()._new_conn()
            watch.add(self, made)
            return made

    class Encrypted(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            made = super()._new_conn()
            watch.add(self, made)
            return made

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class EncryptedPool(HTTPSConnectionPool):
        ConnectionCls = Encrypted

    return {"http": PlainPool, "https": EncryptedPool}


def _as_it_is(request: PreparedRequest) -> PreparedRequest:
    return request
