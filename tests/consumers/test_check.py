"""Consumers: which pairs they score, what their scores say about them, and real libraries on a folder that is right or wrong."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from exporter.artifact.files import list_files
from exporter.artifact.manifest import Manifest, read_manifest, write_manifest
from exporter.consumers.check import ConsumerReport, check_consumers, markdown
from exporter.consumers.diagnose import bound_of, losses, undo_activation
from exporter.consumers.probe import LONG, N_PAIRS, Probe, pick_pairs
from exporter.errors import RecipeError
from exporter.libraries import consumers as loaders
from exporter.libraries.consumers import CONSUMERS, TRUNCATION
from exporter.pairs import Pair, PairSet, load_pairs
from exporter.progress import Silent
from exporter.publish.layout import lay_out, place
from exporter.runtime import PairTokenizer

STARTED_AT = "2026-01-01T00:00:00Z"


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


@pytest.fixture(scope="module")
def pairs(tiny: Path) -> PairSet:
    return load_pairs(str(tiny / "pairs.jsonl"))


# --- pairs ---


def lengths(pair_set: PairSet, folder: Path) -> np.ndarray:
    """Count tokens without a limit."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    return np.array([len(encoding) for encoding in tokenizer.encode_batch(list(pair_set.pairs))])


def counter(folder: Path) -> Callable[[Sequence[Pair]], np.ndarray]:
    """Count tokens as the runtime does."""
    return PairTokenizer.load(folder, read_manifest(folder)).count_untruncated


def test_pairs_are_short_and_truncated(pairs: PairSet, built: Path) -> None:
    """Fifteen that are cut, the rest whole, from the shortest to the longest of each; the same every time."""
    probe = pick_pairs(pairs, counter(built), 64)
    assert len(probe.pairs) == len(set(probe.pairs)) == N_PAIRS
    assert (probe.n_tokens > 64).sum() == max(15, N_PAIRS - int((lengths(pairs, built) <= 64).sum()))
    assert probe.n_tokens.min() == lengths(pairs, built).min()
    assert probe.n_tokens.max() == lengths(pairs, built).max()
    assert pick_pairs(pairs, counter(built), 64).pairs == probe.pairs


def test_three_groups(pairs: PairSet, built: Path) -> None:
    """Fifteen that are cut, twenty over 128 tokens, fifteen below."""
    long = tuple(
        (query, " ".join([passage] * (1 + i % 4))) for i, (query, passage) in enumerate(pairs.pairs * 4)
    )
    many = dataclasses.replace(pairs, pairs=long, query_of=np.tile(pairs.query_of, 4), labels=None)
    probe = pick_pairs(many, counter(built), 200)
    assert (probe.n_tokens > 200).sum() == 15
    assert ((probe.n_tokens > LONG) & (probe.n_tokens <= 200)).sum() == 20


def test_pairs_are_lengthened_where_none_is_cut(pairs: PairSet, built: Path) -> None:
    """A set of short pairs shows truncation all the same: five passages are repeated until they are too long."""
    probe = pick_pairs(pairs, counter(built), 512)
    assert (probe.n_tokens > 512).sum() == 5
    assert sum(pair not in pairs.pairs for pair in probe.pairs) == 5


def test_small_set(pairs: PairSet, built: Path) -> None:
    """A set of fewer pairs is scored whole."""
    probe = pick_pairs(pairs.picked([0, 1, 2]), counter(built), 64)
    assert len(probe.pairs) == 3


# --- what scores say ---

OURS = np.array([-4.0, -1.0, 0.5, 2.0, 3.0])
PROBE = Probe((("q", "p"),) * 5, np.array([10, 40, 90, 200, 600]), 512)
BOUND = np.full(5, 1e-4)


@pytest.mark.parametrize(
    ("applied", "name"),
    [(lambda x: x, "none"), (sigmoid, "sigmoid"), (lambda x: sigmoid(sigmoid(x)), "two sigmoids")],
)
def test_activation_is_found_and_undone(applied, name: str) -> None:
    """What was applied is what, undone, gives our logits."""
    found, logits, resolution = undo_activation(applied(OURS), OURS)
    assert found == name
    assert np.allclose(logits, OURS)
    assert (resolution < 1e-4).all()


def test_logits_between_0_and_1_are_logits() -> None:
    """Scores that could be shares are logits if they are ours."""
    assert undo_activation(np.array([0.1, 0.9]), np.array([0.1, 0.9]))[0] == "none"


def test_saturated_sigmoid_is_not_compared() -> None:
    """A float32 of 1 stands for every logit above 17: how exactly a logit is known says so; small shares are exact."""
    ours = np.array([20.0, 9.0, 0.0, -20.0])
    _, _, resolution = undo_activation(sigmoid(ours).astype(np.float32).astype(np.float64), ours)
    assert (resolution > 1e-4).tolist() == [True, True, False, False]


def test_nothing_lost() -> None:
    """Scores within the bound lose nothing."""
    assert losses(OURS + 5e-5, OURS, OURS - 1, PROBE, BOUND) == ()


def test_token_types_lost() -> None:
    """Scores that are ours without token types say what is missing."""
    assert losses(OURS - 1, OURS, OURS - 1, PROBE, BOUND) == ("token types",)


def test_truncation_differs() -> None:
    """Only the pairs that are too long are off."""
    assert losses(OURS + np.array([0, 0, 0, 0, 1]), OURS, None, PROBE, BOUND) == (TRUNCATION,)


def test_long_pairs_cut_short() -> None:
    """All pairs over some length are off, though the model reads more."""
    assert losses(OURS + np.array([0, 0, 0, 1, 1]), OURS, None, PROBE, BOUND) == (
        "what is beyond some 90 tokens",
    )


def test_two_losses_at_once() -> None:
    """Token types and truncation are told apart also when both are lost."""
    assert losses(OURS - np.array([1, 1, 1, 1, 2]), OURS, OURS - 1, PROBE, BOUND) == (
        "token types",
        TRUNCATION,
    )


@pytest.mark.parametrize("off", [[0, 1, 0, 0, 0], [1, 1, 1, 1, 1], [0, np.nan, 0, 0, 0]])
def test_unexplained(off: list[float]) -> None:
    """What nothing explains is not explained away."""
    assert losses(OURS + off, OURS, OURS - 5, PROBE, BOUND) == ("something unknown",)


def test_token_types_lost_within_a_wide_bound() -> None:
    """A bound as wide as int8's does not hide that scores are those without token types."""
    assert losses(OURS - 0.2, OURS, OURS - 0.2, PROBE, BOUND * 5000) == ("token types",)


@pytest.mark.parametrize(
    ("engine", "kind", "effect", "bound"),
    [
        ("onnxruntime", "onnx", 0.3, 1e-4),
        ("onnxruntime", "onnx-int8", 0.3, 1e-4),
        ("another onnxruntime", "onnx-int8", 0.3, 0.3),
        ("ours", "onnx-int8", 0.3, 0.3),
        ("another onnxruntime", "onnx-int8", 1e-7, 1e-4),
        ("onnxruntime", "onnx-int8-static", None, 1e-4),
        ("openvino", "openvino-int8", 0.3, 1e-4),
    ],
)
def test_bound_has_a_reason(engine: str, kind: str, effect: float | None, bound: float) -> None:
    """Float32 has one bound; int8 that of its own measured noise; each says why."""
    found = bound_of(engine, kind, effect)
    assert found.logits == bound
    assert len(found.why.split()) > 5


# --- real folders ---


@pytest.fixture
def published(built: Path, tmp_path: Path) -> Path:
    """The tiny artifact's ONNX kinds as they are published."""
    folder = tmp_path / "out"
    folder.mkdir()
    layout = lay_out(read_manifest(built), ["onnx", "onnx-int8"])
    place(layout, built, folder)
    sealed(folder, dataclasses.replace(read_manifest(built), variants=layout.variants))
    return folder


def sealed(folder: Path, manifest: Manifest) -> Manifest:
    """Write the manifest of a folder's files as they are now."""
    (folder / "manifest.json").unlink(missing_ok=True)
    manifest = dataclasses.replace(manifest, files=list_files(folder))
    write_manifest(manifest, folder)
    return manifest


def checked(folder: Path, pairs: PairSet, *only: str) -> ConsumerReport:
    manifest = sealed(folder, read_manifest(folder))
    return check_consumers(folder, manifest, pairs, Silent(), started_at=STARTED_AT, only=only)


def changed_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_bare_onnxruntime_agrees(published: Path, pairs: PairSet) -> None:
    """Two packages and a published folder give our scores, for every ONNX file in it; the folder is not touched."""
    before = list_files(published)
    found = checked(published, pairs, "onnxruntime and tokenizers")
    assert [(row.file, row.outcome, row.activation) for row in found.rows] == [
        ("onnx/model.onnx", "agrees", "none"),
        ("onnx/model_qint8_avx2.onnx", "agrees", "none"),
    ]
    assert found.problems == ()
    assert (found.n_pairs, found.n_truncated) == (N_PAIRS, 15)
    assert list_files(published) == before


def test_folder_without_token_types_is_caught(published: Path, pairs: PairSet) -> None:
    """A tokenizer's file that does not name token types: the library feeds zeros, and its scores show it."""
    changed_json(published / "tokenizer_config.json", model_input_names=["input_ids", "attention_mask"])
    row, _ = checked(published, pairs, "optimum ORTModel").rows
    assert (row.outcome, row.loses) == ("differs", ("token types",))


def test_folder_that_cuts_pairs_short_is_caught(published: Path, pairs: PairSet) -> None:
    """A leftover limit in a tokenizer's file: short pairs agree, longer ones do not."""
    changed_json(published / "tokenizer_config.json", model_max_length=32)
    found = checked(published, pairs, "optimum ORTModel")
    assert found.rows[0].outcome == "differs"
    assert re.fullmatch(r"what is beyond some (2\d|3[0-2]) tokens", found.rows[0].loses[0])
    assert "optimum ORTModel, onnx/model.onnx: differs" in found.problems[0]


def test_sigmoid_is_undone(published: Path, pairs: PairSet) -> None:
    """A folder that asks for a sigmoid gets one, and agrees."""
    changed_json(
        published / "config.json",
        sentence_transformers={"activation_fn": "torch.nn.modules.activation.Sigmoid"},
    )
    for row in checked(published, pairs, "sentence-transformers onnx").rows:
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


def test_what_is_not_installed_is_no_failure(
    published: Path, pairs: PairSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a package there is a row that says how to get it, and nothing is wrong."""
    monkeypatch.setattr(loaders, "package_version", lambda _name: None)
    found = checked(published, pairs, "fastembed", "flashrank")
    assert [(row.outcome, row.why) for row in found.rows] == [
        ("not run", "not installed; pip install fastembed"),
        ("not run", "not installed; pip install flashrank"),
    ]
    assert found.problems == ()


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
    """A name that is none is answered with those there are."""
    with pytest.raises(RecipeError, match="'vllm' is no consumer; they are .*fastembed"):
        checked(published, pairs, "vllm")


def test_table(published: Path, pairs: PairSet) -> None:
    """The table has a row for each file, the pairs' rule, and the reason of each bound."""
    text = markdown(checked(published, pairs, "onnxruntime and tokenizers"))
    assert len(re.findall(r"^\| onnxruntime and tokenizers \|", text, re.MULTILINE)) == 2
    assert "50 pairs, 0 of them over 128 tokens and 15 truncated" in text
    assert "verify set by their tokens" in text


@pytest.mark.parametrize("name", CONSUMERS)
def test_every_consumer_says_where_its_usage_comes_from(name: str) -> None:
    """A consumer is run as documented, and the document is named."""
    assert CONSUMERS[name].source.startswith("https://")
