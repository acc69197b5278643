"""The PyTorch reference: what it must be to be compared with."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.cache import Cache
from exporter.context import Context
from exporter.errors import RecipeError
from exporter.export.source import find_source
from exporter.measure.reference import reference_scores
from exporter.measure.tune import TunedTorch
from exporter.pairs import load_pairs
from exporter.recipe.schema import Model
from exporter.worker.job import TorchSpec
from tests.families import change_tensors, write_family
from tests.support import write_pairs


def test_reference_that_ranks_nothing(tmp_path: Path) -> None:
    """A model whose head is zero scores all alike: said in a line, before variants are scored and timed."""
    folder = write_family(tmp_path / "model", "bert", model_max_length=64)
    change_tensors(folder, lambda tensors: tensors | {"classifier.weight": tensors["classifier.weight"] * 0})
    pairs = load_pairs(str(write_pairs(tmp_path / "pairs.jsonl", n_queries=2, n_passages=3)))
    source = find_source(Model(source=str(folder)), Cache(tmp_path / "cache"))
    plan = TunedTorch(TorchSpec(str(source.folder), 64, "cpu", 8, 1, 1), None)
    with pytest.raises(RecipeError, match="scores all passages of each query alike"):
        reference_scores(source, plan, pairs, Context(cache=Cache(tmp_path / "cache")))
