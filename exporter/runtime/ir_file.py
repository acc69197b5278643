"""Check an OpenVINO IR before OpenVINO opens it, element by element, at any depth.

Allowed are the elements that a graph is made of, and what a build notes about itself. Others are settings for
the engine (`runtime_options`), old forms of weights (`blobs`), or what a later version reads.
Source: https://docs.openvino.ai/2025/documentation/openvino-ir-format.html
Source: https://github.com/openvinotoolkit/openvino/blob/master/src/frontends/ir/src/ir_deserializer.cpp
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.errors import IntegrityError
from exporter.runtime.allowed import OPENVINO_OPERATORS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# OpenVINO's own operator sets; anything else comes in a library.
_OPSET = re.compile(r"opset\d{1,2}")
_GRAPH = frozenset(("layers", "edges", "rt_info"))
# What may stand in what. `facts` is the rt_info of a graph, what a build notes; `fact` anything in a note.
_CHILDREN: dict[str, frozenset[str]] = {
    "": frozenset(("net",)),
    "net": _GRAPH,
    "body": _GRAPH,
    "layers": frozenset(("layer",)),
    "layer": frozenset(
        (
            *("data", "input", "output", "rt_info", "body", "then_body", "else_body"),
            *("port_map", "then_port_map", "else_port_map", "back_edges"),
        )
    ),
    "input": frozenset(("port",)),
    "output": frozenset(("port",)),
    "port": frozenset(("dim", "rt_info")),
    "rt_info": frozenset(("attribute",)),
    "edges": frozenset(("edge",)),
    "port_map": frozenset(("input", "output")),
    "facts": frozenset(("MO_version", "Runtime_version", "conversion_parameters", "info", "nncf", "optimum")),
}
_SAME = {
    "then_body": "body",
    "else_body": "body",
    "then_port_map": "port_map",
    "else_port_map": "port_map",
    "back_edges": "edges",
}
_NOTE = re.compile(r"[A-Za-z_][\w.-]{0,100}")
_MAX_DEPTH = 32
# A graph of 24 layers has 60,000.
_MAX_ELEMENTS = 2_000_000
# Numbers of fixed size; a constant of texts holds lengths that are believed.
_NUMBERS = frozenset(
    (
        *(
            "f64",
            "f32",
            "f16",
            "bf16",
            "i64",
            "i32",
            "i16",
            "i8",
            "i4",
            "u64",
            "u32",
            "u16",
            "u8",
            "u4",
            "u1",
        ),
        *("boolean", "nf4", "f8e4m3", "f8e5m2", "f4e2m1", "f8e8m0"),
    )
)
_ELEMENTS = {
    "f64": "float64",
    "f32": "float32",
    "fp32": "float32",
    "f16": "float16",
    "fp16": "float16",
    "bf16": "bfloat16",
    "i64": "int64",
    "i32": "int32",
}


@dataclass(frozen=True, slots=True)
class Port:
    """What goes into a graph or comes out of it, as its file says.

    `element` is numpy's name of the type, empty if it is another one; `sizes` has -1 for any number, and is
    None where nothing is said.
    """

    name: str
    element: str
    sizes: tuple[int, ...] | None

    def __str__(self) -> str:
        sizes = "any shape" if self.sizes is None else str(list(self.sizes[:8]))
        return f"{self.name[:80]!a}, {self.element or 'another type'} of {sizes}"


@dataclass(slots=True)
class _Layer:
    """What is read of a layer of the outermost graph."""

    type: str
    name: str = ""
    element: str = ""
    sizes: list[str] = field(default_factory=list)

    def port(self) -> Port:
        sizes = [int(size) if re.fullmatch(r"\d{1,18}", size) else -1 for size in self.sizes]
        return Port(self.name, _ELEMENTS.get(self.element.lower(), ""), tuple(sizes))


def check_ir(path: Path, model: str, sizes: Mapping[str, int]) -> tuple[list[Port], list[Port]]:
    """Check an IR, and return what goes into its graph and what comes out.

    Entities cannot be expanded, as a document type is refused.

    Args:
        path: the file.
        model: its path in the artifact.
        sizes: the size of each file of its variant, by path.

    Raises:
        IntegrityError: it is no IR, has an element or an operator that is not allowed, or reads other files.
    """
    from xml.parsers import expat

    weights = f"{model.removesuffix('.xml')}.bin"
    if weights not in sizes:
        raise IntegrityError(f"{path}: its weights {weights} are not among the variant's files")
    walk = _Walk(path, weights, sizes[weights])
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = walk.doctype
    parser.StartElementHandler = walk.start
    parser.EndElementHandler = walk.end
    parser.CharacterDataHandler = walk.text
    parser.buffer_text = True
    try:
        with path.open("rb") as file:
            parser.ParseFile(file)
    except (expat.ExpatError, ValueError) as error:  # ValueError: an encoding that expat does not know
        raise IntegrityError(f"{path}: no XML: {error}") from None
    return (
        [layer.port() for layer in walk.ends if layer.type == "Parameter"],
        [layer.port() for layer in walk.ends if layer.type == "Result"],
    )


class _Walk:
    """Follows the elements of one file; `ends` are the layers where its graph begins and ends."""

    def __init__(self, path: Path, weights: str, n_bytes: int) -> None:
        self._path, self._weights, self._n_bytes = path, weights, n_bytes
        self._above: list[str] = [""]
        self._n_elements = 0
        self._type, self._dim = "", ""
        self.ends: list[_Layer] = []

    def doctype(self, *_: object) -> None:
        raise self._odd("has a document type, which is how XML defines entities; OpenVINO IR has none")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        parent = self._above[-1]
        kind = _SAME.get(name, name)
        if parent in ("net", "body") and name == "rt_info":
            kind = "facts"
        elif parent in ("facts", "fact"):
            kind = "fact"
        if parent == "" and name != "net":
            raise self._odd(f"no OpenVINO IR, it is a {name[:40]!a}")
        allowed = _NOTE.fullmatch(name) if parent == "fact" else name in _CHILDREN.get(parent, ())
        if not allowed:
            raise self._odd(f"has {name[:40]!a} in its {parent or 'top'}, which no graph of ours has")
        self._n_elements += 1
        if len(self._above) > _MAX_DEPTH or self._n_elements > _MAX_ELEMENTS:
            raise self._odd(f"more than {_MAX_ELEMENTS} elements, or over {_MAX_DEPTH} deep")
        self._above.append(kind)
        self._dim = ""
        if kind == "layer":
            self._layer(attributes)
        elif kind == "data":
            self._data(attributes)
        elif kind == "port" and self._is_end:
            self._port(attributes)

    def end(self, _: str) -> None:
        if self._above.pop() == "dim" and self._is_end and self.ends[-1].type == "Result":
            self.ends[-1].sizes.append(self._dim.strip())

    def text(self, text: str) -> None:
        self._dim = (self._dim + text)[:40]

    @property
    def _is_end(self) -> bool:
        """Return whether this is within a layer of the outermost graph where it begins or ends."""
        return "body" not in self._above and self._type in ("Parameter", "Result") and len(self._above) > 3

    def _layer(self, attributes: Mapping[str, str]) -> None:
        version, self._type = attributes.get("version", ""), attributes.get("type", "")
        if not _OPSET.fullmatch(version) or self._type not in OPENVINO_OPERATORS:
            op = f"{version[:40]}.{self._type[:40]}"
            raise self._odd(f"runs {op!a}, an operator that no artifact of ours has")
        if self._is_end:
            # Before 2024 a result had no name of its own.
            self.ends.append(_Layer(self._type, attributes.get("output_names", "logits")))

    def _data(self, attributes: Mapping[str, str]) -> None:
        if self._type == "Const":
            element = attributes.get("element_type", "")
            if element not in _NUMBERS:
                raise self._odd(f"has a constant of {element[:40]!a}; wanted numbers")
            if sum(number_in(attributes.get(key, "")) for key in ("offset", "size")) > self._n_bytes:
                raise self._odd(f"reads past the end of {self._weights}")
        elif self._type == "Parameter" and self._is_end:
            self.ends[-1].element = attributes.get("element_type", "")
            self.ends[-1].sizes = [part.strip() for part in attributes.get("shape", "").split(",")]

    def _port(self, attributes: Mapping[str, str]) -> None:
        if self._type == "Parameter":
            self.ends[-1].name = attributes.get("names", "")
        else:
            self.ends[-1].element = attributes.get("precision", "")

    def _odd(self, what: str) -> IntegrityError:
        return IntegrityError(f"{self._path}: {what}")


def number_in(text: str) -> int:
    """Read a position in a file; text that is no number lies past every end."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else 1 << 63
