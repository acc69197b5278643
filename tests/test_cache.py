"""The cache: made once, made again when anything differs, never half."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from exporter.cache import Cache
from exporter.errors import BackendError, RecipeError


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own."""
    monkeypatch.setenv("EXPORTER_CACHE", str(tmp_path / "cache"))


def fill(folder: Path) -> None:
    """Make something small."""
    (folder / "sub").mkdir()
    (folder / "sub/model.bin").write_bytes(b"weights")


def refuse(folder: Path) -> None:
    """Stand for a step that must not run."""
    pytest.fail(f"made again in {folder}")


def test_made_once() -> None:
    """The second time, what was made from the same things is reused."""
    first, reused = Cache.of_user().get("fuse", {"opset": 18}, fill)
    assert not reused
    assert (first / "sub/model.bin").read_bytes() == b"weights"
    assert Cache.of_user().get("fuse", {"opset": 18}, refuse) == (first, True)


def test_order_of_the_key_does_not_matter() -> None:
    """A key is what it says, not the order it says it in."""
    folder, _ = Cache.of_user().get("fuse", {"a": 1, "b": 2}, fill)
    assert Cache.of_user().get("fuse", {"b": 2, "a": 1}, refuse) == (folder, True)


@pytest.mark.parametrize(
    ("step", "key"),
    [("fuse", {"opset": 17}), ("quantize", {"opset": 18}), ("fuse", {"opset": 18, "isa": "avx2"})],
)
def test_made_again_for_another_key(step: str, key: dict[str, object]) -> None:
    """Another step, or anything else in the key, gives another folder."""
    first, _ = Cache.of_user().get("fuse", {"opset": 18}, fill)
    second, reused = Cache.of_user().get(step, key, fill)
    assert not reused
    assert second != first


def _flip(folder: Path) -> None:
    (folder / "sub/model.bin").write_bytes(b"Weights")


def _cut(folder: Path) -> None:
    (folder / "sub/model.bin").write_bytes(b"")


def _drop(folder: Path) -> None:
    (folder / "sub/model.bin").unlink()


def _add(folder: Path) -> None:
    (folder / "sub/more.bin").write_bytes(b"")


def _link(folder: Path) -> None:
    (folder / "sub/model.bin").rename(folder.parent / "model.bin")
    (folder / "sub/model.bin").symlink_to(folder.parent / "model.bin")


def _forget(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def _garble(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"files": NaN}', encoding="utf-8")


@pytest.mark.parametrize("harm", [_flip, _cut, _drop, _add, _link, _forget, _garble])
def test_harmed_is_made_again(harm: object) -> None:
    """A cached folder in which anything differs from what was made is made again, never used."""
    assert callable(harm)
    folder, _ = Cache.of_user().get("fuse", {}, fill)
    harm(folder)
    assert Cache.of_user().get("fuse", {}, fill) == (folder, False)
    assert (folder / "sub/model.bin").read_bytes() == b"weights"
    assert Cache.of_user().get("fuse", {}, refuse) == (folder, True)


@pytest.mark.parametrize(
    "failure", [RecipeError("no"), ValueError("no"), OSError("no"), KeyboardInterrupt("no")]
)
def test_failure_leaves_nothing(failure: BaseException) -> None:
    """A step that fails leaves nothing in the cache, and its own exception is the one that is seen."""

    def fail(folder: Path) -> None:
        fill(folder)
        raise failure

    with pytest.raises(type(failure), match="no"):
        Cache.of_user().get("fuse", {}, fail)
    assert list(Cache.of_user().check().iterdir()) == []
    assert Cache.of_user().get("fuse", {}, fill)[1] is False


def test_full_disk() -> None:
    """A disk that fills up is said in one line that names the way to another cache, and leaves nothing."""

    def fail(folder: Path) -> None:
        fill(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(BackendError, match="No space left on device; set EXPORTER_CACHE"):
        Cache.of_user().get("fuse", {}, fail)
    assert list(Cache.of_user().check().iterdir()) == []


def test_no_folder_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that cannot be there is said in one line."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("EXPORTER_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(BackendError, match="set EXPORTER_CACHE"):
        Cache.of_user().get("fuse", {}, refuse)


def test_a_folder_that_the_system_refuses_to_look_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's home, or here a name that is too long: one line, with what to set."""
    monkeypatch.setenv("EXPORTER_CACHE", str(tmp_path / ("x" * 300)))
    with pytest.raises(BackendError, match="the cache: .* too long; set EXPORTER_CACHE to a folder"):
        Cache.of_user().check()


def test_one_makes_it_and_the_others_wait(tmp_path: Path) -> None:
    """Of several that need the same thing at once one makes it; the others wait, say so, and use it."""
    made, said = [], []
    cache = Cache(tmp_path / "cache", said.append)
    all_here = threading.Barrier(4)

    def slow(folder: Path) -> None:
        made.append(folder)
        time.sleep(0.3)
        fill(folder)

    def get(_: int) -> tuple[Path, bool]:
        all_here.wait()
        return cache.get("fuse", {}, slow)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(get, range(4)))
    assert len(made) == 1
    assert sorted(reused for _, reused in found) == [False, True, True, True]
    assert len(said) == 3
    assert [path.name for path in cache.root.iterdir()] == [found[0][0].name]


_READ = """
import sys
from pathlib import Path
from exporter.cache import Cache

def make(folder):
    (folder / "model.bin").write_bytes(b"weights" * 1000)

for round in range(int(sys.argv[2])):
    folder, _ = Cache(Path(sys.argv[1])).get("step", {"round": round}, make)
    assert (folder / "model.bin").read_bytes() == b"weights" * 1000
"""


def test_cold_cache_shared_by_eight_processes(tmp_path: Path) -> None:
    """Eight processes that fill and read one cache at a time meet no error, and leave nothing behind."""
    command = [sys.executable, "-c", _READ, str(tmp_path / "cache"), "100"]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(8)]
    errors = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0] * 8, errors
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.name.startswith(".")] == []


def test_harmed_while_others_read(tmp_path: Path) -> None:
    """An entry that was cut off is made again by one of eight; each ends with what belongs there."""
    cache = tmp_path / "cache"
    subprocess.run([sys.executable, "-c", _READ, str(cache), "20"], check=True)
    for path in cache.glob("*/model.bin"):
        path.write_bytes(b"wei")
    test_cold_cache_shared_by_eight_processes(tmp_path)


def test_forgotten_is_made_anew() -> None:
    """What is forgotten is not held, is made again when asked for, and stays readable until then."""
    cache, key = Cache.of_user(), {"opset": 18}
    cache.forget("fuse", key)  # was never made
    folder, _ = cache.get("fuse", key, fill)
    assert cache.holds("fuse", key)
    cache.forget("fuse", key)
    assert not cache.holds("fuse", key)
    assert cache.find("fuse", key) is None
    assert (folder / "sub/model.bin").read_bytes() == b"weights"
    assert cache.get("fuse", key, fill) == (folder, False)
    assert cache.holds("fuse", key)


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$EXPORTER_CACHE before $XDG_CACHE_HOME/exporter before ~/.cache/exporter; naming it makes nothing."""
    assert Cache.of_user().root == tmp_path / "cache"
    monkeypatch.setenv("EXPORTER_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert Cache.of_user().root == tmp_path / "xdg/exporter"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Cache.of_user().root == tmp_path / "home/.cache/exporter"
    assert list(tmp_path.iterdir()) == []
