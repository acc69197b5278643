"""The table of consumers: where usage comes from, which files each loads, and what is lacking."""

from __future__ import annotations

import dataclasses

import pytest

from exporter.libraries.consumers import CONSUMERS
from tests.factories import a_manifest, an_artifact


@pytest.mark.parametrize("name", CONSUMERS)
def test_every_consumer_says_where_its_usage_comes_from(name: str) -> None:
    """A consumer is run as documented, and the document is named."""
    assert CONSUMERS[name].source.startswith("https://")


def test_files_that_each_loads(tmp_path) -> None:
    """A consumer is handed the files of its engine, or those that it finds by name."""
    manifest = an_artifact(tmp_path / "tiny")
    (tmp_path / "tiny/onnx/model_quantized.onnx").write_text("y", encoding="utf-8")
    (tmp_path / "tiny/model.safetensors").write_text("w", encoding="utf-8")
    manifest = a_manifest(tmp_path / "tiny")
    files = {name: CONSUMERS[name].files(manifest) for name in CONSUMERS}
    both = ("onnx/model.onnx", "onnx/model_qint8_avx2.onnx")
    assert files["fastembed"] == files["sentence-transformers onnx"] == both
    assert files["sentence-transformers torch"] == ("model.safetensors",)
    assert files["transformers.js"] == ("onnx/model.onnx", "onnx/model_quantized.onnx")
    assert files["infinity"] == ("onnx/model_quantized.onnx",)
    assert files["optimum-intel OVModel"] == ()


def test_what_is_lacking() -> None:
    """What is installed lacks nothing; what is not says what to type; what cannot be installed says why."""
    fastembed = CONSUMERS["fastembed"]
    assert dataclasses.replace(fastembed, package="numpy").lacking is None
    assert dataclasses.replace(fastembed, package="no-such-package").lacking == (
        "not installed; pip install no-such-package"
    )
    assert "numpy below 2" in (CONSUMERS["infinity"].lacking or "")
