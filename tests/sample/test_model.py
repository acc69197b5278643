"""The embedded model and pairs: what they are, and that nothing else passes for them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from exporter.cache import Cache
from exporter.errors import IntegrityError
from exporter.export.source import find_source
from exporter.pairs import load_pairs
from exporter.recipe.schema import Model
from exporter.sample import model as sample


def test_pairs_are_enough_labelled_and_disjoint() -> None:
    """300 held-out questions of 12 candidates decide a 99 % bar; calibration shares no text with them."""
    verify, calibrate = load_pairs("sample/verify"), load_pairs("sample/calibrate")
    assert len(verify.query_ids) == 300
    assert np.bincount(verify.query_of).min() >= 12
    assert verify.labels is not None
    assert all(verify.labels[verify.query_of == q].any() for q in range(300))
    assert len(calibrate.pairs) >= 200
    for side in (0, 1):
        assert not {pair[side] for pair in verify.pairs} & {pair[side] for pair in calibrate.pairs}


def test_some_pairs_are_truncated() -> None:
    """Both sets hold pairs of more than 512 tokens."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(sample.backbone_dir() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    for name, least in (("sample/verify", 50), ("sample/calibrate", 5)):
        lengths = [len(encoding) for encoding in tokenizer.encode_batch(list(load_pairs(name).pairs))]
        assert sum(length > 512 for length in lengths) >= least


def test_merge_adds_low_rank_and_replaces_whole() -> None:
    """Two hand-sized tensors: 1 + 2·3 = 7 where factors stand, the new value where a whole tensor does."""
    backbone = {
        "a": np.ones((1, 1), np.float32),
        "b": np.zeros(2, np.float32),
        "c": np.full(1, 5, np.float32),
    }
    stored = {
        "a.left": np.full((1, 1), 2, np.float16),
        "a.right": np.full((1, 1), 3, np.float16),
        "b.whole": np.array([1, 2], np.float32),
    }
    merged = sample.merge(backbone, stored)
    assert {name: value.ravel().tolist() for name, value in merged.items()} == {
        "a": [7.0],
        "b": [1.0, 2.0],
        "c": [5.0],
    }
    assert all(value.dtype == np.float32 for value in merged.values())


def test_a_changed_difference_is_refused(tmp_path: Path) -> None:
    """One flipped byte in the shipped weights is caught before they are read."""
    data = bytearray(sample.DIFFERENCE.read_bytes())
    data[-1] ^= 1
    (tmp_path / "difference.safetensors").write_bytes(data)
    with pytest.raises(IntegrityError, match="sha256 is"):
        sample.write_sample_model(tmp_path, tmp_path / "difference.safetensors")
    with pytest.raises(IntegrityError, match="no file"):
        sample.check_sha256(tmp_path / "nowhere", "0" * 64)


def test_sample_is_a_plain_cross_encoder_that_ranks() -> None:
    """`source: sample` is an ordinary folder; sentence-transformers loads it, and it ranks."""
    from sentence_transformers import CrossEncoder
    from transformers import BertForSequenceClassification

    source = find_source(Model(source="sample"), Cache.of_user())
    config = json.loads((source.folder / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert (config["num_hidden_layers"], config["hidden_size"]) == (6, 384)
    assert "transformers_version" not in config  # its bytes, and what is built from it, do not depend on one
    _, found = BertForSequenceClassification.from_pretrained(source.folder, output_loading_info=True)
    assert not any(found.values())  # no weight missing, left over or of another shape
    verify = load_pairs("sample/verify")
    assert verify.labels is not None
    rows = np.flatnonzero(verify.query_of < 10)
    scores = CrossEncoder(str(source.folder), device="cpu").predict(
        [list(verify.pairs[i]) for i in rows], batch_size=8
    )
    best = [
        rows[verify.query_of[rows] == q][np.argmax(scores[verify.query_of[rows] == q])] for q in range(10)
    ]
    assert verify.labels[best].sum() >= 8
    assert scores.min() < 0 < scores.max()  # logits, not probabilities


def test_sample_size() -> None:
    """The shipped difference stays small enough for git and a wheel."""
    assert sample.DIFFERENCE.stat().st_size < 4.5e6
