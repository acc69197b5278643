"""Artifacts in an OCI registry, laid out as in ModelPack: one raw layer per file, its path in an annotation.

Nothing that a registry says is trusted: how much it may send and how long it may take is bounded in `client`,
and to whom a login goes is decided in `login`.
Source: https://github.com/modelpack/model-spec/blob/main/docs/spec.md
Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from pydantic import JsonValue, ValidationError

from exporter.artifact.files import Bytes, from_json
from exporter.errors import BackendError, IntegrityError, RecipeError
from exporter.packages import missing
from exporter.remote.address import is_loopback
from exporter.remote.patience import Patience
from exporter.remote.source import RemoteFile, write_chunks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from requests import Response

    from exporter.artifact.files import FileEntry
    from exporter.remote.address import Place
    from exporter.remote.client import Client, Login


MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
FILEPATH = "org.cncf.model.filepath"
TITLE = "org.opencontainers.image.title"
# Registries must take manifests of 4 MiB, and may refuse larger ones.
# Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-manifests
_MAX_MANIFEST_BYTES = 4 << 20
_CLOSED = (401, 403)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

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

    def __init__(self, place: Place, client: Client) -> None:
        self.place = place
        self._client = client
        self._url = f"{client.registry.scheme}://{client.registry.netloc}/v2/{place.where.partition('/')[2]}"
        self._login: Login | None = None

    def manifest(self, reference: str, media_type: str = MANIFEST_TYPE) -> bytes | None:
        """Return a manifest's bytes by tag or digest; None if the registry has no such manifest.

        Raises:
            IntegrityError: the manifest is too large, or does not have this digest.
            RecipeError: the registry wants another login, or leads to where nothing may be sent.
            BackendError: the registry cannot be reached or failed.
        """
        from exporter.remote.client import body_of

        with self._answer("GET", f"{self._url}/manifests/{reference}", {"Accept": media_type}) as response:
            if response.status_code == 404:
                return None
            self._expect(response, 200)
            body = body_of(response, _MAX_MANIFEST_BYTES, f"{self.place.text}: its manifest")
        if reference.startswith("sha256:") and digest_of(body) != reference:
            raise IntegrityError(
                f"{self.place.text}: the registry gave another manifest than the one of this digest"
            )
        return body

    def blob(self, digest: str, size_bytes: int) -> Iterator[bytes]:
        """Yield the bytes of a blob as they come; `size_bytes` is what they are said to be.

        Raises:
            RecipeError, BackendError: see `manifest`.
        """
        from exporter.remote.client import chunks

        with self._answer("GET", f"{self._url}/blobs/{digest}", n_bytes=size_bytes) as response:
            self._expect(response, 200)
            yield from chunks(response)

    def upload(self, content: bytes | Path, digest: str) -> bool:
        """Upload a blob unless the registry has it, and return whether it was uploaded.

        Raises:
            RecipeError, BackendError: see `manifest`.
        """
        with self._answer("HEAD", f"{self._url}/blobs/{digest}") as response:
            if response.status_code == 200:
                return False

        with self._answer("POST", f"{self._url}/blobs/uploads/") as begun:
            self._expect(begun, 202)
            where = urljoin(begun.url, begun.headers.get("Location", ""))
        where += ("&" if urlsplit(where).query else "?") + f"digest={digest}"
        kind = {"Content-Type": "application/octet-stream"}
        with self._answer("PUT", where, kind, content) as response:
            self._expect(response, 201)
        return True

    def put_manifest(self, reference: str, body: bytes, media_type: str = MANIFEST_TYPE) -> bool:
        """Upload a manifest under a tag or its digest; return whether the registry keeps lists of referrers.

        Raises:
            RecipeError, BackendError: see `manifest`.
        """
        kind = {"Content-Type": media_type}
        with self._answer("PUT", f"{self._url}/manifests/{reference}", kind, body) as response:
            self._expect(response, 201)
            return "OCI-Subject" in response.headers

    @contextmanager
    def _answer(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        body: bytes | Path | None = None,
        *,
        n_bytes: int = 0,
    ) -> Iterator[Response]:
        """Send a request and yield the answer, after logging in where the registry wants that."""
        from exporter.remote.client import OVERLOADED, origin_of
        from exporter.remote.login import log_in

        for is_first in (True, False):
            with (
                body.open("rb") if isinstance(body, Path) else nullcontext(body) as data,
                self._client.exchange(
                    method,
                    url,
                    headers,
                    data,
                    login=self._login,
                    n_bytes=n_bytes or (body.stat().st_size if isinstance(body, Path) else 0),
                ) as response,
            ):
                # What the store answers that an upload or a blob may be at is no question for our login.
                is_ours = origin_of(response.url) == self._client.registry
                if response.status_code in OVERLOADED:
                    raise BackendError(
                        f"{self.place.text}: the registry is out of reach or failed "
                        f"({response.status_code}); run the same again"
                    )
                if response.status_code not in _CLOSED or not is_ours:
                    yield response
                    return
                refusal = response
            found = log_in(self._client, refusal, self.place.text) if is_first else None
            if found is None:
                raise self._refused(refusal.status_code)
            self._login = found

    def _refused(self, status: int) -> RecipeError:
        from exporter.remote.login import HOST, PASSWORD, USER, unused_login

        registry = self._client.registry.netloc
        return RecipeError(
            f"{self.place.text}: the registry refuses ({status}); log in with `docker login {registry}`, "
            f"or set {HOST}={registry}, {USER} and {PASSWORD}{unused_login()}"
        )

    def _expect(self, response: Response, status: int) -> None:
        if response.status_code != status:
            raise BackendError(
                f"{self.place.text}: the registry answered {response.status_code} where {status} was wanted"
            )


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
        write_chunks(self.repository.blob(f"sha256:{self.files[path].sha256}", limit_bytes), to, limit_bytes)


@dataclass(frozen=True, slots=True)
class _Layer:
    """The properties that are read of a layer."""

    digest: str
    size: Bytes
    annotations: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Manifest:
    """The properties that are read of a manifest."""

    layers: tuple[_Layer, ...] = ()


def digest_of(body: bytes) -> str:
    """Return the digest by which registries name a blob: `sha256:` and 64 hex digits."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def open_repository(place: Place, patience: Patience | None = None) -> Repository:
    """Return a registry's repository; no request is sent yet.

    Args:
        place: of the kind `oci`.
        patience: how long the registry is waited for.

    Raises:
        BackendMissing: requests is not installed.
        RecipeError: the address names no host.
    """
    try:
        from exporter.remote.client import Client, origin_of
    except ImportError as error:
        raise missing(error, what=place.text) from error
    host = place.where.partition("/")[0]
    # Without TLS only on this machine, which is docker's rule too.
    scheme = "http" if is_loopback(host.rpartition(":")[0] or host) else "https"
    registry = origin_of(f"{scheme}://{host}")
    if registry is None:
        raise RecipeError(f"{place.text}: {host!r} is no host of a registry")
    return Repository(place, Client(place.text, registry, patience or Patience()))


def oci_source(place: Place, patience: Patience | None = None) -> OciSource | None:
    """Return what a tag or digest stands for as a source; None if the registry does not have it.

    Args:
        place: of the kind `oci`.
        patience: how long the registry is waited for.

    Raises:
        RecipeError: the registry wants another login.
        BackendError: the registry cannot be reached or failed.
        BackendMissing: requests is not installed.
        IntegrityError: the tag or digest stands for something that is no manifest.
    """
    repository = open_repository(place, patience)
    body = repository.manifest(place.version or "")
    if body is None:
        return None
    try:
        layers = from_json(_Manifest, body).layers
    except ValidationError:
        raise IntegrityError(f"{place.text}: not a manifest as OCI has it") from None

    files = {
        path: RemoteFile(layer.size, layer.digest.removeprefix("sha256:"))
        for layer in layers
        if (path := layer.annotations.get(FILEPATH)) and _DIGEST.fullmatch(layer.digest)
    }
    return OciSource(repository, digest_of(body), files)
