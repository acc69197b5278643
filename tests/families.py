"""Tiny cross-encoders of several architectures, made in code, and ways to change a saved one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.support import SPECIAL, WORDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from transformers import PretrainedConfig

N_WORDS = len(SPECIAL) + len(WORDS)
_SIZES: dict[str, Any] = {
    "vocab_size": N_WORDS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_labels": 1,
}
# Of positions, RoBERTa and its kind have two that no token gets.
_ROBERTA = {**_SIZES, "max_position_embeddings": 66, "pad_token_id": 1}
_BERT = {**_SIZES, "max_position_embeddings": 64}


def config_of(family: str) -> PretrainedConfig:
    """Return the config of a tiny model with 64 positions for tokens."""
    import transformers as t

    configs: dict[str, Callable[[], PretrainedConfig]] = {
        "bert": lambda: t.BertConfig(**_BERT),
        "electra": lambda: t.ElectraConfig(**_BERT, embedding_size=32),
        "roberta": lambda: t.RobertaConfig(**_ROBERTA, type_vocab_size=1),
        "xlm-roberta": lambda: t.XLMRobertaConfig(**_ROBERTA, type_vocab_size=1),
        "mpnet": lambda: t.MPNetConfig(**_ROBERTA),
        "distilbert": lambda: t.DistilBertConfig(
            vocab_size=N_WORDS, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=64,
            num_labels=1,
        ),
        "deberta-v2": lambda: t.DebertaV2Config(
            **_BERT, type_vocab_size=0, relative_attention=True, pos_att_type=["p2c", "c2p"],
            position_biased_input=False, share_att_key=True, position_buckets=16, norm_rel_ebd="layer_norm",
            pooler_hidden_size=32,
        ),
        "modernbert": lambda: t.ModernBertConfig(
            **_BERT, pad_token_id=0, cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3,
            reference_compile=False,
        ),
        "convbert": lambda: t.ConvBertConfig(**_BERT, embedding_size=32, head_ratio=2),
        "xlnet": lambda: t.XLNetConfig(
            vocab_size=N_WORDS, d_model=32, n_layer=2, n_head=4, d_inner=64, num_labels=1
        ),
        "qwen2": lambda: t.Qwen2Config(
            **_BERT, num_key_value_heads=2, pad_token_id=0
        ),
    }  # fmt: skip
    return configs[family]()


FAMILIES = (
    "bert",
    "electra",
    "roberta",
    "xlm-roberta",
    "mpnet",
    "distilbert",
    "deberta-v2",
    "modernbert",
)


def write_tokenizer(folder: Path, family: str, **options: Any) -> None:
    """Write a tokenizer of 37 words, without a limit unless `model_max_length` is given."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertTokenizerFast, PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    if family in ("roberta", "xlm-roberta", "mpnet"):
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        words = {word: i for i, word in enumerate([*special, *WORDS])}
        plain = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
        plain.pre_tokenizer = pre_tokenizers.Whitespace()
        plain.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
        names = ("bos", "pad", "eos", "unk", "mask")
        options = {f"{name}_token": token for name, token in zip(names, special, strict=True)} | options
        PreTrainedTokenizerFast(
            tokenizer_object=plain,
            cls_token="<s>",
            sep_token="</s>",
            model_input_names=["input_ids", "attention_mask"],
            **options,
        ).save_pretrained(folder)
        return
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *WORDS]) + "\n", encoding="utf-8")
    if family in ("modernbert", "distilbert"):
        options = {"model_input_names": ["input_ids", "attention_mask"]} | options
    BertTokenizerFast(str(folder / "vocab.txt"), **options).save_pretrained(folder)


def write_family(folder: Path, family: str, *, save: dict[str, Any] | None = None, **tokenizer: Any) -> Path:
    """Write a tiny model of a family with its tokenizer; `save` goes to the model's `save_pretrained`."""
    import torch
    from transformers import AutoModelForSequenceClassification

    write_tokenizer(folder, family, **tokenizer)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(config_of(family))
        for parameter in model.parameters():  # scores of fresh weights hardly differ
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.25)
    model.save_pretrained(folder, **(save or {}))
    return folder


def change_json(path: Path, **changes: object) -> None:
    """Set keys of a JSON file, which need not be there; `...` takes a key out."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    content |= changes
    kept = {key: value for key, value in content.items() if value is not ...}
    path.write_text(json.dumps(kept), encoding="utf-8")


def change_tensors(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Write a model's tensors, name to tensor, as a function changes them."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})
