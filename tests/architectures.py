"""Tiny random cross-encoders of many architectures, made in code with a tokenizer of whole words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.support import SPECIAL, WORDS

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PretrainedConfig

N_TOKENS = 64
_MASKED = ("input_ids", "attention_mask")
_TYPED = (*_MASKED, "token_type_ids")
_SIZES = {
    "vocab_size": len(SPECIAL) + len(WORDS),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": N_TOKENS,
    "num_labels": 1,
    "pad_token_id": 0,
}
_DISTILBERT = {"dim": 32, "n_heads": 4, "hidden_dim": 64, "n_layers": 2}
_OFFSET = {**_SIZES, "max_position_embeddings": N_TOKENS + 2}  # positions start behind the padding's
_RELATIVE = {
    "relative_attention": True,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
    "position_buckets": 16,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pooler_hidden_size": 32,
}
_MODERN = {
    **dict(zip(("cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id"), (2, 3, 2, 3), strict=True)),
    "reference_compile": False,
}
# By name: the type of the config, what it is made with, what the tokenizer says that it gives (None: nothing,
# so that it gives all), and what the scores depend on.
ARCHITECTURES = {
    "bert": ("Bert", _SIZES, _TYPED, _TYPED),
    "bert, tokenizer without types": ("Bert", _SIZES, _MASKED, _MASKED),
    "bert, tokenizer without a mask": ("Bert", _SIZES, _MASKED[:1], _MASKED),
    "electra": ("Electra", {**_SIZES, "embedding_size": 16}, _TYPED, _TYPED),
    "electra, tokenizer without types": ("Electra", {**_SIZES, "embedding_size": 16}, _MASKED, _MASKED),
    "roberta": ("Roberta", _OFFSET, _MASKED, _MASKED),
    "roberta with types": ("Roberta", {**_OFFSET, "type_vocab_size": 2}, _TYPED, _TYPED),
    "xlm-roberta": ("XLMRoberta", _OFFSET, _MASKED, _MASKED),
    "camembert": ("Camembert", _OFFSET, _MASKED, _MASKED),
    "distilbert": ("DistilBert", {**_SIZES, **_DISTILBERT}, _MASKED, _MASKED),
    "mpnet": ("MPNet", _OFFSET, _MASKED, _MASKED),
    "albert": ("Albert", {**_SIZES, "embedding_size": 16}, _TYPED, _TYPED),
    "deberta": ("Deberta", {**_SIZES, "relative_attention": True, "type_vocab_size": 0}, _TYPED, _MASKED),
    "deberta-v2": ("DebertaV2", {**_SIZES, **_RELATIVE, "type_vocab_size": 0}, _TYPED, _MASKED),
    "deberta-v2 with types": ("DebertaV2", {**_SIZES, **_RELATIVE, "type_vocab_size": 2}, _TYPED, _TYPED),
    "modernbert": ("ModernBert", {**_SIZES, **_MODERN, "classifier_pooling": "cls"}, _MASKED, _MASKED),
    "modernbert, tokenizer that does not say": (
        "ModernBert",
        {**_SIZES, **_MODERN, "classifier_pooling": "mean"},
        None,
        _MASKED,
    ),
}
# What cannot be exported, each in another step.
BROKEN = {
    "distilbert, tokenizer with types": ("DistilBert", {**_SIZES, **_DISTILBERT}, _TYPED),
    "longformer": ("Longformer", {**_OFFSET, "attention_window": 8}, _MASKED),
    "ernie": ("Ernie", _SIZES, _TYPED),
}


def write_architecture(folder: Path, name: str, **changes: object) -> Path:
    """Write a cross-encoder of an architecture with 64 positions; `changes` are the config's."""
    import torch
    import transformers

    kind, sizes, names, *_ = {**ARCHITECTURES, **BROKEN}[name]
    folder.mkdir(parents=True)
    _write_tokenizer(folder, names)
    config: PretrainedConfig = getattr(transformers, f"{kind}Config")(**{**sizes, **changes})
    config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}
    config.initializer_range = 0.25  # scores far enough apart to differ
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForSequenceClassification")(config).eval()
    rng = np.random.default_rng(0)
    with torch.no_grad():  # biases are born as zeros, which would hide a rewrite that drops them
        for weight in model.parameters():
            weight.add_(torch.from_numpy(rng.normal(0, 0.05, tuple(weight.shape)).astype(np.float32)))
    model.save_pretrained(folder, safe_serialization=True)
    return folder


def _write_tokenizer(folder: Path, names: tuple[str, ...] | None) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*SPECIAL, *WORDS])}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokens = dict(
        zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True)
    )
    given = {} if names is None else {"model_input_names": list(names)}
    PreTrainedTokenizerFast(
        tokenizer_object=words, model_max_length=N_TOKENS, **tokens, **given
    ).save_pretrained(folder)
