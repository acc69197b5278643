"""Addresses, and what is common to all places: what is refused, what is a no-op, what may come in.

Tried on folders, and on a bucket where a place without directories could differ.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter.artifact.files import MANIFEST, SIGNATURE
from exporter.artifact.manifest import read_manifest, write_manifest
from exporter.errors import BackendError, IntegrityError, RecipeError
from exporter.remote import cached_artifact, fetch_artifact, is_remote, parse_place
from exporter.remote.send import destination, send
from tests.published import a_published, contents, seal
from tests.s3_server import s3_environment, s3_server

if TYPE_CHECKING:
    from s3fs import S3FileSystem

TAG = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("address", "kind", "where", "version"),
    [
        ("out", "dir", "out", None),
        ("./out/tiny", "dir", "./out/tiny", None),
        ("out/of/tiny", "dir", "out/of/tiny", None),
        ("dir:out/tiny", "dir", "out/tiny", None),
        ("./a:b", "dir", "./a:b", None),
        ("hf://org/name", "hf", "org/name", None),
        ("hf://org/name@refs/pr/3", "hf", "org/name", "refs/pr/3"),
        ("oci://ghcr.io/some/name:v1.2", "oci", "ghcr.io/some/name", "v1.2"),
        ("oci://127.0.0.1:5000/name:latest", "oci", "127.0.0.1:5000/name", "latest"),
        (f"oci://ghcr.io/name@{TAG}", "oci", "ghcr.io/name", TAG),
        ("s3://bucket/some/prefix/", "s3", "bucket/some/prefix", None),
    ],
)
def test_address(address: str, kind: str, where: str, version: str | None) -> None:
    """An address is read into its parts, and written as it was."""
    place = parse_place(address)
    assert (place.kind, place.where, place.version) == (kind, where, version)
    assert place.text == address.removeprefix("dir:").rstrip("/")
    assert is_remote(address) == (kind != "dir")


def test_a_bare_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`org/name` is a folder where it or `org` is here, else on the Hub; nothing is written to a guess."""
    monkeypatch.chdir(tmp_path)
    for bare, version in (("org/name", None), ("org/name@dev", "dev")):
        place = parse_place(bare)
        assert (place.kind, place.where, place.version) == ("hf", "org/name", version)
        with pytest.raises(RecipeError, match=f"write ./{bare} or hf://{bare}"):
            destination(bare)
        assert destination(f"./{bare}").kind == "dir"
        assert destination(f"hf://{bare}").kind == "hf"
    (tmp_path / "org").mkdir()
    assert parse_place("org/name") == destination("org/name")
    assert parse_place("org/name").kind == "dir"
    assert destination("org").kind == destination("new").kind == "dir"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("", "wanted dir:PATH"),
        ("dir:", "wanted dir:PATH"),
        ("a\x1b[2J", "wanted dir:PATH"),
        ("hf://name", r"wanted hf://org/name\[@branch\]"),
        ("hf://a/b/c", "wanted hf://org/name"),
        ("hf://org/..", "wanted hf://org/name"),
        ("hf:org/name", "did you mean hf://org/name?"),
        ("oci://ghcr.io/name", "wanted oci://registry/name:tag"),
        ("oci://org/name:v1", "wanted oci://registry/name:tag"),
        ("oci://ghcr.io:v1", "wanted oci://registry/name:tag"),
        ("oci://ghcr.io/../x:v1", "wanted oci://registry/name:tag"),
        ("oic://ghcr.io/name:v1", "did you mean oci://registry/name:tag?"),
        ("s3://bucket", "wanted s3://bucket/prefix"),
        ("s3://bucket/../other", "wanted s3://bucket/prefix"),
        ("s4://bucket/prefix", "did you mean s3://bucket/prefix?"),
        ("https://huggingface.co/org/name", "no https: address is known here, known are dir:PATH, hf://"),
        ("memory://bucket/prefix", "no memory: address is known here"),
    ],
)
def test_no_address(address: str, said: str) -> None:
    """What is no address is refused with the form that was wanted."""
    with pytest.raises(RecipeError, match=said):
        parse_place(address)


@pytest.mark.parametrize(
    "address",
    [
        "oci://me:planted@ghcr.io/name:v1",
        "s3://AKIA:pla/planted@bucket/x",
        "hf://me:planted@org/name",
        "x://planted@y",
    ],
)
def test_secrets_have_no_place_in_an_address(address: str) -> None:
    """A password in an address is refused and not repeated, since errors end up in logs."""
    with pytest.raises(RecipeError) as caught:
        parse_place(address)
    assert "planted" not in str(caught.value)


def test_where_nothing_can_be_sent() -> None:
    """A digest cannot be published to, and only the Hub has pull requests; both are said at once."""
    with pytest.raises(RecipeError, match="a digest names what is there already"):
        destination(f"oci://ghcr.io/name@{TAG}")
    for address in ("out", "hf://org/name@dev"):
        with pytest.raises(RecipeError, match="a pull request is to the main branch"):
            destination(address, pull_request=True)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server("sent") as url:
        yield url


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> S3FileSystem:
    """The store behind s3:// addresses, for tests that damage what it holds."""
    from s3fs import S3FileSystem

    for name, value in s3_environment(server).items():
        monkeypatch.setenv(name, value)
    return S3FileSystem(use_listings_cache=False, skip_instance_cache=True)


@pytest.fixture(params=["dir", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place."""
    if request.param == "dir":
        return str(tmp_path / "there")
    request.getfixturevalue("bucket")
    return f"s3://sent/{tmp_path.name.replace('[', '').replace(']', '')}"


def test_round_trip(address: str, tmp_path: Path) -> None:
    """What is sent comes back byte for byte, report and all."""
    folder = a_published(tmp_path / "a")
    sent = send(folder, address)
    assert sent.n_files == sent.n_in_all == len(contents(folder))
    got, version = fetch_artifact(address, tmp_path / "back")
    assert contents(got) == contents(folder)
    assert version


def test_sent_again(address: str, tmp_path: Path) -> None:
    """The same artifact again is a no-op that says so."""
    folder = a_published(tmp_path / "a")
    send(folder, address)
    assert "already holds this artifact, nothing was sent" in str(send(folder, address))


def test_another_artifact_is_refused(address: str, tmp_path: Path) -> None:
    """Another artifact stays unless it is to be replaced, and then it is replaced wholly."""
    old, new = a_published(tmp_path / "a", "x"), a_published(tmp_path / "b", "z")
    send(old, address)
    with pytest.raises(RecipeError, match="holds another artifact, tiny with root .*; pass --replace"):
        send(new, address)
    assert contents(fetch_artifact(address, tmp_path / "first")[0]) == contents(old)
    send(new, address, replace=True)
    assert contents(fetch_artifact(address, tmp_path / "second")[0]) == contents(new)


def test_a_new_report_needs_no_permission(address: str, tmp_path: Path) -> None:
    """The same files with another report are the same artifact; only what differs is sent."""
    folder = a_published(tmp_path / "a")
    send(folder, address)
    (folder / "report.md").write_text("measured again", encoding="utf-8")
    assert send(folder, address).n_files == 1
    assert contents(fetch_artifact(address, tmp_path / "back")[0]) == contents(folder)


def test_a_changed_folder_is_not_sent(address: str, tmp_path: Path) -> None:
    """What is not what its manifest says goes nowhere."""
    folder = a_published(tmp_path / "a")
    (folder / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(IntegrityError, match="changed: config.json"):
        send(folder, address)
    with pytest.raises(RecipeError, match="nothing is there"):
        fetch_artifact(address, tmp_path / "back")


def test_not_into_itself(tmp_path: Path) -> None:
    """A folder is not published into itself."""
    folder = a_published(tmp_path / "a")
    with pytest.raises(RecipeError, match="lies in the artifact"):
        send(folder, str(folder / "there"))


def test_somebody_elses_folder(tmp_path: Path) -> None:
    """A folder that is no artifact is left alone, whatever was asked."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there/thesis.tex").write_text("years", encoding="utf-8")
    with pytest.raises(RecipeError, match="is no artifact"):
        send(a_published(tmp_path / "a"), str(tmp_path / "there"), replace=True)
    with pytest.raises(RecipeError, match=f"no artifact, it has no {MANIFEST}"):
        fetch_artifact(str(tmp_path / "there"), tmp_path / "back")


def test_a_new_version_is_fetched_anew(bucket: S3FileSystem, tmp_path: Path) -> None:
    """The runtime's copy is the same folder while nothing changes at the address, and another one after."""
    address = "s3://sent/needed"
    send(a_published(tmp_path / "a"), address)
    folder = cached_artifact(address, "onnx-int8")
    assert set(contents(folder)) == {MANIFEST, "tokenizer.json", "onnx/model_qint8_avx2.onnx"}
    assert cached_artifact(address, "onnx-int8") == folder
    send(a_published(tmp_path / "b", "z"), address, replace=True)
    assert cached_artifact(address, "onnx-int8") != folder
    with pytest.raises(RecipeError, match="has no openvino"):
        cached_artifact(address, "openvino")


def test_a_folder_needs_no_cache(tmp_path: Path) -> None:
    """A folder is given as it is."""
    assert cached_artifact(f"dir:{tmp_path}") == tmp_path


def test_check_before_it_appears(tmp_path: Path) -> None:
    """What a check refuses, a signature for example, never appears."""
    folder = a_published(tmp_path / "a")

    def refuse(found: Path) -> None:
        assert contents(found) == contents(folder)
        raise IntegrityError("signed by somebody else")

    with pytest.raises(IntegrityError, match="signed by somebody else"):
        fetch_artifact(str(folder), tmp_path / "back", check=refuse)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def damaged(folder: Path, path: str, size_bytes: int, sha256: str | None = None) -> None:
    """Write a manifest in which a file has another size or hash."""
    manifest = read_manifest(folder)
    files = tuple(
        dataclasses.replace(file, size_bytes=size_bytes, sha256=sha256 or file.sha256)
        if file.path == path
        else file
        for file in manifest.files
    )
    write_manifest(dataclasses.replace(manifest, files=files), folder)


def test_a_file_larger_than_its_manifest_says(tmp_path: Path) -> None:
    """A file that would fill the disk is not fetched: its size is held against the manifest before."""
    folder = a_published(tmp_path / "a")
    damaged(folder, "onnx/model.onnx", 10)
    with pytest.raises(IntegrityError, match="onnx/model.onnx: 100 bytes, 10 expected at most"):
        fetch_artifact(str(folder), tmp_path / "back")


def test_a_file_of_another_hash(tmp_path: Path) -> None:
    """A file that is not the one named is caught as it comes."""
    folder = a_published(tmp_path / "a")
    damaged(folder, "onnx/model.onnx", 100, "0" * 64)
    with pytest.raises(IntegrityError, match="onnx/model.onnx: not the file that the manifest names"):
        fetch_artifact(str(folder), tmp_path / "back")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_more_than_the_disk_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest that names more than there is room for is said at once."""
    folder = a_published(tmp_path / "a")
    damaged(folder, "onnx/model.onnx", 60 << 30)
    free = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: free._replace(free=10**9))
    with pytest.raises(BackendError, match=r"64\.4 GB are to be fetched and 1\.0 GB are free"):
        fetch_artifact(str(folder), tmp_path / "back")


def test_a_missing_file(tmp_path: Path) -> None:
    """A file that the manifest names and nobody sent is named."""
    folder = a_published(tmp_path / "a")
    (folder / "onnx/model.onnx").unlink()
    with pytest.raises(IntegrityError, match="onnx/model.onnx: not there"):
        fetch_artifact(str(folder), tmp_path / "back")


def test_damaged_pointer(bucket: S3FileSystem, tmp_path: Path) -> None:
    """A bucket's pointer that was changed is caught, and published over only when asked."""
    address, folder = "s3://sent/pointer", a_published(tmp_path / "a")
    send(folder, address)
    pointer = json.loads(bucket.cat_file("sent/pointer/artifact.json"))
    changed = json.dumps(pointer | {"version": "../../elsewhere"}).encode()
    bucket.pipe_file("sent/pointer/artifact.json", changed)
    with pytest.raises(IntegrityError, match="artifact.json: changed since it was written"):
        fetch_artifact(address, tmp_path / "back")
    with pytest.raises(RecipeError, match="what is there is damaged"):
        send(folder, address)
    send(folder, address, replace=True)
    assert contents(fetch_artifact(address, tmp_path / "back")[0]) == contents(folder)


def test_damaged_object(bucket: S3FileSystem, tmp_path: Path) -> None:
    """An object that was changed in the bucket is caught, whatever it is."""
    address, folder = "s3://sent/object", a_published(tmp_path / "a")
    send(folder, address)
    for name in ("report.md", "onnx/model.onnx", MANIFEST):
        (key,) = (key for key in bucket.find("sent/object") if key.endswith(name))
        kept = bucket.cat_file(key)
        bucket.pipe_file(key, kept[:-1] + b"!")
        with pytest.raises(IntegrityError, match="what came is not what was sent|changed since"):
            fetch_artifact(address, tmp_path / "back")
        bucket.pipe_file(key, kept)
    assert fetch_artifact(address, tmp_path / "back")


def test_files_of_a_renamed_artifact(address: str, tmp_path: Path) -> None:
    """A file that is gone from the artifact is gone from the place."""
    folder = a_published(tmp_path / "a")
    send(folder, address)
    (folder / "onnx/only-x.txt").unlink()
    seal(folder)
    send(folder, address, replace=True)
    assert contents(fetch_artifact(address, tmp_path / "back")[0]) == contents(folder)


def test_signature_is_not_dropped(tmp_path: Path) -> None:
    """An unsigned copy does not take a signed one's place unasked; one that is signed anew does."""
    folder, there = a_published(tmp_path / "a"), str(tmp_path / "there")
    (folder / SIGNATURE).write_text("first", encoding="utf-8")
    send(folder, there)
    (folder / SIGNATURE).unlink()
    with pytest.raises(
        RecipeError,
        match="there is signed, and this is not; sign it too, with --sign-key FILE, or pass --replace",
    ):
        send(folder, there)
    (folder / SIGNATURE).write_text("second", encoding="utf-8")
    send(folder, there)
    assert contents(Path(there)) == contents(folder)
    (folder / SIGNATURE).unlink()
    assert send(folder, there, replace=True).lost_signature
    assert contents(Path(there)) == contents(folder)


def test_another_artifact_over_a_signed_one_is_told(address: str, tmp_path: Path) -> None:
    """Whoever is about to pass --replace hears that a signature goes with it, and afterwards that it went."""
    signed, other = a_published(tmp_path / "a"), a_published(tmp_path / "b")
    (signed / SIGNATURE).write_text("first", encoding="utf-8")
    assert not send(signed, address).lost_signature
    (other / "onnx/only-x.txt").write_text("another", encoding="utf-8")
    seal(other)
    with pytest.raises(RecipeError, match="another artifact, .*, signed, which this is not; pass --replace"):
        send(other, address)
    assert send(other, address, replace=True).lost_signature
    assert not send(other, address).lost_signature


@pytest.mark.parametrize("replace", [False, True])
def test_files_of_others_are_not_lost(tmp_path: Path, *, replace: bool) -> None:
    """A folder is replaced whole, so what somebody else put into it is named, and stays whatever is asked."""
    folder, there = a_published(tmp_path / "a"), tmp_path / "there"
    send(folder, str(there))
    (there / "notes.txt").write_text("mine", encoding="utf-8")
    (folder / SIGNATURE).write_text("new", encoding="utf-8")
    with pytest.raises(
        RecipeError, match="there has a notes.txt of its own, which no artifact brought; move it away"
    ):
        send(folder, str(there), replace=replace)
    assert (there / "notes.txt").read_text(encoding="utf-8") == "mine"
