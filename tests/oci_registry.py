"""A real OCI registry on loopback: Debian's docker-registry, with a folder and a configuration of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

# Set where a test that cannot be run is a failure: in CI.
ALL_TESTS = "EXPORTER_ALL_TESTS"
USER, PASSWORD = "somebody", "planted-password"
# crypt.crypt(PASSWORD, "$2y$05$abcdefghijklmnopqrstuu"): docker-registry takes bcrypt only.
_BCRYPT = "$2y$05$abcdefghijklmnopqrstuuXXXUKy4cODBo6oD0fJZB1CSpIzxX0SW"


@contextmanager
def oci_registry(folder: Path, *, login: bool = False) -> Iterator[str]:
    """Run a registry that keeps its files in `folder`; with `login` it asks for USER and PASSWORD."""
    program = shutil.which("docker-registry")
    if program is None and not os.environ.get(ALL_TESTS):
        pytest.skip(
            "docker-registry is not installed, and this is a test against a real one: "
            "apt-get install docker-registry"
        )
    assert program, f"${ALL_TESTS} is set and docker-registry is not installed"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (folder / "htpasswd").write_text(f"{USER}:{_BCRYPT}\n")
    auth = f"auth: {{htpasswd: {{realm: test, path: {folder}/htpasswd}}}}\n" if login else ""
    (folder / "config.yml").write_text(
        "version: 0.1\n"
        "log: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/blobs}}}}\n"
        f"http: {{addr: {address}}}\n{auth}"
    )
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([program, "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(tuple_of(address)) == 0:
                    break
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        yield address
    finally:
        process.kill()
        process.wait()


def tuple_of(address: str) -> tuple[str, int]:
    """Split host:port."""
    host, port = address.split(":")
    return host, int(port)
