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
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, TypeAlias

from exporter.artifact.files import is_name
from exporter.artifact.manifest import check_files
from exporter.errors import IntegrityError
from exporter.runtime.tokenizer import KNOWN_INPUTS, TOKENIZER, check_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from exporter.artifact.manifest import Manifest, VariantEntry

    _Field: TypeAlias = tuple[int, memoryview]


_SUFFIXES = {"onnxruntime": ".onnx", "openvino": ".xml"}
# ONNX's own operators, under both its names, and onnxruntime's; others come in a library, never loaded.
# Source: https://github.com/onnx/onnx/blob/main/docs/IR.md (operator sets)
# Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
DOMAINS = frozenset(("", "ai.onnx", "com.microsoft"))
# OpenVINO's own operator sets; anything else comes in a library.
# Source: https://docs.openvino.ai/2025/documentation/openvino-ir-format.html
_OPSET = re.compile(r"opset\d{1,2}")
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
# How a field is written: the last bits of its tag, and for some the bytes that follow.
_VARINT, _LENGTH, _FIXED = 0, 2, {1: 8, 5: 4}


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
    else:
        _check_ir(path, entry.model, sizes)


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
        for kind, fields in _messages(whole):
            messages[kind] += 1
            if kind == "Node":
                types = [_text(value) for number, value in fields if number == _NODE_OP]
                domains = [_text(value) for number, value in fields if number == _NODE_DOMAIN]
                operators.update((domain, "".join(types[-1:])) for domain in domains or [""])
            if kind == "Tensor" and (
                entries := [_entry(value) for number, value in fields if number == _TENSOR_EXTERNAL]
            ):
                external.append(tuple(entries))
    except (ValueError, IndexError):
        # A length or number that leads past the end, bytes that are not UTF-8, an empty file.
        raise IntegrityError(f"{path}: no ONNX file, or a broken one") from None
    if not messages["Graph"]:
        raise IntegrityError(f"{path}: no ONNX file, it holds no graph")
    return OnnxContents(messages, operators, tuple(external))


def _messages(whole: memoryview) -> Iterator[tuple[str, list[_Field]]]:
    """Return every message that leads to operators or tensors, and those of its fields that hold bytes."""
    left: list[tuple[str, memoryview]] = [("Model", whole)]
    allowance = iter(range(_MAX_FIELDS))
    while left:
        kind, message = left.pop()
        fields = list(_fields(message, allowance))
        yield kind, fields
        parts = _PARTS[kind]
        left += [(parts[number], value) for number, value in fields if number in parts]


def _fields(message: memoryview, allowance: Iterator[int]) -> Iterator[_Field]:
    """Return the fields of a message that hold bytes: number and bytes.

    What two parsers might read in two ways is refused: groups, and numbers with more digits than they need.
    Source: https://protobuf.dev/programming-guides/encoding/

    Raises:
        ValueError, IndexError: the bytes are no message, or have more fields than are left of `allowance`.
    """
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        wire, length = tag & 7, _FIXED.get(tag & 7, 0)
        if wire == _LENGTH:
            length, at = _varint(message, at)
        elif wire == _VARINT:
            _, at = _varint(message, at)
        elif wire not in _FIXED:
            raise ValueError
        if at + length > end or not 8 <= tag < 1 << 32 or next(allowance, None) is None:
            raise ValueError
        if wire == _LENGTH:
            yield tag >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Read a number of seven bits a byte, the lowest first; return it and the position behind it."""
    byte = message[at]
    if byte < 0x80:
        return byte, at + 1
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    if not 0 < byte < 0x80:
        raise ValueError
    return value, at


def _text(value: memoryview) -> str:
    return str(value, "utf-8")


def _entry(message: memoryview) -> tuple[str, str]:
    """Read a StringStringEntryProto."""
    fields = {number: _text(value) for number, value in _fields(message, iter(range(100)))}
    return fields.get(_ENTRY_KEY, ""), fields.get(_ENTRY_VALUE, "")


def _check_onnx(path: Path, model: str, sizes: Mapping[str, int]) -> None:
    found = read_onnx(path)
    if unknown := sorted(f"{domain}.{op}" for domain, op in found.operators if domain not in DOMAINS):
        raise IntegrityError(f"{path}: runs {unknown[0]!a}, an operator neither of ONNX nor of onnxruntime")
    # Functions that call functions grow to any size when they are inlined; a training graph scores nothing.
    if extra := [kind for kind in ("Function", "Training") if found.messages[kind]]:
        raise IntegrityError(f"{path}: holds a {extra[0].lower()}, which no exported model does")
    for entries in found.external:
        location = [value for key, value in entries if key == "location"]
        name = str(PurePosixPath(model).parent / location[0]) if len(location) == 1 else ""
        if not is_name(name) or name not in sizes:
            raise IntegrityError(f"{path}: reads {', '.join(location)!a}, which is no file of this variant")
        if sum(_number(value) for key, value in entries if key in ("offset", "length")) > sizes[name]:
            raise IntegrityError(f"{path}: reads past the end of {name}")


def _number(text: str) -> int:
    """Read a position in a file; text that is no number lies past every end."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else 1 << 63


def _check_ir(path: Path, model: str, sizes: Mapping[str, int]) -> None:
    """Check an OpenVINO IR element by element; entities cannot be expanded, as a document type is refused."""
    from xml.parsers import expat

    weights = f"{model.removesuffix('.xml')}.bin"
    if weights not in sizes:
        raise IntegrityError(f"{path}: its weights {weights} are not among the variant's files")
    layer: dict[str, str] | None = None

    def refuse_doctype(*_: object) -> None:
        raise IntegrityError(
            f"{path}: has a document type, which is how XML defines entities; OpenVINO IR has none"
        )

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal layer
        if layer is None and name != "net":
            raise IntegrityError(f"{path}: no OpenVINO IR, it is a {name[:40]!a}")
        layer = attributes if layer is None or name == "layer" else layer
        if name == "layer" and not _OPSET.fullmatch(attributes.get("version", "")):
            op = f"{attributes.get('version', '')[:40]}.{attributes.get('type', '')[:40]}"
            raise IntegrityError(f"{path}: runs {op!a}, an operator of none of OpenVINO's own sets")
        reach = [_number(attributes.get(key, "")) for key in ("offset", "size")] if name == "data" else []
        if layer.get("type") == "Const" and sum(reach) > sizes[weights]:
            raise IntegrityError(f"{path}: reads past the end of {weights}")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse_doctype
    parser.StartElementHandler = start
    try:
        with path.open("rb") as file:
            parser.ParseFile(file)
    except (expat.ExpatError, ValueError) as error:  # ValueError: an encoding that expat does not know
        raise IntegrityError(f"{path}: no XML: {error}") from None
