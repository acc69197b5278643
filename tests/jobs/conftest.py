from __future__ import annotations

from pathlib import Path

import pytest

from tests.small_artifact import write_artifact


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of a kilobyte, which scores a pair by the mean of its tokens. Read it, do not write it."""
    return write_artifact(tmp_path_factory.mktemp("small") / "artifact")
