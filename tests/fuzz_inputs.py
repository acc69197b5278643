"""What `tests.fuzz` changes, how, and what reads it: one target for each kind of input."""

from __future__ import annotations

import copy
import csv
import dataclasses
import gzip
import io
import json
import random
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from exporter.artifact.files import MANIFEST, PLANS, REPORT, list_files, read_sealed, write_sealed
from exporter.artifact.manifest import read_manifest
from exporter.artifact.plans import read_plans
from exporter.cache import Cache
from exporter.cli.tables import findings_text, report_text
from exporter.errors import IntegrityError
from exporter.export.source import find_source
from exporter.measure.workspace import bars_of, recipe_of
from exporter.pairs import load_pairs
from exporter.progress import quiet
from exporter.publish.card import card
from exporter.publish.licence import Licence, find_licence
from exporter.recipe.load import load_bars, load_recipe
from exporter.recipe.schema import Model
from exporter.report.compare import compare_reports
from exporter.report.html import html
from exporter.report.junit import junit
from exporter.report.machines import Reports
from exporter.report.read import read_report
from exporter.report.report import rejudge
from exporter.report.text import markdown
from exporter.runtime import Plan, Reranker
from exporter.runtime.model_file import check_artifact
from tests.factories import a_report
from tests.payloads import PAYLOADS
from tests.small_artifact import write_artifact
from tests.support import WORDS, write_tiny_model

PAIRS = [("wing", "lift drag"), ("", ""), ("阿司匹林", "wing " * 300)]
PLAN = Plan(1, 1, 256)
ODD_NUMBERS = (0, 1, -1, 2, 7, 1 << 15, 1 << 31, (1 << 31) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, 10**30)
ODD_FLOATS = (0.0, -0.0, 1e308, -1e308, 5e-324, 1e-9, float("nan"), float("inf"), -float("inf"))
ODD_NAMES = (
    "",
    ".",
    "..",
    "../x",
    "/etc/passwd",
    "x" * 300,
    "a\nb",
    "\x00",
    "CON",
    "*",
    "-rf",
    "onnx/model.onnx",
)


@dataclass(frozen=True)
class Samples:
    """Inputs that are right: an artifact, a tiny model, and texts of recipes, bars and pairs."""

    artifact: Path
    model: Path
    recipes: tuple[str, ...]
    rows: tuple[dict[str, object], ...]


@dataclass(frozen=True)
class Target:
    """A kind of input: `write` puts a changed one into a folder, `read` gives it to what reads it."""

    write: Callable[[random.Random, Samples, Path], None]
    read: Callable[[Path, random.Random], object]


def write_samples(folder: Path) -> Samples:
    """Write what is changed."""
    folder.mkdir(parents=True)
    recipes = Path(__file__).parent.parent / "recipes"
    texts = [path.read_text(encoding="utf-8") for path in sorted(recipes.glob("*.yaml"))]
    bars = "onnx: {min_kendall_tau: 0.9, max_abs_diff: 1e-3}\nonnx-int8: {min_speedup: 1.5}\n"
    rows = tuple(
        {
            "query": f"{WORDS[i // 3]} {WORDS[20 + i // 3]}",
            "passage": " ".join(WORDS[i : i + 5]),
            "label": i % 3,
            "query_id": f"q{i // 3}",
        }
        for i in range(12)
    )
    return Samples(
        artifact=write_artifact(folder / "artifact" / "tiny"),
        model=write_tiny_model(folder / "model"),
        recipes=(*texts, bars),
        rows=rows,
    )


# --- how inputs are changed ---


def changed_json(value: Any, draw: random.Random) -> Any:
    """Return a JSON value with one to four of its parts changed."""
    value = copy.deepcopy(value)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        value = _changed_once(value, draw)
    return value


def _changed_once(value: Any, draw: random.Random) -> Any:
    places = list(_places(value, []))
    steps = draw.choice(places)
    if not steps:
        return odd_value(draw)
    *above, last = steps
    at = value
    for step in above:
        at = at[step]
    what = draw.randrange(6)
    if what == 0:
        del at[last]
    elif what == 1 and isinstance(at, dict):
        at[draw.choice((odd_text(draw), "auto_map", "type", str(last) + "x"))] = odd_value(draw)
    elif what == 2 and isinstance(at, list):
        n = draw.choice((1, 2, 200 if len(str(at[last])) < 1000 else 1))
        at.extend(copy.deepcopy(at[last]) for _ in range(n))
    elif what == 3:  # another part of the same value
        other = value
        for step in draw.choice(places):
            other = other[step]
        at[last] = copy.deepcopy(other)
    else:
        at[last] = _odd_like(at[last], draw)
    return value


def _places(value: Any, steps: list[Any]) -> Any:
    """Return the way to every part of a value."""
    yield steps
    if isinstance(value, dict):
        for key in value:
            yield from _places(value[key], [*steps, key])
    elif isinstance(value, list):
        for i in range(min(len(value), 40)):
            yield from _places(value[i], [*steps, i])


def _odd_like(value: Any, draw: random.Random) -> Any:
    if draw.random() < 0.3:
        return odd_value(draw)
    match value:
        case bool():
            return not value
        case int():
            return draw.choice((*ODD_NUMBERS, value + 1, -value, value * 1000))
        case float():
            return draw.choice((*ODD_FLOATS, -value, value * 1e6))
        case str():
            return draw.choice((odd_text(draw), value * 2, value[: len(value) // 2], value.upper()))
        case _:
            return odd_value(draw)


def odd_text(draw: random.Random) -> str:
    """Return a text that somebody might not have thought of."""
    return draw.choice((*PAYLOADS, *ODD_NAMES, "true", "1e400", "NaN", "x" * draw.choice((1, 1000, 100_000))))


def odd_value(draw: random.Random) -> Any:
    """Return a JSON value that somebody might not have thought of."""
    nest: Any = []
    for _ in range(draw.choice((1, 5, 200))):
        nest = [nest] if draw.random() < 0.5 else {"a": nest}
    return draw.choice(
        (
            None,
            True,
            False,
            {},
            [],
            "",
            draw.choice(ODD_NUMBERS),
            draw.choice(ODD_FLOATS),
            odd_text(draw),
            nest,
        )
    )


def changed_bytes(raw: bytes, draw: random.Random) -> bytes:
    """Return bytes with some of them changed, cut out, repeated or put in."""
    data = bytearray(raw)
    for _ in range(draw.choice((1, 1, 2, 8))):
        at = draw.randrange(len(data) + 1)
        end = min(len(data), at + draw.choice((1, 1, 4, 64)))
        match draw.randrange(6):
            case 0:
                data[at:end] = b""
            case 1:
                data[at:at] = draw.randbytes(draw.choice((1, 4, 16)))
            case 2:
                data[at:at] = data[at:end] * draw.choice((1, 2, 500))
            case 3:
                data[at:end] = draw.choice(
                    (b"\x00", b"\xff", b"\r", b"\n", b"\t", b'"', b"\xef\xbb\xbf", b"{", b"<")
                )
            case 4 if at < len(data):
                data[at] ^= 1 << draw.randrange(8)
            case _:
                del data[draw.choice((at, len(data) // 2)) :]
    return bytes(data)


def changed_text(text: str, draw: random.Random) -> str:
    """Return a text with one to three words, lines or characters of it changed."""
    for _ in range(draw.choice((1, 1, 2, 3))):
        cut = draw.choice((" ", "\n", "", ":", '"'))
        parts = text.split(cut) if cut else list(text)
        i = draw.randrange(len(parts)) if parts else 0
        odd = draw.choice(
            (odd_text(draw), str(draw.choice(ODD_NUMBERS)), str(draw.choice(ODD_FLOATS)), "&a", "*a")
        )
        match draw.randrange(4):
            case 0:
                parts[i : i + 1] = []
            case 1:
                parts[i : i + 1] = [odd]
            case 2:
                parts[i:i] = parts[i : i + 1] * draw.choice((1, 2, 100))
            case _:
                parts.insert(i, odd)
        text = cut.join(parts)
    return text[: 1 << 20]


def changed_graph(raw: bytes, draw: random.Random) -> bytes:
    """Return an ONNX graph with nodes, edges, attributes, shapes or constants changed."""
    model = onnx.load_from_string(raw)
    graph = model.graph
    for _ in range(draw.choice((1, 1, 2, 3))):
        if draw.random() < 0.6:
            _change_node(graph, draw)
        else:
            _change_around(model, draw)
    return model.SerializeToString()


def _change_node(graph: onnx.GraphProto, draw: random.Random) -> None:
    node = draw.choice(graph.node)
    names = [name for one in graph.node for name in (*one.input, *one.output)] or ["x"]
    match draw.randrange(6):
        case 0:
            node.op_type = draw.choice(OPERATORS)
        case 1 if node.input:
            node.input[draw.randrange(len(node.input))] = draw.choice((*names, "", "nobody"))
        case 2 if node.output:
            node.output[draw.randrange(len(node.output))] = draw.choice((*names, "other"))
        case 3:
            graph.node.append(node)
        case 4 if len(graph.node) > 1:
            graph.node.remove(node)
        case _:
            value = draw.choice((draw.choice(ODD_NUMBERS[:10]), 1.5, "x", [1, 2, 3]))
            name = draw.choice(("axis", "to", "keepdims", "alpha"))
            node.attribute.append(onnx.helper.make_attribute(name, value))


def _change_around(model: onnx.ModelProto, draw: random.Random) -> None:
    """Change a graph's ports, its constants, or the version of its operators."""
    graph = model.graph
    match draw.randrange(3):
        case 0:
            port = draw.choice((*graph.input, *graph.output)).type.tensor_type
            port.elem_type = draw.choice((1, 6, 7, 7, 10))
            if port.shape.dim:
                draw.choice(port.shape.dim).dim_value = draw.choice((0, 1, 2, 3, -1, 1 << 40))
        case 1:
            shape = draw.choice(((1,), (3,), (0,), (2, 2), ()))
            values = np.full(shape, draw.choice((0, 1, -1, 9, 1 << 33)), np.int64)
            del graph.initializer[:]
            graph.initializer.append(numpy_helper.from_array(values, "axes"))
        case _:
            model.opset_import[0].version = draw.choice((1, 7, 13, 18, 21, 99))


OPERATORS = (
    *("Identity", "Cast", "Add", "MatMul", "Gather", "Reshape", "Transpose", "Concat", "Slice", "Softmax"),
    *(
        "ReduceMean",
        "ReduceSum",
        "Expand",
        "Tile",
        "ConstantOfShape",
        "Range",
        "Loop",
        "If",
        "Scan",
        "NonZero",
    ),
    *("Pad", "Resize", "Where", "TopK", "OneHot", "Split", "Unsqueeze", "Squeeze", "Shape", "Size", "Einsum"),
)


def sealed_anew(
    folder: Path, draw: random.Random, name: str, change: Callable[[Any, random.Random], Any]
) -> None:
    """Change a sealed file and seal it again, as strangers do as well as we; or change its bytes."""
    path = folder / name
    if draw.random() < 0.15:
        path.write_bytes(changed_bytes(path.read_bytes(), draw))
        return
    content = change(read_sealed(path), draw)
    try:
        write_sealed(path, content)
    except (TypeError, ValueError, AttributeError, RecursionError):  # no object, or what JSON cannot hold
        path.write_bytes(json.dumps(content, default=str).encode("utf-8", "surrogatepass"))


def relisted(folder: Path) -> None:
    """Write the manifest anew for the files as they are."""
    content = read_sealed(folder / MANIFEST)
    write_sealed(
        folder / MANIFEST, {**content, "files": [dataclasses.asdict(file) for file in list_files(folder)]}
    )
    manifest = read_manifest(folder)
    plans = read_sealed(folder / PLANS)
    write_sealed(folder / PLANS, {**plans, "manifest_root": manifest.root})


# --- the targets ---


def _copied(samples: Samples, folder: Path) -> Path:
    shutil.copytree(samples.artifact, folder, dirs_exist_ok=True)
    return folder


def _write_manifest(draw: random.Random, samples: Samples, folder: Path) -> None:
    sealed_anew(_copied(samples, folder), draw, MANIFEST, changed_json)


def _read_artifact(folder: Path, draw: random.Random) -> None:
    manifest = read_manifest(folder)
    check_artifact(manifest, folder)
    read_plans(folder, manifest)
    recipe_of(manifest, folder)
    _score(folder, draw.choice(manifest.variants).kind)


def _score(folder: Path, kind: str) -> None:
    """Score as users do; what is no score is for the verifier to find."""
    found = Reranker.load(folder, kind, plan=PLAN).score(PAIRS)
    assert found.shape == (len(PAIRS),)
    assert found.dtype == np.float32


def _write_plans(draw: random.Random, samples: Samples, folder: Path) -> None:
    sealed_anew(_copied(samples, folder), draw, PLANS, changed_json)


def _read_plans(folder: Path, _draw: random.Random) -> None:
    read_plans(folder, read_manifest(folder))
    Reranker.load(folder, "onnx").score(PAIRS)


def _write_report(draw: random.Random, samples: Samples, folder: Path) -> None:
    copied = _copied(samples, folder)
    shutil.rmtree(copied / "reports", ignore_errors=True)  # of which report.json has to be one
    sealed_anew(copied, draw, REPORT, changed_json)


def _read_report(folder: Path, draw: random.Random) -> None:
    """Read a report, judge it again, and write all that is written of one; plots take a second."""
    manifest = read_manifest(folder)
    report = read_report(folder, manifest)
    judged = rejudge(report, bars_of(recipe_of(manifest, folder)))
    for one in (report, judged):
        for text in (markdown(one), junit(one), report_text(one), report_text(one, wide=True)):
            text.encode()
        if one.variants:  # of one without, nothing is published
            card(manifest, Reports(one), Licence()).encode()
    findings_text(compare_reports(a_report(), report).findings)
    compare_reports(report, judged)
    if draw.random() < 0.1:
        html(report).encode()


_MODEL_FILES = (
    "config.json",
    "config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "special_tokens_map.json",
)


def _write_config(draw: random.Random, samples: Samples, folder: Path) -> None:
    shutil.copytree(samples.model, folder, dirs_exist_ok=True)
    what = draw.randrange(10)
    if what == 0:
        path = folder / "model.safetensors"
        raw = path.read_bytes()
        n = struct.unpack("<Q", raw[:8])[0]
        header = json.dumps(changed_json(json.loads(raw[8 : 8 + n]), draw), default=str).encode(
            "utf-8", "surrogatepass"
        )
        path.write_bytes(struct.pack("<Q", len(header)) + header + raw[8 + n :])
        return
    if what == 1:
        front = "---\nlicense: other\nlicense_name: x\nlicense_link: LICENSE\n---\n"
        (folder / "README.md").write_text(changed_text(front, draw), encoding="utf-8", errors="surrogatepass")
        return
    if what == 2:
        said = {
            "model_type": "CrossEncoder",
            "prompts": {},
            "default_prompt_name": None,
            "activation_fn": "torch.nn.modules.linear.Identity",
        }
        (folder / "config_sentence_transformers.json").write_text(
            json.dumps(changed_json(said, draw)), encoding="utf-8"
        )
        return
    path = folder / draw.choice(_MODEL_FILES)
    if not path.exists():
        path = folder / "config.json"
    if draw.random() < 0.15:
        path.write_bytes(changed_bytes(path.read_bytes(), draw))
    else:
        path.write_text(json.dumps(changed_json(json.loads(path.read_bytes()), draw)), encoding="utf-8")


def _read_config(folder: Path, _draw: random.Random) -> None:
    find_licence(folder)
    with quiet():
        find_source(Model(source=str(folder)), Cache.of_user())


def _write_tokenizer(draw: random.Random, samples: Samples, folder: Path) -> None:
    path = _copied(samples, folder) / "tokenizer.json"
    raw = path.read_bytes()
    if draw.random() < 0.4:  # a richer one, cut as this artifact's
        content = json.loads((samples.model / "tokenizer.json").read_bytes())
        content["truncation"] = json.loads(raw)["truncation"]
        content["padding"] = None
        raw = json.dumps(content).encode()
    if draw.random() < 0.15:
        path.write_bytes(changed_bytes(raw, draw))
    else:
        path.write_text(json.dumps(changed_json(json.loads(raw), draw)), encoding="utf-8")
    relisted(folder)


def _write_graph(draw: random.Random, samples: Samples, folder: Path) -> None:
    path = _copied(samples, folder) / "onnx/model.onnx"
    change = changed_bytes if draw.random() < 0.3 else changed_graph
    path.write_bytes(change(path.read_bytes(), draw))
    relisted(folder)


def _read_graph(folder: Path, _draw: random.Random) -> None:
    _score(folder, "onnx")


def _write_ir_input(draw: random.Random, samples: Samples, folder: Path) -> None:
    path = _copied(samples, folder) / "openvino/openvino_model.xml"
    if draw.random() < 0.2:
        weights = path.with_suffix(".bin")
        weights.write_bytes(changed_bytes(weights.read_bytes(), draw))
    elif draw.random() < 0.3:
        path.write_bytes(changed_bytes(path.read_bytes(), draw))
    else:
        text = changed_text(path.read_text(encoding="utf-8"), draw)
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
    relisted(folder)


def _read_ir(folder: Path, _draw: random.Random) -> None:
    _score(folder, "openvino")


_FORMATS = (".jsonl", ".tsv", ".csv", ".jsonl.gz", ".tsv.gz", ".csv.gz", ".parquet")


def _write_pairs(draw: random.Random, samples: Samples, folder: Path) -> None:
    suffix = draw.choice(_FORMATS)
    rows = [dict(row) for row in samples.rows]
    if draw.random() < 0.6:
        rows = changed_json(rows, draw)
    raw = _pair_file(rows if isinstance(rows, list) else [], suffix)
    if draw.random() < 0.5:
        raw = changed_bytes(raw, draw)
    if suffix.endswith(".gz"):
        raw = gzip.compress(raw)
        if draw.random() < 0.3:
            raw = changed_bytes(raw, draw)
    (folder / f"pairs{suffix}").write_bytes(raw)


def _pair_file(rows: list[Any], suffix: str) -> bytes:
    dicts = [row for row in rows if isinstance(row, dict)]
    if suffix.startswith(".jsonl"):
        return "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    if suffix == ".parquet":
        return _parquet(dicts)
    out = io.StringIO()
    table = csv.writer(out, delimiter="\t" if suffix.startswith(".tsv") else ",")
    names = ("query", "passage", "label", "query_id")
    table.writerow(names)
    for row in dicts:
        table.writerow(str(row.get(name, ""))[:10_000] for name in names)
    return out.getvalue().encode("utf-8", "surrogatepass")


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    names = sorted({str(name) for row in rows for name in row})
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            columns[name] = pa.array([ascii(value) for value in values])
    out = io.BytesIO()
    try:
        parquet.write_table(pa.table(columns), out)
    except (pa.ArrowException, UnicodeError):
        return b"PAR1"
    return out.getvalue()


def _read_pairs(folder: Path, _draw: random.Random) -> None:
    (path,) = folder.iterdir()
    found = load_pairs(str(path))
    assert found.pairs
    for text in (found.name, *found.query_ids, *(text for pair in found.pairs for text in pair)):
        text.encode()


def _write_recipe(draw: random.Random, samples: Samples, folder: Path) -> None:
    text = draw.choice(samples.recipes)
    path = folder / "recipe.yaml"
    if draw.random() < 0.2:
        path.write_bytes(changed_bytes(text.encode(), draw))
    else:
        path.write_text(changed_text(text, draw), encoding="utf-8", errors="surrogatepass")


def _read_recipe(folder: Path, draw: random.Random) -> None:
    (path,) = folder.iterdir()
    read = load_bars if draw.random() < 0.2 else load_recipe
    read(path)


def _write_anything(draw: random.Random, samples: Samples, folder: Path) -> None:
    """Change the bytes of any file, and list it or not."""
    _copied(samples, folder)
    path = draw.choice(sorted(one for one in folder.rglob("*") if one.is_file()))
    path.write_bytes(changed_bytes(path.read_bytes(), draw))
    if draw.random() < 0.7:
        try:
            relisted(folder)
        except IntegrityError:
            return


TARGETS = {
    "manifest": Target(_write_manifest, _read_artifact),
    "plans": Target(_write_plans, _read_plans),
    "report": Target(_write_report, _read_report),
    "config": Target(_write_config, _read_config),
    "tokenizer": Target(_write_tokenizer, _read_graph),
    "graph": Target(_write_graph, _read_graph),
    "ir": Target(_write_ir_input, _read_ir),
    "pairs": Target(_write_pairs, _read_pairs),
    "recipe": Target(_write_recipe, _read_recipe),
    "bytes": Target(_write_anything, _read_artifact),
}
