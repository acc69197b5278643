"""Consumers: real libraries on a published folder that is right or wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter import __version__
from exporter.artifact.files import list_files
from exporter.artifact.manifest import Manifest, read_manifest, write_manifest
from exporter.consumers.check import CheckOptions, batch_tolerances, check_consumers
from exporter.consumers.probe import N_PAIRS
from exporter.consumers.report import ConsumerReport, markdown
from exporter.context import Context
from exporter.errors import RecipeError
from exporter.libraries.consumers import CONSUMERS, Consumer
from exporter.pairs import PairSet
from exporter.publish.layout import lay_out, place
from tests.factories import a_recipe, a_report
from tests.watched import Watched


@pytest.fixture
def published(built: Path, tmp_path: Path) -> Path:
    """The tiny artifact's ONNX kinds as they are published."""
    return laid_out(built, tmp_path / "out", "onnx", "onnx-int8")


@pytest.fixture
def fp32(built: Path, tmp_path: Path) -> Path:
    """The tiny artifact's one ONNX kind as it is published, where one row is enough."""
    return laid_out(built, tmp_path / "fp32", "onnx")


def laid_out(built: Path, folder: Path, *kinds: str) -> Path:
    folder.mkdir()
    layout = lay_out(read_manifest(built), kinds)
    place(layout, built, folder)
    sealed(folder, dataclasses.replace(read_manifest(built), variants=layout.variants))
    return folder


def sealed(folder: Path, manifest: Manifest) -> Manifest:
    """Write the manifest of a folder's files as they are now."""
    (folder / "manifest.json").unlink(missing_ok=True)
    manifest = dataclasses.replace(manifest, files=list_files(folder))
    write_manifest(manifest, folder)
    return manifest


def checked(folder: Path, pairs: PairSet, *only: str, **known: Consumer) -> ConsumerReport:
    """Check a folder, its manifest renewed, in consumers; `known` replace those of the same name."""
    manifest = sealed(folder, read_manifest(folder))
    options = CheckOptions(only, known={**CONSUMERS, **known})
    return check_consumers(folder, manifest, pairs, Context(), options)


def changed_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_bare_onnxruntime_agrees(published: Path, pairs: PairSet) -> None:
    """Two packages give our scores, for every ONNX file of a published folder, which is not touched."""
    before = list_files(published)
    found = checked(published, pairs, "onnxruntime and tokenizers")
    assert [(row.file, row.outcome, row.activation) for row in found.rows] == [
        ("onnx/model.onnx", "agrees", "none"),
        ("onnx/model_qint8_avx2.onnx", "agrees", "none"),
    ]
    assert found.problems == ()
    assert (found.n_pairs, found.n_truncated) == (N_PAIRS, 15)
    assert list_files(published) == before


def test_folder_without_token_types_is_caught(fp32: Path, pairs: PairSet) -> None:
    """A tokenizer's file that does not name token types: the library feeds zeros, and its scores show it."""
    changed_json(fp32 / "tokenizer_config.json", model_input_names=["input_ids", "attention_mask"])
    (row,) = checked(fp32, pairs, "optimum ORTModel").rows
    assert (row.outcome, row.loses) == ("differs", ("token types",))


def test_folder_that_cuts_pairs_short_is_caught(fp32: Path, pairs: PairSet) -> None:
    """A leftover limit in a tokenizer's file: short pairs agree, longer ones do not."""
    changed_json(fp32 / "tokenizer_config.json", model_max_length=32)
    found = checked(fp32, pairs, "optimum ORTModel")
    assert found.rows[0].outcome == "differs"
    assert re.fullmatch(r"what is beyond some (2\d|3[0-2]) tokens", found.rows[0].loses[0])
    assert "optimum ORTModel, onnx/model.onnx: differs" in found.problems[0]


def test_sigmoid_is_undone(fp32: Path, pairs: PairSet) -> None:
    """A folder that asks for a sigmoid gets one, and agrees."""
    changed_json(
        fp32 / "config.json",
        sentence_transformers={"activation_fn": "torch.nn.modules.activation.Sigmoid"},
    )
    (row,) = checked(fp32, pairs, "sentence-transformers onnx").rows
    assert (row.outcome, row.activation, row.n_incomparable) == ("agrees", "sigmoid", 0)


def test_file_that_cannot_be_loaded(published: Path, pairs: PairSet) -> None:
    """A consumer that fails says what it said; the others are not kept from running."""
    (published / "onnx/model.onnx").write_text("no graph", encoding="utf-8")
    first, second = checked(published, pairs, "onnxruntime and tokenizers").rows
    assert (first.outcome, second.outcome) == ("fails", "agrees")
    assert "InvalidProtobuf" in first.why


def test_text_embeddings_inference_by_its_rules(published: Path, pairs: PairSet) -> None:
    """It is judged by the file it opens; a folder without that file is not for it."""
    (row,) = checked(published, pairs, "text-embeddings-inference").rows
    assert (row.outcome, row.kind, row.file) == ("keeps its rules", "onnx", "onnx/model.onnx")
    changed_json(published / "config.json", id2label={})
    (row,) = checked(published, pairs, "text-embeddings-inference").rows
    assert row.outcome == "fails"
    assert "id2label" in row.why
    shutil.move(published / "onnx/model.onnx", published / "onnx/other.onnx")
    (row,) = checked(published, pairs, "text-embeddings-inference").rows
    assert (row.outcome, row.file) == ("not run", "")


def test_what_is_not_installed_is_no_failure(published: Path, pairs: PairSet) -> None:
    """Without a package there is a row that says how to get it, and nothing is wrong."""
    absent = dataclasses.replace(CONSUMERS["fastembed"], package="no-such-package")
    found = checked(published, pairs, "fastembed", fastembed=absent)
    assert [(row.version, row.outcome, row.why) for row in found.rows] == [
        (None, "not run", "not installed; pip install no-such-package")
    ]
    assert found.problems == ()


@pytest.fixture
def flashrank_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Consumer]:
    """Make a consumer of one file that is installed, and whose library runs the given code when imported."""

    def make(code: str) -> Consumer:
        (tmp_path / "libraries").mkdir()
        (tmp_path / "libraries/flashrank.py").write_text(code, encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "libraries"), prepend=os.pathsep)
        return dataclasses.replace(
            CONSUMERS["flashrank"], package="numpy", files=lambda _manifest: ("onnx/model.onnx",)
        )

    return make


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("raise ValueError('no such file' + chr(10) + 'and more')", r"ValueError: no such file"),
        ("raise ValueError('x' * 1000)", r"ValueError: x{288}"),
        ("raise KeyError", r"KeyError: no reason given"),
        ("import os; os.write(2, b'at last'); os._exit(3)", r"its process ended with 3 .*: at last"),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            r"perhaps not enough memory: a worker .* was killed, .*",
        ),
        ("raise SystemExit('gone')", r"SystemExit: gone"),
    ],
)
def test_library_that_breaks_is_a_row(
    published: Path, pairs: PairSet, flashrank_of: Callable[[str], Consumer], code: str, why: str
) -> None:
    """Whatever a library does to its process, its row says so in one line; the check goes on."""
    found = checked(published, pairs, "flashrank", "infinity", flashrank=flashrank_of(code))
    assert [row.outcome for row in found.rows] == ["fails", "not run"]
    assert re.fullmatch(why, found.rows[0].why)
    assert found.problems == (f"flashrank, onnx/model.onnx: fails: {found.rows[0].why}",)


def test_whole_check(published: Path, pairs: PairSet) -> None:
    """Our own runtime has a row for every ONNX file, within the tolerances; every consumer is a step."""
    watched = Watched()
    known = {"infinity": CONSUMERS["infinity"]}
    options = CheckOptions(tolerances={"onnx-int8": 0.25}, known=known)
    found = check_consumers(published, read_manifest(published), pairs, Context(watched), options)
    ours = [(row.file, row.outcome, row.bound) for row in found.rows if row.consumer == "exporter"]
    assert ours == [
        ("onnx/model.onnx", "agrees", 1e-4),
        ("onnx/model_qint8_avx2.onnx", "agrees", 0.25),
    ]
    assert {row.version for row in found.rows if row.consumer == "exporter"} == {__version__}
    assert watched.stages == {"consumers": [1]}


def test_infinity_is_not_tried(published: Path, pairs: PairSet) -> None:
    """What cannot be installed beside the rest has a row that says so."""
    (row,) = checked(published, pairs, "infinity").rows
    assert row.outcome == "not run"
    assert "numpy below 2" in row.why


def test_consumers_without_a_file_here_have_no_row(published: Path, pairs: PairSet) -> None:
    """A folder without OpenVINO files says nothing about those who want them."""
    assert (
        checked(published, pairs, "sentence-transformers openvino", "sentence-transformers torch").rows == ()
    )


def test_unknown_consumer(published: Path, pairs: PairSet) -> None:
    """An unknown name is answered with the known ones."""
    with pytest.raises(RecipeError, match="'vllm' is no consumer; they are .*fastembed"):
        checked(published, pairs, "vllm")


def test_table(published: Path, pairs: PairSet) -> None:
    """The table has a row for each file, the pairs' rule, and the reason of each bound."""
    text = markdown(checked(published, pairs, "onnxruntime and tokenizers"))
    assert len(re.findall(r"^\| onnxruntime and tokenizers \|", text, re.MULTILINE)) == 2
    assert "50 pairs, 0 of them over 128 tokens and 15 truncated" in text
    assert "verify set by their tokens" in text


def test_tolerances_are_measured_or_the_bar() -> None:
    """What batching did to a verified variant's scores is allowed; for others, what the recipe allows."""
    variants = [
        {"kind": "onnx", "bars": {"max_batch_delta": 0.5}},
        {"kind": "onnx-int8", "bars": {"max_batch_delta": 0.75}},
        {"kind": "openvino", "bars": {"min_kendall_tau": 0.5}},
    ]
    recipe, report = a_recipe(variants=variants), a_report()
    measured = {row.kind: row.fidelity.batches.max_delta for row in report.variants}
    assert batch_tolerances(recipe, ()) == {"onnx": 0.5, "onnx-int8": 0.75}
    assert batch_tolerances(recipe, (report,)) == {"onnx": 0.5, "onnx-int8": 0.75, **measured}
