"""What tests share: a tiny cross-encoder made in code, pairs for it, and values to change one by one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WORDS = [
    "wing",
    "lift",
    "drag",
    "flow",
    "heat",
    "shock",
    "layer",
    "speed",
    "sound",
    "model",
    "plate",
    "cone",
    "blunt",
    "body",
    "mach",
    "number",
    "pressure",
    "skin",
    "friction",
    "laminar",
    "turbulent",
    "boundary",
    "transfer",
    "jet",
    "nozzle",
    "angle",
    "attack",
    "surface",
    "gas",
    "theory",
    "test",
    "result",
]
_OUTLIER = 200.0
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def write_tiny_model(
    folder: Path,
    *,
    seed: int = 0,
    n_labels: int = 1,
    n_layers: int = 2,
    outlier_layers: Sequence[int] = (),
) -> Path:
    """Write a BERT cross-encoder over a 40-word vocabulary.

    Its weights come from numpy, not from torch's seed. In the attention of outlier layers one channel of the
    values is 200 times as large, and the weights that read it as much smaller: the same scores in fp32, and
    next to nothing left of the other channels where all of them share one int8 range.
    """
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *WORDS]) + "\n", encoding="utf-8")
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=32,
        num_hidden_layers=n_layers,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        num_labels=n_labels,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}
    model = BertForSequenceClassification(config).eval()
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            centre = 1.0 if name.endswith("LayerNorm.weight") else 0.0
            values = rng.normal(centre, 0.25 if weight.ndim == 2 else 0.05, tuple(weight.shape))
            weight.copy_(torch.from_numpy(values.astype(np.float32)))
        for layer in outlier_layers:
            attention = model.bert.encoder.layer[layer].attention
            attention.self.value.weight[0] *= _OUTLIER
            attention.self.value.bias[0] *= _OUTLIER
            attention.output.dense.weight[:, 0] /= _OUTLIER
    model.save_pretrained(folder, safe_serialization=True)
    return folder


def write_pairs(
    path: Path, *, n_queries: int = 12, n_passages: int = 6, seed: int = 1, labels: bool = True
) -> Path:
    """Write a pair set of random words; passages that share words with the query are labelled relevant."""
    rng = np.random.default_rng(seed)
    with path.open("w", encoding="utf-8") as out:
        for q in range(n_queries):
            query = rng.choice(WORDS, 4, replace=False).tolist()
            for p in range(n_passages):
                relevant = p == q % n_passages
                words = rng.choice(WORDS, int(rng.integers(4, 90))).tolist() + (query[:2] if relevant else [])
                row = {"query": " ".join(query), "passage": " ".join(words), "query_id": f"q{q}"}
                out.write(json.dumps({**row, "label": int(relevant)} if labels else row) + "\n")
    return path


RECIPE = """\
name: tiny
model: {source: ./model, max_length: 64}
pairs: {verify: pairs.jsonl, calibrate: calibrate.jsonl}
measure: {budget_s: 1}
variants:
"""
LOOSE_BARS = "{min_kendall_tau: 0.3, max_abs_diff: 5}"


def write_recipe(folder: Path, *kinds: str, bars: str = LOOSE_BARS, file: str = "recipe.yaml") -> Path:
    """Write a recipe beside a tiny model and its pairs."""
    path = folder / file
    path.write_text(
        RECIPE + "".join(f"  - {{kind: {kind}, bars: {bars}}}\n" for kind in kinds), encoding="utf-8"
    )
    return path
