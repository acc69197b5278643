"""Fixtures: the tiny model and its artifact, built once a session in a cache of their own."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from exporter.context import Context
from exporter.measure.settings import MeasureSettings
from exporter.recipe.kinds import KINDS
from tests.support import write_pairs, write_recipe, write_tiny_model

STARTED_AT = "2026-01-01T00:00:00Z"
# For what is measured for real and asserts no speed: two rounds, so that sides without a bar have fewer.
SHORT = MeasureSettings(
    min_rounds=2,
    n_baseline_rounds=1,
    min_run_s=0.0,
    rest_s=0.0,
    sweep_s=0.0,
    latencies=((10, 2), (20, 1)),
    torch_batch_sizes=(8, 16),
    torch_token_budgets=(512,),
    token_budgets=(256, 512),
)


def pytest_configure() -> None:
    """Take interrupts, as a terminal's processes do: what a shell starts with `&` ignores them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call() -> None:
    """Have one environment in all tests: workers are forked from one server as long as it is the same."""
    os.environ.pop("PYTEST_CURRENT_TEST", None)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup() -> None:
    """See `pytest_pyfunc_call`."""
    os.environ.pop("PYTEST_CURRENT_TEST", None)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the user's cache out of the tests, and the tests out of it; the Hub is never asked."""
    os.environ["EXPORTER_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, its pairs and a recipe for every kind. Read it, do not write it."""
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_model(folder / "model")
    write_pairs(folder / "pairs.jsonl")
    write_pairs(folder / "calibrate.jsonl", seed=5)
    write_recipe(folder, *KINDS)
    return folder


@pytest.fixture(scope="session")
def built(tiny: Path) -> Path:
    """The tiny model's artifact with every kind, not verified. Read it, do not write it."""
    from exporter import pipeline
    from exporter.recipe.load import load_recipe

    return pipeline.build(load_recipe(tiny / "recipe.yaml"), tiny / "artifacts", Context())


@pytest.fixture
def artifact(built: Path, tmp_path: Path) -> Path:
    """A copy of the tiny artifact, to be changed at will."""
    return Path(shutil.copytree(built, tmp_path / "artifacts" / built.name))


@pytest.fixture(scope="session")
def verified(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny artifact of two kinds, verified for real. Read it, do not write it."""
    from exporter import pipeline
    from exporter.recipe.load import load_recipe

    out = tmp_path_factory.mktemp("verified")
    recipe = load_recipe(write_recipe_beside(built.parent.parent, out))
    pipeline.export(recipe, out, Context(started_at=STARTED_AT), SHORT)
    return out / "tiny"


def write_recipe_beside(source: Path, folder: Path) -> Path:
    """Write a two-kind recipe into `folder` that uses the model and pairs of `source`."""
    path = write_recipe(folder, "onnx", "onnx-int8")
    text = path.read_text(encoding="utf-8").replace("./model", str(source / "model"))
    text = text.replace("pairs.jsonl", str(source / "pairs.jsonl")).replace(
        "calibrate.jsonl", str(source / "calibrate.jsonl")
    )
    path.write_text(text, encoding="utf-8")
    return path
