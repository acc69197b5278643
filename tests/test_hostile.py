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
from functools import partial
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
from exporter.report.read import read_report
from exporter.runtime import Reranker
from exporter.runtime.allowed import ONNX_OPERATORS
from exporter.runtime.model_file import check_artifact, read_onnx
from tests.factories import a_manifest, a_report, a_variant_report, write_report

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
element_type="f32" shape="2" offset="0" size="8"/></layer>
<layer id="1" name="input_ids" type="Parameter" version="opset1"><data element_type="i64" shape="?,?"/>
<output><port id="0" precision="I64" names="input_ids"><dim>-1</dim><dim>-1</dim></port></output></layer>
<layer id="2" name="r" type="Result" version="opset1" output_names="logits"><input><port id="0"
precision="FP32"><dim>-1</dim><dim>1</dim></port></input></layer> </layers><edges/><rt_info/></net>
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
    if (folder / PLANS).exists() and b"manifest_root" in (folder / PLANS).read_bytes():
        (folder / PLANS).unlink()  # which are about the files before
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
    attack(
        "adapter",
        with_text("adapter_config.json", "{}"),
        "adapter_config.json is no JSON file an artifact has",
    ),
    attack("modules", with_text("modules.json", "[]"), "modules.json is no JSON file an artifact has"),
    attack(
        "JSON elsewhere",
        with_text("onnx/config.json", "{}"),
        "onnx/config.json is no JSON file an artifact has",
    ),
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
        "kernels by another name",
        with_text("config.json", '{"_attn_implementation_internal": "me/kernel"}'),
        "_attn_implementation_internal brings code",
        CHECK,
    ),
    attack(
        "kernels that transformers fetches itself",
        with_text("config.json", '{"attn_implementation": "flash_attention_2"}'),
        "'attn_implementation' is 'flash_attention_2'; wanted eager or sdpa",
        CHECK,
    ),
    attack(
        "attribute of the library's own",
        with_text("config.json", '{"_auto_class": "x"}'),
        "'_auto_class' is no key that exporter knows",
        CHECK,
    ),
    attack(
        "a config in the config",
        with_text("config.json", '{"text_config": {"_attn_implementation": "me/kernel"}}'),
        "'text_config' is no key that exporter knows",
        CHECK,
    ),
    attack(
        "adapter of elsewhere",
        with_text("config.json", '{"base_model_name_or_path": "me/model"}'),
        "base_model_name_or_path brings",
        CHECK,
    ),
    attack(
        "activation that is a program",
        with_text("config.json", '{"sentence_transformers": {"activation_fn": "torch.hub.load"}}'),
        "names the activation 'torch.hub.load', which is none of torch.nn",
        CHECK,
    ),
    attack(
        "a model as large as the memory",
        with_text("config.json", '{"num_hidden_layers": 100000000}'),
        "'num_hidden_layers' is 100000000, and no such number is larger than 1024",
        CHECK,
    ),
    attack(
        "vocabulary elsewhere, by the special tokens",
        with_text("special_tokens_map.json", '{"tokenizer_file": "/etc/passwd"}'),
        "special_tokens_map.json: 'tokenizer_file' is no key",
        CHECK,
    ),
    attack(
        "model of SentencePiece elsewhere",
        with_text("tokenizer_config.json", '{"sp_model_kwargs": {"model_file": "/etc/passwd"}}'),
        "'sp_model_kwargs' is",
        CHECK,
    ),
    attack(
        "added tokens beyond every vocabulary",
        with_text("added_tokens.json", '{"x": 4000000000}'),
        "added_tokens.json: 'x' is no token and its number",
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
    attack("plans of another schema", with_plans(schema=7), "schema 7, this exporter reads 2", LOAD),
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


def of(name: str, element: int, *sizes: object) -> onnx.ValueInfoProto:
    """Say what goes into a graph or comes out of it."""
    return helper.make_tensor_value_info(name, element, list(sizes))


def with_ends(**changes: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
    """Give a graph with other inputs or outputs than ours."""
    model = a_model()
    for name, ports in changes.items():
        field = getattr(model.graph, {"inputs": "input", "outputs": "output"}[name])
        del field[:]
        field.extend(ports)
    return model


IDS = of("input_ids", TensorProto.INT64, "n", "t")
LOGITS, SCORES = (of(name, TensorProto.FLOAT, "n", 1) for name in ("logits", "scores"))
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
    *(
        attack(
            f"operator {op}",
            with_onnx(partial(an_operator, domain, op)),
            f"runs '{domain}.{op}', an operator",
        )
        for domain, op in (
            ("", "Loop"),
            ("ai.onnx", "Scan"),
            ("", "SequenceMap"),
            ("", "StringConcat"),
            ("", "RandomNormal"),
            ("", "Evil"),
            ("com.microsoft", "EPContext"),
            ("com.microsoft", "BeamSearch"),
            ("com.microsoft", "Loop"),
        )
    ),
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
    attack(
        "scores by another name", with_onnx(lambda: with_ends(outputs=[SCORES])), "gives 'scores'; wanted"
    ),
    attack("two outputs", with_onnx(lambda: with_ends(outputs=[LOGITS, SCORES])), "gives 'logits, scores'"),
    attack("no output", with_onnx(lambda: with_ends(outputs=[])), "gives ''; wanted logits alone"),
    attack(
        "scores that are whole numbers",
        with_onnx(lambda: with_ends(outputs=[of("logits", TensorProto.INT64, "n", 1)])),
        "gives 'logits', int64 of [-1, 1]; wanted float32",
    ),
    attack(
        "scores of three dimensions",
        with_onnx(lambda: with_ends(outputs=[of("logits", TensorProto.FLOAT, "n", 1, 1)])),
        "float32 of [-1, 1, 1]; wanted",
    ),
    attack(
        "seven scores a pair",
        with_onnx(lambda: with_ends(outputs=[of("logits", TensorProto.FLOAT, "n", 7)])),
        "float32 of [-1, 7]; wanted float32, one number a pair",
    ),
    attack(
        "texts as input",
        with_onnx(lambda: with_ends(inputs=[of("input_ids", TensorProto.STRING, "n", "t")])),
        "takes 'input_ids', another type of [-1, -1]; wanted int64",
    ),
    attack(
        "a batch of its own size",
        with_onnx(lambda: with_ends(inputs=[of("input_ids", TensorProto.INT64, 4096, "t")])),
        "int64 of [4096, -1]; wanted int64 of any number",
    ),
    attack(
        "input of one dimension",
        with_onnx(lambda: with_ends(inputs=[of("input_ids", TensorProto.INT64, "n")])),
        "int64 of [-1]; wanted",
    ),
    attack(
        "an input that nobody gives",
        with_onnx(lambda: with_ends(inputs=[IDS, of("pixels", TensorProto.INT64, "n", "t")])),
        "takes 'input_ids, pixels'; wanted 'input_ids'",
    ),
    attack("an input that is not there", with_variant(inputs=["attention_mask"]), "wanted 'attention_mask'"),
    attack(
        "settings for the engine",
        with_ir(
            "<rt_info/>", '<rt_info><runtime_options><CACHE_DIR value="/tmp"/></runtime_options></rt_info>'
        ),
        "has 'runtime_options' in its facts",
    ),
    attack(
        "weights in an element of old",
        with_ir("<edges/>", '<edges/><blobs><weights offset="0" size="9"/></blobs>'),
        "has 'blobs' in its net",
    ),
    attack(
        "layer of a library in a body",
        with_ir(
            " </layers>",
            '<layer type="Loop" version="opset5"><body><layers><layer type="X" version="me"/></layers></body>'
            "</layer> </layers>",
        ),
        "runs 'opset5.Loop', an operator that no artifact of ours has",
    ),
    attack(
        "layer of a library in a branch",
        with_ir(
            " </layers>",
            '<layer type="If" version="opset8"><then_body><layers><layer type="X" version="me"/></layers>'
            "</then_body></layer> </layers>",
        ),
        "runs 'me.X'",
    ),
    attack("a layer in a port", with_ir("<dim>-1", "<layer/><dim>-1"), "has 'layer' in its port"),
    attack("constants that are texts", with_ir('"f32"', '"string"'), "has a constant of 'string'"),
    attack("tokens of 32 bits", with_ir('"i64"', '"i32"'), "takes 'input_ids', int32 of [-1, -1]"),
    attack("scores of half precision", with_ir('"FP32"', '"FP16"'), "gives 'logits', float16 of [-1, 1]"),
    attack("an IR without an end", with_ir('type="Result"', 'type="Convert"'), "gives ''; wanted logits"),
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


def with_part(name: str, part: object) -> Change:
    """Write a tokenizer with another part, as JSON, and list it."""

    def change(folder: Path) -> None:
        content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        (folder / "tokenizer.json").write_text(json.dumps({**content, name: part}), encoding="utf-8")
        sealed(folder)

    return change


def sequence(key: str, *parts: object) -> object:
    """Give components one after the other."""
    return {"type": "Sequence", key: list(parts)}


def replace(pattern: str, content: str, kind: str = "String") -> object:
    """Give a component that puts one text in another's place."""
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def nested(depth: int) -> object:
    """Give sequences in sequences."""
    part: object = {"type": "NFC"}
    for _ in range(depth):
        part = sequence("normalizers", part)
    return part


def template(n_special: int = 1, ids: list[int] | None = None, texts: str = "AB") -> object:
    """Give a post-processor that puts special tokens before a pair."""
    special = {"SpecialToken": {"id": "[PAD]", "type_id": 0}}
    pair = [{"Sequence": {"id": name, "type_id": 0}} for name in texts]
    tokens = {"id": "[PAD]", "ids": ids or [0], "tokens": ["[PAD]"] * len(ids or [0])}
    return {
        "type": "TemplateProcessing",
        "single": [special, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [special] * n_special + pair,
        "special_tokens": {"[PAD]": tokens},
    }


def split(pattern: str) -> object:
    """Give a pre-tokenizer that splits by a pattern."""
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def words_and(**more: object) -> dict[str, object]:
    """Give a model of words with something else in it."""
    return {"type": "WordLevel", "vocab": {"[PAD]": 0, "[UNK]": 1}, "unk_token": "[UNK]", **more}


GROWS = "its normalizer makes up to"
TOKENIZERS = [
    attack(
        "a text that grows tenfold nine times",
        with_part("normalizer", sequence("normalizers", *[replace("x", "x" * 10)] * 9)),
        f"{GROWS} over 10^9 characters of one",
    ),
    attack(
        "every character grows",
        with_part("normalizer", replace("", "x" * 500, "Regex")),
        "Replace has pattern",
    ),
    attack("characters grow by a pattern", with_part("normalizer", replace(".", "x" * 500, "Regex")), GROWS),
    attack(
        "a text in front that grows",
        with_part("normalizer", sequence("normalizers", *[{"type": "Prepend", "prepend": "x" * 500}] * 3)),
        GROWS,
    ),
    attack(
        "a character that Unicode makes 18 of",
        with_part("normalizer", sequence("normalizers", *[replace(" ", "\ufdfa" * 4), {"type": "NFKD"}] * 4)),
        GROWS,
    ),
    attack(
        "bytes of bytes of bytes",
        with_part(
            "pre_tokenizer",
            sequence("pretokenizers", *[{"type": "ByteLevel", "add_prefix_space": True}] * 8),
        ),
        GROWS,
    ),
    attack("sequences nested deep", with_part("normalizer", nested(50)), "sequences more than 4 deep"),
    attack(
        "a table of four bytes",
        with_part("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="}),
        "Precompiled has 4 bytes",
    ),
    attack(
        "a table that leads outside",
        with_part("normalizer", {"type": "Precompiled", "precompiled_charsmap": "BAAAAAD///8AeAA="}),
        "Precompiled leads outside of its trie",
    ),
    attack(
        "a part that nobody knows",
        with_part("pre_tokenizer", {"type": "Evil"}),
        "its pre_tokenizer is a 'Evil', which is not allowed",
    ),
    attack("a pattern that tries every way", with_part("pre_tokenizer", split("(a+)+$")), "repeats itself"),
    attack("a pattern that looks back", with_part("pre_tokenizer", split(r"(a)\1")), "which is not allowed"),
    attack("a pattern of three stars", with_part("pre_tokenizer", split(".*.*.*x")), "may take time"),
    attack(
        "pieces of no length",
        with_part("pre_tokenizer", {"type": "FixedLength", "length": 0}),
        "FixedLength has length '0'",
    ),
    attack(
        "a million special tokens",
        with_part("post_processor", template(ids=[0] * 1_000_000)),
        "adds 1000000 tokens for '[PAD]'",
    ),
    attack("a long template", with_part("post_processor", template(65)), "pair is no list of 64 pieces"),
    attack(
        "more special tokens than a pair may have",
        with_part("post_processor", template(17)),
        "makes 17 tokens of a pair of empty texts, and 16 are read",
        LOAD,
    ),
    attack("a text twice", with_part("post_processor", template(texts="AAB")), "has the texts 'A, A, B'"),
    attack(
        "a special token beyond the vocabulary",
        with_part("post_processor", template(ids=[7])),
        "adds token 7, and has no token beyond 4",
    ),
    attack(
        "300,000 added tokens",
        with_part("added_tokens", [{"id": i, "content": f"t{i}"} for i in range(300_000)]),
        "has 300000 added tokens; wanted 16384 at most",
    ),
    attack(
        "an added token of a million characters",
        with_part("added_tokens", [{"id": 5, "content": "x" * 1_000_000}]),
        "added token 5 that is no text",
    ),
    attack(
        "an added token beyond every vocabulary",
        with_part("added_tokens", [{"id": 4_000_000_000, "content": "x"}]),
        "has an added token",
    ),
    attack(
        "a token of a negative number",
        with_part("model", words_and(vocab={"[UNK]": -1})),
        "tokens of other numbers than 0 to",
    ),
    attack(
        "no token for what is unknown",
        with_part("model", words_and(unk_token="none")),
        "its model has no 'none'",
    ),
    attack(
        "merges of nothing",
        with_part("model", {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}),
        "its model merges 'a b', and has no such tokens",
    ),
    attack(
        "merges shorter than their prefix",
        with_part(
            "model",
            {"type": "BPE", "vocab": {"a": 0}, "merges": ["a a"], "continuing_subword_prefix": "####"},
        ),
        "its model merges 'a a'",
    ),
    attack(
        "tokens at random",
        with_part("model", {"type": "BPE", "vocab": {"a": 0}, "merges": [], "dropout": 0.5}),
        "its model BPE has dropout '0.5'",
    ),
    attack(
        "an unknown token beyond the vocabulary",
        with_part("model", {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 1}),
        "has the token '1' for what it does not know, of 1",
    ),
    attack(
        "words without an end",
        with_part(
            "model",
            {
                "type": "WordPiece",
                "vocab": {"[UNK]": 0},
                "unk_token": "[UNK]",
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 10**18,
            },
        ),
        "max_input_chars_per_word '1000000000000000000'",
    ),
    attack(
        "a part twice",
        with_text("tokenizer.json", '{"normalizer": {"type": "Evil"}, "normalizer": null, "model": {}}'),
        "cannot be read as JSON: 'normalizer' is there twice",
    ),
    attack(
        "added tokens of many characters",
        with_part("added_tokens", [{"id": 5 + i, "content": f"{i}" + "x" * 900} for i in range(400)]),
        "has added tokens of",
    ),
    attack(
        "pieces that are a tree of many nodes",
        with_part("model", {"type": "Unigram", "vocab": [["x" * 10_000, 0.0]], "unk_id": 0}),
        "which is no token and its score",
    ),
    attack(
        "a part of another format", with_part("code", "x"), "holds 'code', which is no part of a tokenizer"
    ),
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
    attack("no tokenizer", with_text("tokenizer.json", "{}"), "tokenizer.json: no tokenizer"),
    attack(
        "tokenizer nested deep",
        with_text("tokenizer.json", "[" * 100_000),
        "tokenizer.json: no tokenizer, cannot be read as JSON",
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


@pytest.fixture
def snapshot(good: Path, tmp_path: Path) -> Path:
    """The artifact as the Hub's cache lays it out."""
    repository = tmp_path / "models--org--name"
    folder = repository / "snapshots/0123"
    (repository / "blobs").mkdir(parents=True)
    for i, path in enumerate(path for path in good.rglob("*") if path.is_file()):
        blob, link = repository / f"blobs/{i}", folder / path.relative_to(good)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, blob)
        link.symlink_to(os.path.relpath(blob, link.parent))
    check_artifact(read_manifest(folder), folder)
    return folder


def linked(path: Path) -> None:
    """Put a link in a folder's place; what it leads to is the same."""
    moved = path.with_name(f"{path.name}-moved")
    path.rename(moved)
    path.symlink_to(moved.absolute())


@pytest.mark.parametrize(
    "change",
    [
        lambda f: linked(f.parent.parent / "blobs"),
        lambda f: linked(f.parent),
        linked,
        lambda f: linked(f.parent.parent),
        lambda f: linked((f / "tokenizer.json").resolve()),
        lambda f: relinked(f, (f / "tokenizer.json").resolve()),
        lambda f: relinked(f, Path("../../blobs/../blobs") / (f / "tokenizer.json").resolve().name),
        lambda f: relinked(f, Path("../../../models--org--name/blobs/0")),
    ],
    ids=["blobs", "snapshots", "snapshot", "repository", "blob", "absolute", "way round", "way out"],
)
def test_links_of_what_looks_like_the_hubs_cache(snapshot: Path, change: Change) -> None:
    """A link is followed only where it is written as the Hub's client does, and no part of the way is one."""
    change(snapshot)
    refused(lambda: Reranker.load(snapshot), IntegrityError, 4, ": a link or special file")


def relinked(folder: Path, target: Path) -> None:
    """Let the tokenizer be a link to somewhere else."""
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").symlink_to(target)


# --- what passes, and still breaks ---


def breaking(*nodes: onnx.NodeProto) -> Change:
    """Give a graph that says it gives one score a pair, and computes something else."""
    return with_onnx(lambda: a_model(list(nodes)))


def reshaped(*sizes: int) -> list[onnx.NodeProto]:
    """Give nodes that lay tokens out in another shape than they say."""
    shape = helper.make_node("Constant", [], ["shape"], value_ints=list(sizes))
    # The shape comes out of a sum, so that no engine sees it before it runs.
    kept = helper.make_node("Identity", ["shape"], ["kept"])
    cast = helper.make_node("Cast", ["input_ids"], ["wide"], to=TensorProto.FLOAT)
    return [shape, kept, cast, helper.make_node("Reshape", ["wide", "kept"], ["logits"])]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (breaking(helper.make_node("MatMul", ["input_ids"], ["logits"])), "onnxruntime cannot load"),
        (breaking(helper.make_node("Identity", ["input_ids"], ["logits"])), "onnxruntime cannot load"),
        (breaking(helper.make_node("Identity", ["nowhere"], ["logits"])), "onnxruntime cannot load"),
        (
            breaking(helper.make_node("Cast", ["input_ids"], ["x"], to=TensorProto.FLOAT)),
            "onnxruntime cannot load",
        ),
        (breaking(*reshaped(7, 7)), "onnxruntime cannot "),
        (breaking(*reshaped(-1, 1)), "onnxruntime cannot run"),
    ],
    ids=["no operator", "whole numbers", "no tensor", "no logits", "shape that fails", "a score a token"],
)
def test_graph_that_breaks_its_engine(folder: Path, change: Change, words: str) -> None:
    """What passes every check and fails in the engine, at load or at run, is one line and 4."""
    change(folder)
    refused(
        lambda: Reranker.load(folder).score([("wing", "lift drag"), ("lift", "drag")]),
        IntegrityError,
        4,
        words,
    )


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
        (with_json("config.json", _attn_implementation_internal="me/k"), "(_attn_implementation_internal)"),
        (with_json("config.json", attn_implementation={"": "me/kernel"}), "(attn_implementation)"),
        (with_json("config.json", _attn_implementation="flash_attention_2"), "wanted eager or sdpa"),
        (with_json("config.json", _experts_implementation="me/k"), "'_experts_implementation' is no key"),
        (
            with_json("config.json", text_config={"auto_map": {}}),
            "'text_config' is no key that exporter knows",
        ),
        (
            with_json("config.json", model_type="layoutlmv2"),
            "'model_type' is 'layoutlmv2', which is no model",
        ),
        (with_json("config.json", base_model_name_or_path="me/model"), "(base_model_name_or_path)"),
        (with_json("config.json", hidden_act="me/act"), "'hidden_act' is 'me/act'; wanted a number, a flag"),
        (with_json("config.json", torch_dtype="load"), "'torch_dtype' is 'load'; wanted float32 or"),
        (with_json("config.json", vocab_size=1 << 40), "'vocab_size' is 1099511627776"),
        (
            with_json("config.json", sbert_ce_default_activation_function="torch.nn.modules.os.Identity"),
            "'torch.nn.modules.os.Identity', which is none of torch.nn",
        ),
        (with_json("tokenizer_config.json", gguf_file="x.gguf"), "(gguf_file)"),
        (
            with_json("tokenizer_config.json", sp_model_kwargs={"model_file": "/etc/x"}),
            "'sp_model_kwargs' is",
        ),
        (with_json("tokenizer_config.json", tokenizer_object="x"), "'tokenizer_object' is no key"),
        (
            with_json(
                "tokenizer_config.json",
                added_tokens_decoder={str(i): {"content": f"t{i}"} for i in range(20_000)},
            ),
            "has 20000 tokens",
        ),
        (
            lambda f: (f / "special_tokens_map.json").write_text(
                '{"vocab_file": "/etc/passwd"}', encoding="utf-8"
            ),
            "special_tokens_map.json: 'vocab_file' is no key",
        ),
        (
            lambda f: (f / "added_tokens.json").write_text('{"x": -1}', encoding="utf-8"),
            "added_tokens.json: 'x' is no token and its number",
        ),
        (
            with_json("tokenizer.json", normalizer=sequence("normalizers", *[replace("x", "x" * 10)] * 9)),
            "tokenizer.json: its normalizer makes up to over 10^9 characters of one",
        ),
        (
            with_json(
                "tokenizer.json", normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="}
            ),
            "tokenizer.json: its normalizer Precompiled has 4 bytes",
        ),
        (with_json("tokenizer.json", post_processor=template(ids=[0] * 100_000)), "adds 100000 tokens"),
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
    """The sets that are allowed are those our own artifacts use, and all of their operators pass."""
    manifest: Manifest = read_manifest(built)
    check_artifact(manifest, built)
    entries: list[VariantEntry] = [
        entry for entry in manifest.variants if entry.traits.engine == "onnxruntime"
    ]
    used = {domain for entry in entries for domain, _ in read_onnx(built / entry.model).operators}
    assert {"com.microsoft"} < used <= set(ONNX_OPERATORS)


@pytest.mark.parametrize("command", ["show", "gate"])
@pytest.mark.parametrize("text", ["::set-output name=x::y", "##[group]x", "##vso[task.x]y", "a\n::error::x"])
def test_report_gives_a_ci_system_no_command(folder: Path, command: str, text: str) -> None:
    """No line that is printed of a stranger's report is a command to the system that keeps the log."""
    check = Check(text, 0.5, "≥ 0.5", "pass", text)
    rows = (a_variant_report(), a_variant_report(text.replace("\n", " "), checks=(check,)))
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
    machine = dataclasses.replace(a_report().machine, cpu=f"[i]{ESC}")
    for kind, seen in (("openvino", (r"[red]\x1b[2Jowned", r"[i]\x1b[2Jowned")), (ESC, (r"\x1b[2Jowned",))):
        rows = (a_variant_report(), a_variant_report(kind, checks=(check,)))
        report = a_report(variants=rows, name=f"[b]{ESC}", machine=machine)
        report = dataclasses.replace(report, manifest_root=read_manifest(folder).root)
        shutil.rmtree(folder / "reports")
        write_report(report, folder)
        done = CliRunner().invoke(app, [command, str(folder), "--wide"], env={"COLUMNS": "200"})
        assert "\x1b" not in done.output
        assert all(text in done.output for text in seen)
