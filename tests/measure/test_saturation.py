"""What a file holds, and whether its sums can saturate, on graphs made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper, numpy_helper, save

from exporter.errors import BackendError
from exporter.measure.contents import read_contents, weights
from exporter.measure.saturation import LARGEST_SUM, bound_sums

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def write_products(path: Path, **products: NDArray[np.generic]) -> Path:
    """Write a graph with a product for each weight, the integer kind for int8; a fp16 one is cast first."""
    nodes, initializers = [], []
    for name, weight in products.items():
        initializers.append(numpy_helper.from_array(weight, f"{name}_weight"))
        if weight.dtype == np.int8:
            nodes.append(
                helper.make_node("MatMulInteger", ["quantized", f"{name}_weight"], [name], name=name)
            )
            continue
        stored = f"{name}_weight"
        if weight.dtype == np.float16:
            nodes.append(helper.make_node("Cast", [stored], [f"{name}_cast"], to=TensorProto.FLOAT))
            stored = f"{name}_cast"
        nodes.append(helper.make_node("MatMul", ["x", stored], [name], name=name))
    graph = helper.make_graph(
        nodes,
        "products",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("quantized", TensorProto.UINT8, None),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in products],
        initializers,
    )
    save(helper.make_model(graph), path)
    return path


def int8(*rows: list[int]) -> NDArray[np.int8]:
    """Give a weight, [k, n]."""
    return np.array(rows, np.int8)


def test_shares_by_hand(tmp_path: Path) -> None:
    """Of eight weights four are int8 and two are fp16; bytes are by type."""
    path = write_products(
        tmp_path / "m.onnx",
        a=int8([1, 2], [3, 4]),
        b=np.ones((2, 1), np.float16),
        c=np.ones((2, 1), np.float32),
    )
    found = read_contents(path)
    assert (found.n_products, found.int8_share, found.fp16_share) == (3, 0.5, 0.25)
    assert dict(found.stored_bytes) == {"float32": 8, "int8": 4, "float16": 4}
    assert dict(found.operators) == {"MatMul": 2, "MatMulInteger": 1, "Cast": 1}


def test_transposed_weight_is_turned(tmp_path: Path) -> None:
    """A weight that a Gemm reads transposed is given as it is multiplied: [k, n]."""
    weight = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "w")
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)],
        "gemm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    save(helper.make_model(graph), tmp_path / "m.onnx")
    ((_, values),) = weights(tmp_path / "m.onnx")
    assert values.shape == (3, 2)


@pytest.mark.parametrize("name", ["m.onnx", "m.xml"])
def test_no_model(tmp_path: Path, name: str) -> None:
    """A file that is no model is the backend's failure, in one line."""
    (tmp_path / name).write_bytes(b"\xff\xfenothing")
    with pytest.raises(BackendError, match="cannot be read as"):
        read_contents(tmp_path / name)


@pytest.mark.parametrize(
    ("weight", "highest", "lowest", "proven"),
    [
        (int8([64, 0], [64, 0]), 32_640, 0, True),  # 255 * 128
        (int8([64, 0], [65, 0]), 32_895, 0, False),
        (int8([0, -64], [0, -64]), 0, -32_640, True),
        (int8([0, -64], [0, -65]), 0, -32_895, False),
        (int8([127], [-127]), 32_385, -32_385, True),  # of two signs only one can add up
        (int8([0], [127], [2]), 32_895, 0, False),  # neighbours from an odd row on
        (int8([127]), 32_385, 0, True),  # no neighbour
    ],
)
def test_bounds_by_hand(
    tmp_path: Path,
    weight: NDArray[np.int8],
    highest: int,
    lowest: int,
    proven: bool,  # noqa: FBT001
) -> None:
    """Neighbours along k sum up to 255 times their parts of one sign; 128 of them fit 16 bits, 129 do not."""
    found = bound_sums(write_products(tmp_path / "m.onnx", a=weight))
    assert (found.highest, found.lowest, found.proven) == (highest, lowest, proven)


def test_planted_pair_is_found(tmp_path: Path) -> None:
    """One pair of full range among thousands of small weights is found, by place."""
    weight = np.random.default_rng(0).integers(-64, 65, (96, 48)).astype(np.int8)
    good = bound_sums(write_products(tmp_path / "good.onnx", first=weight, second=weight))
    assert good.proven
    planted = weight.copy()
    planted[7:9, 5] = 127
    found = bound_sums(write_products(tmp_path / "bad.onnx", first=weight, second=planted))
    assert not found.proven
    assert found.worst == "second, n 5, k 7 and 8: 127 and 127"


def test_no_int8_is_no_proof(tmp_path: Path) -> None:
    """Where there is nothing to prove, nothing is proven."""
    assert not bound_sums(write_products(tmp_path / "m.onnx", a=np.ones((2, 2), np.float32))).proven


@settings(deadline=None)
@given(
    arrays(np.int8, (6, 3), elements=st.integers(-127, 127)),
    arrays(np.uint8, (6,), elements=st.integers(0, 255)),
)
def test_no_activations_leave_the_bounds(
    tmp_path_factory: pytest.TempPathFactory, weight: NDArray[np.int8], x: NDArray[np.uint8]
) -> None:
    """Two neighbouring products sum to no more than the bound, whatever the activations are.

    Proven means that it fits.
    """
    found = bound_sums(write_products(tmp_path_factory.mktemp("w") / "m.onnx", a=weight))
    products = weight.astype(np.int64) * x[:, None]
    sums = products[:-1] + products[1:]
    assert found.lowest <= sums.min()
    assert sums.max() <= found.highest
    if found.proven:
        assert sums.max() <= LARGEST_SUM
