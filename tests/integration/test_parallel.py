"""Several at a time on the same artifacts: each ends with its own result or a line, none with a mixture."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from exporter import pipeline
from exporter.artifact.manifest import check_files, read_manifest
from exporter.artifact.staging import staged
from exporter.context import Context
from exporter.errors import NoVerdict
from exporter.publish.folder import Publication
from exporter.recipe.load import load_recipe
from exporter.report.write import is_complete
from exporter.runtime import Plan, Reranker
from tests.conftest import SHORT, write_recipe_beside
from tests.stress import stress
from tests.support import write_recipe


class Meanwhile:
    """Progress that does something when a stage begins for the first time."""

    def __init__(self, stage: str, act: Callable[[], object]) -> None:
        self._stage, self._act = stage, act
        self._done = False

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        del total
        if name == self._stage and not self._done:
            self._done = True
            self._act()
        yield lambda _done: None

    def note(self, text: str) -> None:
        del text


@pytest.fixture(scope="module")
def other(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of the same name with another kind. Read it, do not write it."""
    out = tmp_path_factory.mktemp("other")
    recipe = write_recipe(tiny, "onnx", file="other.yaml")
    return pipeline.build(load_recipe(recipe), out, Context())


def put(source: Path, folder: Path) -> None:
    """Put a copy of an artifact in the place of another one, as a build does."""
    with staged(folder, replace=True) as scratch:
        shutil.copytree(source, scratch, dirs_exist_ok=True)


def test_two_recipes_of_one_name_at_once(tiny: Path, tmp_path: Path) -> None:
    """The second waits for the first, and is refused in one line; what the first built is there."""
    recipes = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        recipes.append(write_recipe_beside(tiny, tmp_path / name))
    text = recipes[1].read_text(encoding="utf-8")
    recipes[1].write_text(text.replace("kind: onnx,", "kind: onnx, opset: 17,"), encoding="utf-8")
    running = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "exporter",
                "export",
                "--build-only",
                str(recipe),
                "--out",
                str(tmp_path / "out"),
            ],
            env={**os.environ, "EXPORTER_CACHE": str(tmp_path / "cache")},
            stderr=subprocess.PIPE,
            text=True,
        )
        for recipe in recipes
    ]
    said = [process.communicate()[1] for process in running]
    codes = [process.returncode for process in running]
    assert sorted(codes) == [0, 2], said
    assert "built from another recipe; pass --replace" in said[codes.index(2)].splitlines()[-1]
    built = read_manifest(tmp_path / "out/tiny")
    check_files(built, tmp_path / "out/tiny")
    assert built.recipe_digest == load_recipe(recipes[codes.index(0)]).digest
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tiny"]


@pytest.mark.parametrize("stage", ["model", "onnx: scores"])
def test_replaced_while_verified(verified: Path, other: Path, tmp_path: Path, stage: str) -> None:
    """A report is not written into an artifact that was not measured: no verdict, in one line."""
    folder = Path(shutil.copytree(verified, tmp_path / "tiny"))
    context = Context(progress=Meanwhile(stage, lambda: put(other, folder)))
    settings = replace(SHORT, min_rounds=1)
    if stage == "model":  # nothing was measured yet: the new one is
        assert pipeline.verify(folder, context, settings).manifest_root == read_manifest(other).root
        return
    with pytest.raises(NoVerdict, match="was replaced by another run meanwhile"):
        pipeline.verify(folder, context, settings)
    assert not list(folder.glob("report.*"))
    check_files(read_manifest(other), folder)


def test_replaced_while_published(
    verified: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is published is what was judged, or nothing."""
    folder = Path(shutil.copytree(verified, tmp_path / "tiny"))
    copy, copied = shutil.copyfile, []

    def copy_and_replace(source: Path, target: Path, **how: bool) -> Path:
        copied.append(source)
        if len(copied) == 1:
            put(other, folder)
        return Path(copy(source, target, **how))

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", copy_and_replace)
        with pytest.raises(NoVerdict, match="was replaced by another run meanwhile"):
            pipeline.publish(folder, str(tmp_path / "published"), Context(), Publication(kinds=("onnx",)))
    assert copied
    assert not (tmp_path / "published").exists()


def test_load_while_replaced(built: Path, other: Path, tmp_path: Path) -> None:
    """Whoever loads an artifact while it is replaced over and over gets one of the two, never an error."""
    folder, ended = tmp_path / "tiny", threading.Event()
    put(built, folder)

    def replace_often() -> None:
        for i in range(40):
            put((other, built)[i % 2], folder)
            time.sleep(1 / 18)
        ended.set()

    writer = threading.Thread(target=replace_often)
    writer.start()
    n_loaded = 0
    while not ended.is_set():
        reranker = Reranker.load(folder, "onnx", plan=Plan(1, 1, 64))
        n_loaded += len(reranker.score([("wing lift", "drag of a wing")]))
    writer.join()
    assert n_loaded > 3


@pytest.mark.parametrize("name", ["report.html", "report.xml", "report.md"])
def test_missing_form_is_made_again(verified: Path, tiny: Path, tmp_path: Path, name: str) -> None:
    """A later run that reuses the report makes anew what of it is missing or empty."""
    recipe = load_recipe(write_recipe_beside(tiny, tmp_path))
    folder = Path(shutil.copytree(verified, tmp_path / "tiny"))
    (folder / name).write_bytes(b"")
    reports = pipeline.gate(folder)
    assert is_complete(reports, read_manifest(folder), folder)
    assert reports.newest.recipe_digest == recipe.digest


def test_killed_at_random(tmp_path: Path) -> None:
    """Half a minute of exporters that are killed at random leaves whole artifacts and nothing else."""
    found = stress(tmp_path, 30, seed=4, full=False)
    assert found.wrong == []
    assert any(how.startswith("ended by SIG") for how in found.ended)
