"""The Hub: against a stand-in of its interface, with the client as it is installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.errors import BackendError, IntegrityError, RecipeError
from exporter.remote import cached_artifact, fetch_artifact
from exporter.remote.send import send
from tests.hub_stand_in import READ_TOKEN, TOKEN, Hub, hub_settings, serve
from tests.killing_proxy import Proxy, proxy_of
from tests.published import a_published, contents

ADDRESS = "hf://org/tiny"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve(None, "org/tiny") as found:
        yield found


@pytest.fixture
def proxy(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The way to the stand-in, with a token that may write."""
    from huggingface_hub.utils import reset_sessions

    with proxy_of(hub.url) as found:
        for name, value in hub_settings(found.url, str(tmp_path / "hub")).items():
            monkeypatch.setattr(name, value)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))  # for the processes that are killed
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        reset_sessions()
        yield found
    reset_sessions()


def published(hub: Hub, revision: str = "main") -> dict[str, bytes]:
    """Return the files of a branch, without what a new repository has."""
    return {
        path: content for path, content in hub.repository.files(revision).items() if path != ".gitattributes"
    }


def test_round_trip(hub: Hub, proxy: Proxy, tmp_path: Path) -> None:
    """What is sent is one commit, and comes back byte for byte; sent again, there is no commit."""
    folder = a_published(tmp_path / "a")
    sent = send(folder, ADDRESS)
    assert sent.n_files == sent.n_in_all == len(contents(folder))
    assert published(hub) == contents(folder)
    assert len(hub.repository.commits) == 2
    got, version = fetch_artifact(ADDRESS, tmp_path / "back")
    assert contents(got) == contents(folder)
    assert version == sent.reference == hub.repository.branches["main"]
    assert "already holds this artifact, nothing was sent" in str(send(folder, ADDRESS))
    assert len(hub.repository.commits) == 2


def test_another_artifact(hub: Hub, proxy: Proxy, tmp_path: Path) -> None:
    """Another artifact is replaced only when asked, by one commit; files of others stay."""
    old, new = a_published(tmp_path / "a", "x"), a_published(tmp_path / "b", "z")
    send(old, ADDRESS)
    with pytest.raises(RecipeError, match="holds another artifact, tiny with root"):
        send(new, ADDRESS)
    assert published(hub) == contents(old)
    send(new, ADDRESS, replace=True)
    assert published(hub) == contents(new)
    assert ".gitattributes" in hub.repository.files()
    assert len(hub.repository.commits) == 3


def test_somebody_elses_model(hub: Hub, proxy: Proxy, tmp_path: Path) -> None:
    """A repository without a manifest is added to, but none of its own files is overwritten unless asked."""
    hub.repository.files()["model.safetensors"] = b"weights"
    hub.repository.files()["config.json"] = b"{}"
    folder = a_published(tmp_path / "a")
    with pytest.raises(RecipeError, match="no artifact, and has a config.json of its own"):
        send(folder, ADDRESS)
    send(folder, ADDRESS, replace=True)
    assert published(hub) == contents(folder) | {"model.safetensors": b"weights"}
    assert contents(fetch_artifact(ADDRESS, tmp_path / "back")[0]) == contents(folder)


def test_damaged_manifest(hub: Hub, proxy: Proxy, tmp_path: Path) -> None:
    """A branch whose manifest was changed is published over when asked, and only then."""
    folder = a_published(tmp_path / "a")
    send(folder, ADDRESS)
    hub.repository.files()["manifest.json"] = b"{}"
    with pytest.raises(RecipeError, match="what is there is damaged: .*; pass --replace to publish over it"):
        send(folder, ADDRESS)
    assert send(folder, ADDRESS, replace=True).n_files == 1
    assert published(hub) == contents(folder)


def test_branch(hub: Hub, proxy: Proxy, tmp_path: Path) -> None:
    """A branch that is missing is made from main, also by a send that repeats a killed one; main stays."""
    old, new = a_published(tmp_path / "a", "x"), a_published(tmp_path / "b", "z")
    send(old, ADDRESS)
    assert send(new, f"{ADDRESS}@dev").n_files
    hub.repository.branches["half"] = hub.repository.branches["main"]
    send(new, f"{ADDRESS}@half")
    assert published(hub) == contents(old)
    assert published(hub, "dev") == published(hub, "half") == contents(new)
    assert contents(fetch_artifact(f"{ADDRESS}@dev", tmp_path / "back")[0]) == contents(new)
    with pytest.raises(RecipeError, match="nothing is there"):
        fetch_artifact(f"{ADDRESS}@other", tmp_path / "none")


def test_pull_request(hub: Hub, proxy: Proxy, tmp_path: Path) -> None:
    """A pull request leaves the branch as it is, and is opened once."""
    old, new = a_published(tmp_path / "a", "x"), a_published(tmp_path / "b", "z")
    send(old, ADDRESS)
    sent = send(new, ADDRESS, pull_request=True)
    assert sent.reference.endswith("/org/tiny/discussions/1")
    assert published(hub) == contents(old)
    assert published(hub, "refs/pr/1") == contents(new)
    again = send(new, ADDRESS, pull_request=True)
    assert (again.n_files, again.reference[-2:]) == (None, "/1")
    assert len(hub.repository.requests) == 1


def test_killed_and_repeated(hub: Hub, proxy: Proxy, tmp_path: Path) -> None:
    """Killed at any request, the branch holds the old artifact or the new one; repeated, the new one."""
    old, new, first = (
        a_published(tmp_path / "a", "x"),
        a_published(tmp_path / "b", "z"),
        hub.repository.files(),
    )

    def afresh(_: str) -> str:
        hub.repository.branches["main"] = hub.commit
        hub.repository.commits[hub.commit] = dict(first)
        hub.repository.store.clear()
        shutil.rmtree(
            os.environ["HF_HUB_CACHE"], ignore_errors=True
        )  # with it a send asks for less than the one counted
        return ADDRESS

    empty = iter([1])

    def address(word: str) -> str:
        return afresh(word) if word != "count" or next(empty, None) else ADDRESS

    assert proxy.kill_and_repeat(old, new, address, lambda _: published(hub)) > 0


def test_what_is_there_is_not_sent_again(hub: Hub, proxy: Proxy, tmp_path: Path) -> None:
    """Killed before its commit, a send that is repeated uploads no large file again."""
    folder = a_published(tmp_path / "a")
    assert proxy.run(folder, ADDRESS) == 0
    assert any("/store/" in path for _, path in proxy.asked)
    n_asked = len(proxy.asked)
    hub.repository.branches["main"] = hub.commit
    hub.repository.store.clear()
    assert proxy.run(folder, ADDRESS, kill_at=n_asked) != 0
    assert proxy.run(folder, ADDRESS) == 0
    assert not any("/store/" in path for _, path in proxy.asked)
    assert published(hub) == contents(folder)


def test_somebody_commits_meanwhile(hub: Hub, proxy: Proxy, tmp_path: Path) -> None:
    """A commit on another parent than the one looked at is refused by the Hub, and said so."""
    folder = a_published(tmp_path / "a")

    def meanwhile(path: str, content: bytes) -> bytes:
        if "/preupload/" in path:
            hub.repository.branches["main"] = hub.repository.commit(hub.commit, {"a": b"b"}, "meanwhile")
        return content

    proxy.spoil = meanwhile
    with pytest.raises(BackendError, match="somebody else committed meanwhile; run the same again"):
        send(folder, ADDRESS)
    assert published(hub) == {"a": b"b"}


def test_gitignore(hub: Hub, proxy: Proxy, tmp_path: Path) -> None:
    """A repository whose .gitignore could drop files is refused, since the Hub drops them without a word."""
    hub.repository.files()[".gitignore"] = b"*.json"
    with pytest.raises(RecipeError, match="has a .gitignore"):
        send(a_published(tmp_path / "a"), ADDRESS)


def test_only_what_a_variant_needs(hub: Hub, proxy: Proxy, tmp_path: Path) -> None:
    """The runtime gets the manifest, the tokenizer and one variant from the Hub's cache."""
    send(a_published(tmp_path / "a"), ADDRESS)
    folder = cached_artifact(ADDRESS, "onnx-int8")
    assert set(contents(folder)) == {"manifest.json", "tokenizer.json", "onnx/model_qint8_avx2.onnx"}


def test_tokens(
    hub: Hub, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without a token, or with one that may only read, the error says what to do, and shows no token."""
    folder, said = a_published(tmp_path / "a"), []
    for token, wanted in ((None, "the Hub refuses \\(401\\)"), (READ_TOKEN, "the Hub refuses \\(403\\)")):
        monkeypatch.setenv("HF_TOKEN", token) if token else monkeypatch.delenv("HF_TOKEN")
        with pytest.raises(RecipeError, match=wanted) as caught:
            send(folder, ADDRESS)
        said.append(str(caught.value))
    with pytest.raises(RecipeError, match="the Hub has no org/other, or not for you") as caught:
        send(folder, "hf://org/other")
    said.append(str(caught.value))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    said.append(str(send(folder, ADDRESS)))
    fetch_artifact(ADDRESS, tmp_path / "back")
    output = capfd.readouterr()
    files = (path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for text in (
        *said,
        output.out,
        output.err,
        *map(repr, files),
        repr(published(hub)),
        repr(hub.repository.titles),
    ):
        assert TOKEN not in text
        assert READ_TOKEN not in text


# --- what is larger than it may be ---


def larger(hub: Hub, path: str, n_bytes: int = 10_000) -> None:
    """Let a file of the current commit be larger than its manifest says."""
    files = hub.repository.files()
    files[path] = files[path] + bytes(n_bytes)


def asked_for(proxy: Proxy) -> list[str]:
    """Return the files that were asked for."""
    return [
        path.partition("/resolve/")[2].partition("/")[2] for _, path in proxy.asked if "/resolve/" in path
    ]


@pytest.mark.parametrize("way", ["load", "pull"])
@pytest.mark.parametrize("path", ["onnx/model_qint8_avx2.onnx", "tokenizer.json", "manifest.json"])
def test_size_is_asked_for_first(hub: Hub, proxy: Proxy, tmp_path: Path, way: str, path: str) -> None:
    """What is larger than its manifest says, or than a manifest is, is not fetched, not even a byte of it."""
    send(a_published(tmp_path / "a"), ADDRESS)
    larger(hub, path, 9 << 20)
    proxy.forget()
    fetch = {
        "load": lambda: cached_artifact(ADDRESS, "onnx-int8"),
        "pull": lambda: fetch_artifact(ADDRESS, tmp_path / "back"),
    }[way]
    with pytest.raises(IntegrityError, match=rf"{path}: \d+ bytes, \d+ expected at most; it was not fetched"):
        fetch()
    assert path not in asked_for(proxy)


def test_repository_that_is_too_large(hub: Hub, proxy: Proxy, tmp_path: Path) -> None:
    """Files that nothing names a size for are bounded in all, before the first one is fetched."""
    from exporter.remote.hub import fetch_snapshot

    send(a_published(tmp_path / "a"), ADDRESS)
    proxy.forget()
    largest = max(len(content) for content in hub.repository.files().values())
    with pytest.raises(RecipeError, match=r"org/tiny: \d+ files of \d+ bytes .*; nothing was fetched"):
        fetch_snapshot("org/tiny", None, ["*"], instead="", most_bytes=largest)
    with pytest.raises(IntegrityError, match="expected at most; it was not fetched"):
        fetch_snapshot("org/tiny", None, ["*"], instead="", most_bytes=10)
    assert asked_for(proxy) == []


def test_found_again_without_a_network(
    hub: Hub, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A branch that was fetched once loads from the cache alone; with a network only the listing is asked."""
    from huggingface_hub.utils import reset_sessions

    send(a_published(tmp_path / "a"), ADDRESS)
    folder = cached_artifact(ADDRESS, "onnx-int8")
    proxy.forget()
    assert cached_artifact(ADDRESS, "onnx-int8") == folder
    assert asked_for(proxy) == []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    reset_sessions()
    assert cached_artifact(ADDRESS, "onnx-int8") == folder
    with pytest.raises(BackendError, match="org/other is not in the local cache and the Hub cannot be"):
        cached_artifact("hf://org/other")


def test_token_without_tls(hub: Hub, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token is not sent to a Hub that is asked without TLS, but on this machine."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://hub.example.org")
    with pytest.raises(RecipeError, match="http://hub.example.org has no TLS, and would be sent your token"):
        cached_artifact(ADDRESS)
    assert hub.commit
    assert proxy.asked == []
