"""Writing pair files for tests, and reading them back."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from exporter.errors import RecipeError
from exporter.pairs import PairSet, load_pairs

HEADER = "query\tpassage\tlabel\n"


def written(path: Path, content: str | bytes) -> Path:
    """Write a file byte by byte, packed if its name says so."""
    raw = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def read(folder: Path, name: str, content: str | bytes) -> PairSet:
    """Write a file and read it as pairs."""
    return load_pairs(str(written(folder / name, content)))


def refusal(folder: Path, name: str, content: str | bytes) -> str:
    """Write a file that is refused, and return the message after the folder's path."""
    with pytest.raises(RecipeError) as caught:
        read(folder, name, content)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix("pairs ").removeprefix(f"{folder}/")


def labels(pair_set: PairSet) -> list[float] | None:
    """Return a pair set's labels as a list."""
    return None if pair_set.labels is None else pair_set.labels.tolist()
