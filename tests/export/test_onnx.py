"""The plain export: the graph's inputs are what PyTorch's scores depend on, whatever the tokenizer says."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from exporter.cache import Cache
from exporter.errors import BackendError
from exporter.export.folder import artifact_tokenizer, feeds_of
from exporter.export.graph import make_graph
from exporter.export.onnx import ALWAYS, export_plain
from exporter.export.source import Source, find_source
from exporter.recipe.schema import Model
from tests.architectures import ARCHITECTURES, BROKEN, N_TOKENS, write_architecture
from tests.support import WORDS

# Pairs of several lengths, one of them truncated.
PAIRS = [(" ".join(WORDS[:n]), " ".join(WORDS[n:] * 2)) for n in (1, 4, 9, 30)]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    warnings.simplefilter("ignore")  # the tracer's, which the build silences too


def source_of(folder: Path, name: str, **changes: object) -> Source:
    write_architecture(folder / "model", name, **changes)
    return find_source(Model(source=str(folder / "model"), max_length=N_TOKENS), Cache(folder / "cache"))


def source_at(folder: Path, inputs: tuple[str, ...] = ("input_ids", "attention_mask")) -> Source:
    """A model that `find_source` would refuse, as the export would see it all the same."""
    return Source(
        name="unchecked",
        folder=folder,
        revision=None,
        digest="",
        weights=("model.safetensors",),
        weights_bytes=0,
        max_length=N_TOKENS,
        activation="torch.nn.modules.linear.Identity",
        inputs=inputs,
        pad_id=0,
    )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_graph_reads_what_the_scores_depend_on(tmp_path: Path, name: str) -> None:
    """Every architecture's graph scores as PyTorch does with what the tokenizer gives, and reads no more."""
    source = source_of(tmp_path, name)
    tokenizer = artifact_tokenizer(source)
    given = feeds_of(PAIRS, tokenizer, tuple(dict.fromkeys((*ALWAYS, *source.inputs))), batch_size=2)
    found = export_plain(source, 18, tmp_path / "plain.onnx", given)
    assert found.inputs == ARCHITECTURES[name][3]

    session = ort.InferenceSession(tmp_path / "plain.onnx", providers=["CPUExecutionProvider"])
    feeds = feeds_of(PAIRS, tokenizer, [value.name for value in session.get_inputs()], batch_size=2)
    scores = np.concatenate([session.run(["logits"], feed)[0] for feed in feeds])
    assert np.abs(scores - found.scores).max() < 1e-5
    assert found.scores.std() > 0.01


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (
            "distilbert, tokenizer with types",
            "PyTorch cannot score with input_ids, attention_mask, token_type_ids, which the tokenizer gives: "
            ".*unexpected keyword argument.*model_input_names",
        ),
        ("longformer", "the exported graph does not (run: |compute what PyTorch does: )"),
        ("ernie", "Optimum cannot export ernie: KeyError: .*ernie is not supported"),
    ],
)
def test_what_cannot_be_exported_is_one_line(tmp_path: Path, name: str, why: str) -> None:
    """Whatever PyTorch, the exporter or the engine raises is one line that says who refused."""
    write_architecture(tmp_path / "model", name)
    source = source_at(tmp_path / "model", BROKEN[name][2])
    folder = tmp_path / "graph"
    folder.mkdir()
    with pytest.raises(BackendError, match=why) as raised:
        make_graph(source, 18, PAIRS, folder)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


def test_a_model_that_gives_no_number(tmp_path: Path) -> None:
    """Scores that are no number are found before anything is built from the graph."""
    import torch
    from safetensors.torch import load_file, save_file

    write_architecture(tmp_path / "model", "bert")
    weights = load_file(tmp_path / "model/model.safetensors")
    weights["classifier.bias"] = torch.tensor([torch.nan])
    save_file(weights, tmp_path / "model/model.safetensors", metadata={"format": "pt"})
    source = source_at(tmp_path / "model")
    (tmp_path / "graph").mkdir()
    with pytest.raises(BackendError, match="PyTorch gives no finite number for 4 of 4 pairs"):
        make_graph(source, 18, PAIRS, tmp_path / "graph")


def test_a_model_with_several_numbers_a_pair(tmp_path: Path) -> None:
    """A graph of several labels has no score, whatever its config said."""
    write_architecture(tmp_path / "model", "bert", num_labels=3)
    source = source_at(tmp_path / "model")
    (tmp_path / "graph").mkdir()
    with pytest.raises(
        BackendError, match=r"PyTorch gives logits of shape \[4, 3\] for 4 pairs; wanted \[4, 1\]"
    ):
        make_graph(source, 18, PAIRS, tmp_path / "graph")
