"""The operators that a model file may run, held against the libraries' own lists."""

from __future__ import annotations

import re

import onnx
import pytest

from exporter.runtime.allowed import ONNX_OPERATORS, OPENVINO_OPERATORS

# What runs a graph again and again, draws by chance, or works on anything but tensors of numbers.
NEVER = re.compile(r"Loop|Scan|Sequence|Optional|String|Random|Bernoulli|Multinomial|Image|Loss|Tfidf|Regex")


def test_operators_of_onnx_exist() -> None:
    """Each name is an operator of ONNX's own sets, or the one that onnxruntime adds to them."""
    known = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    assert ONNX_OPERATORS[""] - known <= {"SimplifiedLayerNormalization"}


def test_operators_of_onnxruntime_exist() -> None:
    """Each name is an operator of onnxruntime's own set."""
    state = pytest.importorskip("onnxruntime.capi._pybind_state")
    schemas = state.get_all_operator_schema()
    assert ONNX_OPERATORS["com.microsoft"] <= {row.name for row in schemas if row.domain == "com.microsoft"}


def test_nothing_without_an_end() -> None:
    """No operator repeats a graph, draws by chance, or works on anything but tensors of numbers."""
    tensors_only = {"ReverseSequence", "GRUSequence", "LSTMSequence", "RNNSequence"}
    names = {*ONNX_OPERATORS[""], *ONNX_OPERATORS["com.microsoft"], *OPENVINO_OPERATORS} - tensors_only
    assert not [name for name in names if NEVER.search(name)]
    assert not {"EPContext", "TensorIterator", "Assign", "ReadValue", "Sampling", "BeamSearch"} & names
