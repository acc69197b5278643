"""The rules of text-embeddings-inference, on a flat folder that keeps or breaks them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import onnx
import pytest

from exporter.artifact.manifest import read_manifest
from exporter.consumers.tei import tei_problems
from exporter.publish.layout import lay_out, place


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
    """A file that is missing, or holds something else, is a problem with its name, not a traceback."""
    (flat / name).unlink()
    if text is not None:
        (flat / name).write_text(text, encoding="utf-8")
    assert any(name.rpartition("/")[2] in problem for problem in tei_problems(flat))


def test_padding_on_neither_side(flat: Path) -> None:
    """It knows two sides."""
    change_json(flat / "tokenizer_config.json", padding_side="both")
    assert tei_problems(flat) == ("tokenizer_config.json: padding_side is 'both', wanted left or right",)


def test_graph_it_cannot_run(flat: Path) -> None:
    """Unknown inputs, types that it does not feed, an output of another name, a file that is too new."""
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
