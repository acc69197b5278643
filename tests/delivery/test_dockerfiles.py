"""The Dockerfiles: what they promise, and their own commands run without Docker."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from tests.delivery.runner import ROOT

SERVE, BUILD = "serve.Dockerfile", "build.Dockerfile"


def instructions(name: str) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions, each with its arguments."""
    text = (ROOT / "deploy" / name).read_text(encoding="utf-8")
    lines = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    return [tuple(line.split(" ", 1)) for line in lines if line]


def last_stage(name: str) -> dict[str, list[str]]:
    """Return the instructions of the image itself, by their name."""
    found: dict[str, list[str]] = {}
    for word, arguments in instructions(name):
        if word == "FROM":
            found = {}
        found.setdefault(word, []).append(arguments)
    return found


def pins(path: Path) -> dict[str, str]:
    """Return a lock's packages and their versions."""
    rows = [line.split(" ;")[0].split("==") for line in path.read_text(encoding="utf-8").splitlines()]
    return {re.sub(r"[-_.]+", "-", name).lower(): version.strip() for name, version in rows}


@pytest.mark.parametrize("name", [SERVE, BUILD])
def test_image_is_not_root_and_says_what_it_runs(name: str) -> None:
    """Both run as a user by number, with programs and arguments that no shell reads."""
    image = last_stage(name)
    assert image["USER"] == ["10001:10001"]
    assert all(
        isinstance(json.loads(line), list) for word in ("CMD", "ENTRYPOINT") for line in image.get(word, [])
    )
    assert all("=" not in line or ":latest" not in line for line in image["FROM"])


@pytest.mark.parametrize("name", [SERVE, BUILD])
def test_what_is_copied_is_there(name: str) -> None:
    """Every source of a COPY is in the repository, and not left out by the ignore file."""
    ignored = (ROOT / "deploy" / f"{name}.dockerignore").read_text(encoding="utf-8").splitlines()
    for word, arguments in instructions(name):
        if word == "COPY" and not arguments.startswith("--from"):
            for source in arguments.split()[:-1]:
                assert (ROOT / source).exists()
                assert f"!{source.split('/')[0]}" in ignored


def test_every_package_is_pinned() -> None:
    """Nothing is installed but by a lock, or the project itself without what it depends on."""
    for name in (SERVE, BUILD):
        installs = [line for word, line in instructions(name) if word == "RUN" and "pip install" in line]
        assert installs
        for line in installs:
            assert re.search(r"-r \S+\.lock$|--no-deps --no-build-isolation \.$|'\^setuptools=='", line), line


def test_serving_needs_no_torch_and_what_was_measured() -> None:
    """The lock to serve has all that the package depends on, in the versions that it was tested with."""
    serve, build = pins(ROOT / "deploy" / "requirements-serve.lock"), pins(ROOT / "requirements.lock")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {re.split(r"[>=<\[]", one)[0] for one in project["dependencies"]} | {"uvicorn"}
    assert {re.sub(r"[-_.]+", "-", name).lower() for name in wanted} <= set(serve)
    assert not {"torch", "transformers", "sentence-transformers", "scipy", "openvino"} & set(serve)
    assert {name: build.get(name) for name in serve} == serve


def free_port() -> str:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


class Container:
    """The serving image's last stage in a folder: its files, environment and commands, with this Python."""

    def __init__(self, folder: Path, artifact: Path) -> None:
        self.folder, self.image = folder, last_stage(SERVE)
        for line in self.image["COPY"]:
            *sources, to = line.split()
            if not line.startswith("--from"):
                target = folder / to.strip("/")
                target.mkdir()
                for source in sources:
                    shutil.copy(ROOT / source, target)
        (line,) = self.image["ENV"]
        set_here = dict(one.split("=", 1) for one in shlex.split(line))
        assert set_here.pop("EXPORTER_ARTIFACT") == "/artifact"
        set_here["PATH"] = set_here["PATH"].replace("/opt/venv/bin", str(Path(sys.executable).parent))
        self.env = {
            **{key: value for key, value in os.environ.items() if key.startswith(("EXPORTER_", "LANG"))},
            **set_here,
            "PYTHONPATH": str(ROOT),
            "EXPORTER_ARTIFACT": str(artifact),
            "UVICORN_PORT": free_port(),
            "UVICORN_HOST": "127.0.0.1",
        }

    def start(self, line: str) -> subprocess.Popen[str]:
        """Start a command of the image, written as a list."""
        words = [word.replace("/app", str(self.folder / "app")) for word in json.loads(line)]
        return subprocess.Popen(
            words, cwd=self.folder, env=self.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def health(self) -> tuple[int, str]:
        """Run the image's health check; return its exit code and what it says."""
        (line,) = self.image["HEALTHCHECK"]
        check = self.start(line.split(" CMD ", 1)[1])
        said, _ = check.communicate(timeout=60)
        return check.returncode, said


def test_image_serves_and_ends(verified: Path, tmp_path: Path) -> None:
    """The image's command serves, its health check scores a pair, and SIGTERM ends it in order."""
    container = Container(tmp_path, verified)
    assert container.health()[0] == 1
    (command,) = container.image["CMD"]
    server = container.start(command)
    try:
        until = time.monotonic() + 60
        while (healthy := container.health())[0] and time.monotonic() < until and server.poll() is None:
            time.sleep(0.2)
        assert healthy[0] == 0, healthy
        assert json.loads(healthy[1])["status"] == "ok"
    finally:
        server.terminate()
        said, _ = server.communicate(timeout=60)
    assert server.returncode in (0, -15), said  # uvicorn raises the signal again once it has ended
    assert "Finished server process" in said
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["app.py", "health.py"]


def test_server_without_an_artifact_ends_with_a_line(tmp_path: Path) -> None:
    """An image that is started without an artifact says so, and ends."""
    container = Container(tmp_path, tmp_path / "gone")
    (command,) = container.image["CMD"]
    server = container.start(command)
    said, _ = server.communicate(timeout=60)
    assert server.returncode == 1
    assert re.search(r"^error: .*gone", said, re.MULTILINE)
    assert "Traceback" not in said
