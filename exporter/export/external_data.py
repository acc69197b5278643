"""Where an ONNX file's weights lie: in the file, or beside it where protobuf could not hold them.

A file of protobuf's has at most 2 GiB. Weights beyond that lie in `NAME.onnx_data`, the name under which
optimum, sentence-transformers and transformers.js look for them.
Source: https://protobuf.dev/programming-guides/proto-limits/
Source: https://onnx.ai/onnx/repo-docs/ExternalData.html
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx_ir as ir


SUFFIX = "_data"
# What the weights may have in the file itself; 64 MiB of the limit are for everything else in it.
INLINE_BYTES = (2 << 30) - (64 << 20)


def save(model: ir.Model, path: Path, inline_bytes: int = INLINE_BYTES) -> None:
    """Write a graph, its weights in the file or, where they are more than `inline_bytes`, beside it.

    Args:
        model: its tensors may lie in files of other graphs, which are read and left alone.
        path: the .onnx file; the other file has `_data` added to its name.
        inline_bytes: how much the file itself may hold.
    """
    import onnx_ir as ir
    from onnx_ir.external_data import load_to_model

    _inline_attributes(model)
    if _n_bytes(model) > inline_bytes:
        ir.save(model, path, external_data=path.name + SUFFIX)
    else:
        ir.save(load_to_model(model), path)


def pack(graph: Path, path: Path, inline_bytes: int = INLINE_BYTES) -> None:
    """Copy a graph as `save` writes it; one that is whole in its file and small keeps its bytes.

    Args:
        graph: the .onnx file; weights beside it are read under whatever names they have.
        path: the .onnx file to write, another one.
        inline_bytes: how much the file itself may hold.
    """
    import onnx_ir as ir

    model = ir.load(graph)
    if _n_bytes(model) > inline_bytes or is_external(model):
        save(model, path, inline_bytes)
    else:
        shutil.copyfile(graph, path)


def is_external(model: ir.Model) -> bool:
    """Return whether any of a graph's weights lies in another file."""
    import onnx_ir as ir

    return any(isinstance(value.const_value, ir.ExternalTensor) for value in _initializers(model))


@contextmanager
def workplace(graph: Path, beside: Path) -> Iterator[Path]:
    """Yield the path of a graph in a scratch folder, to work on with tools that write beside what they read.

    Args:
        graph: the .onnx file; it and the weights beside it are copied, since onnx reads no weights that have
            a second name on the disk.
        beside: the folder in which the scratch folder is made, and removed.
    """
    with tempfile.TemporaryDirectory(prefix="work-", dir=beside) as scratch:
        for path in (graph, *graph.parent.glob(f"*.onnx{SUFFIX}")):
            shutil.copyfile(path, Path(scratch, path.name))
        yield Path(scratch, graph.name)


def _initializers(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from graph.initializers.values()


def _n_bytes(model: ir.Model) -> int:
    return sum(value.const_value.nbytes for value in _initializers(model) if value.const_value is not None)


def _inline_attributes(model: ir.Model) -> None:
    """Put constants of nodes, which are small, back into the graph: only weights are written beside it."""
    import onnx_ir as ir

    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        for name, attribute in node.attributes.items():
            if isinstance(attribute.value, ir.ExternalTensor):
                node.attributes[name] = ir.AttrTensor(name, ir.tensor(attribute.value.numpy().copy()))
