"""The package as a whole: its public names, what importing it costs, how it is called."""

from __future__ import annotations

import importlib
import os
import pkgutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import exporter

HEAVY = {
    "torch",
    "transformers",
    "sentence_transformers",
    "optimum",
    "onnx",
    "onnxruntime",
    "openvino",
    "nncf",
    "scipy",
}
# These run when they are imported.
PROGRAMS = {"exporter.__main__", "exporter.worker.__main__"}
MODULES = [
    module.name
    for module in pkgutil.walk_packages(exporter.__path__, "exporter.")
    if module.name not in PROGRAMS
]
# What each room offers by name; a room that is not here is used by its modules.
PUBLIC = {
    "exporter": ["Reranker", "load_recipe", "pipeline"],
    "exporter.pairs": [
        "N_TIMED_PAIRS",
        "N_TOP",
        "Pair",
        "PairSet",
        "load_pair_sets",
        "load_pairs",
        "spread_out",
        "spread_out_positions",
        "whole_if_possible",
        "whole_queries",
    ],
    "exporter.remote": ["Place", "cached_artifact", "fetch_artifact", "is_remote", "parse_place"],
    "exporter.runtime": [
        "Pair",
        "PairTokenizer",
        "Plan",
        "Ranked",
        "Reranker",
        "choose_plan",
        "default_plan",
    ],
    "exporter.advice": ["Commands", "Tip", "advice", "deploy"],
    "exporter.worker": [
        "CountWorker",
        "SweepWorker",
        "TimedWorker",
        "limited",
        "product_errors",
        "score",
        "score_each",
        "time",
    ],
}


@pytest.mark.parametrize(
    "module", ["exporter", "exporter.cli", "exporter.runtime", "exporter.recipe", "exporter.pipeline"]
)
def test_importing_loads_no_backend(module: str) -> None:
    """No module pays for a library at import; `exporter --help` least of all."""
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


@pytest.mark.parametrize("library", ["openvino", "nncf"])
def test_libraries_report_to_nobody(library: str, tmp_path: Path) -> None:
    """What sends statistics of use is not loaded, and nothing is noted for it in the user's home."""
    code = f"import sys, exporter, {library}; print(sys.modules['openvino_telemetry'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert done.stdout.split() == ["None"]
    assert not (tmp_path / "intel").exists()


def test_importing_the_package_imports_nothing_of_it() -> None:
    """`import exporter` costs nothing: its names are imported when they are asked for."""
    code = "import sys, exporter; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not {name for name in loaded if name.startswith("exporter.")}
    assert not (HEAVY | {"numpy", "pydantic", "tokenizers", "ruamel"}) & loaded


def test_public_names() -> None:
    """Each `__all__` is what stands here, sorted; no submodule, all of them imported, shadows a name."""
    modules = {name: importlib.import_module(name) for name in ("exporter", *MODULES)}
    public = {name: module.__all__ for name, module in modules.items() if hasattr(module, "__all__")}
    assert public == PUBLIC
    for name, names in public.items():
        assert names == sorted(names)
        assert set(names) <= set(dir(modules[name]))
        for public_name in names:  # a submodule of the same name would stand in its place
            found = getattr(modules[name], public_name)
            assert (found is sys.modules.get(f"{name}.{public_name}")) == (public_name == "pipeline")


def test_unknown_name() -> None:
    """A name that the package does not have is an AttributeError, as in any module."""
    with pytest.raises(AttributeError, match="module 'exporter' has no attribute 'reranker'"):
        exporter.reranker  # noqa: B018 - asking for it is what is tested


def test_version_stands_once() -> None:
    """The version is the one the package was installed as, where it is installed under its name."""
    try:
        installed = metadata.version("reranker-exporter")
    except metadata.PackageNotFoundError:
        pytest.skip("run from a folder, not installed")
    assert exporter.__version__ == installed


def test_run_as_a_module() -> None:
    """`python -m exporter` is the command line."""
    done = subprocess.run(
        [sys.executable, "-m", "exporter", "--version"], capture_output=True, text=True, check=True
    )
    assert exporter.__version__ in done.stdout
