"""The gate against artifacts that are wrong on purpose, and a planted slow-down, on the tiny model."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exporter import pipeline, worker
from exporter.artifact.manifest import read_manifest
from exporter.context import Context
from exporter.errors import RecipeError
from exporter.recipe.load import load_recipe
from exporter.selftest.mutants import MUTANTS
from exporter.selftest.run import selftest
from exporter.selftest.trials import SelfTest
from exporter.worker.job import ArtifactSpec, Call, TimeJob
from tests.conftest import STARTED_AT
from tests.support import write_pairs, write_recipe, write_tiny_model


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny artifact of two ONNX kinds on pairs with capitals, and bars an honest build clears."""
    folder = tmp_path_factory.mktemp("strict")
    write_tiny_model(folder / "model")
    for name, seed in (("pairs", 1), ("calibrate", 5)):
        path = write_pairs(folder / f"{name}.jsonl", seed=seed, n_passages=8)
        path.write_text(
            path.read_text(encoding="utf-8").replace("wing", "Wing").replace("flow", "Flow"), encoding="utf-8"
        )
    bars = "{min_kendall_tau: 0.8, max_batch_delta: 0.5}"
    recipe = load_recipe(write_recipe(folder, "onnx", "onnx-int8", bars=bars))
    return pipeline.build(recipe, folder / "artifacts", Context())


@pytest.fixture(scope="module")
def tried(strict: Path) -> dict[str, SelfTest]:
    """The self-test of both kinds, mutants only."""
    return {
        kind: selftest(strict, Context(started_at=STARTED_AT), kind=kind) for kind in ("onnx", "onnx-int8")
    }


@pytest.mark.parametrize("kind", ["onnx", "onnx-int8"])
def test_the_original_passes(tried: dict[str, SelfTest], kind: str) -> None:
    """What is caught below is caught for what was changed: the copy itself fails nothing."""
    assert tried[kind].original_fails == ()


@pytest.mark.parametrize("name", [mutant.name for mutant in MUTANTS])
@pytest.mark.parametrize("kind", ["onnx", "onnx-int8"])
def test_mutant_is_caught(tried: dict[str, SelfTest], kind: str, name: str) -> None:
    """Every mutant fails a check; only a saturated weight cannot be planted where no weight is int8."""
    found = next(mutant for mutant in tried[kind].mutants if mutant.name == name)
    if (kind, name) == ("onnx", "one weight saturated"):
        assert found.skipped == "no int8 weights"
    else:
        assert found.skipped == ""
        assert found.killed_by, name


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("one weight saturated", "max_int16_sum"),
        ("file of another precision", "promised_weight_share"),
        ("NaN at one length", "nonfinite_scores"),
        ("scores of two queries exchanged", "worst_query_relative_rms"),
    ],
)
def test_mutant_is_caught_by_what_it_breaks(tried: dict[str, SelfTest], name: str, check: str) -> None:
    """A check made for one way of being wrong is among those that catch it."""
    assert check in next(mutant for mutant in tried["onnx-int8"].mutants if mutant.name == name).killed_by


def test_mutants_leave_the_artifact_alone(strict: Path, tried: dict[str, SelfTest]) -> None:
    """What was tried was tried on copies."""
    assert tried
    assert read_manifest(strict).root == tried["onnx"].manifest_root


def test_no_such_variant(strict: Path) -> None:
    """Mutants are made of ONNX graphs; what has none says what there is."""
    with pytest.raises(RecipeError, match="has no openvino; it has onnx, onnx-int8"):
        selftest(strict, Context(started_at=STARTED_AT), kind="openvino")


def test_slowdown_is_slept(strict: Path) -> None:
    """A variant slowed by thrice its time computes a quarter of it, and scores the same."""
    pairs = tuple(("wing lift", "drag flow " * 20) for _ in range(64))
    spec = ArtifactSpec(str(strict), "onnx", 1, 1, 512, slowdown=3.0)
    (run,) = worker.time(TimeJob(pairs, (spec,), (Call(tuple(range(64)), 3),)))
    assert run.cpu_share < 0.55  # of one core; the tokenizer has all of them
    slowed, fast = (worker.score(one, pairs) for one in (spec, replace(spec, slowdown=0.0)))
    assert np.array_equal(slowed, fast)


def test_left_truncating_tokenizer_stays_so(tmp_path: Path) -> None:
    """A model that cuts off the beginning is packaged so: the runtime truncates by the tokenizer's file."""
    write_tiny_model(tmp_path / "model")
    config = tmp_path / "model" / "tokenizer_config.json"
    config.write_text(
        config.read_text(encoding="utf-8").replace("{", '{"truncation_side": "left",', 1), encoding="utf-8"
    )
    write_pairs(tmp_path / "pairs.jsonl")
    write_pairs(tmp_path / "calibrate.jsonl", seed=5)
    recipe = load_recipe(write_recipe(tmp_path, "onnx", bars="{max_abs_diff: 1e-4}"))
    folder = pipeline.build(recipe, tmp_path / "artifacts", Context())
    assert '"direction": "Left"' in (folder / "tokenizer.json").read_text(encoding="utf-8")
    shutil.rmtree(folder)
