"""Buckets: against moto's S3 server, through s3fs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.errors import BackendError, IntegrityError, RecipeError
from exporter.remote import cached_artifact, fetch_artifact
from exporter.remote.address import parse_place
from exporter.remote.bucket import open_bucket
from exporter.remote.send import send
from tests.killing_proxy import Proxy, proxy_of
from tests.published import a_published, contents
from tests.s3_server import KEY, s3_environment, s3_server


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server("models") as url:
        yield url


@pytest.fixture
def proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with proxy_of(server) as found:
        for name, value in s3_environment(found.url).items():
            monkeypatch.setenv(name, value)
        yield found


def test_round_trip(proxy: Proxy, tmp_path: Path) -> None:
    """What is sent comes back byte for byte; sent again, nothing is."""
    folder = a_published(tmp_path / "a")
    sent = send(folder, "s3://models/round/trip")
    assert sent.n_files == sent.n_in_all == len(contents(folder))
    assert contents(fetch_artifact("s3://models/round/trip", tmp_path / "back")[0]) == contents(folder)
    proxy.forget()
    assert "already holds this artifact, nothing was sent" in str(send(folder, "s3://models/round/trip"))
    assert not [path for method, path in proxy.asked if method == "PUT"]


def test_another_artifact(proxy: Proxy, tmp_path: Path) -> None:
    """Another artifact is replaced only when asked; what both have is copied inside the store."""
    old, new = a_published(tmp_path / "a", "x"), a_published(tmp_path / "b", "z")
    send(old, "s3://models/another")
    with pytest.raises(RecipeError, match="holds another artifact, tiny with root"):
        send(new, "s3://models/another")
    sent = send(new, "s3://models/another", replace=True)
    assert sent.n_files == sum(content not in contents(old).values() for content in contents(new).values())
    assert contents(fetch_artifact("s3://models/another", tmp_path / "back")[0]) == contents(new)


def test_killed_and_repeated(proxy: Proxy, tmp_path: Path) -> None:
    """Killed at any request, the prefix holds the old artifact or the new one; repeated, the new one."""
    old, new, n = a_published(tmp_path / "a", "x"), a_published(tmp_path / "b", "z"), iter(range(1000))

    def pull(address: str) -> dict[str, bytes]:
        return contents(fetch_artifact(address, tmp_path / f"pulled-{next(n)}")[0])

    assert proxy.kill_and_repeat(old, new, lambda word: f"s3://models/killed/{word}", pull) > 0


def test_what_is_there_is_not_sent_again(proxy: Proxy, tmp_path: Path) -> None:
    """Killed before its pointer was written, a send that is repeated sends the pointer only."""
    folder = a_published(tmp_path / "a")
    assert proxy.run(folder, "s3://models/resumed/one") == 0
    assert proxy.run(folder, "s3://models/resumed/two", kill_at=len(proxy.asked)) != 0
    assert proxy.run(folder, "s3://models/resumed/two") == 0
    assert [path for method, path in proxy.asked if method == "PUT"] == ["/models/resumed/two/artifact.json"]


def test_a_reader_of_the_old_version(proxy: Proxy, tmp_path: Path) -> None:
    """Who began to read before something else was published reads on, and gets one artifact."""
    from exporter.remote.open import open_source

    old, new = a_published(tmp_path / "a", "x"), a_published(tmp_path / "b", "z")
    send(old, "s3://models/reader")
    source = open_source(parse_place("s3://models/reader"))
    send(new, "s3://models/reader", replace=True)
    assert source is not None
    source.copy("onnx/model.onnx", tmp_path / "model.onnx", 100)
    assert (tmp_path / "model.onnx").read_bytes() == contents(old)["onnx/model.onnx"]


def test_only_what_a_variant_needs(proxy: Proxy, tmp_path: Path) -> None:
    """The runtime fetches the manifest, the tokenizer and one variant, once."""
    send(a_published(tmp_path / "a"), "s3://models/needed")
    folder = cached_artifact("s3://models/needed", "onnx-int8")
    assert set(contents(folder)) == {"manifest.json", "tokenizer.json", "onnx/model_qint8_avx2.onnx"}
    proxy.forget()
    assert cached_artifact("s3://models/needed", "onnx-int8") == folder
    assert not [path for _, path in proxy.asked if ".versions" in path]


def test_damaged_object(proxy: Proxy, tmp_path: Path) -> None:
    """A store that gives other bytes than it was given is caught."""
    send(a_published(tmp_path / "a"), "s3://models/damaged")
    proxy.spoil = lambda path, content: content.replace(b"x" * 100, b"y" * 100)
    with pytest.raises(IntegrityError, match="what came is not what was sent"):
        fetch_artifact("s3://models/damaged", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_object_that_is_larger(proxy: Proxy, tmp_path: Path) -> None:
    """An object that is larger than its pointer says is not fetched."""
    send(a_published(tmp_path / "a"), "s3://models/larger")
    bucket, prefix = open_bucket(parse_place("s3://models/larger"))
    (key,) = [found for found in bucket.find(prefix) if found.endswith("onnx/model.onnx")]
    bucket.pipe_file(key, bytes(100_000))
    proxy.forget()
    with pytest.raises(
        IntegrityError, match="onnx/model.onnx: 100000 bytes, 100 expected at most; it was not fetched"
    ):
        fetch_artifact("s3://models/larger", tmp_path / "back")
    assert [method for method, path in proxy.asked if path.endswith("onnx/model.onnx")] == ["HEAD"]


def test_errors(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """No such bucket, nothing at a prefix, no server: one line each; the key is in none of them."""
    folder, said = a_published(tmp_path / "a"), []
    said.append(str(send(folder, "s3://models/errors")))
    fetch_artifact("s3://models/errors", tmp_path / "back")
    with pytest.raises(RecipeError, match="nothing is there") as nothing:
        fetch_artifact("s3://models/nothing", tmp_path / "none")
    with pytest.raises(RecipeError, match="there is no such bucket") as bucket:
        send(folder, "s3://no-such-bucket/x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(BackendError, match="the store cannot be reached or failed") as gone:
        send(folder, "s3://models/errors")
    output = capfd.readouterr()
    for caught in (nothing, bucket, gone):
        said.append(str(caught.value))
        assert "\n" not in said[-1]
    for text in (*said, output.out, output.err, *map(repr, contents(tmp_path / "back").values())):
        assert KEY not in text
