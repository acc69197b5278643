"""Who else could write a file: told by owners, modes and the folders above, and by whom the user trusts."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from exporter.artifact.manifest import check_files, read_manifest
from exporter.cache import Cache
from exporter.errors import BackendError, IntegrityError
from exporter.owners import GROUPS, USERS, file_problem, folder_problem
from exporter.scratch import Scratch
from tests.factories import an_artifact

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such owners")
needs_root = pytest.mark.skipif(
    sys.platform != "win32" and os.geteuid() != 0, reason="only root can give files to others"
)
SOMEBODY, SOME_GROUP = 54321, 54322
USERS_GROUP = 1  # daemon, which is the first group of a user of this name


@pytest.fixture(autouse=True)
def _nobody_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (USERS, GROUPS, "SUDO_UID"):
        monkeypatch.delenv(name, raising=False)


def test_own_files(tmp_path: Path) -> None:
    """What belongs to this user, and only this user can write, is nobody else's."""
    (tmp_path / "x").write_text("x", encoding="utf-8")
    assert folder_problem(tmp_path) == file_problem(tmp_path / "x") == ""
    assert folder_problem(Path("/")) == folder_problem(Path("/usr")) == ""


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    """Then those above it count."""
    assert folder_problem(tmp_path / "a/b") == ""
    tmp_path.chmod(0o777)
    assert folder_problem(tmp_path / "a/b").startswith(f"{tmp_path} can be written by everybody")


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o702])
def test_everybody(tmp_path: Path, mode: int) -> None:
    """A folder that all may write is named with what to type; with the sticky bit nobody moves another's."""
    folder = tmp_path / "a b"
    folder.mkdir()
    folder.chmod(mode)
    said = folder_problem(folder)
    assert said.startswith(f"{folder} can be written by everybody; `chmod o-w '{folder}'`")
    assert said.endswith(f"or set {USERS}='*' where no other user is")
    assert folder_problem(folder / "x").startswith(f"{folder} can be written by everybody")
    folder.chmod(mode | 0o1000)
    assert folder_problem(folder) == ""
    (folder / "x").write_text("x", encoding="utf-8")
    (folder / "x").chmod(0o666)
    assert file_problem(folder / "x").startswith(f"{folder}/x can be written by everybody")


def test_where_no_other_user_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk without modes, or in a CI job that runs alone, everybody can be trusted."""
    tmp_path.chmod(0o777)
    monkeypatch.setenv(USERS, "*")
    assert folder_problem(tmp_path) == ""


@needs_root
def test_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What belongs to somebody else is refused until the user trusts him, by number; root always is."""
    os.chown(tmp_path, SOMEBODY, -1)
    said = folder_problem(tmp_path / "x")
    assert said.startswith(
        f"{tmp_path} belongs to user {SOMEBODY}, who could change it meanwhile; make a copy"
    )
    assert f"set {USERS}={SOMEBODY}" in said
    monkeypatch.setenv(USERS, f"1, {SOMEBODY}")
    assert folder_problem(tmp_path) == ""
    monkeypatch.delenv(USERS)
    monkeypatch.setenv("SUDO_UID", str(SOMEBODY))  # who became root to run this
    assert folder_problem(tmp_path) == ""


@needs_root
def test_link_of_another_user(tmp_path: Path) -> None:
    """Whoever owns a link can lead it elsewhere."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert folder_problem(tmp_path / "link") == ""
    os.lchown(tmp_path / "link", SOMEBODY, -1)
    assert folder_problem(tmp_path / "link").startswith(f"{tmp_path}/link belongs to user {SOMEBODY}")


def test_where_a_link_leads(tmp_path: Path) -> None:
    """The folders above what a link leads to count too, of a file as in the Hub's cache."""
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    (blobs / "x").write_text("x", encoding="utf-8")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot/x").symlink_to("../blobs/x")
    (tmp_path / "folder").symlink_to("blobs")
    assert file_problem(tmp_path / "snapshot/x") == folder_problem(tmp_path / "folder") == ""
    blobs.chmod(0o777)
    assert file_problem(tmp_path / "snapshot/x").startswith(f"{blobs} can be written by everybody")
    assert folder_problem(tmp_path / "folder").startswith(f"{tmp_path}/folder can be written by everybody")


@needs_root
def test_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group's right to write is nobody else's where the group has no other member."""
    tmp_path.chmod(0o775)
    assert folder_problem(tmp_path) == ""  # root's own
    os.chown(tmp_path, -1, SOME_GROUP)  # a container's, which no list knows
    assert folder_problem(tmp_path) == ""
    os.chown(tmp_path, -1, USERS_GROUP)
    said = folder_problem(tmp_path)
    assert said.startswith(f"{tmp_path} can be written by group {USERS_GROUP}; `chmod g-w {tmp_path}`")
    for trusted in (f"{USERS_GROUP}", "daemon"):
        monkeypatch.setenv(GROUPS, trusted)
        assert folder_problem(tmp_path) == ""


def _by_all(path: Path) -> None:
    path.chmod(0o777 if path.is_dir() else 0o666)


@pytest.mark.parametrize("name", ["", "onnx", "onnx/model.onnx", "tokenizer.json", "manifest.json"])
def test_artifact_that_others_could_write(tmp_path: Path, name: str) -> None:
    """It is refused in one line with the path, whether a file, a folder or what is around can be written."""
    folder = tmp_path / "artifact"
    manifest = an_artifact(folder)
    check_files(read_manifest(folder), folder)
    _by_all(folder / name)
    with pytest.raises(IntegrityError, match=rf"{folder / name} can be written by everybody; `chmod o-w"):
        check_files(read_manifest(folder), folder)
    assert manifest.files


def make(folder: Path) -> None:
    """Fill a step of a cache."""
    (folder / "x").write_text("x", encoding="utf-8")


def test_cache_is_private(tmp_path: Path) -> None:
    """Nobody else can look into a cache that is made, whatever the umask."""
    before = os.umask(0)
    try:
        Cache(tmp_path / "a/cache").get("step", {}, make)
    finally:
        os.umask(before)
    assert (tmp_path / "a/cache").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("where", ["cache", "above", "entry"])
def test_cache_that_others_could_write(tmp_path: Path, where: str) -> None:
    """What lies in it may be theirs: it is not read, and the line says where to keep another."""
    root = tmp_path / "above/cache"
    entry, _ = Cache(root).get("step", {}, make)
    _by_all({"cache": root, "above": root.parent, "entry": entry}[where])
    with pytest.raises(BackendError, match="the cache: .* can be written by everybody; .*set EXPORTER_CACHE"):
        Cache(root).get("step", {}, make)


@needs_root
def test_entry_that_another_user_put_there(tmp_path: Path) -> None:
    """In a cache with the sticky bit anybody can make the folder of a step before it is made."""
    root = tmp_path / "cache"
    entry, _ = Cache(root).get("step", {}, make)
    root.chmod(0o1777)
    assert Cache(root).get("step", {}, make) == (entry, True)
    os.chown(entry, SOMEBODY, -1)
    with pytest.raises(BackendError, match=rf"{entry} belongs to user {SOMEBODY}"):
        Cache(root).get("step", {}, make)


@needs_root
def test_cache_of_root_that_may_only_be_read() -> None:
    """A cache that root filled serves those who cannot write it."""
    with tempfile.TemporaryDirectory() as root:
        entry, _ = Cache(Path(root) / "cache").get("step", {}, make)
        for path in (Path(root), entry.parent, *entry.parent.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        code = (
            "import os; from pathlib import Path; from exporter.cache import Cache\n"
            f"os.setuid({SOMEBODY})\n"
            f"print(Cache(Path({str(entry.parent)!r})).get('step', {{}}, None)[1])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    """A folder for temporary files that all may write has the sticky bit, or is not used."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tmp_path.chmod(mode)

    def use() -> None:
        with Scratch("test") as folder:
            assert folder.parent.stat().st_mode & 0o777 == 0o700

    if mode == 0o1777:
        use()
    else:
        with pytest.raises(BackendError, match="temporary files: .* can be written by everybody; .*TMPDIR"):
            use()
