"""Serve an artifact over HTTP: `POST /rerank` as text-embeddings-inference has it, and `GET /health`.

An ASGI application without a framework: two routes, JSON in and out. A request's size, its number of
documents, the time it takes to arrive and how many requests are held at a time are bounded; a pair's tokens
are bounded by the artifact's `max_length`. What is refused gets a 4xx and one line of text.

    EXPORTER_ARTIFACT=artifacts/sample-int8 uvicorn --factory --app-dir deploy app:create

Source: https://huggingface.github.io/text-embeddings-inference/
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from exporter import Reranker
from exporter.errors import ArgumentValueError, ExporterError
from exporter.machine import cores_allowed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from exporter.runtime import Ranked

    # As ASGI has them; a message's values are of many types.
    # Source: https://asgi.readthedocs.io/en/latest/specs/main.html
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

_ROUTES = {"/health": ("GET", "HEAD"), "/rerank": ("POST",)}
_HEALTH_PAIR = ("does it score?", "It does.")
_MAX_TEXT = 300  # characters of an error's line


class Scorer(Protocol):
    """What is served: `Reranker`, or what ranks like it."""

    def rank(
        self, query: str, documents: list[str], top_k: int | None = None, *, return_documents: bool = False
    ) -> list[Ranked]:
        """Return the documents, best first, with raw logits."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server holds at a time; each can be set as `EXPORTER_MAX_DOCUMENTS` and so on.

    Args:
        max_documents: of a request.
        max_body_bytes: of a request's JSON.
        max_requests: that are read, wait or are scored; more are answered 429.
        max_body_seconds: until a request's body has arrived.
    """

    max_documents: int = 1000
    max_body_bytes: int = 4_000_000
    max_requests: int = 32
    max_body_seconds: int = 30

    @classmethod
    def from_environment(cls) -> Limits:
        """Return the limits that the environment sets.

        Raises:
            ArgumentValueError: one is no whole number of 1 or more.
        """
        found = {}
        for field in fields(cls):
            name = f"EXPORTER_{field.name.upper()}"
            text = os.environ.get(name)
            if text is None:
                continue
            if not (text.isascii() and text.isdecimal() and int(text[:19]) > 0):
                raise ArgumentValueError(f"{name} is {text[:40]!r}; wanted a whole number of 1 or more")
            found[field.name] = int(text[:19])
        return cls(**found)


class RerankRequest(BaseModel):
    """The body of `POST /rerank`; `texts` is the other name of `documents`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    query: str
    documents: list[str] = Field(validation_alias=AliasChoices("documents", "texts"))
    top_k: int | None = Field(default=None, ge=0)
    raw_scores: bool = False
    return_text: bool = False
    # Texts are always cut at the artifact's max_length, at their end.
    truncate: Literal[True] | None = None
    truncation_direction: Literal["right", "Right"] = "right"


class Refused(Exception):
    """A request that gets an error for an answer.

    Args:
        status: the HTTP status.
        kind: text-embeddings-inference's `error_type`.
        text: one line.
    """

    def __init__(self, status: int, kind: str, text: str) -> None:
        super().__init__(text)
        self.status, self.kind = status, kind


class ClientGone(Exception):
    """The client went away before its request was there."""


class App:
    """The ASGI application for one loaded scorer.

    Args:
        scorer: ranks documents; called from several threads.
        limits: what is held at a time.
        about: what `/health` says beside `status`.
    """

    def __init__(
        self, scorer: Scorer, limits: Limits | None = None, about: dict[str, str] | None = None
    ) -> None:
        self._scorer, self._limits, self._about = scorer, limits or Limits(), about or {}
        self._n_requests = 0
        # A thread more than cores: one request is tokenized while others are scored. Health has its own, so
        # that a server with many requests is busy, and not ill.
        self._threads = ThreadPoolExecutor(cores_allowed() + 1, thread_name_prefix="rerank")
        self._health_thread = ThreadPoolExecutor(1, thread_name_prefix="health")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or take part in the server's start and end."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            try:
                status, answer = 200, await self._answer(scope, receive)
            except Refused as error:
                status, answer = error.status, {"error": str(error), "error_type": error.kind}
            except ClientGone:
                return
            await _send_json(send, status, answer, head=scope["method"] == "HEAD")
        else:  # ASGI: what an application does not serve it raises on
            raise NotImplementedError(f"{scope['type']} is not served; start uvicorn with --ws none")

    async def _live(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        for threads in (self._threads, self._health_thread):
            threads.shutdown(cancel_futures=True)
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Message, receive: Receive) -> object:
        methods = _ROUTES.get(scope["path"])
        if methods is None:
            raise Refused(404, "Validation", f"there are {' and '.join(_ROUTES)}")
        if scope["method"] not in methods:
            raise Refused(405, "Validation", f"{scope['path']} takes {' and '.join(methods)}")
        if scope["path"] == "/health":
            return await self._health()
        if self._n_requests >= self._limits.max_requests:
            raise Refused(429, "Overloaded", f"{self._n_requests} requests are here already; come back later")
        self._n_requests += 1
        try:
            return await self._rerank(scope, receive)
        finally:
            self._n_requests -= 1

    async def _health(self) -> object:
        query, text = _HEALTH_PAIR
        try:
            (row,) = await self._in(self._health_thread, partial(self._scorer.rank, query, [text]))
        except ExporterError as error:
            _log(error)
            raise Refused(503, "Unhealthy", "a pair could not be scored; see the server's log") from None
        if not math.isfinite(row["score"]):
            raise Refused(503, "Unhealthy", "the score of a pair is not a number")
        return {"status": "ok", **self._about}

    async def _rerank(self, scope: Message, receive: Receive) -> object:
        body = await _body(scope, receive, self._limits)
        rank = partial(_ranked, self._scorer, body, self._limits)
        try:
            return await self._in(self._threads, rank)
        except ArgumentValueError as error:  # a text that is not valid Unicode
            raise Refused(422, "Validation", _line(str(error))) from None
        except ExporterError as error:
            _log(error)
            raise Refused(500, "Backend", "scoring failed; see the server's log") from None

    async def _in(self, threads: ThreadPoolExecutor, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(threads, work)


async def _body(scope: Message, receive: Receive, limits: Limits) -> bytes:
    """Return a request's body.

    Raises:
        Refused: it is larger than allowed, or does not arrive.
        ClientGone: the client went away.
    """
    stated = dict(scope["headers"]).get(b"content-length", b"")
    too_large = Refused(413, "Validation", f"the body may have {limits.max_body_bytes} bytes")
    if stated.isdigit() and int(stated[:19]) > limits.max_body_bytes:
        raise too_large
    body, more = bytearray(), True
    try:
        async with asyncio.timeout(limits.max_body_seconds):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > limits.max_body_bytes:
                    raise too_large
    except TimeoutError:
        text = f"the body did not arrive within {limits.max_body_seconds} seconds"
        raise Refused(408, "Validation", text) from None
    return bytes(body)


def _ranked(scorer: Scorer, body: bytes, limits: Limits) -> list[dict[str, object]]:
    """Return the answer to a request's body: the documents, best first.

    Raises:
        Refused: the body is not a request, or has too many documents.
    """
    try:
        request = RerankRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Refused(
            422, "Validation", _line(f"{where}: {first['msg']}" if where else first["msg"])
        ) from None
    if not request.documents:
        raise Refused(400, "Empty", "documents is empty")
    if len(request.documents) > limits.max_documents:
        text = f"{len(request.documents)} documents; a request may have {limits.max_documents}"
        raise Refused(413, "Validation", text)
    rows = scorer.rank(request.query, request.documents, request.top_k, return_documents=request.return_text)
    answer: list[dict[str, object]] = []
    for row in rows:
        score = row["score"] if request.raw_scores else _sigmoid(row["score"])
        answer.append({"index": row["corpus_id"], "score": score})
        if request.return_text:
            answer[-1]["text"] = row["text"]
    return answer


def _sigmoid(logit: float) -> float:
    # This form does not overflow.
    return 0.5 * (1.0 + math.tanh(0.5 * logit))


async def _send_json(send: Send, status: int, answer: object, *, head: bool) -> None:
    body = json.dumps(answer, allow_nan=False).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 429:
        headers.append((b"retry-after", b"1"))
    if status in (408, 413):  # the rest of the body is not read
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else body})


def _line(text: str) -> str:
    """Return a text as one printable line of bounded length."""
    return "".join(char if char.isprintable() else " " for char in text[:_MAX_TEXT])


def _log(error: ExporterError) -> None:
    sys.stderr.write(f"error: {_line(str(error))}\n")


def create() -> App:
    """Load the artifact that the environment names, and return the application; for `uvicorn --factory`.

    `EXPORTER_ARTIFACT` is its place (default `/artifact`), `EXPORTER_VARIANT` a variant; limits see `Limits`.

    Raises:
        SystemExit: with one line, if it cannot be loaded.
    """
    place, variant = os.environ.get("EXPORTER_ARTIFACT", "/artifact"), os.environ.get("EXPORTER_VARIANT")
    try:
        limits = Limits.from_environment()
        reranker = Reranker.load(place, variant or None)
        sys.stderr.write(f"{_line(reranker.why)}\n")  # which variant, and why that one
        reranker.score([_HEALTH_PAIR])  # the first call takes longer than others
    except ExporterError as error:
        raise SystemExit(f"error: {_line(str(error))}") from None
    return App(reranker, limits, {"variant": reranker.kind})
