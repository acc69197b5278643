"""OCI registries: against a real one, Debian's docker-registry, and a stand-in for one that is overloaded."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from exporter.errors import BackendError, IntegrityError, RecipeError
from exporter.remote import cached_artifact, fetch_artifact
from exporter.remote.send import send
from tests.busy_registry import busy_registry
from tests.killing_proxy import Proxy, proxy_of
from tests.oci_registry import PASSWORD, USER, oci_registry
from tests.published import a_published, contents, seal

OCI = "application/vnd.oci.image.{}.v1+json"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with oci_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture
def proxy(registry: str) -> Iterator[Proxy]:
    with proxy_of(f"http://{registry}") as found:
        yield found


def get(registry: str, path: str, kind: str = "manifest") -> dict[str, object]:
    """Ask a registry as another tool would."""
    request = Request(f"http://{registry}/v2/{path}", headers={"Accept": OCI.format(kind)})
    with urlopen(request) as answer:
        return json.loads(answer.read())


def test_round_trip(registry: str, tmp_path: Path) -> None:
    """What is pushed comes back byte for byte; pushed again, nothing is sent, under the same digest."""
    folder, address = a_published(tmp_path / "a"), f"oci://{registry}/round/trip:v1"
    sent = send(folder, address)
    assert sent.n_files == sent.n_in_all == len(contents(folder))
    got, version = fetch_artifact(address, tmp_path / "back")
    assert contents(got) == contents(folder)
    assert version == sent.reference
    assert "already holds this artifact, nothing was sent" in str(send(folder, address))
    again = send(folder, f"oci://{registry}/round/trip:v2")
    assert (again.reference, again.n_files) == (sent.reference, 0)
    assert contents(
        fetch_artifact(f"oci://{registry}/round/trip@{version}", tmp_path / "by-digest")[0]
    ) == contents(folder)


def test_another_artifact_is_refused(registry: str, tmp_path: Path) -> None:
    """A tag that stands for another artifact is moved only when asked, and only what differs is sent."""
    old, new, address = (
        a_published(tmp_path / "a", "x"),
        a_published(tmp_path / "b", "z"),
        f"oci://{registry}/another:v1",
    )
    send(old, address)
    with pytest.raises(RecipeError, match="holds another artifact, tiny with root"):
        send(new, address)
    assert contents(fetch_artifact(address, tmp_path / "first")[0]) == contents(old)
    sent = send(new, address, replace=True)
    assert sent.n_files == sum(content not in contents(old).values() for content in contents(new).values())
    assert contents(fetch_artifact(address, tmp_path / "second")[0]) == contents(new)


def test_layout(registry: str, tmp_path: Path) -> None:
    """The manifest is ModelPack's: its types, a raw layer per file with its path, and a configuration."""
    folder = a_published(tmp_path / "a")
    send(folder, f"oci://{registry}/layout:v1")
    manifest = get(registry, "layout/manifests/v1")
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert manifest["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
    types = {
        layer["annotations"]["org.cncf.model.filepath"]: layer["mediaType"] for layer in manifest["layers"]
    }
    assert types.keys() == contents(folder).keys()
    assert types["onnx/model.onnx"] == "application/vnd.cncf.model.weight.v1.raw"
    assert types["tokenizer.json"] == "application/vnd.cncf.model.weight.config.v1.raw"
    assert types["report.md"] == "application/vnd.cncf.model.doc.v1.raw"
    config = get(registry, f"layout/blobs/{manifest['config']['digest']}")
    assert config["config"]["format"] == "onnx"
    assert config["config"]["precision"] == "mixed"
    assert config["modelfs"]["diffIds"] == [layer["digest"] for layer in manifest["layers"]]


def test_proof_is_attached(registry: str, tmp_path: Path) -> None:
    """Attestation and signature are referrers of the manifest; pushing again attaches neither twice."""
    folder = a_published(tmp_path / "a")
    (folder / "attestation.intoto.jsonl").write_text("{}\n", encoding="utf-8")
    (folder / "model.sig").write_text("{}", encoding="utf-8")
    seal(folder)
    digest = send(folder, f"oci://{registry}/proof:v1").reference
    send(folder, f"oci://{registry}/proof:v2")
    try:
        found = get(registry, f"proof/referrers/{digest}", "index")
    except HTTPError:  # docker-registry 2 leaves the list to its clients
        found = get(registry, f"proof/manifests/{digest.replace(':', '-')}", "index")
    kinds = sorted(one["artifactType"] for one in found["manifests"])
    assert kinds == ["application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.in-toto+json"]
    for one in found["manifests"]:
        referrer = get(registry, f"proof/manifests/{one['digest']}")
        assert referrer["subject"]["digest"] == digest
    assert contents(fetch_artifact(f"oci://{registry}/proof:v1", tmp_path / "back")[0]) == contents(folder)


def test_killed_and_repeated(proxy: Proxy, tmp_path: Path) -> None:
    """Killed at any request, the tag stands for the old artifact or the new one; repeated, the new one."""
    old, new, n = a_published(tmp_path / "a", "x"), a_published(tmp_path / "b", "z"), iter(range(1000))

    def pull(address: str) -> dict[str, bytes]:
        return contents(fetch_artifact(address, tmp_path / f"pulled-{next(n)}")[0])

    assert proxy.kill_and_repeat(old, new, lambda word: f"oci://{proxy.host}/killed/{word}:v1", pull) > 0


def test_what_is_there_is_not_sent_again(proxy: Proxy, tmp_path: Path) -> None:
    """Killed before its tag was set, a push that is repeated sends no layer, however large."""
    folder, address = a_published(tmp_path / "a"), f"oci://{proxy.host}/resumed:v1"
    assert proxy.run(folder, address) == 0
    n_asked = len(proxy.asked)
    address = f"oci://{proxy.host}/resumed/again:v1"
    assert proxy.run(folder, address, kill_at=n_asked) != 0
    assert proxy.run(folder, address) == 0
    assert [path for method, path in proxy.asked if method == "PUT" and "/blobs/" in path] == []


def test_only_what_a_variant_needs(proxy: Proxy, tmp_path: Path) -> None:
    """The runtime fetches the manifest, the tokenizer and one variant; later only the tag is looked up."""
    address = f"oci://{proxy.host}/needed:v1"
    send(a_published(tmp_path / "a"), address)
    proxy.forget()
    folder = cached_artifact(address, "onnx-int8")
    assert set(contents(folder)) == {"manifest.json", "tokenizer.json", "onnx/model_qint8_avx2.onnx"}
    assert len(proxy.asked) == 4
    assert cached_artifact(address, "onnx-int8") == folder
    assert len(proxy.asked) == 5


def test_nothing_there(registry: str, tmp_path: Path) -> None:
    """A tag that stands for nothing, and one that stands for something else, are told apart."""
    with pytest.raises(RecipeError, match="nothing is there"):
        fetch_artifact(f"oci://{registry}/nothing:v1", tmp_path / "back")


def test_damaged_layer(proxy: Proxy, tmp_path: Path) -> None:
    """A registry that gives other bytes than it was given is caught."""
    folder, address = a_published(tmp_path / "a"), f"oci://{proxy.host}/damaged:v1"
    send(folder, address)
    proxy.spoil = lambda path, content: content.replace(b"x" * 100, b"y" * 100)
    with pytest.raises(IntegrityError, match="onnx/model.onnx: what came is not what was sent"):
        fetch_artifact(address, tmp_path / "back")
    proxy.spoil = lambda path, content: content * 1000 if "/blobs/" in path else content
    with pytest.raises(IntegrityError, match="manifest.json: longer than"):
        fetch_artifact(address, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that does not answer is one line, soon."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(
        BackendError,
        match=r"oci://127.0.0.1:9/x:v1: the registry is out of reach or failed \(ConnectionError\)",
    ):
        send(a_published(tmp_path / "a"), "oci://127.0.0.1:9/x:v1")


@pytest.mark.parametrize("hangs_up", [False, True])
def test_overloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, hangs_up: bool) -> None:
    """Each request that is refused, or cut off, is sent again and whole, uploads from files too."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    folder = a_published(tmp_path / "a")
    with busy_registry() as busy:
        busy.hangs_up = hangs_up
        send(folder, f"oci://{busy.address}/name:v1")
        assert set(contents(folder).values()) <= set(busy.blobs.values())
        assert sorted(busy.asked) == sorted(busy.served * 2)
        busy.n_refusals = 0
        fetched, _ = fetch_artifact(f"oci://{busy.address}/name:v1", tmp_path / "back")
    assert contents(fetched) == contents(folder)


def test_overloaded_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that stays overloaded is asked three times, then its status is said."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    with busy_registry() as busy:
        busy.n_refusals = 1000
        with pytest.raises(
            BackendError, match=r"the registry is out of reach or failed \(503\); run the same"
        ):
            send(a_published(tmp_path / "a"), f"oci://{busy.address}/name:v1")
    assert busy.asked == [("GET", "/v2/name/manifests/v1")] * 3


@pytest.mark.parametrize(("said", "slept_s"), [("7", 7), ("86400", 60)])
def test_retry_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, slept_s: int) -> None:
    """The pause that a registry asks for is made, up to a minute."""
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    with busy_registry() as busy:
        busy.retry_after = said
        send(a_published(tmp_path / "a"), f"oci://{busy.address}/name:v1")
    assert set(pauses) == {slept_s}


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with oci_registry(tmp_path_factory.mktemp("closed"), login=True) as address:
        yield address


def log_in(registry: str, home: Path, password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write what `docker login` writes."""
    (home / ".docker").mkdir(exist_ok=True)
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    (home / ".docker/config.json").write_text(
        json.dumps({"auths": {registry: {"auth": auth}}}), encoding="utf-8"
    )
    monkeypatch.setenv("HOME", str(home))


def test_login(
    closed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The login of `docker login` is used; without it the error says what to type, never the password."""
    folder, address, home = a_published(tmp_path / "a"), f"oci://{closed}/login:v1", tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    said = []
    for password in (None, PASSWORD + "-wrong"):
        if password:
            log_in(closed, home, password, monkeypatch)
        with pytest.raises(
            RecipeError, match=rf"the registry refuses \(401\); log in with `docker login {closed}`"
        ) as caught:
            send(folder, address)
        said.append(str(caught.value))
    log_in(closed, home, PASSWORD, monkeypatch)
    said.append(str(send(folder, address)))
    assert contents(fetch_artifact(address, tmp_path / "back")[0]) == contents(folder)
    secret = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    output = capfd.readouterr()
    for text in (*said, output.out, output.err, *map(repr, contents(tmp_path / "back").values())):
        assert PASSWORD not in text
        assert secret not in text
