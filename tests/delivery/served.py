"""Loads deploy/app.py, and asks it as a server does."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from typing import TYPE_CHECKING, Any

from tests.delivery.runner import ROOT

if TYPE_CHECKING:
    from types import ModuleType


def load_app() -> ModuleType:
    """Import deploy/app.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("deploy_app", ROOT / "deploy" / "app.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["deploy_app"] = module  # where its dataclasses and models look up their types
    spec.loader.exec_module(module)
    return module


class Answer:
    """A response: status, headers, and its JSON."""

    def __init__(self, sent: list[dict[str, Any]]) -> None:
        start, body = sent
        self.status, self.headers, self.body = start["status"], dict(start["headers"]), body["body"]
        assert self.headers[b"content-type"] == b"application/json"

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def ask(app: Any, method: str, path: str, *chunks: bytes, stated: bytes | None = None) -> Answer:
    """Send a request in chunks, and return the answer. With no chunks the body never arrives."""
    left = [
        {"type": "http.request", "body": chunk, "more_body": i + 1 < len(chunks)}
        for i, chunk in enumerate(chunks)
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [] if stated is None else [(b"content-length", stated)]
    await app({"type": "http", "method": method, "path": path, "headers": headers}, receive, send)
    return Answer(sent)


def post(app: Any, body: object, **more: Any) -> Answer:
    """Ask `POST /rerank` with a value as JSON, or with bytes as they are."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return asyncio.run(ask(app, "POST", "/rerank", raw, **more))
