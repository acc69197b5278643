"""Build OpenVINO IR from the plain ONNX graph: fp32, fp16 weights, or int8 by NNCF."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from typing import TYPE_CHECKING

from exporter.artifact.cpus import saturates
from exporter.backend import backend
from exporter.errors import RecipeError
from exporter.export.int8 import ALWAYS_FP32

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from openvino import Model

    from exporter.machine import Isa


def convert(plain: Path, path: Path, *, fp16: bool) -> tuple[str, ...]:
    """Convert an ONNX graph to IR.

    Args:
        plain: the exported graph, ORT's fusions not applied.
        path: the .xml file to write; the .bin stands beside it.
        fp16: store weights as fp16.

    Returns:
        Facts for the manifest.

    Raises:
        BackendError: OpenVINO refuses the graph.
    """
    import openvino as ov

    with backend("OpenVINO cannot convert the graph"):
        model = ov.convert_model(plain)
        _number_by_position(model)
        ov.save_model(model, path, compress_to_fp16=fp16)
    return ("weights stored as fp16",) if fp16 else ()


def quantize(
    plain: Path,
    path: Path,
    feeds: Sequence[Mapping[str, NDArray[np.int64]]],
    *,
    isa: Isa,
    keep_fp32: tuple[str, ...],
) -> tuple[str, ...]:
    """Quantize with NNCF, activation ranges taken from real pairs.

    For CPUs without VNNI the range of every layer is halved: `OverflowFix.ENABLE`; the default mends the
    first convolution only, of which a transformer has none.
    Source: https://github.com/openvinotoolkit/openvino/issues/25342

    Args:
        plain: the exported graph.
        path: the .xml file to write.
        feeds: int64[n_rows, n_tokens] per input and batch, of calibration pairs; all of them are run.
        isa: the CPUs it is for.
        keep_fp32: shell patterns of operation names left alone.

    Returns:
        Facts for the manifest.

    Raises:
        RecipeError: a pattern of `keep_fp32` names no matrix product.
        BackendError: NNCF or OpenVINO fails.
    """
    import nncf
    import openvino as ov
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

    halved = saturates(isa)
    with backend("OpenVINO cannot convert the graph"):
        model = ov.convert_model(plain)
        names = [op.get_friendly_name() for op in model.get_ops() if op.get_type_name() == "MatMul"]
    for pattern in keep_fp32:
        if not any(fnmatch(name, pattern) for name in names):
            raise RecipeError(f"keep_fp32 {pattern!r} names no matrix product; they are {', '.join(names)}")
    kept = [name for name in names if any(fnmatch(name, pattern) for pattern in (*ALWAYS_FP32, *keep_fp32))]

    with backend("NNCF cannot quantize the graph"):
        quantized = nncf.quantize(
            model,
            nncf.Dataset(feeds),
            subset_size=len(feeds),
            model_type=nncf.ModelType.TRANSFORMER,
            ignored_scope=nncf.IgnoredScope(names=kept) if kept else None,
            advanced_parameters=AdvancedQuantizationParameters(
                overflow_fix=OverflowFix.ENABLE if halved else OverflowFix.DISABLE
            ),
        )
        _number_by_position(quantized)
        ov.save_model(quantized, path, compress_to_fp16=False)
    return (
        f"int8 calibrated on {len(feeds)} pairs, {'7' if halved else '8'}-bit range",
        *((f"kept in fp32: {', '.join(kept)}",) if kept else ()),
    )


def _number_by_position(model: Model) -> None:
    """Name nodes that have no name of the ONNX graph's by their position in the graph.

    OpenVINO numbers them through the whole process (`Constant_17280`), so the file's bytes would depend on
    what else was built before it.
    """
    for position, node in enumerate(model.get_ordered_ops()):
        if numbered := re.fullmatch(r"([A-Za-z]+)_\d+", node.get_friendly_name()):
            node.set_friendly_name(f"{numbered[1]}_{position}")
