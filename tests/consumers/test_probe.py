"""The probe: which pairs every consumer scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from exporter.artifact.manifest import read_manifest
from exporter.consumers.probe import LONG, N_PAIRS, pick_pairs
from exporter.pairs import Pair, PairSet
from exporter.runtime import PairTokenizer


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
    """Short pairs show truncation all the same: five passages are repeated until they are too long."""
    probe = pick_pairs(pairs, counter(built), 512)
    assert (probe.n_tokens > 512).sum() == 5
    assert sum(pair not in pairs.pairs for pair in probe.pairs) == 5


def test_small_set(pairs: PairSet, built: Path) -> None:
    """A set of fewer pairs is scored whole."""
    probe = pick_pairs(pairs.picked([0, 1, 2]), counter(built), 64)
    assert len(probe.pairs) == 3
