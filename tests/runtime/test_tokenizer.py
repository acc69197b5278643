"""One door for tokens: what it encodes, counts and pads. Uses the tiny artifact's tokenizer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from exporter.artifact.manifest import read_manifest
from exporter.errors import IntegrityError, RecipeError
from exporter.pairs import Pair
from exporter.runtime import PairTokenizer
from tests.support import WORDS

TEXTS = st.lists(st.sampled_from(WORDS), max_size=80).map(" ".join)


@pytest.fixture(scope="module")
def tokenizer(built: Path) -> PairTokenizer:
    return PairTokenizer.load(built, read_manifest(built))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(TEXTS, TEXTS), max_size=5))
def test_counts_are_the_tokenizers(built: Path, tokenizer: PairTokenizer, pairs: list[Pair]) -> None:
    """Tokens before and after truncation are those the file gives without and with its own truncation."""
    plain = Tokenizer.from_file(str(built / "tokenizer.json"))
    truncated = [len(encoding) for encoding in plain.encode_batch(pairs)]
    plain.no_truncation()
    whole = [len(encoding) for encoding in plain.encode_batch(pairs)]
    assert tokenizer.count(pairs).tolist() == truncated
    assert tokenizer.count_untruncated(pairs).tolist() == whole


def test_long_texts_are_counted_whole(tokenizer: PairTokenizer) -> None:
    """A text far longer than the model reads is cut for the model, and counted to its end."""
    pairs = [("wing " * 3_000, "lift " * 7_000)]
    assert tokenizer.count(pairs).tolist() == [tokenizer.max_length]
    assert tokenizer.count_untruncated(pairs).tolist() == [10_000 + 3]  # [CLS], [SEP], [SEP]


def test_a_batch_is_padded_to_its_longest_row(tokenizer: PairTokenizer) -> None:
    """Rows are padded on the right, only with the inputs asked for."""
    encodings = tokenizer.encode([("wing", "lift"), ("wing", "lift drag")])
    batch = tokenizer.padded(encodings, ("input_ids", "attention_mask"))
    assert list(batch) == ["input_ids", "attention_mask"]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]]
    assert batch["input_ids"][0, -1] == tokenizer.pad_id
    assert {array.dtype for array in batch.values()} == {np.dtype(np.int64)}


@pytest.mark.parametrize("count", ["count", "count_untruncated"])
@pytest.mark.parametrize(
    ("pair", "found"), [(("a",), "pair 1 is"), (("a", "\ud800"), "pair 1 is not valid Unicode")]
)
def test_what_is_no_pair_is_named(tokenizer: PairTokenizer, count: str, pair: Pair, found: str) -> None:
    """Counting names the position of what is no pair of texts, as scoring does."""
    with pytest.raises(RecipeError, match=found):
        getattr(tokenizer, count)([("wing", "lift"), pair])


def test_another_file_is_refused(artifact: Path) -> None:
    """A tokenizer that was changed since the manifest was written is not used."""
    manifest = read_manifest(artifact)
    with (artifact / "tokenizer.json").open("a") as file:
        file.write(" ")
    with pytest.raises(IntegrityError, match=r"tokenizer\.json is not the file its manifest names"):
        PairTokenizer.load(artifact, manifest)


def test_counting_opens_no_engine(built: Path) -> None:
    """Counting tokens loads no engine's library, and reads no model file."""
    code = f"""
import sys
from pathlib import Path
from exporter.artifact.manifest import read_manifest
from exporter.runtime import PairTokenizer
folder = Path({str(built)!r})
tokenizer = PairTokenizer.load(folder, read_manifest(folder))
print(*tokenizer.count([("wing", "lift")]), "onnxruntime" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["5", "False"]
