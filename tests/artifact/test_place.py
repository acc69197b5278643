"""Where an artifact may lie: a place whose path libraries can be told."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from exporter.artifact.manifest import read_manifest
from exporter.artifact.place import check_place
from exporter.cache import Cache
from exporter.errors import BackendError, RecipeError
from exporter.scratch import Scratch
from tests.factories import an_artifact


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder whose name is no UTF-8, as Linux allows."""
    folder = tmp_path / os.fsdecode(b"un\xff")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    return folder


def test_name_that_is_no_text(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a name is not UTF-8 nothing is built, read or kept, and the line says so."""
    said = r"un\\udcff'?: a name on this path is not UTF-8"
    with pytest.raises(RecipeError, match=said.replace("'?", "/new'")):
        check_place(odd / "new")
    an_artifact(odd)
    with pytest.raises(RecipeError, match=said):
        read_manifest(odd)
    with pytest.raises(BackendError, match="set EXPORTER_CACHE"):
        Cache(odd).check()
    monkeypatch.setattr(tempfile, "tempdir", str(odd))
    with pytest.raises(BackendError, match="TMPDIR"):
        Scratch("test")
