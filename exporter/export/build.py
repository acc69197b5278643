"""Build every variant of a recipe into one folder: which file each kind becomes, and which steps make it.

Each step's result is cached under everything it was made from, so an unchanged recipe is built in seconds.
"""

from __future__ import annotations

import hashlib
import io
import logging
import shutil
import warnings
from contextlib import contextmanager, redirect_stdout
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, assert_never

from pydantic import TypeAdapter

from exporter import __version__
from exporter.artifact import VariantEntry, Work
from exporter.cache import cached
from exporter.errors import BackendMissing
from exporter.export.onnx import DEFAULT_OPSET
from exporter.machine import package_version
from exporter.recipe import Onnx, OnnxInt8, OnnxInt8Static, OpenVino, OpenVinoFp16, OpenVinoInt8

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from exporter.export.source import Source
    from exporter.progress import Progress
    from exporter.recipe import Recipe, Variant

    _Feeds: TypeAlias = list[dict[str, NDArray[np.int64]]]

_FACTS = "facts.txt"
_GRAPH = "graph.onnx"
_WORK = "work.json"
# The graph for onnxruntime alone, with an attention that other engines do not know.
_UNMASKED = "unmasked.onnx"
_ATTENTION = "attention.txt"
# Rows of one length and rows with padding, without taking long.
_PROOF_ROWS = 4
_TOOLS = (
    "torch",
    "transformers",
    "optimum",
    "optimum-onnx",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "openvino",
    "nncf",
    "numpy",
    "tokenizers",
    "safetensors",
)


def tools() -> tuple[tuple[str, str], ...]:
    """Name the packages that decide what a build gives, and their versions."""
    return (("exporter", __version__), *((name, version) for name in _TOOLS if (version := package_version(name))))


def missing_packages(kind: str) -> tuple[str, ...]:
    """Name what has to be installed before a kind can be built here."""
    needs: tuple[str, ...] = {
        "onnx": ("torch", "transformers", "optimum", "optimum-onnx", "onnx", "onnx-ir", "onnxruntime"),
        "openvino": ("torch", "transformers", "optimum", "optimum-onnx", "onnx", "onnx-ir", "onnxruntime", "openvino"),
    }[kind.partition("-")[0]]
    needs += ("nncf",) if kind == "openvino-int8" else ()
    return tuple(name for name in needs if package_version(name) is None)


def model_file(variant: Variant) -> str:
    """Name the file a variant's engine opens, as sentence-transformers names it where it has a name for it."""
    match variant:
        case Onnx():
            return "onnx/model.onnx"
        case OnnxInt8():
            return f"onnx/model_qint8_{variant.isa}.onnx"
        case OnnxInt8Static():
            return f"onnx/model_qint8_static_{variant.isa}.onnx"
        case OpenVino():
            return "openvino/openvino_model.xml"
        case OpenVinoFp16():
            return "openvino/openvino_model_fp16.xml"
        case OpenVinoInt8():
            return "openvino/openvino_model_qint8_quantized.xml"
    assert_never(variant)


def build_variants(
    recipe: Recipe,
    source: Source,
    *,
    calibrate: Sequence[tuple[str, str]],
    proof: Sequence[tuple[str, str]],
    into: Path,
    progress: Progress,
) -> tuple[VariantEntry, ...]:
    """Build all variants of a recipe into a folder.

    Args:
        recipe: what to build.
        source: its model.
        calibrate: (query, passage) texts for static int8; empty if no variant needs them.
        proof: (query, passage) texts on which a rewritten graph must score as the exported one.
        into: the artifact's folder.
        progress: told the name of each step.

    Raises:
        BackendMissing: a package that builds one of the kinds is not installed.
        BackendError: a library refuses the model, or the disk is full.
        RecipeError: a variant asks for what the graph does not have.
    """
    for variant in recipe.variants:
        if missing := missing_packages(variant.kind):
            raise BackendMissing(f"{variant.kind} needs {', '.join(missing)}; pip install -r requirements.lock")
    max_length = recipe.model.max_length
    graphs = {
        opset: _export(source, opset, max_length, proof, progress) for opset in sorted({_opset(v) for v in recipe.variants})
    }
    return tuple(
        _build(variant, recipe, source, calibrate, graph=graphs[_opset(variant)], into=into, progress=progress)
        for variant in recipe.variants
    )


def _opset(variant: Variant) -> int:
    return variant.opset if isinstance(variant, Onnx | OnnxInt8 | OnnxInt8Static) else DEFAULT_OPSET


def _base(source: Source, opset: int) -> dict[str, object]:
    return {"source": source.digest, "tools": tools(), "code": _code(), "opset": opset}


@cache
def _code() -> str:
    """Give one hash of this room's modules: what they make changes between two releases too."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))).hexdigest()


def _export(source: Source, opset: int, max_length: int, proof: Sequence[tuple[str, str]], progress: Progress) -> Path:
    """Give the folder of the graph all variants of one opset are made from: exported, rewritten, and shown to score the same."""

    def make(folder: Path) -> tuple[str, ...]:
        from exporter.export.attention import projections_absorbed, unmasked_where_full
        from exporter.export.onnx import export_plain
        from exporter.export.rewrite import first_token_only, proven
        from exporter.export.source import tokenized
        from exporter.export.work import count_work

        exported, narrowed, rewritten = folder / "exported.onnx", folder / "narrowed.onnx", folder / _GRAPH
        export_plain(source, opset, exported)
        feeds = tokenized(source, max_length, proof, batch_size=_PROOF_ROWS)
        facts = (
            proven(first_token_only(exported, narrowed), exported, narrowed, feeds),
            proven(projections_absorbed(narrowed, rewritten), narrowed, rewritten, feeds),
        )
        exported.unlink()
        narrowed.unlink()
        unmasked = folder / _UNMASKED
        attention = unmasked_where_full(rewritten, unmasked)
        feeds += tokenized(source, max_length, proof)  # without padding
        (folder / _ATTENTION).write_text(proven(attention, rewritten, unmasked, feeds), encoding="utf-8")
        (folder / _WORK).write_bytes(TypeAdapter(Work).dump_json(count_work(rewritten, source.inputs)))
        return facts

    key = {**_base(source, opset), "max_length": max_length, "proof": [list(pair) for pair in proof]}
    return _step("export", key, make, f"export to ONNX, opset {opset}", progress)


def _build(
    variant: Variant,
    recipe: Recipe,
    source: Source,
    calibrate: Sequence[tuple[str, str]],
    *,
    graph: Path,
    into: Path,
    progress: Progress,
) -> VariantEntry:
    target = Path(model_file(variant))
    exported = tuple((graph / _FACTS).read_text(encoding="utf-8").splitlines())
    config = {**_base(source, _opset(variant)), "graph": exported, "variant": variant.model_dump(mode="json", exclude={"bars"})}
    if isinstance(variant, OnnxInt8Static | OpenVinoInt8):
        config |= {"calibrate": [list(pair) for pair in calibrate], "max_length": recipe.model.max_length}

    def make(folder: Path) -> tuple[str, ...]:
        from exporter.export.source import tokenized

        feeds = partial(tokenized, source, recipe.model.max_length, calibrate)
        return _make(variant, graph, folder / target.name, feeds)

    built = _step("variant", config, make, f"build {variant.kind}", progress)
    (into / target).parent.mkdir(exist_ok=True)
    files = []
    for path in sorted(built.iterdir()):
        if path.stem == target.stem and path.suffix in (".onnx", ".xml", ".bin"):
            shutil.copyfile(path, into / target.parent / path.name)
            files.append((target.parent / path.name).as_posix())
    return VariantEntry(
        kind=variant.kind,
        isa=getattr(variant, "isa", None),
        engine="openvino" if isinstance(variant, OpenVino | OpenVinoFp16 | OpenVinoInt8) else "onnxruntime",
        model=target.as_posix(),
        files=tuple(files),
        inputs=source.inputs,
        plans=(),
        work=TypeAdapter(Work).validate_json((graph / _WORK).read_bytes()),
        facts=(*exported, *(built / _FACTS).read_text(encoding="utf-8").splitlines()),
    )


def _make(variant: Variant, exported: Path, path: Path, feeds: Callable[[], _Feeds]) -> tuple[str, ...]:
    """Turn the graph of an export's folder into a variant's file and give the facts; the library that does it is imported here.

    `feeds` gives the calibration pairs as the graph's inputs, one by one.
    """
    graph = exported / _GRAPH
    attention = (exported / _ATTENTION).read_text(encoding="utf-8")
    match variant:
        case Onnx():
            shutil.copyfile(exported / _UNMASKED, path)
            return (attention,)
        case OnnxInt8() | OnnxInt8Static():
            from exporter.export import int8
            from exporter.export.attention import unmasked_where_full

            int8_options = int8.Options(variant.isa, variant.keep_fp32, embeddings=variant.quantize_embeddings)
            if isinstance(variant, OnnxInt8):
                facts = int8.quantize_at_run_time(graph, path, int8_options)
            else:
                facts = int8.quantize_by_ranges(graph, path, int8_options, feeds())
            if (exported / _UNMASKED).read_bytes() == graph.read_bytes():
                return (*facts, attention)
            applied = unmasked_where_full(path, path)
            return (*facts, attention if attention.startswith(applied) else applied)
        case OpenVino() | OpenVinoFp16():
            from exporter.export.openvino import convert

            return convert(graph, path, fp16=isinstance(variant, OpenVinoFp16))
        case OpenVinoInt8():
            from exporter.export.openvino import quantize

            return quantize(graph, path, feeds(), isa=variant.isa, keep_fp32=variant.keep_fp32)
    assert_never(variant)


def _step(step: str, key: dict[str, object], make: Callable[[Path], tuple[str, ...]], name: str, progress: Progress) -> Path:
    """Run a step, or take its result from the cache and say so."""

    def fill(folder: Path) -> None:
        with quiet():
            facts = make(folder)
        (folder / _FACTS).write_text("\n".join(facts), encoding="utf-8")

    with progress.stage(name):
        folder, reused = cached(step, key, fill)
    if reused:
        progress.note(f"{name}: reused, nothing it is made from has changed")
    return folder


@contextmanager
def quiet() -> Iterator[None]:
    """Silence libraries while they build: stdout is for results, and what matters they raise."""
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
