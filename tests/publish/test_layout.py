"""Layouts: which file goes where, one file under two names, and the rules of text-embeddings-inference."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import TYPE_CHECKING

import onnx
import pytest

from exporter.artifact.files import list_files
from exporter.artifact.manifest import read_manifest
from exporter.consumers.tei import tei_problems
from exporter.errors import RecipeError
from exporter.publish.layout import Placed, lay_out, place
from exporter.recipe.kinds import KINDS
from tests.factories import FILES, MODELS, a_manifest, an_artifact

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.artifact.manifest import Manifest

SHARED = ("config.json", "tokenizer.json")


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return an_artifact(tmp_path / "tiny")


def test_hub_has_int8_under_a_second_name(manifest: Manifest) -> None:
    """Every variant keeps its name; transformers.js and infinity find int8 under theirs."""
    layout = lay_out(manifest, MODELS)
    assert layout.variants == manifest.variants
    assert {placed.path: placed.source for placed in layout.files} == {
        **{path: path for path in FILES},
        "onnx/model_quantized.onnx": "onnx/model_qint8_avx2.onnx",
    }
    assert list(layout.files) == sorted(layout.files)


def test_hub_without_int8(manifest: Manifest) -> None:
    """What is not int8 is not called quantized, and a variant that stays behind leaves no file."""
    assert lay_out(manifest, ["onnx"]).files == tuple(
        Placed(path, path) for path in (*SHARED[:1], MODELS["onnx"], *SHARED[1:])
    )


def test_flat_is_one_variant_as_model_onnx(manifest: Manifest) -> None:
    """Whoever opens onnx/model.onnx gets int8, and the manifest says so."""
    layout = lay_out(manifest, ["onnx-int8"], "flat")
    assert layout.files == (
        Placed("config.json", "config.json"),
        Placed("onnx/model.onnx", "onnx/model_qint8_avx2.onnx"),
        Placed("tokenizer.json", "tokenizer.json"),
    )
    (entry,) = layout.variants
    assert (entry.kind, entry.model, entry.files) == ("onnx-int8", "onnx/model.onnx", ("onnx/model.onnx",))


def test_external_data_keeps_its_name(manifest: Manifest, tmp_path: Path) -> None:
    """A graph names the file its weights are in, so only the graph's own file is renamed."""
    (tmp_path / "tiny/onnx/weights.bin").write_text("w", encoding="utf-8")
    entry = dataclasses.replace(manifest.variants[1], files=(MODELS["onnx-int8"], "onnx/weights.bin"))
    changed = dataclasses.replace(
        manifest, variants=(manifest.variants[0], entry), files=list_files(tmp_path / "tiny")
    )
    layout = lay_out(changed, ["onnx-int8"], "flat")
    assert layout.variants[0].files == ("onnx/model.onnx", "onnx/weights.bin")
    assert Placed("onnx/weights.bin", "onnx/weights.bin") in layout.files


@pytest.mark.parametrize("kinds", [["onnx", "onnx-int8"], ["openvino"]])
def test_flat_holds_one_onnx_variant(manifest: Manifest, kinds: list[str]) -> None:
    """With several, or none, there is nothing to choose by; the error says how to choose."""
    traits = KINDS["openvino"].traits
    openvino = dataclasses.replace(
        manifest.variants[0], kind="openvino", traits=traits, files=("openvino/m.xml",)
    )
    with pytest.raises(
        RecipeError, match="one ONNX variant, found (onnx, onnx-int8|none of openvino);.*--variant"
    ):
        lay_out(dataclasses.replace(manifest, variants=(*manifest.variants, openvino)), kinds, "flat")


def test_unknown_kind(manifest: Manifest) -> None:
    """A kind that the artifact has not is named, with those it has."""
    with pytest.raises(RecipeError, match="tiny has no openvino; it has onnx, onnx-int8"):
        lay_out(manifest, ["openvino"])


def test_file_under_two_names_is_one_on_disk(manifest: Manifest, tmp_path: Path) -> None:
    """The second name costs no space; the artifact itself shares nothing with what is published."""
    (tmp_path / "out").mkdir()
    place(lay_out(manifest, MODELS), tmp_path / "tiny", tmp_path / "out")
    first, second = (tmp_path / "out" / path for path in ("onnx/model_quantized.onnx", MODELS["onnx-int8"]))
    assert first.samefile(second)
    assert not first.samefile(tmp_path / "tiny" / MODELS["onnx-int8"])
    hashes = {file.path: file.sha256 for file in list_files(tmp_path / "out")}
    assert hashes["onnx/model_quantized.onnx"] == hashes[MODELS["onnx-int8"]]


def test_disk_without_hard_links(manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk has no hard links, the second name is a copy."""

    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    (tmp_path / "out").mkdir()
    place(lay_out(manifest, MODELS), tmp_path / "tiny", tmp_path / "out")
    assert (tmp_path / "out/onnx/model_quantized.onnx").read_text(encoding="utf-8") == FILES[
        MODELS["onnx-int8"]
    ]


def test_published_again(manifest: Manifest, tmp_path: Path) -> None:
    """What a publication adds (card, plots, second name) is made anew by the next, not taken over."""
    layout = lay_out(manifest, MODELS)
    out = tmp_path / "out"
    out.mkdir()
    place(layout, tmp_path / "tiny", out)
    (out / "README.md").write_text("# card", encoding="utf-8")
    (out / "plots").mkdir()
    (out / "plots/speed.png").write_text("png", encoding="utf-8")
    assert lay_out(a_manifest(out), MODELS) == layout
    assert lay_out(a_manifest(out), ["onnx"]) == lay_out(manifest, ["onnx"])


# --- text-embeddings-inference ---


@pytest.fixture
def flat(built: Path, tmp_path: Path) -> Path:
    """The tiny model's int8 variant as `flat` lays it out."""
    (tmp_path / "flat").mkdir()
    place(lay_out(read_manifest(built), ["onnx-int8"], "flat"), built, tmp_path / "flat")
    return tmp_path / "flat"


def test_flat_folder_keeps_the_rules(flat: Path) -> None:
    """A real build, laid out flat, breaks none of the server's rules."""
    assert tei_problems(flat) == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id2label": None}, "id2label is None, wanted one label"),
        ({"label2id": {"no": 0, "yes": 1}}, "label2id is .*wanted one label"),
        ({"architectures": ["BertModel"]}, "architectures is .'BertModel'."),
        ({"hidden_size": None}, "no hidden_size"),
        ({"model_type": None}, "no model_type"),
        ({"max_position_embeddings": 512}, "truncate pairs at 512 tokens, the folder's tokenizer does at 64"),
    ],
)
def test_config_that_breaks_a_rule(flat: Path, change: dict[str, object], said: str) -> None:
    """Each thing its sources require of config.json is asked for by name."""
    change_json(flat / "config.json", **change)
    (problem,) = tei_problems(flat)
    assert re.search(said, problem)


def test_where_positions_start(flat: Path) -> None:
    """RoBERTa's first positions are never a token's, so 66 of them are 64 tokens."""
    change_json(flat / "config.json", max_position_embeddings=66, model_type="roberta", pad_token_id=1)
    assert tei_problems(flat) == ()


def test_limit_of_sentence_transformers_goes_first(flat: Path) -> None:
    """A folder may say that it reads fewer tokens than it has positions."""
    change_json(flat / "config.json", max_position_embeddings=512)
    (flat / "sentence_bert_config.json").write_text('{"max_seq_length": 64}', encoding="utf-8")
    assert tei_problems(flat) == ()


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "tokenizer_config.json", "onnx/model.onnx"]
)
@pytest.mark.parametrize("text", [None, "[]"])
def test_file_missing_or_broken(flat: Path, name: str, text: str | None) -> None:
    """A file that is missing, or holds something else, is a problem with its name in it, no traceback."""
    (flat / name).unlink()
    if text is not None:
        (flat / name).write_text(text, encoding="utf-8")
    assert any(name.rpartition("/")[2] in problem for problem in tei_problems(flat))


def test_padding_on_neither_side(flat: Path) -> None:
    """It knows two sides."""
    change_json(flat / "tokenizer_config.json", padding_side="both")
    assert tei_problems(flat) == ("tokenizer_config.json: padding_side is 'both', wanted left or right",)


def test_graph_it_cannot_run(flat: Path) -> None:
    """Inputs and types the server does not give, an output of another name, a file newer than its engine."""
    model = onnx.load(str(flat / "onnx/model.onnx"))
    model.ir_version = 11
    model.graph.input[0].name = "ids"
    model.graph.input[1].type.tensor_type.elem_type = onnx.TensorProto.INT32
    model.graph.output[0].name = "scores"
    (flat / "onnx/model.onnx").write_bytes(model.SerializeToString())
    said = " ".join(tei_problems(flat))
    for words in (
        "IR 11",
        "asks for ids",
        "has no input_ids",
        "attention_mask is not int64",
        "no output named logits",
    ):
        assert words in said


def change_json(path: Path, **changes: object) -> None:
    """Change keys of a JSON file; None takes one out."""
    content = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(
        json.dumps({key: value for key, value in content.items() if value is not None}), encoding="utf-8"
    )
