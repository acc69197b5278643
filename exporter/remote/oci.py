"""Artifacts in an OCI registry, laid out as in ModelPack: one raw layer per file, its path in an annotation.

Addresses, logins (what `docker login` keeps, credential helpers too, or ORAS_USER and ORAS_PASS) and tokens
are oras's. Requests are sent here: oras's own have no time-out, are repeated for two minutes when a password
is wrong, and read files into memory.
Source: https://github.com/modelpack/model-spec/blob/main/docs/spec.md
Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from pydantic import JsonValue, ValidationError

from exporter.artifact.files import from_json
from exporter.errors import BackendError, IntegrityError, RecipeError
from exporter.packages import missing
from exporter.remote.source import RemoteFile, write_chunks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oras.container import Container
    from oras.provider import Registry
    from requests import Response

    from exporter.artifact.files import FileEntry
    from exporter.remote.address import Place


MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
FILEPATH = "org.cncf.model.filepath"
TITLE = "org.opencontainers.image.title"
# Registries must take manifests of 4 MiB, and may refuse larger ones.
# Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-manifests
_MAX_MANIFEST_BYTES = 4 << 20
_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = (10, 300)  # to connect, and between bytes: a registry hashes a large layer before it answers
_N_RETRIES = 2
_BACKOFF_S = 2  # before the second retry twice that; urllib3 does not wait before the first
_MAX_RETRY_AFTER_S = 60  # a registry that asks for a longer pause is reported as failed after this one
_OVERLOADED = (429, 500, 502, 503, 504)
_CLOSED = (401, 403)
# Without TLS only on this machine, which is docker's rule too.
_LOOPBACK = re.compile(r"(localhost|127(\.\d+){3})(:\d+)?")

Json = JsonValue


@dataclass(frozen=True, slots=True)
class Descriptor:
    """The reference by which a manifest names a blob or another manifest."""

    media_type: str
    digest: str
    size_bytes: int

    def json(self, **more: Json) -> dict[str, Json]:
        """Return the descriptor as JSON, with further properties."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size_bytes, **more}


class Repository:
    """One repository of a registry, with the session that asks it and the login that it wanted.

    No dataclass: a generated repr would print the login.
    """

    def __init__(self, place: Place, registry: Registry, container: Container) -> None:
        self.place = place
        self._registry = registry
        self._container = container
        self._authorization = ""

    def manifest(self, reference: str, media_type: str = MANIFEST_TYPE) -> bytes | None:
        """Return a manifest's bytes by tag or digest; None if the registry has no such manifest.

        Raises:
            IntegrityError: the manifest is too large, or does not have this digest.
            RecipeError: the registry wants another login.
            BackendError: the registry cannot be reached or failed.
        """
        response = self._ask(
            "GET", self._container.manifest_url(reference), {"Accept": media_type}, stream=True
        )
        if response.status_code == 404:
            response.close()
            return None
        self._expect(response, 200)

        body = b""
        for chunk in self._chunks(response):
            body += chunk
            if len(body) > _MAX_MANIFEST_BYTES:
                raise IntegrityError(
                    f"{self.place.text}: its manifest has more than {_MAX_MANIFEST_BYTES} bytes"
                )
        if reference.startswith("sha256:") and digest_of(body) != reference:
            raise IntegrityError(
                f"{self.place.text}: the registry gave another manifest than the one of this digest"
            )
        return body

    def blob(self, digest: str) -> Iterator[bytes]:
        """Yield the bytes of a blob as they come.

        Raises:
            RecipeError, BackendError: see `manifest`.
        """
        response = self._ask(
            "GET", self._container.get_blob_url(digest), {"Accept-Encoding": "identity"}, stream=True
        )
        self._expect(response, 200)
        yield from self._chunks(response)

    def upload(self, content: bytes | Path, digest: str) -> bool:
        """Upload a blob unless the registry has it, and return whether it was uploaded.

        Raises:
            RecipeError, BackendError: see `manifest`.
        """
        if self._ask("HEAD", self._container.get_blob_url(digest)).status_code == 200:
            return False

        begun = self._ask("POST", self._container.upload_blob_url())
        self._expect(begun, 202)
        where = urljoin(begun.url, begun.headers.get("Location", ""))
        where += ("&" if urlsplit(where).query else "?") + f"digest={digest}"
        self._expect(self._ask("PUT", where, {"Content-Type": "application/octet-stream"}, content), 201)
        return True

    def put_manifest(self, reference: str, body: bytes, media_type: str = MANIFEST_TYPE) -> bool:
        """Upload a manifest under a tag or its digest; return whether the registry keeps lists of referrers.

        Raises:
            RecipeError, BackendError: see `manifest`.
        """
        response = self._ask(
            "PUT", self._container.manifest_url(reference), {"Content-Type": media_type}, body
        )
        self._expect(response, 201)
        return "OCI-Subject" in response.headers

    def _ask(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        body: bytes | Path | None = None,
        *,
        stream: bool = False,
    ) -> Response:
        """Send a request, with the login that the registry wants; the session repeats it on overload."""
        from requests import RequestException

        url = url if "://" in url else f"{self._registry.prefix}://{url}"
        # The login goes to this registry only, and not to the store that an upload or a blob may be at.
        ours = urlsplit(url).netloc == self._container.registry
        try:
            response = self._send(method, url, headers or {}, body, stream=stream, ours=ours)
            if response.status_code in _CLOSED and ours:
                self._log_in(response)
                response = self._send(method, url, headers or {}, body, stream=stream, ours=ours)
        except RequestException as error:
            raise self._failed(type(error).__name__) from error

        if response.status_code in _OVERLOADED:
            raise self._failed(str(response.status_code))
        if response.status_code in _CLOSED and ours:
            raise self._refused(response)
        return response

    def _send(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: bytes | Path | None,
        *,
        stream: bool,
        ours: bool,
    ) -> Response:
        if self._authorization and ours:
            headers = {**headers, "Authorization": self._authorization}
        with body.open("rb") if isinstance(body, Path) else nullcontext(body) as data:
            response: Response = self._registry.session.request(
                method, url, data=data, headers=headers, timeout=_TIMEOUT_S, stream=stream
            )
        return response

    def _log_in(self, response: Response) -> None:
        """Get the login that a refusal asks for: the password, or a token, which may need no password."""
        from oras.auth import get_auth_backend

        way = "basic" if response.headers.get("Www-Authenticate", "").lower().startswith("basic") else "token"
        insecure = self._registry.prefix == "http"
        backend = get_auth_backend(way, self._registry.session, insecure=insecure)
        backend.load_configs(self._container)
        if (user := os.environ.get("ORAS_USER")) and (password := os.environ.get("ORAS_PASS")):
            backend.set_basic_auth(user, password)
        try:
            found, _ = backend.authenticate_request(response, {})
        except AttributeError:  # what oras's backend for passwords says when it has none
            found = {}
        if not found.get("Authorization"):
            raise self._refused(response)
        self._authorization = str(found["Authorization"])

    def _failed(self, what: str) -> BackendError:
        return BackendError(
            f"{self.place.text}: the registry is out of reach or failed ({what}); run the same again"
        )

    def _refused(self, response: Response) -> RecipeError:
        registry = self._container.registry
        said = f"{self.place.text}: the registry refuses ({response.status_code})"
        return RecipeError(f"{said}; log in with `docker login {registry}`, or set ORAS_USER and ORAS_PASS")

    def _expect(self, response: Response, status: int) -> None:
        if response.status_code != status:
            response.close()
            raise BackendError(
                f"{self.place.text}: the registry answered {response.status_code} where {status} was wanted"
            )

    def _chunks(self, response: Response) -> Iterator[bytes]:
        from requests import RequestException

        try:
            with response:
                yield from response.iter_content(_CHUNK_BYTES)
        except RequestException as error:
            reason = type(error).__name__
            raise BackendError(
                f"{self.place.text}: the connection broke ({reason}); run the same again"
            ) from error


@dataclass(frozen=True, slots=True)
class OciSource:
    """The manifest that a tag stood for at one moment."""

    repository: Repository
    digest: str
    files: dict[str, RemoteFile]

    @property
    def version(self) -> str:
        """Return the manifest's digest."""
        return self.digest

    def same(self, entry: FileEntry, file: Path) -> bool:
        """Return whether the place holds the content of a local file at the path of its `entry`."""
        del file
        return self.files.get(entry.path) == RemoteFile(entry.size_bytes, entry.sha256)

    def copy(self, path: str, to: Path, limit_bytes: int) -> None:
        """Write a file of the place to the new local file `to`."""
        write_chunks(self.repository.blob(f"sha256:{self.files[path].sha256}"), to, limit_bytes)


@dataclass(frozen=True, slots=True)
class _Layer:
    """The properties that are read of a layer."""

    digest: str
    size: int
    annotations: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Manifest:
    """The properties that are read of a manifest."""

    layers: tuple[_Layer, ...] = ()


def digest_of(body: bytes) -> str:
    """Return the digest by which registries name a blob: `sha256:` and 64 hex digits."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def open_repository(place: Place) -> Repository:
    """Return a registry's repository; no request is sent yet.

    Raises:
        BackendMissing: oras is not installed.
    """
    try:
        from oras.container import Container
        from oras.provider import Registry
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry
    except ImportError as error:
        raise missing(error, what=place.text) from error
    # oras prints to stderr; what it would say, our errors say.
    logging.getLogger("oras.logger").setLevel(logging.CRITICAL)
    host = place.where.split("/")[0]
    registry = Registry(host, insecure=bool(_LOOPBACK.fullmatch(host)))
    # Every request may be repeated, whatever its method: POST opens an upload that nobody sees before its
    # PUT, and PUT names its content by digest, or sets one tag to one manifest.
    # Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-blobs
    retries = Retry(
        _N_RETRIES,
        status_forcelist=_OVERLOADED,
        allowed_methods=None,
        backoff_factor=_BACKOFF_S,
        retry_after_max=_MAX_RETRY_AFTER_S,
        raise_on_status=False,
    )
    registry.session.mount(f"{registry.prefix}://", HTTPAdapter(max_retries=retries))
    # oras takes a host without a dot or port for a part of the name.
    container = (
        Container(place.where, host)
        if re.search("[.:]", host)
        else Container(place.where.removeprefix(f"{host}/"), host)
    )
    return Repository(place, registry, container)


def oci_source(place: Place) -> OciSource | None:
    """Return what a tag or digest stands for as a source; None if the registry does not have it.

    Raises:
        RecipeError: the registry wants another login.
        BackendError: the registry cannot be reached or failed.
        BackendMissing: oras is not installed.
        IntegrityError: the tag or digest stands for something that is no manifest.
    """
    repository = open_repository(place)
    body = repository.manifest(place.version or "")
    if body is None:
        return None
    try:
        layers = from_json(_Manifest, body).layers
    except ValidationError:
        raise IntegrityError(f"{place.text}: not a manifest as OCI has it") from None

    named = (
        (layer.annotations.get(FILEPATH), layer) for layer in layers if layer.digest.startswith("sha256:")
    )
    files = {
        path: RemoteFile(layer.size, layer.digest.removeprefix("sha256:")) for path, layer in named if path
    }
    return OciSource(repository, digest_of(body), files)
