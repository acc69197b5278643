"""Attacks by whoever runs a registry, or can name one to somebody who has a login for another.

None of them is shown a login of another host, none takes more time or memory than is said, and each ends in
one line: 2 where somebody has to be told whom to trust, 3 where a server failed, 4 where what came is not
what was promised.
"""

from __future__ import annotations

import base64
import gzip
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exporter.errors import BackendError, ExporterError, IntegrityError, RecipeError
from exporter.remote.address import parse_place
from exporter.remote.oci import digest_of, oci_source, open_repository
from exporter.remote.patience import Patience
from tests.hostile_server import Answers, HostileServer, Request, a_certificate, hostile, names
from tests.hub_stand_in import hub_settings
from tests.s3_server import s3_environment

USER, PASSWORD = "somebody", "planted-password"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
SOON = Patience(connect_s=2, backoff_s=0, silent_s=0.5, small_s=1, bytes_per_s=1 << 20)


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No login but what a test sets."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ORAS_HOST", "ORAS_USER", "ORAS_PASS", "ORAS_REALM", "DOCKER_CONFIG", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def registry() -> Iterator[HostileServer]:
    with hostile() as server:
        yield server


@pytest.fixture
def other() -> Iterator[HostileServer]:
    """Somebody else's server."""
    with hostile() as server:
        yield server


@pytest.fixture
def encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileServer]:
    """A registry with TLS, as all but those on this machine have to be."""
    tls, trusted = a_certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(trusted))
    names(monkeypatch)
    with hostile(tls=tls, host="registry.test") as server:
        yield server


def logged_in(monkeypatch: pytest.MonkeyPatch, host: str | None) -> None:
    """Set a login in the environment, for a host or without saying for which."""
    monkeypatch.setenv("ORAS_USER", USER)
    monkeypatch.setenv("ORAS_PASS", PASSWORD)
    if host:
        monkeypatch.setenv("ORAS_HOST", host)


def ask(server: HostileServer, patience: Patience = SOON) -> object:
    """Ask a registry what stands under a tag."""
    return oci_source(parse_place(f"oci://{server.address}/a:1"), patience)


def refused(act: Callable[[], object], error: type[ExporterError], words: str, within_s: float = 8) -> str:
    """Check that something ends soon, in one line."""
    began = time.monotonic()
    with pytest.raises(error) as caught:
        act()
    assert time.monotonic() - began < within_s
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert PASSWORD not in str(caught.value)
    return str(caught.value)


def challenge(realm: str) -> Answers:
    """Ask whoever comes for a token from somewhere."""
    header = f'Bearer realm="{realm}",service="x",scope="repository:a:pull"'
    return lambda request: request.answer(401, Www_Authenticate=header)


# --- whose login it is ---


def test_login_for_nobody_in_particular(registry: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user and a password without a host are shown to no registry, and it is said why."""
    logged_in(monkeypatch, None)
    registry.answers = lambda request: request.answer(401, Www_Authenticate='Basic realm="x"')
    said = refused(lambda: ask(registry), RecipeError, "ORAS_USER is for the registry that ORAS_HOST names")
    assert f"set ORAS_HOST={registry.address}, ORAS_USER and ORAS_PASS" in said
    assert registry.logins == []


@pytest.mark.parametrize("kind", ["environment", "docker", "netrc"])
def test_login_for_another_registry(
    registry: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A login of another registry, and one that netrc has for everybody, is not shown."""
    if kind == "environment":
        logged_in(monkeypatch, "ghcr.io")
    elif kind == "docker":
        (tmp_path / ".docker").mkdir()
        auth = {"auth": BASIC.removeprefix("Basic ")}
        kept = {"auths": {"ghcr.io": auth, f"{registry.address}.example.org": auth}}
        (tmp_path / ".docker/config.json").write_text(json.dumps(kept), encoding="utf-8")
    else:
        (tmp_path / ".netrc").write_text(f"default login {USER} password {PASSWORD}\n", encoding="utf-8")
        (tmp_path / ".netrc").chmod(0o600)
    registry.answers = lambda request: request.answer(401, Www_Authenticate='Basic realm="x"')
    refused(lambda: ask(registry), RecipeError, f"log in with `docker login {registry.address}`")
    assert registry.logins == []


@pytest.mark.parametrize("kind", ["environment", "docker", "helper"])
def test_login_for_this_registry(
    registry: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A registry's own login is used, from wherever it is kept, once the registry asks for it."""
    if kind == "environment":
        logged_in(monkeypatch, registry.address)
    else:
        folder = tmp_path / "docker"
        folder.mkdir()
        monkeypatch.setenv("DOCKER_CONFIG", str(folder))
        kept: dict[str, object] = {"auths": {registry.address: {"auth": BASIC.removeprefix("Basic ")}}}
        if kind == "helper":
            kept = {"credHelpers": {registry.address: "planted"}}
            helper = tmp_path / "docker-credential-planted"
            text = json.dumps({"Username": USER, "Secret": PASSWORD})
            helper.write_text(f"#!/bin/sh\ncat > {tmp_path}/asked\necho '{text}'\n", encoding="utf-8")
            helper.chmod(0o755)
            monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        (folder / "config.json").write_text(json.dumps(kept), encoding="utf-8")

    def answers(request: Request) -> None:
        if request.authorization:
            request.answer(404)
        else:
            request.answer(401, Www_Authenticate='Basic realm="x"')

    registry.answers = answers
    assert ask(registry) is None
    assert registry.logins == [BASIC]
    if kind == "helper":
        assert (tmp_path / "asked").read_text() == registry.address


def test_docker_configuration_that_is_none(
    registry: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is no JSON is named, not a traceback."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    registry.answers = lambda request: request.answer(401, Www_Authenticate='Basic realm="x"')
    refused(lambda: ask(registry), RecipeError, "config.json: cannot be read as docker's configuration")


def test_realm_of_another_host(
    registry: HostileServer, other: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry does not get its login sent to another server unless the user says that it may."""
    logged_in(monkeypatch, registry.address)

    def answers(request: Request) -> None:
        if request.authorization == "Bearer t":
            request.answer(404)
        else:
            challenge(f"http://{other.address}/token")(request)

    registry.answers = answers
    other.answers = lambda request: request.answer(body=b'{"token": "t"}')
    said = refused(
        lambda: ask(registry), RecipeError, f"wants its login sent to {other.address}, another host"
    )
    assert f"set ORAS_REALM={other.address}" in said
    assert other.seen == []
    monkeypatch.setenv("ORAS_REALM", f"auth.example.org,{other.address}")
    assert ask(registry) is None
    assert other.logins == [BASIC]
    assert registry.logins == ["Bearer t"]  # the password itself is not shown to who asks for a token


def test_realm_of_another_host_without_a_login(registry: HostileServer, other: HostileServer) -> None:
    """What is public needs a token from wherever the registry says, and no login goes along."""
    registry.answers = lambda r: (
        r.answer(404) if r.authorization else challenge(f"http://{other.address}/t")(r)
    )
    other.answers = lambda request: request.answer(body=b'{"access_token": "t"}')
    assert ask(registry) is None
    assert other.logins == []
    assert other.seen[0].path == "/t?service=x&scope=repository%3Aa%3Apull"


@pytest.mark.parametrize(
    ("registry_host", "realm", "is_sent"),
    [
        ("registry.gitlab.test", "gitlab.test", True),
        ("docker.io", "auth.docker.io", True),
        ("docker.io", "auth.docker.io.test", False),
        ("ghcr.io", "auth.docker.io", False),
        ("a.test", "b.test", False),
        ("a.test", "test", False),
        ("evilgitlab.test", "gitlab.test", False),
    ],
)
def test_whose_realm_it_is(registry_host: str, realm: str, is_sent: bool) -> None:  # noqa: FBT001 - a table
    """The domain above a registry's own may see its login; a neighbour's, or a whole top level, may not."""
    from exporter.remote.client import Origin
    from exporter.remote.login import is_owners

    assert is_owners(Origin("https", realm, 443), Origin("https", registry_host, 443)) is is_sent


def test_redirect_to_another_host(
    registry: HostileServer, other: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blob that is at another host is fetched there, without the login."""
    logged_in(monkeypatch, registry.address)
    content = b"content"
    layer = {
        "digest": digest_of(content),
        "size": len(content),
        "annotations": {"org.cncf.model.filepath": "a"},
    }

    def answers(request: Request) -> None:
        if not request.authorization:
            request.answer(401, Www_Authenticate='Basic realm="x"')
        elif "/manifests/" in request.path:
            request.answer(body=json.dumps({"layers": [layer]}).encode())
        else:
            request.answer(307, Location=f"http://{other.address}/blob")

    registry.answers = answers
    other.answers = lambda request: request.answer(body=content)
    source = ask(registry)
    source.copy("a", tmp_path / "a", len(content))
    assert (tmp_path / "a").read_bytes() == content
    assert [request.path for request in other.seen] == ["/blob"]
    assert other.logins == []


def test_upload_to_another_host(
    registry: HostileServer, other: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload goes where the registry says, without the login."""
    logged_in(monkeypatch, registry.address)
    where = f"http://{other.address}/upload"

    def answers(request: Request) -> None:
        if not request.authorization:
            request.answer(401, Www_Authenticate='Basic realm="x"')
        else:
            request.answer(404) if request.method == "HEAD" else request.answer(202, Location=where)

    registry.answers = answers
    other.answers = lambda request: request.answer(201)
    assert open_repository(parse_place(f"oci://{registry.address}/a:1"), SOON).upload(b"x", digest_of(b"x"))
    assert other.logins == []


# --- without TLS ---


@pytest.mark.parametrize("host", ["registry.test", "127.0.0.1", "localhost", "169.254.169.254"])
@pytest.mark.parametrize("way", ["realm", "redirect", "redirected token"])
def test_no_http_for_a_registry_with_tls(
    encrypted: HostileServer, monkeypatch: pytest.MonkeyPatch, way: str, host: str
) -> None:
    """A registry with TLS leads nobody to an address without, be it its own host or this machine."""
    logged_in(monkeypatch, encrypted.address)
    monkeypatch.setenv("ORAS_REALM", f"{host}:1")
    bad, header = f"http://{host}:1/x", 'Bearer realm="https://{}/token"'

    def answers(request: Request) -> None:
        if way == "redirect" or request.path.startswith("/token"):
            request.answer(302, Location=bad)
        elif way == "realm":
            challenge(bad)(request)
        else:
            request.answer(401, Www_Authenticate=header.format(encrypted.address))

    encrypted.answers = answers
    refused(lambda: ask(encrypted), RecipeError, f"leads to http://{host}:1, without TLS; nothing was sent")


def test_upload_without_tls(encrypted: HostileServer) -> None:
    """Nor does it have anything uploaded there."""
    where = "http://registry.test:1/upload"
    encrypted.answers = lambda r: r.answer(404) if r.method == "HEAD" else r.answer(202, Location=where)
    repository = open_repository(parse_place(f"oci://{encrypted.address}/a:1"), SOON)
    refused(
        lambda: repository.upload(b"x", digest_of(b"x")), RecipeError, "http://registry.test:1, without TLS"
    )


def test_certificate_nobody_vouches_for(encrypted: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that cannot prove its name is not asked."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    monkeypatch.setattr("time.sleep", lambda _: None)
    refused(lambda: ask(encrypted), BackendError, "out of reach or failed (SSLError)")
    assert encrypted.seen == []


@pytest.mark.parametrize(
    "where", ["file:///etc/passwd", "ftp://a/b", "https://u:p@a/b", "http://[", "https://a\x1b[2J/", "//"]
)
def test_address_that_is_none(registry: HostileServer, where: str) -> None:
    """What is no http address is not followed, and is printed with its escapes."""
    registry.answers = lambda request: request.answer(302, Location=where)
    said = refused(lambda: ask(registry), ExporterError, "the registry")
    assert "\x1b" not in said


# --- time ---


def _drip_status(request: Request) -> None:
    request.drip()


def _drip_headers(request: Request) -> None:
    request.write(b"HTTP/1.1 200 OK\r\n")
    request.drip(b"X: y\r\n")


def _drip_body(request: Request) -> None:
    request.head(200, Content_Length="100000")
    request.drip()


def _drip_chunks(request: Request) -> None:
    request.head(200, Transfer_Encoding="chunked")
    request.drip(b"1\r\nx\r\n")


def _drip_refusal(request: Request) -> None:
    request.head(401, Content_Length="10000", Www_Authenticate="Basic")
    request.drip()


def _drip_continue(request: Request) -> None:
    request.drip(b"HTTP/1.1 100 Continue\r\n\r\n")


def _never(request: Request) -> None:
    time.sleep(5)


@pytest.mark.parametrize(
    "answers", [_never, _drip_status, _drip_headers, _drip_body, _drip_chunks, _drip_continue]
)
@pytest.mark.parametrize("asked", ["registry", "realm"])
def test_slow_server(
    registry: HostileServer,
    other: HostileServer,
    monkeypatch: pytest.MonkeyPatch,
    answers: Answers,
    asked: str,
) -> None:
    """A registry, or a server of tokens, that answers never or by the byte ends with the request's time."""
    if asked == "registry":
        registry.answers = answers
    else:
        logged_in(monkeypatch, registry.address)
        monkeypatch.setenv("ORAS_REALM", other.address)
        registry.answers, other.answers = challenge(f"http://{other.address}/t"), answers
    refused(lambda: ask(registry), BackendError, "out of reach or failed (took longer than 1 seconds)")


def test_slow_refusal(registry: HostileServer) -> None:
    """What a refusal says beside its headers is not waited for longer than that."""
    registry.answers = _drip_refusal
    refused(lambda: ask(registry), RecipeError, "the registry refuses (401)")


def test_slow_server_with_tls(encrypted: HostileServer) -> None:
    """TLS changes nothing about that."""
    encrypted.answers = _drip_body
    refused(lambda: ask(encrypted), BackendError, "took longer than 1 seconds")


def test_slow_handshake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never says a word of TLS is no exception."""
    import socket

    names(monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        place = parse_place(f"oci://registry.test:{listening.getsockname()[1]}/a:1")
        refused(lambda: oci_source(place, SOON), BackendError, "out of reach or failed")


def test_file_has_time_for_its_size(registry: HostileServer, tmp_path: Path) -> None:
    """A large file may take longer than a small answer, and a file that drips does not for ever."""
    patience = Patience(connect_s=2, backoff_s=0, silent_s=1, small_s=0.5, bytes_per_s=10)
    layer = {"digest": f"sha256:{'0' * 64}", "size": 10, "annotations": {"org.cncf.model.filepath": "a"}}
    registry.answers = lambda request: request.answer(body=json.dumps({"layers": [layer]}).encode())
    source = ask(registry, patience)

    def slowly(request: Request) -> None:
        request.head(200, Content_Length="10")
        for _ in range(10):
            request.write(b"x")
            time.sleep(0.08)

    registry.answers = slowly
    source.copy("a", tmp_path / "a", 10)
    assert (tmp_path / "a").read_bytes() == b"x" * 10

    def too_slowly(request: Request) -> None:
        request.head(200, Content_Length="10")
        for _ in range(10):
            request.write(b"x")
            time.sleep(0.4)

    registry.answers = too_slowly
    refused(lambda: source.copy("a", tmp_path / "b", 10), BackendError, "took longer than 2 seconds")


# --- size ---


def _endless(status: int, **headers: str) -> Answers:
    def answers(request: Request) -> None:
        request.head(status, **headers)
        request.flood()

    return answers


def _packed(request: Request) -> None:
    request.answer(body=gzip.compress(b"[" + b" " * (50 << 20), 1), Content_Encoding="gzip")


def _bytewise(request: Request) -> None:
    request.head(200, Transfer_Encoding="chunked")
    request.write(b"1\r\n[\r\n" * 100_000 + b"0\r\n\r\n")


MANIFEST_OF = "org.cncf.model.filepath"


@pytest.mark.parametrize(
    ("answers", "error", "words"),
    [
        (_endless(200), IntegrityError, "its manifest has more than 4194304 bytes"),
        (_endless(404), None, ""),
        (_endless(500), BackendError, "the registry"),
        (_endless(401, Www_Authenticate="Basic"), RecipeError, "the registry refuses (401)"),
        (_packed, IntegrityError, "not a manifest as OCI has it"),
        (
            lambda r: r.answer(401, Www_Authenticate="Bearer " + "a" * 60_000),
            RecipeError,
            "the registry refuses",
        ),
        (_bytewise, IntegrityError, "not a manifest as OCI has it"),
        (lambda r: r.answer(302, Location=r.path), BackendError, "more than 5 redirects"),
        (lambda r: r.answer(503, Retry_After="9" * 5000), BackendError, "out of reach or failed"),
        (lambda r: r.answer(200, **{f"X_{i}": "y" * 1000 for i in range(200)}), BackendError, "out of reach"),
        (lambda r: r.answer(body=b"[" * 100_000), IntegrityError, "not a manifest as OCI has it"),
        (
            lambda r: r.answer(body=b'{"layers": [{"digest": "sha256:0", "size": -1}]}'),
            IntegrityError,
            "not a manifest as OCI has it",
        ),
        (
            lambda r: r.answer(body=b'{"layers": [{"digest": "sha256:0", "size": 1e30}]}'),
            IntegrityError,
            "not a manifest as OCI has it",
        ),
    ],
    ids=[
        "endless manifest",
        "endless absence",
        "endless failure",
        "endless refusal",
        "packed manifest",
        "challenge of 60 kB",
        "manifest byte by byte",
        "redirects in a circle",
        "Retry-After of 5000 digits",
        "200 headers",
        "manifest nested deep",
        "negative size",
        "size that no disk has",
    ],
)
def test_what_is_too_much(
    registry: HostileServer,
    monkeypatch: pytest.MonkeyPatch,
    answers: Answers,
    error: type[ExporterError] | None,
    words: str,
) -> None:
    """An answer without end, or that grows when it is unpacked, is cut off."""
    monkeypatch.setenv("ORAS_HOST", registry.address)
    registry.answers = answers
    patience = Patience(connect_s=2, backoff_s=0, silent_s=2, small_s=3)
    if error is None:
        assert ask(registry, patience) is None
    else:
        refused(lambda: ask(registry, patience), error, words)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"token": 7}',
        b'{"token": "a\\r\\nX: y"}',
        b"[" * 100_000,
        b'{"token": "\xc3\xa4"}',
    ],
)
def test_token_that_is_none(registry: HostileServer, body: bytes) -> None:
    """A server of tokens that gives none is one line."""
    registry.answers = lambda r: (
        r.answer(body=body) if r.path.startswith("/t") else challenge(f"http://{registry.address}/t")(r)
    )
    refused(lambda: ask(registry), IntegrityError, "the answer of 127.0.0.1 holds no token")


def test_endless_token(registry: HostileServer) -> None:
    """Nor is one without end read."""
    flood = _endless(200)
    registry.answers = lambda r: (
        flood(r) if r.path.startswith("/t") else challenge(f"http://{registry.address}/t")(r)
    )
    patience = Patience(connect_s=2, backoff_s=0, silent_s=2, small_s=5)
    refused(
        lambda: ask(registry, patience), IntegrityError, "token from 127.0.0.1 has more than 1048576 bytes"
    )


def test_blob_that_is_longer(registry: HostileServer, tmp_path: Path) -> None:
    """A blob that is longer than the manifest says is cut off there."""
    layer = {"digest": f"sha256:{'0' * 64}", "size": 10, "annotations": {MANIFEST_OF: "a"}}
    other = {"digest": "sha256:../../../v2/private/blobs/x", "size": 10, "annotations": {MANIFEST_OF: "b"}}
    registry.answers = lambda request: request.answer(body=json.dumps({"layers": [layer, other]}).encode())
    source = ask(registry, Patience(connect_s=2, backoff_s=0, silent_s=2, small_s=5))
    assert set(source.files) == {"a"}  # what is no digest is no address either
    registry.answers = _endless(200)
    refused(lambda: source.copy("a", tmp_path / "a", 10), IntegrityError, "a: longer than the 10 bytes")


# --- the Hub and buckets, whose servers the user names ---


def test_hub_that_drips(registry: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hub, or a mirror of it, that answers by the byte is given up too."""
    from huggingface_hub.utils import reset_sessions

    from exporter.remote.hub import fetch_snapshot

    for name, value in hub_settings(f"http://{registry.address}", str(tmp_path / "hub")).items():
        monkeypatch.setattr(name, value)
    reset_sessions()
    registry.answers = _drip_body
    refused(
        lambda: fetch_snapshot("org/tiny", None, ["*"], instead="", patience=SOON),
        BackendError,
        "hf://org/tiny: took longer than 1 seconds",
    )
    reset_sessions()


def test_bucket_that_drips(registry: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is a store."""
    from exporter.remote.bucket import bucket_source

    for name, value in s3_environment(f"http://{registry.address}").items():
        monkeypatch.setenv(name, value)
    registry.answers = _drip_body
    place, patience = parse_place("s3://models/a"), Patience(small_s=1, bytes_per_s=1 << 30)
    refused(lambda: bucket_source(place, patience), BackendError, "s3://models/a: took longer than 1 seconds")
