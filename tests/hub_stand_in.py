"""A stand-in of the Hub's HTTP interface on loopback: model info, and files with the headers huggingface_hub reads."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Hub:
    """Where the stand-in listens, and the one commit it has."""

    url: str
    commit: str


@contextmanager
def serve(folder: Path, repo_id: str) -> Iterator[Hub]:
    """Serve a folder as the repository `repo_id` at one commit, with a pickle beside it that nobody should ask for."""
    commit = "89abcdef0123456789abcdef0123456789abcdef"
    paths = [path for path in folder.rglob("*") if path.is_file()]
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths} | {"pytorch_model.bin": b"pickle"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def _answer(self, *, with_body: bool) -> None:
            path = self.path.split("?")[0]
            if path.startswith(f"/api/models/{repo_id}"):
                siblings = [{"rfilename": name} for name in files]
                self._send(json.dumps({"id": repo_id, "sha": commit, "siblings": siblings}).encode(), with_body, {})
            elif path.startswith(f"/{repo_id}/resolve/") and (name := path.split("/", 5)[5]) in files:
                tag = hashlib.sha256(files[name]).hexdigest()
                self._send(files[name], with_body, {"ETag": f'"{tag}"', "X-Repo-Commit": commit})
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def _send(self, body: bytes, with_body: bool, headers: dict[str, str]) -> None:  # noqa: FBT001
            self.send_response(200)
            for key, value in {**headers, "Content-Length": str(len(body)), "Content-Type": "application/json"}.items():
                self.send_header(key, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Hub(f"http://127.0.0.1:{server.server_port}", commit)
    finally:
        server.shutdown()
        server.server_close()
