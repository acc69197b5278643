"""An artifact of a kilobyte that runs on both engines, and graphs in it that take too much."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporter.artifact.files import (
    PLANS,
    REPORT,
    REPORT_HTML,
    REPORT_MD,
    REPORT_XML,
    list_files,
    write_sealed,
)
from exporter.artifact.manifest import read_manifest, write_manifest
from exporter.recipe.kinds import KINDS
from tests.factories import a_manifest, a_plan, a_report, a_variant_report, write_report
from tests.test_hostile import a_model, a_tokenizer

MAX_LENGTH = 16
REPORTS = (REPORT, REPORT_MD, REPORT_HTML, REPORT_XML)


def write_artifact(folder: Path) -> Path:
    """Write an artifact of one graph for each engine, which scores a pair by the mean of its tokens."""
    for name in ("onnx", "openvino"):
        (folder / name).mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}', encoding="utf-8")
    a_tokenizer().save(str(folder / "tokenizer.json"))
    onnx.save(a_model(), folder / "onnx/model.onnx")
    _write_ir(folder / "openvino/openvino_model.xml")
    manifest = a_manifest(folder)
    entry = dataclasses.replace(manifest.variants[0], inputs=("input_ids",))
    files = ("openvino/openvino_model.xml", "openvino/openvino_model.bin")
    other = dataclasses.replace(
        entry, kind="openvino", traits=KINDS["openvino"].traits, model=files[0], files=files
    )
    manifest = dataclasses.replace(manifest, max_length=MAX_LENGTH, variants=(entry, other))
    write_manifest(manifest, folder)
    plan = dataclasses.asdict(a_plan())
    plans = {"onnx": [plan], "openvino": [plan]}
    write_sealed(folder / PLANS, {"schema": 1, "manifest_root": manifest.root, "plans": plans})
    rows = tuple(a_variant_report(entry.kind) for entry in manifest.variants)
    write_report(a_report(manifest_root=manifest.root, variants=rows), folder)
    return folder


def _write_ir(path: Path) -> None:
    import openvino as ov
    from openvino import opset15 as ops

    ids = ops.parameter([-1, -1], np.int64, name="input_ids")
    ids.output(0).set_names({"input_ids"})
    table = ops.constant(np.arange(64, dtype=np.float32).reshape(64, 1))
    found = ops.gather(table, ops.minimum(ids, np.int64(63)), np.int64(0))
    score = ops.reduce_mean(found, np.array([1], np.int64), keep_dims=False)
    score.output(0).set_names({"logits"})
    ov.save_model(ov.Model([ops.result(score)], [ids], "g"), path, compress_to_fp16=False)


def relist(folder: Path, **changes: object) -> None:
    """Write the manifest anew for the files as they are, as a stranger could, and drop the report."""
    manifest = read_manifest(folder)
    write_manifest(dataclasses.replace(manifest, files=list_files(folder), **changes), folder)
    for name in (PLANS, *REPORTS):
        (folder / name).unlink(missing_ok=True)


def endless(n_products: int = 2000) -> onnx.ModelProto:
    """Return a graph that is right, and multiplies matrices for half an hour on the way."""
    names = [f"m{i}" for i in range(n_products + 1)]
    return a_model(
        [
            helper.make_node("Cast", ["input_ids"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["wide", "axes"], ["start"], keepdims=1),
            helper.make_node("ReduceMax", ["start"], ["one"], keepdims=1),
            helper.make_node("Mul", ["one", "none"], ["nothing"]),
            helper.make_node("Expand", ["nothing", "shape"], [names[0]]),
            *(helper.make_node("MatMul", [names[0], last], [name]) for last, name in pairwise(names)),
            helper.make_node("ReduceMax", [names[-1]], ["end"], keepdims=1),
            helper.make_node("Add", ["start", "end"], ["logits"]),
        ],
        tensors=[
            numpy_helper.from_array(np.zeros(1, np.float32), "none"),
            numpy_helper.from_array(np.array([4096, 4096]), "shape"),
        ],
    )


def insatiable(n_bytes: int = 40 << 30) -> onnx.ModelProto:
    """Return a graph that is right, and spreads its scores over tens of gigabytes before it adds them up."""
    shape = np.array([n_bytes // 4, 1, 1], np.int64)
    return a_model(
        [
            helper.make_node("Cast", ["input_ids"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["wide", "axes"], ["start"], keepdims=1),
            helper.make_node("Expand", ["start", "shape"], ["huge"]),
            helper.make_node("ReduceMax", ["huge", "first"], ["logits"], keepdims=0),
        ],
        tensors=[numpy_helper.from_array(shape, "shape"), numpy_helper.from_array(np.array([0]), "first")],
    )
