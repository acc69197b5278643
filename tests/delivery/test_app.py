"""The server in deploy/: text-embeddings-inference's answers, one line for what is refused, bounds."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter import Reranker
from exporter.errors import BackendError
from tests.delivery.served import ask, load_app, post

served = load_app()
Limits, App = served.Limits, served.App


class ByLength:
    """Scores a document by its number of characters."""

    def __init__(self, fails: Exception | None = None, score: float | None = None) -> None:
        self.fails, self.score = fails, score

    def rank(
        self, query: str, documents: list[str], top_k: int | None = None, *, return_documents: bool = False
    ) -> list[dict[str, Any]]:
        if self.fails:
            raise self.fails
        rows = [
            {"corpus_id": i, "score": float(len(text)) if self.score is None else self.score, "text": text}
            for i, text in enumerate(documents)
        ]
        return sorted(rows, key=lambda row: -row["score"])[:top_k]


def test_ranks() -> None:
    """Documents come best first, with their position and the probability of their logit."""
    answer = post(App(ByLength()), {"query": "q", "documents": ["", "aaa", "a"]})
    assert answer.status == 200
    assert [row["index"] for row in answer.json] == [1, 2, 0]
    assert [row["score"] for row in answer.json] == pytest.approx([0.95257413, 0.73105858, 0.5])


def test_request_of_text_embeddings_inference() -> None:
    """A client of text-embeddings-inference is answered as there: `texts`, raw scores, the text beside."""
    body = {"query": "q", "texts": ["a", "bb"], "raw_scores": True, "return_text": True, "truncate": True}
    assert post(App(ByLength()), body).json == [
        {"index": 1, "score": 2.0, "text": "bb"},
        {"index": 0, "score": 1.0, "text": "a"},
    ]


@pytest.mark.parametrize(("top_k", "n"), [(0, 0), (1, 1), (9, 2), (None, 2)])
def test_top_k(top_k: int | None, n: int) -> None:
    """No more than `top_k` documents come back."""
    assert len(post(App(ByLength()), {"query": "q", "documents": ["a", "b"], "top_k": top_k}).json) == n


@pytest.mark.parametrize(("logit", "probability"), [(1e4, 1.0), (-1e4, 0.0), (0.0, 0.5)])
def test_extreme_logits(logit: float, probability: float) -> None:
    """A probability is one at any logit."""
    answer = post(App(ByLength(score=logit)), {"query": "q", "documents": ["a"]})
    assert answer.json == [{"index": 0, "score": probability}]


GOOD = {"query": "q", "documents": ["a"]}


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 422, "Invalid JSON"),
        (b"{", 422, "Invalid JSON"),
        (b"[" * 100_000, 422, "Invalid JSON"),
        (b"\xff\xfe", 422, "Invalid JSON"),
        (b"[]", 422, "an object"),
        ({}, 422, "query"),
        ({"query": "q"}, 422, "documents"),
        ({**GOOD, "query": 1}, 422, "query"),
        ({**GOOD, "documents": "a"}, 422, "documents"),
        ({**GOOD, "documents": [None]}, 422, "documents.0"),
        ({**GOOD, "documents": []}, 400, "documents is empty"),
        ({**GOOD, "documents": ["a"] * 4}, 413, "4 documents; a request may have 3"),
        ({**GOOD, "top_k": -1}, 422, "top_k"),
        ({**GOOD, "top_k": True}, 422, "top_k"),
        ({**GOOD, "top_n": 1}, 422, "top_n"),
        ({**GOOD, "texts": ["b"]}, 422, "texts"),
        ({**GOOD, "truncate": False}, 422, "truncate"),
        ({**GOOD, "a\nb" * 1000: 1}, 422, "Extra"),
    ],
)
def test_what_is_refused(body: object, status: int, says: str) -> None:
    """A request that is wrong gets a 4xx, and one short line that says where."""
    answer = post(App(ByLength(), Limits(max_documents=3)), body)
    assert answer.status == status
    assert set(answer.json) == {"error", "error_type"}
    line = answer.json["error"]
    assert says in line or len(line) == 300
    assert "\n" not in line


ONE_APP = App(ByLength())


@given(st.binary(max_size=200) | st.recursive(st.none() | st.text() | st.floats(), st.lists).map(json.dumps))
def test_any_body_is_answered(body: bytes | str) -> None:
    """Whatever is sent, the answer is one, and no fault of the server."""
    answer = post(ONE_APP, body if isinstance(body, bytes) else body.encode())
    assert 400 <= answer.status < 500


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/rerank", 405), ("POST", "/health", 405), ("GET", "/", 404), ("GET", "/../etc/passwd", 404)],
)
def test_other_routes(method: str, path: str, status: int) -> None:
    """There are two routes, each with its methods."""
    assert asyncio.run(ask(App(ByLength()), method, path, b"")).status == status


def test_body_that_says_it_is_too_large_is_not_read() -> None:
    """A stated size over the limit is refused before anything arrives."""
    answer = asyncio.run(ask(App(ByLength(), Limits(max_body_bytes=10)), "POST", "/rerank", stated=b"11"))
    assert (answer.status, answer.headers[b"connection"]) == (413, b"close")


def test_body_that_grows_too_large() -> None:
    """A body without a size is read up to the limit."""
    app = App(ByLength(), Limits(max_body_bytes=10))
    assert asyncio.run(ask(app, "POST", "/rerank", *[b"123"] * 100)).status == 413


def test_body_that_does_not_arrive() -> None:
    """A client that sends nothing does not hold a place for long."""
    assert asyncio.run(ask(App(ByLength(), Limits(max_body_seconds=0)), "POST", "/rerank")).status == 408


def test_too_many_requests() -> None:
    """More requests than are held are answered 429; the server stays healthy, and takes the next later."""
    entered, go = threading.Event(), threading.Event()

    class Slow(ByLength):
        def rank(self, query: str, *args: Any, **more: Any) -> list[dict[str, Any]]:
            if query == "q":
                entered.set()
                go.wait(30)
            return super().rank(query, *args, **more)

    async def main() -> list[int]:
        app, body = App(Slow(), Limits(max_requests=1)), json.dumps(GOOD).encode()
        first = asyncio.create_task(ask(app, "POST", "/rerank", body))
        await asyncio.to_thread(entered.wait, 30)
        second = await ask(app, "POST", "/rerank", body)
        health = await ask(app, "GET", "/health", b"")
        go.set()
        assert second.headers[b"retry-after"] == b"1"
        last = await first, await ask(app, "POST", "/rerank", body)
        return [second.status, health.status, *(one.status for one in last)]

    assert asyncio.run(main()) == [429, 200, 200, 200]


@pytest.mark.parametrize("scorer", [ByLength(fails=BackendError("secret/path")), ByLength(score=math.nan)])
def test_ill_server(scorer: ByLength, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that cannot score says so to who asks after its health; why stands in its log alone."""
    answer = asyncio.run(ask(App(scorer), "GET", "/health", b""))
    assert (answer.status, answer.json["error_type"]) == (503, "Unhealthy")
    assert b"secret" not in answer.body
    if scorer.fails:
        failed = post(App(scorer), GOOD)
        assert failed.status == 500
        assert b"secret" not in failed.body
        assert "secret/path" in capsys.readouterr().err


def test_head_has_no_body() -> None:
    """HEAD asks after health without a body."""
    answer = asyncio.run(ask(App(ByLength()), "HEAD", "/health", b""))
    assert (answer.status, answer.body) == (200, b"")


def test_artifact(
    verified: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The application that is made for uvicorn ranks as `Reranker.rank` does; its log names the variant."""
    monkeypatch.setenv("EXPORTER_ARTIFACT", str(verified))
    monkeypatch.setenv("EXPORTER_VARIANT", "onnx")
    app, documents = served.create(), ["wing lift", "heat", "drag of a wing"]
    assert f"{Reranker.load(verified, 'onnx').why}\n" in capsys.readouterr().err
    assert asyncio.run(ask(app, "GET", "/health", b"")).json == {"status": "ok", "variant": "onnx"}
    answer = post(app, {"query": "wing", "documents": documents, "raw_scores": True})
    rows = Reranker.load(verified, "onnx").rank("wing", documents)
    assert answer.json == [{"index": row["corpus_id"], "score": row["score"]} for row in rows]
    assert post(app, b'{"query": "\\ud800", "documents": ["a"]}').status == 422


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("EXPORTER_ARTIFACT", "./gone", "gone: no such artifact"),
        ("EXPORTER_VARIANT", "onnx-int9", "onnx-int9"),
        ("EXPORTER_MAX_DOCUMENTS", "0", "wanted a whole number"),
        ("EXPORTER_MAX_REQUESTS", "many", "wanted a whole number"),
    ],
)
def test_start_that_fails(
    verified: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    """A server that cannot start ends with one line."""
    monkeypatch.setenv("EXPORTER_ARTIFACT", str(verified))
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=says) as raised:
        served.create()
    assert "\n" not in str(raised.value)


def test_limits_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each limit has a variable; the rest stay as they are."""
    monkeypatch.setenv("EXPORTER_MAX_DOCUMENTS", "7")
    assert Limits.from_environment() == Limits(max_documents=7)
