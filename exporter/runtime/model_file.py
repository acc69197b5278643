"""Read what a model file holds before an engine opens it: its operators, and the other files it reads.

An engine is large C++ code that does as the file says. An artifact is untrusted input, and here a file is
refused that contains constructs our exporter never writes. Not checked is whether the graph is right (the
verifier measures that) or how long it computes: who runs untrusted artifacts gives them a time limit.

An ONNX file is read by a protobuf reader of our own, some 60 lines of the wire format, and not by the `onnx`
package: the base install scores without onnx, and a parser that takes one of two readings of a file may take
another than the engine's, so that this reader refuses whatever has two. tests/runtime/test_model_file.py
holds it against `onnx` on random graphs.
"""

from __future__ import annotations

import mmap
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, TypeAlias

from exporter.artifact.files import TOKENIZER
from exporter.artifact.manifest import check_files
from exporter.artifact.names import is_name
from exporter.errors import IntegrityError
from exporter.runtime.allowed import ONNX_OPERATORS
from exporter.runtime.ir_file import Port, check_ir, number_in
from exporter.runtime.protobuf import fields, numbers
from exporter.runtime.tokenizer import KNOWN_INPUTS, check_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from exporter.artifact.manifest import Manifest, VariantEntry

    _Field: TypeAlias = tuple[int, memoryview]


_SUFFIXES = {"onnxruntime": ".onnx", "openvino": ".xml"}
# The messages of an ONNX file that lead to operators or to tensors, by the numbers of their fields.
# Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_PARTS: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Tensor": {},
}
_NODE_OP, _NODE_DOMAIN, _TENSOR_EXTERNAL, _ENTRY_KEY, _ENTRY_VALUE = 4, 7, 13, 1, 2
# A graph of 24 layers has 60,000; a second's work.
_MAX_FIELDS = 1_000_000


_MODEL_GRAPH, _GRAPH_TENSOR, _GRAPH_INPUT, _GRAPH_OUTPUT, _TENSOR_NAME = 7, 5, 11, 12, 8
# Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (TensorProto.DataType)
_ELEMENTS = {1: "float32", 6: "int32", 7: "int64", 10: "float16", 11: "float64", 16: "bfloat16"}


@dataclass(frozen=True, slots=True)
class OnnxContents:
    """What an ONNX file holds, in its functions and every subgraph.

    `messages` counts its protobuf messages by kind, `operators` its nodes by (domain, type). `external` has
    the entries of every tensor whose data lies in another file: location, offset, length.
    """

    messages: Counter[str]
    operators: Counter[tuple[str, str]]
    external: tuple[tuple[tuple[str, str], ...], ...]


def check_artifact(manifest: Manifest, folder: Path) -> None:
    """Check that a folder holds exactly what its manifest names, and its models only what ours do.

    Raises:
        IntegrityError: a file is extra, missing, changed, or brings code or files of others.
    """
    check_files(manifest, folder)
    if TOKENIZER in {file.path for file in manifest.files}:
        check_tokenizer(folder / TOKENIZER)
    for entry in manifest.variants:
        check_model(manifest, entry, folder)


def check_model(manifest: Manifest, entry: VariantEntry, folder: Path) -> None:
    """Check that a model file has its engine's format, runs its operators and reads only the variant's files.

    Args:
        manifest: names the files and their sizes.
        entry: the variant.
        folder: the artifact, whose files were compared with the manifest.

    Raises:
        IntegrityError: it is another format, or brings code or files of others.
    """
    path = folder / entry.model
    wanted = _SUFFIXES.get(entry.traits.engine)
    if wanted is None:
        raise IntegrityError(
            f"{path}: engine {entry.traits.engine!a}, this exporter runs {' and '.join(_SUFFIXES)}"
        )
    if path.suffix != wanted:
        raise IntegrityError(f"{path}: no file for {entry.traits.engine}, which is given {wanted} files")

    sizes = {file.path: file.size_bytes for file in manifest.files if file.path in entry.files}
    if wanted == ".onnx":
        _check_onnx(path, entry.model, sizes)
        ports = onnx_ports(path)
    else:
        ports = check_ir(path, entry.model, sizes)
    _check_ports(path, entry, ports)


def read_onnx(path: Path) -> OnnxContents:
    """Read the operators and external data of an ONNX file, in its functions and every subgraph.

    Raises:
        IntegrityError: it is no ONNX file.
    """
    messages: Counter[str] = Counter()
    operators: Counter[tuple[str, str]] = Counter()
    external = []
    try:
        with path.open("rb") as file:
            whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        for kind, parts in _messages(whole):
            messages[kind] += 1
            if kind == "Node":
                types = [_text(value) for number, value in parts if number == _NODE_OP]
                domains = [_text(value) for number, value in parts if number == _NODE_DOMAIN]
                operators.update((domain, "".join(types[-1:])) for domain in domains or [""])
            if kind == "Tensor" and (
                entries := [_entry(value) for number, value in parts if number == _TENSOR_EXTERNAL]
            ):
                external.append(tuple(entries))
    except (ValueError, IndexError):
        # A length or number that leads past the end, bytes that are not UTF-8, an empty file.
        raise IntegrityError(f"{path}: no ONNX file, or a broken one") from None
    if not messages["Graph"]:
        raise IntegrityError(f"{path}: no ONNX file, it holds no graph")
    return OnnxContents(messages, operators, tuple(external))


def onnx_ports(path: Path) -> tuple[list[Port], list[Port]]:
    """Return what goes into the graph of an ONNX file and what comes out, weights not counted.

    Raises:
        IntegrityError: it is no ONNX file.
    """
    try:
        with path.open("rb") as file:
            whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        allowance = iter(range(_MAX_FIELDS))
        (graph,) = (value for number, value in fields(whole, allowance) if number == _MODEL_GRAPH)
        found = list(fields(graph, allowance))
        weights = {
            _text(name)
            for number, tensor in found
            if number == _GRAPH_TENSOR
            for key, name in fields(tensor, allowance)
            if key == _TENSOR_NAME
        }
        inputs, outputs = (
            [_port(value, allowance) for number, value in found if number == kind]
            for kind in (_GRAPH_INPUT, _GRAPH_OUTPUT)
        )
    except (ValueError, IndexError, StopIteration):
        raise IntegrityError(f"{path}: no ONNX file, or a broken one") from None
    return [port for port in inputs if port.name not in weights], outputs


def _port(value: memoryview, allowance: Iterator[int]) -> Port:
    """Read a ValueInfoProto; what is there twice would be merged by another parser, and is refused here."""
    parts = list(fields(value, allowance))
    (name,) = (_text(part) for number, part in parts if number == 1)
    (kind,) = ([part for number, part in parts if number == 2]) or [memoryview(b"")]
    tensors = [part for number, part in fields(kind, allowance) if number == 1]
    if len(tensors) != 1:  # a sequence, a map, or nothing that is said
        return Port(name, "", None)
    element = [number for key, number in numbers(tensors[0], allowance) if key == 1]
    shapes = [part for number, part in fields(tensors[0], allowance) if number == 2]
    if len(shapes) > 1 or len(element) > 1:
        raise ValueError
    sizes = None
    if shapes:
        dimensions = [part for number, part in fields(shapes[0], allowance) if number == 1]
        sizes = tuple(
            next((size for key, size in numbers(dimension, allowance) if key == 1), -1)
            for dimension in dimensions
        )
    return Port(name, _ELEMENTS.get(element[0], "") if element else "", sizes)


def _check_ports(path: Path, entry: VariantEntry, ports: tuple[list[Port], list[Port]]) -> None:
    """Check that a graph takes tokens and gives one score a pair, by what it says of itself."""
    inputs, outputs = ports
    names = [port.name for port in inputs]
    if sorted(names) != sorted(entry.inputs) or not {*names} <= {*KNOWN_INPUTS}:
        raise IntegrityError(
            f"{path}: takes {', '.join(names)[:200]!a}; wanted {', '.join(entry.inputs)[:200]!a}, as its "
            f"manifest says, of {', '.join(KNOWN_INPUTS)}"
        )
    for port in inputs:
        if port.element != "int64" or port.sizes != (-1, -1):
            raise IntegrityError(f"{path}: takes {port}; wanted int64 of any number of pairs and tokens")
    if [port.name for port in outputs] != ["logits"]:
        given = ", ".join(port.name for port in outputs)
        raise IntegrityError(f"{path}: gives {given[:200]!a}; wanted logits alone")
    (logits,) = outputs
    if logits.element != "float32" or logits.sizes not in (None, (-1, 1), (-1, -1)):
        raise IntegrityError(f"{path}: gives {logits}; wanted float32, one number a pair")


def _messages(whole: memoryview) -> Iterator[tuple[str, list[_Field]]]:
    """Return every message that leads to operators or tensors, and those of its fields that hold bytes."""
    left: list[tuple[str, memoryview]] = [("Model", whole)]
    allowance = iter(range(_MAX_FIELDS))
    while left:
        kind, message = left.pop()
        found = list(fields(message, allowance))
        yield kind, found
        parts = _PARTS[kind]
        left += [(parts[number], value) for number, value in found if number in parts]


def _text(value: memoryview) -> str:
    return str(value, "utf-8")


def _entry(message: memoryview) -> tuple[str, str]:
    """Read a StringStringEntryProto."""
    found = {number: _text(value) for number, value in fields(message, iter(range(100)))}
    return found.get(_ENTRY_KEY, ""), found.get(_ENTRY_VALUE, "")


def _check_onnx(path: Path, model: str, sizes: Mapping[str, int]) -> None:
    found = read_onnx(path)
    known = ONNX_OPERATORS
    if unknown := sorted(
        f"{domain}.{op}" for domain, op in found.operators if op not in known.get(domain, ())
    ):
        raise IntegrityError(f"{path}: runs {unknown[0][:80]!a}, an operator that no artifact of ours has")
    # Functions that call functions grow to any size when they are inlined; a training graph scores nothing.
    if extra := [kind for kind in ("Function", "Training") if found.messages[kind]]:
        raise IntegrityError(f"{path}: holds a {extra[0].lower()}, which no exported model does")
    for entries in found.external:
        location = [value for key, value in entries if key == "location"]
        name = str(PurePosixPath(model).parent / location[0]) if len(location) == 1 else ""
        if not is_name(name) or name not in sizes:
            raise IntegrityError(f"{path}: reads {', '.join(location)!a}, which is no file of this variant")
        if sum(number_in(value) for key, value in entries if key in ("offset", "length")) > sizes[name]:
            raise IntegrityError(f"{path}: reads past the end of {name}")
