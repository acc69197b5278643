"""Fixtures of the consumers' tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.pairs import PairSet, load_pairs


@pytest.fixture(scope="session")
def pairs(tiny: Path) -> PairSet:
    """The tiny artifact's verify set."""
    return load_pairs(str(tiny / "pairs.jsonl"))
