"""Pick the pairs that every consumer scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from exporter.pairs import Pair, PairSet

N_PAIRS = 50
_N_TRUNCATED, _N_LONG = 15, 20
# A leftover limit of this many tokens in a tokenizer's file is what went wrong most often.
# Source: https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/blob/main/tokenizer.json (truncation)
LONG = 128
_MIN_TRUNCATED = 5

RULE = (
    f"{N_PAIRS} pairs of the artifact's verify set by their tokens: up to {_N_TRUNCATED} longer than the "
    f"model reads, then up to {_N_LONG} over {LONG} tokens, the rest from those up to {LONG}, each evenly "
    "from the shortest to the longest; where one group has too few the others fill up, and with fewer than "
    f"{_MIN_TRUNCATED} truncated pairs the longest passages are repeated until there are"
)


@dataclass(frozen=True, slots=True)
class Probe:
    """The pairs every consumer scores.

    Attributes:
        pairs: (query, passage) texts.
        n_tokens: int64[n_pairs], tokens before truncation, special tokens counted.
        max_length: the tokens of a pair that the model reads.
    """

    pairs: tuple[Pair, ...]
    n_tokens: NDArray[np.int64]
    max_length: int


def pick_pairs(
    pair_set: PairSet, count: Callable[[Sequence[Pair]], NDArray[np.int64]], max_length: int
) -> Probe:
    """Pick the pairs that every consumer scores, by `RULE`; the same for the same set, counts and limit.

    Args:
        pair_set: where to pick from.
        count: counts the tokens of pairs before truncation, int64[n_pairs], as
            `PairTokenizer.count_untruncated` does.
        max_length: the tokens of a pair that the model reads.
    """
    n_tokens = count(pair_set.pairs)
    groups = (  # truncated, long, short
        n_tokens > max_length,
        (n_tokens > LONG) & (n_tokens <= max_length),
        (n_tokens <= LONG) & (n_tokens <= max_length),
    )
    picked: list[int] = []
    for group, wanted in zip(groups, (_N_TRUNCATED, _N_TRUNCATED + _N_LONG, N_PAIRS), strict=True):
        picked += _evenly(np.flatnonzero(group), n_tokens, wanted - len(picked))
    picked += _evenly(np.setdiff1d(np.arange(len(n_tokens)), picked), n_tokens, N_PAIRS - len(picked))
    picked.sort()

    pairs = [pair_set.pairs[i] for i in picked]
    lacking = _MIN_TRUNCATED - int(groups[0].sum())
    for at in sorted(range(len(pairs)), key=lambda i: -n_tokens[picked[i]])[: max(lacking, 0)]:
        pairs[at] = _lengthened(pairs[at], lambda pair: int(count([pair])[0]), max_length)
    return Probe(tuple(pairs), count(pairs), max_length)


def _evenly(positions: NDArray[np.int64], n_tokens: NDArray[np.int64], wanted: int) -> list[int]:
    """Pick positions evenly by tokens, both ends among them."""
    order = positions[np.argsort(n_tokens[positions], kind="stable")]
    at = np.linspace(0, len(order) - 1, min(max(wanted, 0), len(order))).astype(np.int64)
    return [int(i) for i in order[at]]


def _lengthened(pair: Pair, count: Callable[[Pair], int], max_length: int) -> Pair:
    """Repeat a pair's passage until the pair is longer than the model reads."""
    query, passage = pair
    text = passage.strip() or query
    while text and count((query, passage)) <= max_length:
        passage = f"{passage} {text}"
        text = passage
    return query, passage
