"""Run a graph with values of its inside as outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


def observed(
    graph: Path, names: Sequence[str], feeds: Iterable[Mapping[str, NDArray[np.int64]]]
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yield the named values of each batch, float32 of the graph's own shapes.

    Args:
        graph: an fp32 ONNX file, in a folder that may be written: a file is made beside it.
        names: values of its inside.
        feeds: batches, int64[n_rows, n_tokens] per input.
    """
    import onnx
    import onnxruntime as ort

    model = onnx.load(graph, load_external_data=False)
    del model.graph.output[:]
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
    )
    path = graph.with_name("observed.onnx")  # beside the graph, where its weights may lie
    onnx.save(model, path)
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what it says on stderr, it raises too
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for feed in feeds:
        yield dict(zip(names, session.run(list(names), dict(feed)), strict=True))
