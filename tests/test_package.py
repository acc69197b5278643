"""The package as a whole: what importing it costs, what is in it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

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


@pytest.mark.parametrize(
    "module", ["exporter", "exporter.cli", "exporter.runtime", "exporter.recipe", "exporter.pipeline"]
)
def test_importing_loads_no_backend(module: str) -> None:
    """No module pays for a library at import; `exporter --help` least of all."""
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


def test_version_stands_once() -> None:
    """The package's version is the one it was installed as."""
    assert exporter.__version__ == version("exporter")
