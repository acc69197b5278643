"""Which login belongs to which registry, and who it may be shown to.

A login is for one registry, by its host and port: in docker's config.json that is the key it stands under, in
the environment `ORAS_HOST` says so beside `ORAS_USER` and `ORAS_PASS`. It goes to that registry, and to the
server of tokens that the registry names, if that is of the same owner: the same host and port, the domain
that the registry's lies under (whoever has gitlab.example.org has registry.gitlab.example.org too), docker's
own for docker.io, or one that `ORAS_REALM` names.
Source: https://distribution.github.io/distribution/spec/auth/token/
Source: https://docs.docker.com/reference/cli/docker/login/#credential-stores
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import quote, urlsplit, urlunsplit

from exporter.errors import IntegrityError, RecipeError
from exporter.remote.client import Login, Origin, body_of, origin_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from requests import Response

    from exporter.remote.client import Client


HOST, USER, PASSWORD, REALM = "ORAS_HOST", "ORAS_USER", "ORAS_PASS", "ORAS_REALM"
# Source: https://docs.docker.com/reference/api/registry/auth/
_DOCKER_HUB = frozenset(("docker.io", "index.docker.io", "registry-1.docker.io"))
_DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_DOCKER_HUB_REALM = "auth.docker.io"
_MAX_CONFIG_BYTES = 4 << 20
# A token holds its claims, and is sent in a header: 8 kB is what servers take.
_MAX_TOKEN_BYTES = 1 << 20
_HELPER = re.compile(r"[A-Za-z0-9._-]+")
# A credential helper may ask a person to unlock a key ring.
_HELPER_S = 120
# A key of bounded length: a header of 64 kB of letters would be searched anew from each of them.
_CHALLENGE = re.compile(r'([A-Za-z]{1,32})="([^"]*)"')


def log_in(client: Client, refusal: Response, place: str) -> Login | None:
    """Return the login that a registry's refusal asks for; None where there is none for this registry.

    Args:
        client: asks for a token, which may need no password.
        refusal: the answer with `Www-Authenticate`.
        place: the address the user gave, for errors.

    Raises:
        RecipeError: the login would go to somebody else; or docker's configuration cannot be read.
        BackendError: the server of tokens is out of reach or failed.
        IntegrityError: its answer is none.
    """
    challenge = refusal.headers.get("Www-Authenticate", "")
    password = password_for(client.registry)
    if challenge.lower().startswith("basic"):
        return Login(client.registry, f"Basic {password}") if password else None
    said = {key.lower(): value for key, value in _CHALLENGE.findall(challenge)}
    if not said.get("realm"):
        return None

    realm = said["realm"] if "://" in said["realm"] else f"{client.registry.scheme}://{said['realm']}"
    server = origin_of(realm)
    if server is None:
        raise RecipeError(f"{place}: the registry asks for tokens from {realm[:200]!a}, which is no address")
    if password and not is_owners(server, client.registry):
        raise RecipeError(
            f"{place}: the registry wants its login sent to {server.netloc[:200]}, another host; "
            f"if that is where {client.registry.netloc} checks logins, set {REALM}={server.netloc[:200]}"
        )
    token = _token(client, realm, said, Login(server, f"Basic {password}") if password else None)
    return Login(client.registry, f"Bearer {token}") if token else None


def password_for(registry: Origin) -> str | None:
    """Return a registry's login as HTTP's Basic writes it; None where there is none for this registry.

    Raises:
        RecipeError: docker's configuration cannot be read, or its credential helper fails.
    """
    user, password = os.environ.get(USER), os.environ.get(PASSWORD)
    if user and password and os.environ.get(HOST, "").lower() == registry.netloc:
        return base64.b64encode(f"{user}:{password}".encode()).decode()
    return _from_docker(registry)


def unused_login() -> str:
    """Return what to type so that the login in the environment is used; empty where there is none."""
    if os.environ.get(USER) and os.environ.get(PASSWORD) and not os.environ.get(HOST):
        return f"; {USER} is for the registry that {HOST} names, which is not set"
    return ""


def is_owners(server: Origin, registry: Origin) -> bool:
    """Return whether a server of tokens may see a registry's login."""
    if server == registry or server.netloc in os.environ.get(REALM, "").lower().split(","):
        return True
    if server.scheme != "https" or server.port != Origin("https", server.host, 443).port:
        return False
    if registry.host in _DOCKER_HUB:
        return server.host == _DOCKER_HUB_REALM
    return "." in server.host and registry.host.endswith(f".{server.host}")


def _token(client: Client, realm: str, said: Mapping[str, str], login: Login | None) -> str | None:
    asked = "&".join(f"{key}={quote(said[key], safe='')}" for key in ("service", "scope") if said.get(key))
    parts = urlsplit(realm)
    url = urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, asked))), fragment=""))
    with client.exchange("GET", url, {"Accept": "application/json"}, login=login) as response:
        if response.status_code != 200:
            return None
        body = body_of(response, _MAX_TOKEN_BYTES, f"the token from {parts.hostname}")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    found = (content.get("token") or content.get("access_token")) if isinstance(content, dict) else None
    if not isinstance(found, str) or not found.isascii() or not found.isprintable():
        raise IntegrityError(f"the answer of {parts.hostname} holds no token; tell who runs the registry")
    return found


def _from_docker(registry: Origin) -> str | None:
    """Return the login that `docker login` keeps for a registry, in its configuration or a helper."""
    try:
        folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    except RuntimeError:  # no home
        return None
    config = _docker_config(folder / "config.json")
    keys = [registry.netloc, f"{registry.scheme}://{registry.netloc}"]
    if registry.host in _DOCKER_HUB:
        keys.append(_DOCKER_HUB_KEY)
    logins, helpers = (_object(config.get(name)) for name in ("auths", "credHelpers"))
    for key in keys:
        if kept := _object(logins.get(key)).get("auth"):
            return str(kept)
        helper = helpers.get(key, config.get("credsStore"))
        if helper and (found := _from_helper(str(helper), key)):
            return found
    return None


def _docker_config(path: Path) -> dict[str, object]:
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise RecipeError(f"{path}: larger than {_MAX_CONFIG_BYTES >> 20} MiB, which docker's is not")
        return _object(json.loads(path.read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise RecipeError(
            f"{path}: cannot be read as docker's configuration ({type(error).__name__})"
        ) from None


def _from_helper(name: str, key: str) -> str | None:
    """Ask a credential helper; a token of an identity, which is no password, is none.

    Source: https://github.com/docker/docker-credential-helpers/blob/main/README.md
    """
    if not _HELPER.fullmatch(name):
        return None
    try:
        done = subprocess.run(
            [f"docker-credential-{name}", "get"],
            input=key.encode(),
            capture_output=True,
            check=True,
            timeout=_HELPER_S,
        )
        found = json.loads(done.stdout)
        user, secret = found["Username"], found["Secret"]
    except subprocess.TimeoutExpired:
        raise RecipeError(f"docker-credential-{name} did not answer in {_HELPER_S} seconds") from None
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return None  # it is not installed, or has none for this registry, which it says by failing
    return None if user == "<token>" else base64.b64encode(f"{user}:{secret}".encode()).decode()


def _object(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}
