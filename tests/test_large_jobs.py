"""The code of the page on large jobs, run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.runtime import Reranker

PAGE = (Path(__file__).parent.parent / "docs/how-to/large-jobs.md").read_text(encoding="utf-8")
PAIRS = [("what is a cell", "it divides"), ("why", "because"), ("what is a cell", "b")] * 5


def code_of(title: str) -> dict[str, Any]:
    """Return the names that a section's first Python block defines."""
    section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section
    block = re.search(r"```python\n(.*?)```", section[1], re.DOTALL)
    assert block
    names: dict[str, Any] = {}
    exec(compile(block[1], f"large-jobs.md, {title}", "exec"), names)
    return names


def test_spark_scores_batches_of_pandas(built: Path) -> None:
    """What Spark would call with a task's batches, called so here, where there is no Java for Spark."""
    pandas = pytest.importorskip("pandas", reason="pandas is not installed (requirements-cluster.lock)")
    frame = pandas.DataFrame(PAIRS, columns=["query", "passage"], index=range(100, 115)).assign(more=1)
    score = code_of("Spark")["scorer"](str(built))
    found = pandas.concat(score(iter([frame[:7], frame[7:]])))
    assert list(found.columns) == ["query", "passage", "more", "score"]
    assert found.index.tolist() == frame.index.tolist()
    assert found["score"].dtype == "float64"
    assert np.allclose(found["score"], Reranker.load(built).score(PAIRS), atol=0.01)


def test_ray_data_scores_batches(built: Path) -> None:
    """The class that Ray's actors make, given batches as they are; Ray itself is not started."""
    pytest.importorskip("ray.data", reason="ray is not installed (requirements-cluster.lock)")
    batch = {
        "query": np.array([q for q, _ in PAIRS], object),
        "passage": np.array([p for _, p in PAIRS], object),
        "more": np.arange(len(PAIRS)),
    }
    found = code_of("Ray Data")["Score"](str(built))(batch)
    assert set(found) == {"query", "passage", "more", "score"}
    assert np.allclose(found["score"], Reranker.load(built).score(PAIRS), atol=0.01)
