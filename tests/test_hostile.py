"""Attacks by whoever wrote an artifact, a model folder, a recipe or a pair file.

Each is refused in one line, before anything runs.

Exit code 4 (IntegrityError) where a manifest says what a folder should be, so for everything in an artifact.
Exit code 2 (RecipeError) for model folders, recipes and pair files: nothing vouches for them, a person named
them, and naming another helps.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from typer.testing import CliRunner

from exporter.artifact.files import MANIFEST, PLANS, list_files, read_sealed, write_sealed
from exporter.artifact.manifest import Manifest, read_manifest, write_manifest
from exporter.artifact.plans import PLANS_SCHEMA
from exporter.cache import Cache
from exporter.cli.app import app
from exporter.errors import ExporterError, IntegrityError, RecipeError
from exporter.export.source import find_source
from exporter.gate import Check
from exporter.pairs import load_pairs
from exporter.recipe.kinds import KINDS
from exporter.recipe.load import load_recipe
from exporter.recipe.schema import Model
from exporter.report.html import html
from exporter.report.report import read_report
from exporter.report.write import write_report
from exporter.runtime import Reranker
from exporter.runtime.model_file import DOMAINS, check_artifact, read_onnx
from tests.factories import a_manifest, a_report, a_variant_report

if TYPE_CHECKING:
    from exporter.artifact.manifest import VariantEntry

Change = Callable[[Path], object]
ONNX = dataclasses.asdict(KINDS["onnx"].traits)
MAX_LENGTH = 16
ESC = "\x1b[2Jowned"


@pytest.fixture(autouse=True)
def _never_hangs() -> Iterator[None]:
    """A pipe that is read, or a terabyte that is hashed, ends the test and not the day."""

    def give_up(*_: object) -> None:
        pytest.fail("took more than half a minute")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


# --- a good artifact, and what it takes to change it ---


def a_model(nodes: list[onnx.NodeProto] | None = None, **changes: object) -> onnx.ModelProto:
    """Give a graph that scores a pair by the mean of its token numbers."""
    nodes = nodes or [
        helper.make_node("Cast", ["input_ids"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["wide", "axes"], ["logits"], keepdims=1),
    ]
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "t"])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 1])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [axes, *changes.pop("tensors", [])])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9, **changes)


def a_tokenizer() -> Tokenizer:
    """Give a tokenizer of five words, which cuts pairs and does not pad them."""
    words = ["[PAD]", "[UNK]", "wing", "lift", "drag"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(MAX_LENGTH)
    return tokenizer


IR = """<?xml version="1.0"?>
<net name="g" version="11"><layers> <layer id="0" name="w" type="Const" version="opset1"><data
element_type="f32" shape="2" offset="0" size="8"/></layer> </layers><edges/></net>
"""


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact that scores. Read it, do not write it."""
    folder = tmp_path_factory.mktemp("good") / "tiny"
    (folder / "onnx").mkdir(parents=True)
    (folder / "openvino").mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}', encoding="utf-8")
    (folder / "openvino/openvino_model.xml").write_text(IR, encoding="utf-8")
    (folder / "openvino/openvino_model.bin").write_bytes(bytes(8))
    a_tokenizer().save(str(folder / "tokenizer.json"))
    onnx.save(a_model(), folder / "onnx/model.onnx")
    manifest = a_manifest(folder)
    entry = dataclasses.replace(manifest.variants[0], inputs=("input_ids",))
    ir = ("openvino/openvino_model.xml", "openvino/openvino_model.bin")
    other = dataclasses.replace(
        entry, kind="openvino", traits=KINDS["openvino"].traits, model=ir[0], files=ir
    )
    manifest = dataclasses.replace(manifest, max_length=MAX_LENGTH, variants=(entry, other))
    write_manifest(manifest, folder)
    write_report(a_report(manifest_root=manifest.root), folder)
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """A copy of the artifact, to be attacked."""
    return Path(shutil.copytree(good, tmp_path / "tiny"))


def sealed(folder: Path, **changes: object) -> Manifest:
    """Write the manifest anew for the files as they are, some of its fields changed.

    A stranger seals as well as we do.
    """
    content = read_sealed(folder / MANIFEST)
    files = [dataclasses.asdict(file) for file in list_files(folder)]
    write_sealed(folder / MANIFEST, {**content, "files": files, **changes})
    return read_manifest(folder)


def with_variant(**changes: object) -> Change:
    """Change the first variant of a manifest."""

    def change(folder: Path) -> None:
        first, *rest = read_sealed(folder / MANIFEST)["variants"]  # type: ignore[misc] # JSON
        sealed(folder, variants=[{**first, **changes}, *rest])

    return change


def with_plan(**changes: object) -> Change:
    """Write one plan for the first variant, sealed as we do it."""
    row = {"workers": 2, "threads": 1, "token_budget": 512}
    plan = {"isa": "avx2", "n_cores": 2, "sweep": [], **row, **changes}
    return with_plans(plans={"onnx": [plan]})


def with_plans(**changes: object) -> Change:
    """Write a plans.json for the artifact's files, some of its fields changed."""

    def change(folder: Path) -> None:
        content = {"schema": PLANS_SCHEMA, "manifest_root": read_manifest(folder).root, "plans": {}}
        write_sealed(folder / PLANS, {**content, **changes})

    return change


def with_file(path: str, **changes: object) -> Change:
    """Add a file to the manifest's list, whether or not it is there."""

    def change(folder: Path) -> None:
        files = read_sealed(folder / MANIFEST)["files"]
        assert isinstance(files, list)
        sealed(folder, files=[*files, {"path": path, "size_bytes": 1, "sha256": "0" * 64, **changes}])

    return change


def with_field(**changes: object) -> Change:
    """Change the manifest."""
    return lambda folder: sealed(folder, **changes)


def with_text(path: str, text: str) -> Change:
    """Write another file, and list it."""

    def change(folder: Path) -> None:
        (folder / path).write_text(text, encoding="utf-8")
        sealed(folder)

    return change


def with_onnx(model: Callable[[], onnx.ModelProto]) -> Change:
    """Write another graph, and list it."""

    def change(folder: Path) -> None:
        (folder / "onnx/model.onnx").write_bytes(model().SerializeToString())
        sealed(folder)

    return change


def with_ir(old: str, new: str, encoding: str = "utf-8") -> Change:
    """Write another OpenVINO graph, list it, and put its variant first."""

    def change(folder: Path) -> None:
        assert old in IR
        (folder / "openvino/openvino_model.xml").write_bytes(IR.replace(old, new, 1).encode(encoding))
        sealed(folder, variants=list(reversed(read_sealed(folder / MANIFEST)["variants"])))  # type: ignore[call-overload] # JSON

    return change


def with_tokenizer(change: Callable[[Tokenizer], object]) -> Change:
    """Write another tokenizer, and list it."""

    def write(folder: Path) -> None:
        tokenizer = a_tokenizer()
        change(tokenizer)
        tokenizer.save(str(folder / "tokenizer.json"))
        sealed(folder)

    return write


def replaced(path: str, make: Callable[[Path], object]) -> Change:
    """Put something else in a file's place; the manifest stays."""

    def change(folder: Path) -> None:
        (folder / path).rename(folder.parent / "moved")
        make(folder / path)

    return change


def sparse(path: str, n_bytes: int, *, listed: bool = False) -> Change:
    """Make a file as large as that which takes no room; if asked, let the manifest say so."""

    def change(folder: Path) -> None:
        os.truncate(folder / path, n_bytes)
        if listed:
            content = read_sealed(folder / MANIFEST)
            files = [
                {**file, "size_bytes": n_bytes} if file["path"] == path else file for file in content["files"]
            ]  # type: ignore[attr-defined] # read_sealed promises an object, not its values
            write_sealed(folder / MANIFEST, {**content, "files": files})

    return change


def moved_aside(path: Path) -> Path:
    """Name where `replaced` put what was here."""
    return next(parent / "moved" for parent in path.parents if (parent / "moved").exists())


def in_manifest(old: str, new: str) -> Change:
    """Change the manifest's text, seal and all."""

    def change(folder: Path) -> None:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
        assert old in text
        (folder / MANIFEST).write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def pickled_variant(folder: Path) -> None:
    """Let a pickle be a file of a variant's, where PyTorch's users look for weights."""
    (folder / "pytorch_model.bin").write_bytes(b"x")
    with_variant(files=["onnx/model.onnx", "pytorch_model.bin"])(folder)


# --- the attacks on an artifact ---

EVERYWHERE = frozenset(("load", "check"))
CHECK, LOAD = frozenset(("check",)), frozenset(("load",))


def attack(name: str, change: Change, words: str, where: frozenset[str] = EVERYWHERE) -> object:
    """Give a row: what the stranger did, what is said, and who says it.

    Who says it: whoever loads, whoever checks the whole, or both.
    """
    return pytest.param(change, words, where, id=name)


FILES = [
    attack(
        "link to a file",
        replaced("tokenizer.json", lambda p: p.symlink_to(moved_aside(p))),
        "tokenizer.json: a link",
    ),
    attack(
        "link to a folder", replaced("onnx", lambda p: p.symlink_to(moved_aside(p))), "a link or special file"
    ),
    attack(
        "link to /etc/passwd",
        lambda f: (f / "vocab.txt").symlink_to("/etc/passwd"),
        "vocab.txt: a link",
        CHECK,
    ),
    attack("link to nowhere", lambda f: (f / "vocab.txt").symlink_to("nowhere"), "vocab.txt: a link", CHECK),
    attack("link to itself", lambda f: (f / "vocab.txt").symlink_to("vocab.txt"), "vocab.txt: a link", CHECK),
    attack(
        "link to a device",
        replaced("tokenizer.json", lambda p: p.symlink_to("/dev/zero")),
        "tokenizer.json: a link",
    ),
    attack("pipe", replaced("tokenizer.json", os.mkfifo), "tokenizer.json: a link or special file"),
    attack(
        "manifest is a link",
        replaced(MANIFEST, lambda p: p.symlink_to(moved_aside(p))),
        "manifest.json: a link",
    ),
    attack("manifest is a pipe", replaced(MANIFEST, os.mkfifo), "manifest.json: a link or special file"),
    attack(
        "report is a link",
        replaced("report.json", lambda p: p.symlink_to(moved_aside(p))),
        "report.json: a link",
        CHECK,
    ),
    attack(
        "report is a pipe", replaced("report.html", os.mkfifo), "report.html: a link or special file", CHECK
    ),
    attack(
        "a file that everybody may write",
        lambda f: (f / "onnx/model.onnx").chmod(0o666),
        "onnx/model.onnx can be written by everybody; `chmod o-w",
    ),
    attack(
        "a manifest that everybody may write",
        lambda f: (f / MANIFEST).chmod(0o666),
        "manifest.json can be written by everybody; `chmod o-w",
    ),
    attack(
        "a folder that everybody may write",
        lambda f: (f / "onnx").chmod(0o777),
        "onnx can be written by everybody; `chmod o-w",
    ),
    attack(
        "an artifact in a folder that everybody may write",
        lambda f: f.parent.chmod(0o777),
        "can be written by everybody; `chmod o-w",
    ),
    attack("a terabyte", sparse("onnx/model.onnx", 1 << 40), "onnx/model.onnx"),
    attack("a terabyte, honestly", sparse("onnx/model.onnx", 1 << 40, listed=True), "files.1.size_bytes"),
    attack(
        "tokenizer of 500 MB",
        sparse("tokenizer.json", 500 << 20, listed=True),
        "tokenizer.json has 524288000 bytes",
    ),
    attack(
        "graph of 60 GB in XML",
        sparse("openvino/openvino_model.xml", 60 << 30, listed=True),
        "openvino_model.xml has",
    ),
    attack("manifest of 500 MB", sparse(MANIFEST, 500 << 20), "manifest.json: 524288000 bytes"),
    attack(
        "manifest nested deep",
        lambda f: (f / MANIFEST).write_text("[" * 100_000, encoding="utf-8"),
        "manifest.json: cannot",
    ),
    attack(
        "an infinite number",
        in_manifest('"pad_id": 0', '"pad_id": 1e999'),
        "manifest.json: changed",
    ),
    attack(
        "a number of 5000 digits",
        in_manifest('"pad_id": 0', f'"pad_id": {"9" * 5000}'),
        "has more than 64 bits",
    ),
    attack(
        "a number of 100 digits",
        in_manifest('"pad_id": 0', f'"pad_id": {"9" * 100}'),
        "has more than 64 bits",
    ),
    attack(
        "name that clears the screen",
        lambda f: (f / ESC).write_text("", encoding="utf-8"),
        r"'\x1b[2Jowned'",
        CHECK,
    ),
    attack(
        "name that is no text", lambda f: (f / "\udcff").write_text("", encoding="utf-8"), r"'\udcff'", CHECK
    ),
    attack(
        "name of another alphabet",
        lambda f: (f / "сonfig.json").write_text("", encoding="utf-8"),
        r"'\u0441onfig",
        CHECK,
    ),
    attack("a name too long", with_file("a/" * 200 + "x"), "no name for a file"),
    attack("way out by ..", with_file("onnx/../../x"), "'onnx/../../x' leaves the artifact's folder"),
    attack("absolute path", with_file("/etc/passwd"), "'/etc/passwd' leaves"),
    attack("path of Windows", with_file("..\\x"), r"'..\\x' leaves"),
    attack("drive of Windows", with_file("C:x"), "'C:x' leaves"),
    attack("line feed in a name", with_file("a\nb"), r"'a\nb' leaves"),
    attack("null byte in a name", with_file("a\0b"), r"'a\x00b' leaves"),
    attack("escape in a name", with_file(ESC), r"'\x1b[2Jowned' leaves"),
    attack("pattern as a name", with_file("*"), "'*' leaves"),
    attack("option as a name", with_file("-rf"), "'-rf' leaves"),
    attack("names that differ in case", with_file("Config.json"), "config.json is listed twice"),
    attack("a second manifest", with_file("MANIFEST.JSON"), "manifest.json is listed twice"),
    attack("a file twice", with_file("config.json"), "config.json is listed twice"),
    attack("names that differ in normal form", with_file("cafe\u0301.txt"), r"'cafe\u0301.txt' leaves"),
    attack("a file of negative size", with_file("x.txt", size_bytes=-1), "size_bytes"),
    attack("no hash", with_file("x.txt", sha256="x"), "sha256"),
    attack("Python", with_text("modeling.py", "import os"), "modeling.py is no file an artifact needs"),
    attack(
        "pickled weights",
        with_text("pytorch_model.bin", "x"),
        "pytorch_model.bin is no file an artifact needs",
    ),
    attack("pickle as a variant's", pickled_variant, "pytorch_model.bin is no file an artifact needs"),
    attack("pickle", with_text("scaler.PKL", "x"), "scaler.PKL is no file an artifact needs"),
    attack("library of operators", with_text("onnx/ops.so", "x"), "onnx/ops.so is no file an artifact needs"),
    attack("archive", with_text("more.zip", "x"), "more.zip is no file an artifact needs"),
    attack(
        "template",
        with_text("chat_template.jinja", "{{ x }}"),
        "chat_template.jinja is no file an artifact needs",
    ),
    attack(
        "code of the config's",
        with_text("config.json", '{"auto_map": {"AutoModel": "x.Y"}}'),
        "config.json: auto_map",
        CHECK,
    ),
    attack(
        "kernels",
        with_text("config.json", '{"attn_implementation": "me/kernel"}'),
        "attn_implementation",
        CHECK,
    ),
    attack(
        "template in the config",
        with_text("tokenizer_config.json", '{"chat_template": "x"}'),
        "chat_template",
        CHECK,
    ),
    attack(
        "code of the tokenizer's",
        with_text("tokenizer_config.json", '{"auto_map": {"x": 1}}'),
        "auto_map brings",
        CHECK,
    ),
    attack(
        "vocabulary elsewhere",
        with_text("tokenizer_config.json", '{"vocab_file": "/etc/passwd"}'),
        "vocab_file",
        CHECK,
    ),
    attack(
        "config nested deep",
        with_text("config.json", "[" * 100_000),
        "config.json: cannot be read as JSON",
        CHECK,
    ),
]

NUMBERS = [
    attack("a billion workers", with_plan(workers=10**9), "workers", LOAD),
    attack("a billion threads", with_plan(threads=10**9), "threads", LOAD),
    attack("more threads than cores", with_plan(workers=64, threads=64), "a plan of 64x64 for 2 cores", LOAD),
    attack("no worker", with_plan(workers=0), "workers", LOAD),
    attack("no thread", with_plan(threads=-1), "threads", LOAD),
    attack("no budget", with_plan(token_budget=0), "token_budget", LOAD),
    attack("a budget below nothing", with_plan(token_budget=-1), "token_budget", LOAD),
    attack("a budget without end", with_plan(token_budget=10**12), "token_budget", LOAD),
    attack("no core", with_plan(n_cores=0), "n_cores", LOAD),
    attack("plans of other files", with_plans(manifest_root="0" * 64), "is about other files", LOAD),
    attack("plans of another schema", with_plans(schema=7), "schema 7, this exporter reads 1", LOAD),
    attack("plans that are a list", with_plans(plans=[]), "plans.json: plans", LOAD),
    attack("plans with a byte changed", with_text("plans.json", "{}"), "plans.json: changed since", LOAD),
    attack("pairs of any length", with_field(max_length=10**12), "max_length"),
    attack("pairs of no length", with_field(max_length=0), "max_length"),
    attack("pads below nothing", with_field(pad_id=-1), "pad_id"),
    attack("pads with what is no number", with_field(pad_id=1 << 40), "pad_id"),
    attack("no variant", with_field(variants=[]), "variants"),
    attack("escape in a kind", with_variant(kind=ESC), "kind"),
    attack("escape in a fact", with_variant(facts=[ESC]), "facts"),
    attack("escape in the name", with_field(name=ESC), "name"),
    attack("a name that leads away", with_field(name="../x"), "name: '../x' is no name of an artifact"),
    attack("text turned around", with_field(name="a\u202eb"), "name"),
    attack("model that is not hashed", with_variant(files=["config.json"]), "needs onnx/model.onnx"),
    attack(
        "model that is not listed",
        with_variant(model="onnx/x.onnx", files=["onnx/x.onnx"]),
        "needs onnx/x.onnx",
    ),
    attack("a kind twice", with_variant(kind="openvino"), "a kind is there twice"),
]


def an_operator(domain: str, op: str = "Evil") -> onnx.ModelProto:
    """Give a graph that ends in somebody's operator."""
    return a_model([helper.make_node(op, ["input_ids"], ["logits"], domain=domain)])


def in_a_branch(node: onnx.NodeProto) -> onnx.ModelProto:
    """Give a graph with a node in a branch of a branch."""
    for _ in range(2):
        branch = helper.make_graph(
            [node], "b", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
        )
        node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    return a_model([node])


def external(location: str, *, in_attribute: bool = False, **more: str) -> onnx.ModelProto:
    """Give a graph whose tensor lies in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=value)
    if in_attribute:
        return a_model([helper.make_node("Constant", [], ["logits"], value=tensor)])
    return a_model(tensors=[tensor])


def a_function() -> onnx.ModelProto:
    """Give a graph with a function of its own, which could call another ten times, which ..."""
    node = helper.make_node("Identity", ["x"], ["y"])
    made = helper.make_function("me", "Grow", ["x"], ["y"], [node], [helper.make_opsetid("", 18)])
    return a_model(functions=[made])


def not_listed(folder: Path) -> None:
    """Let the tensor lie in a file of the folder that belongs to no variant."""
    with_onnx(lambda: external("../config.json"))(folder)


EVIL = helper.make_node("Evil", [], ["y"], domain="ai.onnx.contrib")
DOCTYPE = '<!DOCTYPE net [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><net '
XXE = '<!DOCTYPE net [<!ENTITY x SYSTEM "file:///etc/passwd">]><net '
MODELS = [
    attack(
        "operator of a library",
        with_onnx(lambda: an_operator("ai.onnx.contrib")),
        "model.onnx: runs 'ai.onnx.contrib.Evil'",
    ),
    attack("operator in a branch", with_onnx(lambda: in_a_branch(EVIL)), "runs 'ai.onnx.contrib.Evil'"),
    attack("operator with an escape", with_onnx(lambda: an_operator(ESC)), r"runs '\x1b[2Jowned.Evil'"),
    attack("function", with_onnx(a_function), "model.onnx: holds a function"),
    attack(
        "data of /etc/passwd",
        with_onnx(lambda: external("/etc/passwd")),
        "reads '/etc/passwd', which is no file of this",
    ),
    attack(
        "data by ..", with_onnx(lambda: external("../../../etc/passwd")), "which is no file of this variant"
    ),
    attack(
        "data in memory",
        with_onnx(lambda: external("*/_ORT_MEM_ADDR_/*")),
        "which is no file of this variant",
    ),
    attack(
        "data in an attribute",
        with_onnx(lambda: external("x.data", in_attribute=True)),
        "reads 'x.data', which is no file",
    ),
    attack("data of nobody", not_listed, "reads '../config.json', which is no file of this variant"),
    attack(
        "data behind the end",
        with_onnx(lambda: external("model.onnx", offset="9" * 9)),
        "past the end of onnx/model.onnx",
    ),
    attack(
        "data before the start",
        with_onnx(lambda: external("model.onnx", offset="-8")),
        "past the end of onnx/model.onnx",
    ),
    attack(
        "graph in onnxruntime's format",
        with_text("onnx/model.onnx", "\x20\0\0\0ORTM" + "\0" * 64),
        "model.onnx: no ONNX file",
    ),
    attack("no graph at all", with_text("onnx/model.onnx", "not a graph"), "model.onnx: no ONNX file"),
    attack("empty graph", with_text("onnx/model.onnx", ""), "model.onnx: no ONNX file"),
    attack(
        "another engine",
        with_variant(traits={**ONNX, "engine": "tensorrt"}),
        "engine 'tensorrt', this exporter runs",
    ),
    attack(
        "a graph of the other engine's",
        with_variant(traits={**ONNX, "engine": "openvino"}),
        "model.onnx: no file for openvino",
    ),
    attack("billion laughs", with_ir("<net ", DOCTYPE), "openvino_model.xml: has a document type"),
    attack("external entity", with_ir("<net ", XXE), "openvino_model.xml: has a document type"),
    attack("entity in UTF-16", with_ir('<?xml version="1.0"?>\n<net ', XXE, "utf-16"), "has a document type"),
    attack(
        "layer of a library", with_ir('version="opset1"', 'version="extension"'), "runs 'extension.Const'"
    ),
    attack(
        "weights behind the end",
        with_ir('size="8"', 'size="9"'),
        "reads past the end of openvino/openvino_model.bin",
    ),
    attack(
        "weights that wrap around", with_ir('offset="0"', f'offset="{(1 << 64) - 4}"'), "reads past the end"
    ),
    attack("no XML", with_ir("</net>", ""), "openvino_model.xml: no XML"),
    attack("page instead of IR", with_ir(IR, "<html/>"), "no OpenVINO IR, it is a 'html'"),
]

TOKENIZERS = [
    attack(
        "tokenizer that cuts earlier",
        with_tokenizer(lambda t: t.enable_truncation(8)),
        "wanted pairs cut at 16 tokens",
        LOAD,
    ),
    attack(
        "tokenizer that does not cut",
        with_tokenizer(lambda t: t.no_truncation()),
        "found truncation none",
        LOAD,
    ),
    attack(
        "tokenizer that strides",
        with_tokenizer(lambda t: t.enable_truncation(16, stride=4)),
        "'stride': 4",
        LOAD,
    ),
    attack(
        "tokenizer that pads",
        with_tokenizer(lambda t: t.enable_padding(length=1 << 20)),
        "and not padded",
        LOAD,
    ),
    attack("no tokenizer", with_text("tokenizer.json", "{}"), "tokenizer.json: no tokenizer", LOAD),
    attack(
        "tokenizer nested deep",
        with_text("tokenizer.json", "[" * 100_000),
        "tokenizer.json: no tokenizer",
        LOAD,
    ),
    attack(
        "pads beyond the vocabulary",
        with_field(pad_id=5),
        "has no token 5, with which its manifest pads",
        LOAD,
    ),
]


def refused(act: Callable[[], object], error: type[ExporterError], code: int, words: str) -> None:
    """Expect one printable line with these words, and its exit code."""
    with pytest.raises(error) as caught:
        act()
    text = str(caught.value)
    assert words in text
    assert text.isprintable(), text
    assert len(text) < 1000
    assert caught.value.exit_code == code


def tried(change: Change, folder: Path) -> None:
    """Attack; where the manifest is read to be written anew, it may be refused right there."""
    try:
        change(folder)
    except IntegrityError:
        assert (folder / MANIFEST).exists()


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine is asked to open anything."""

    def opened(*_: object, **__: object) -> None:
        pytest.fail("an engine opened a stranger's file")

    monkeypatch.setattr("exporter.runtime.reranker.open_engine", opened)


def test_the_good_artifact_scores(folder: Path) -> None:
    """What is attacked below is whole, so that every refusal is the attack's."""
    check_artifact(read_manifest(folder), folder)
    assert Reranker.load(folder).score([("wing", "lift drag")]).tolist() == [3.0]


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize(("change", "words", "where"), [*FILES, *NUMBERS, *MODELS, *TOKENIZERS])
def test_artifact_of_a_stranger(folder: Path, change: Change, words: str, where: frozenset[str]) -> None:
    """Each attack is refused with 4, in one printable line, before an engine opens a file.

    The line names file and finding.
    """
    tried(change, folder)
    if "load" in where:
        refused(lambda: Reranker.load(folder), IntegrityError, 4, words)
    if "check" in where:
        refused(lambda: check_artifact(read_manifest(folder), folder), IntegrityError, 4, words)


@pytest.mark.parametrize(("change", "words"), [row.values[:2] for row in (*FILES, *NUMBERS, *MODELS)])  # type: ignore[attr-defined] # pytest has no public type for a row
def test_command_on_the_artifact_of_a_stranger(folder: Path, change: Change, words: str) -> None:
    """`exporter show` ends with 4 and one line on stderr."""
    tried(change, folder)
    done = CliRunner().invoke(app, ["show", str(folder)], env={"COLUMNS": "200"})
    assert (done.exit_code, done.stdout) == (4, "")
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_recipe_in_a_manifest_that_is_none(folder: Path) -> None:
    """A manifest is built from a recipe; one that is none is refused where it is used."""
    sealed(folder, recipe='{"name": 7}')
    done = CliRunner().invoke(app, ["gate", str(folder)], env={"COLUMNS": "200"})
    assert done.exit_code == 4
    assert "its manifest's recipe is none" in done.stderr


def test_link_in_the_hubs_cache_is_followed(good: Path, tmp_path: Path) -> None:
    """Links of the Hub's cache are followed to its blobs; those that leave the blobs are not."""
    snapshot = tmp_path / "models--org--name/snapshots/0123"
    (tmp_path / "models--org--name/blobs").mkdir(parents=True)
    for i, path in enumerate(path for path in good.rglob("*") if path.is_file()):
        blob, link = tmp_path / f"models--org--name/blobs/{i}", snapshot / path.relative_to(good)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, blob)
        link.symlink_to(os.path.relpath(blob, link.parent))
    check_artifact(read_manifest(snapshot), snapshot)
    assert Reranker.load(snapshot).score([("wing", "lift drag")]).tolist() == [3.0]
    (snapshot / "tokenizer.json").unlink()
    (snapshot / "tokenizer.json").symlink_to(good / "tokenizer.json")
    refused(lambda: Reranker.load(snapshot), IntegrityError, 4, "tokenizer.json: a link")


# --- the walk through an ONNX file, held against the onnx package ---

NAMES = st.sampled_from(["", "ai.onnx", "com.microsoft", "x", "日本"])


@st.composite
def graphs(draw: st.DrawFn, depth: int = 2) -> onnx.GraphProto:
    """Draw a graph of nodes in any domain, with subgraphs and tensors in attributes."""
    graph = onnx.GraphProto(name="g")
    for _ in range(draw(st.integers(0, 3))):
        node = graph.node.add(op_type=draw(NAMES), domain=draw(NAMES), input=["a"], output=["b"])
        node.attribute.add(
            name="i", ints=draw(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3)), type=7
        )
        node.attribute.add(name="f", f=draw(st.floats(width=32, allow_nan=False)), type=1)
        if draw(st.booleans()):
            node.attribute.add(name="t", type=4).t.external_data.add(key="location", value=draw(NAMES))
        if depth and draw(st.booleans()):
            node.attribute.add(name="g", type=5).g.CopyFrom(draw(graphs(depth - 1)))
            node.attribute.add(name="s", type=10).graphs.append(draw(graphs(depth - 1)))
    if draw(st.booleans()):
        graph.initializer.add(name="w", float_data=[1, 2]).external_data.add(
            key="location", value=draw(NAMES)
        )
        graph.sparse_initializer.add().values.external_data.add(key="location", value=draw(NAMES))
    return graph


def walked(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Give a graph and all graphs in it, as the onnx package reads it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from walked(inner)


@settings(max_examples=60, deadline=None)
@given(graph=graphs())
def test_the_walk_finds_what_the_onnx_package_finds(
    tmp_path_factory: pytest.TempPathFactory, graph: onnx.GraphProto
) -> None:
    """Operators and external data of any graph are those that onnx's own parser finds."""
    path = tmp_path_factory.mktemp("walk") / "model.onnx"
    path.write_bytes(onnx.ModelProto(ir_version=9, producer_name="x", graph=graph).SerializeToString())
    found, inside = read_onnx(path), list(walked(graph))
    nodes = [node for one in inside for node in one.node]
    assert found.messages["Graph"] == len(inside)
    assert sorted(found.operators.elements()) == sorted((node.domain, node.op_type) for node in nodes)
    tensors = [a.t for node in nodes for a in node.attribute if a.HasField("t")]
    tensors += [
        tensor for one in inside for tensor in (*one.initializer, *(s.values for s in one.sparse_initializer))
    ]
    assert sorted(dict(e)["location"] for e in found.external) == sorted(
        e.value for t in tensors for e in t.external_data
    )


@settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=200))
def test_any_bytes_are_a_graph_or_refused(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    """Whatever bytes a file has, the walk ends, with a finding or a refusal."""
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(raw)
    try:
        found = read_onnx(path)
    except IntegrityError:
        return
    parsed = onnx.ModelProto.FromString(raw)  # what we can read, protobuf reads alike
    assert {node.domain for node in parsed.graph.node} <= {domain for domain, _ in found.operators}


@pytest.mark.parametrize(
    "raw",
    [
        b"\x3a\x80\x00",  # a length with more digits than it needs
        b"\xba\x80\x80\x80\x80\x01\x00",  # a tag beyond 32 bits
        b"\x3b\x3c",  # a group
        b"\x3a\x05\x00",  # a length past the end
        b"\xff" * 100_000,  # a number without end
        b"\x08\x01" * 1_000_001 + b"\x3a\x00",  # more fields than any graph has
    ],
    ids=["long zero", "wide tag", "group", "past the end", "endless number", "too many fields"],
)
def test_bytes_that_parsers_read_differently(tmp_path: Path, raw: bytes) -> None:
    """What another parser might take for something else is refused."""
    (tmp_path / "x.onnx").write_bytes(raw)
    refused(lambda: read_onnx(tmp_path / "x.onnx"), IntegrityError, 4, "x.onnx: no ONNX file")


# --- model folders ---


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The folder of a model, as far as it is looked at before a library opens it."""
    folder = tmp_path / "model"
    folder.mkdir()
    config = {"architectures": ["BertForSequenceClassification"], "num_labels": 1, "model_type": "bert"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    a_tokenizer().save(str(folder / "tokenizer.json"))
    save_file({"w": np.zeros(4, np.float32), "b": np.zeros(4, np.float32)}, folder / "model.safetensors")
    return folder


class Evil:
    """A pickle that leaves a file where it was opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.mark),)


def with_json(path: str, **keys: object) -> Change:
    """Add keys to a JSON file."""

    def change(folder: Path) -> None:
        content = json.loads((folder / path).read_text(encoding="utf-8"))
        (folder / path).write_text(json.dumps({**content, **keys}), encoding="utf-8")

    return change


def with_header(**tensors: tuple[int, int]) -> Change:
    """Write a safetensors file of 16 bytes whose tensors lie as said."""
    header = {
        name: {"dtype": "F32", "shape": [(b - a) // 4], "data_offsets": [a, b]}
        for name, (a, b) in tensors.items()
    }
    raw = json.dumps(header).encode()
    return lambda folder: (folder / "model.safetensors").write_bytes(
        struct.pack("<Q", len(raw)) + raw + bytes(16)
    )


def linked_vocabulary(folder: Path) -> None:
    """Let the vocabulary, which is copied into the artifact, be a file of the victim's."""
    (folder / "vocab.txt").symlink_to("/etc/passwd")


def pickled(name: str) -> Change:
    """Write a pickle in place of the weights."""

    def change(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(pickle.dumps(Evil(folder / "ran")))

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_json("config.json", auto_map={"AutoModel": "x.Y"}), "its config.json asks to run code"),
        (with_json("config.json", transformers_weights="../../x.safetensors"), "transformers_weights"),
        (with_json("config.json", attn_implementation="me/kernel"), "attn_implementation"),
        (with_json("config.json", _attn_implementation="me/kernel"), "(_attn_implementation)"),
        (
            with_json("tokenizer_config.json", auto_map={"AutoTokenizer": ["x.Y", None]}),
            "its tokenizer_config.json asks to run code",
        ),
        (with_json("tokenizer_config.json", vocab_file="/etc/passwd"), "(vocab_file)"),
        (with_json("tokenizer_config.json", init_inputs=["/etc/passwd"]), "(init_inputs)"),
        (with_json("tokenizer_config.json", tokenizer_class="EvilTokenizer"), "EvilTokenizer"),
        (with_json("config.json", architectures=[ESC]), r"'\x1b[2Jowned' is no cross-encoder"),
        (with_json("config.json", architectures={"x": 1}), "'none' is no cross-encoder"),
        (with_json("config.json", num_labels=None, id2label=7), "gives None labels"),
        (
            lambda f: (f / "config.json").write_text("[" * 100_000, encoding="utf-8"),
            "config.json: cannot be read as JSON",
        ),
        (lambda f: os.truncate(f / "config.json", 500 << 20), "config.json: 524288000 bytes"),
        (lambda f: os.truncate(f / "tokenizer.json", 500 << 20), "tokenizer.json: 524288000 bytes"),
        (replaced("config.json", os.mkfifo), "it has no config.json"),
        (replaced("tokenizer.json", os.mkfifo), "tokenizer.json: a link or special file"),
        (linked_vocabulary, "vocab.txt: a link"),
        (pickled("pytorch_model.bin"), "found pytorch_model.bin, which can run code when opened"),
        (pickled("model.safetensors"), "model.safetensors is no safetensors file"),
        (with_header(a=(0, 16), b=(8, 16)), "model.safetensors is no safetensors file"),
        (with_header(a=(0, 8), b=(8, 1 << 40)), "model.safetensors is no safetensors file"),
        (with_header(a=(8, 16)), "model.safetensors is no safetensors file"),
        (
            lambda f: (f / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 60)),
            "model.safetensors is no safetensors file",
        ),
    ],
)
def test_model_folder_of_a_stranger(source: Path, change: Change, words: str) -> None:
    """A folder with code, files from elsewhere, or no weights is refused with 2, and nothing of it ran."""
    change(source)
    refused(lambda: find_source(Model(source=str(source)), Cache.of_user()), RecipeError, 2, words)
    assert not (source / "ran").exists()


def test_modules_with_code_are_refused(tiny: Path, tmp_path: Path) -> None:
    """Modules of a stranger's own, which sentence-transformers would run, are named and not run."""
    folder = Path(shutil.copytree(tiny / "model", tmp_path / "model"))
    mark = tmp_path / "ran"
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n", encoding="utf-8")
    modules = [{"idx": 0, "name": "0", "path": "", "type": "evil.Module"}]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    for said in ('{"model_type": "CrossEncoder"}', "{}"):
        (folder / "config_sentence_transformers.json").write_text(said, encoding="utf-8")
        refused(
            lambda: find_source(Model(source=str(folder)), Cache.of_user()), RecipeError, 2, "'evil.Module'"
        )
    assert not mark.exists()


def test_what_else_lies_in_a_model_folder_is_not_seen(tiny: Path, tmp_path: Path) -> None:
    """Pickles and Python beside a model are opened by no library.

    The model's own weights are what is loaded.
    """
    from sentence_transformers import CrossEncoder

    clean, folder = tiny / "model", Path(shutil.copytree(tiny / "model", tmp_path / "model"))
    mark = tmp_path / "ran"
    (folder / "evil.py").write_text(
        f"import os\nos.mkdir({str(mark)!r})\nclass Module: pass\n", encoding="utf-8"
    )
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(mark)))
    found = find_source(Model(source=str(folder), max_length=64), Cache.of_user())
    assert {"evil.py", "pytorch_model.bin"}.isdisjoint(path.name for path in found.folder.iterdir())
    assert found.digest == find_source(Model(source=str(clean), max_length=64), Cache.of_user()).digest
    model = CrossEncoder(str(found.folder), device="cpu", local_files_only=True)
    assert np.isfinite(model.predict([("wing", "lift")])).all()
    assert not mark.exists()


# --- recipes ---


def test_recipe_with_a_bomb_of_aliases(tmp_path: Path) -> None:
    """Aliases of aliases, a billion items if written out, are refused at once, by what is wrong."""
    lines = [
        "a: &a [x, x, x]",
        *(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    ]
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "\n".join([*lines, "name: x", "model: {source: sample}", "variants: *i"]), encoding="utf-8"
    )
    with pytest.raises(RecipeError, match="a: unknown key") as caught:
        load_recipe(path)
    assert len(str(caught.value)) < 20_000


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system ['x']", "!!python/name:os.system", "!include /etc/passwd"]
)
def test_recipe_with_a_tag(tmp_path: Path, tag: str) -> None:
    """Tags that other loaders turn into objects are refused."""
    path = tmp_path / "recipe.yaml"
    path.write_text(f"name: {tag}\n", encoding="utf-8")
    refused(lambda: load_recipe(path), RecipeError, 2, "recipe.yaml:1")


def test_recipe_with_a_bomb_of_merges(tmp_path: Path) -> None:
    """Merges of merges, which YAML writes out, stop at a thousand keys."""
    lines = ["a: &a {k: 1}"]
    lines += [
        f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 9)}]}}"
        for a, b in zip("abcdefghijkl", "bcdefghijklm", strict=True)
    ]
    path = tmp_path / "recipe.yaml"
    path.write_text("\n".join(lines), encoding="utf-8")
    refused(lambda: load_recipe(path), RecipeError, 2, "more than 1000 keys in one mapping")


def test_recipe_with_a_number_of_any_length(tmp_path: Path) -> None:
    """A number too long to be printed is not printed."""
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"name: x\nmodel: {{source: sample, max_length: 0x{'f' * 10_000}}}\nvariants: []\n", encoding="utf-8"
    )
    with pytest.raises(RecipeError, match="found a number of more than 64 bits"):
        load_recipe(path)


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.mkdir()]
)
def test_recipe_that_is_no_file(tmp_path: Path, make: Change) -> None:
    """A pipe is not waited for, a device not read for ever."""
    make(tmp_path / "recipe.yaml")
    refused(lambda: load_recipe(tmp_path / "recipe.yaml"), RecipeError, 2, "recipe.yaml: no file")


# --- pair files ---


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("p.jsonl", '{"query": "' + "x" * (1 << 24), "p.jsonl:2: a line of more than 16777216 characters"),
        ("p.tsv", "x" * (1 << 25), "p.tsv:2: a line of more than"),
        ("p.tsv", "a\t" + "x" * (1 << 25), "a line of more than"),
        ("p.jsonl", "[" * 100_000, "p.jsonl:2: not JSON"),
        ("p.jsonl", '{"query": "a", "passage": "b", "label": 1e999}', "p.jsonl:2: label inf"),
        ("p.jsonl", '{"query": "a", "passage": "b", "label": ' + "9" * 5000 + "}", "p.jsonl:2: not JSON"),
        ("p.jsonl", '{"query": {"a": 1}, "passage": "b"}', "p.jsonl:2: query holds a dict"),
    ],
    ids=[
        "long line",
        "long row",
        "long cell",
        "deep nest",
        "infinite label",
        "endless label",
        "query that is no text",
    ],
)
def test_pair_file_of_a_stranger(tmp_path: Path, name: str, text: str, words: str) -> None:
    """A line that would fill the memory, or is no pair, is refused with 2, and its number is named."""
    first = '{"query": "a", "passage": "b", "label": 1}' if name.endswith("jsonl") else "a\tb\t1"
    (tmp_path / name).write_text(f"{first}\n{text}\n", encoding="utf-8")
    refused(lambda: load_pairs(str(tmp_path / name)), RecipeError, 2, words)


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.mkdir()]
)
def test_pairs_that_are_no_file(tmp_path: Path, make: Change) -> None:
    """A pipe, a device and a folder hold no pairs."""
    make(tmp_path / "p.jsonl")
    refused(lambda: load_pairs(str(tmp_path / "p.jsonl")), RecipeError, 2, "p.jsonl: no such file")


# --- what is shown to people ---

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)>"


def test_report_page_runs_no_script(tmp_path: Path) -> None:
    """Names, facts and texts of a report are text on its page, and the page allows no script."""
    rows = (a_variant_report(facts=(SCRIPT,), checks=()), a_variant_report(f"{SCRIPT}$x"))
    machine = dataclasses.replace(a_report().machine, cpu=SCRIPT)
    page = html(a_report(name=SCRIPT, variants=rows, machine=machine))
    assert "<script" not in page
    assert "<img" not in page
    assert "default-src 'none'" in page


def test_report_of_a_stranger(folder: Path) -> None:
    """A report that is huge, nested deep or about other files is refused like a manifest."""
    manifest = read_manifest(folder)
    for text, words in (
        ("[" * 100_000, "cannot be read as JSON"),
        ("{}", "changed since it was written"),
        ("7", "no JSON object"),
    ):
        (folder / "report.json").write_text(text, encoding="utf-8")
        refused(lambda: read_report(folder, manifest), IntegrityError, 4, f"report.json: {words}")
    os.truncate(folder / "report.json", 500 << 20)
    refused(lambda: read_report(folder, manifest), IntegrityError, 4, "report.json: 524288000 bytes")


def test_our_own_kinds_run_only_the_operators_allowed(built: Path) -> None:
    """The domains that are allowed are those our own artifacts use, and all of them pass."""
    manifest: Manifest = read_manifest(built)
    check_artifact(manifest, built)
    entries: list[VariantEntry] = [
        entry for entry in manifest.variants if entry.traits.engine == "onnxruntime"
    ]
    used = {domain for entry in entries for domain, _ in read_onnx(built / entry.model).operators}
    assert used <= DOMAINS
    assert "com.microsoft" in used


@pytest.mark.parametrize("command", ["show", "gate"])
@pytest.mark.parametrize("text", ["::set-output name=x::y", "##[group]x", "##vso[task.x]y", "a\n::error::x"])
def test_report_gives_a_ci_system_no_command(folder: Path, command: str, text: str) -> None:
    """No line that is printed of a stranger's report is a command to the system that keeps the log."""
    check = Check(text, 0.5, "≥ 0.5", "pass", text)
    rows = (a_variant_report(), a_variant_report(text, checks=(check,)))
    write_report(a_report(manifest_root=read_manifest(folder).root, variants=rows, name=text), folder)
    for options in ((), ("--json",)):
        done = CliRunner().invoke(app, [command, str(folder), *options], env={"COLUMNS": "200"})
        for line in done.output.splitlines():
            assert not line.lstrip().startswith("::"), line
            assert "##[" not in line
            assert "##vso[" not in line


@pytest.mark.parametrize("command", ["show", "gate"])
def test_report_does_not_move_the_cursor(folder: Path, command: str) -> None:
    """Names and checks of a report are printed with their escapes, and not as markup."""
    check = Check(f"[red]{ESC}", 0.5, "≥ 0.5", "pass", ESC)
    rows = (a_variant_report(), a_variant_report(ESC, checks=(check,)))
    write_report(a_report(manifest_root=read_manifest(folder).root, variants=rows, name=f"[b]{ESC}"), folder)
    done = CliRunner().invoke(app, [command, str(folder)], env={"COLUMNS": "200"})
    assert "\x1b" not in done.output
    assert r"[red]\x1b[2Jowned" in done.output
