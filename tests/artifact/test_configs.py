"""What a model's JSON files may hold: folders as the Hub has them pass, whatever names something does not."""

from __future__ import annotations

import json
from inspect import Parameter, signature

import pytest

from exporter.artifact import config_keys as keys
from exporter.artifact.configs import ADDED_TOKENS, CONFIG, FOREIGN, SPECIAL_TOKENS, TOKENIZER_CONFIG, odd_key
from tests.hub_folders import CONFIGS, TOKENIZER_CONFIGS, token


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_configs_as_the_hub_has_them(config: dict[str, object]) -> None:
    """Long configs, keys of old versions and of other programs are no reason to refuse a model."""
    assert odd_key(CONFIG, config) is None


@pytest.mark.parametrize("config", TOKENIZER_CONFIGS.values(), ids=TOKENIZER_CONFIGS)
def test_tokenizer_configs_as_the_hub_has_them(config: dict[str, object]) -> None:
    """Tokens as texts and as mappings, templates, limits of 10^30 tokens."""
    assert odd_key(TOKENIZER_CONFIG, config) is None


def test_tokens_as_the_hub_has_them() -> None:
    """The two smaller files of a tokenizer."""
    special = {"cls_token": "[CLS]", "mask_token": token("[MASK]"), "additional_special_tokens": ["<x>"]}
    assert odd_key(SPECIAL_TOKENS, special) is None
    assert odd_key(ADDED_TOKENS, {"[MASK]": 128000, "</path>": 7}) is None


def test_keys_of_the_installed_transformers_are_known() -> None:
    """Every parameter of a configuration class of a model that is allowed is a key that is."""
    from transformers import CONFIG_MAPPING, PretrainedConfig

    known = keys.PLAIN | keys.TEXTS | keys.LABELS | keys.MAPPINGS | keys.CHOICES.keys() | keys.FOREIGN
    here = [name for name in sorted(keys.MODEL_TYPES) if name in CONFIG_MAPPING]
    assert len(here) > 70
    for name in here:
        cls = CONFIG_MAPPING[name]
        wanted = {
            parameter.name
            for one in (cls, PretrainedConfig)
            for parameter in signature(one.__init__).parameters.values()
            if parameter.kind is not Parameter.VAR_KEYWORD
        } | cls.attribute_map.keys()
        assert wanted - known - {"self"} == set(), name


def test_configs_that_transformers_writes_are_known() -> None:
    """What `save_pretrained` writes of each model that is allowed, every default included, passes."""
    from transformers import CONFIG_MAPPING

    for name in [name for name in sorted(keys.MODEL_TYPES - {"mpt"}) if name in CONFIG_MAPPING]:
        written = json.loads(json.dumps(CONFIG_MAPPING[name](num_labels=1).to_dict()))
        written["model_type"] = name
        found = {key: value for key, value in written.items() if key != "esmfold_config"}
        assert odd_key(CONFIG, found) is None, name


@pytest.mark.parametrize("key", sorted(keys.FOREIGN))
def test_keys_that_bring_something_may_say_nothing(key: str) -> None:
    """Published files have `"auto_map": null`; with a value each is refused as code or files of others."""
    for nothing in (None, False, "", [], {}):
        assert odd_key(CONFIG, {key: nothing}) is None
    assert odd_key(CONFIG, {key: "org/name"}) == (key, FOREIGN)
    assert odd_key(TOKENIZER_CONFIG, {key: "org/name"}) == (key, FOREIGN)
    assert odd_key(SPECIAL_TOKENS, {key: "org/name"}) is not None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("_anything", 1),
        ("anything", "org/name"),
        ("anything", None),
        ("hidden_act", "org/name"),
        ("hidden_act", "../x"),
        ("layer_types", ["full_attention", "org/name"]),
        ("rope_scaling", {"rope_type": "org/name"}),
        ("rope_scaling", "org/name"),
        ("architectures", [["org/name"]]),
        ("num_hidden_layers", 10**6),
        ("vocab_size", 10**12),
        ("hidden_size", 1e30),
        ("layer_norm_eps", float("nan")),
        ("id2label", "org/name"),
        ("sentence_transformers", {"code": "x"}),
        ("sentence_transformers", "x"),
        ("a key", 1),
        ("k" * 1000, 1),
    ],
)
def test_keys_and_values_that_are_not_known(key: str, value: object) -> None:
    """Each is named; no list of what is harmful is needed to find it."""
    found = odd_key(CONFIG, {"model_type": "bert", key: value})
    assert found is not None
    assert found[0] == key
    assert found[1].isprintable()


def test_layers_and_experts_are_bounded_together() -> None:
    """Kimi K2's 61 layers of 384 pass; a thousand layers of thousands, each allowed alone, do not."""
    assert odd_key(CONFIG, {"num_hidden_layers": 61, "n_routed_experts": 384}) is None
    assert odd_key(CONFIG, {"num_hidden_layers": 1000}) is None
    assert odd_key(CONFIG, {"num_hidden_layers": 1000, "num_experts": 10_000}) == (
        "num_experts",
        "is 10000 in each of 1000 layers, and no model has 32768 in all",
    )


@pytest.mark.parametrize("value", [None, True, 1, 1.5, "x", [], [[]], {}, {"a": []}], ids=repr)
def test_any_value_of_any_key_is_judged(value: object) -> None:
    """Whatever JSON stands under a key, it is accepted or refused, and nothing is raised."""
    forms = keys.CHOICES.keys() | keys.LABELS | keys.MAPPINGS | keys.TEXTS | keys.ACTIVATIONS | keys.FOREIGN
    known = forms | {"model_type", "num_experts", "num_hidden_layers", keys.SENTENCE_TRANSFORMERS}
    tokens = keys.TOKENS | {keys.ADDED_TOKENS, keys.SENTENCE_PIECE, "tokenizer_class", "cls_token", "vocab"}
    for file in (CONFIG, TOKENIZER_CONFIG, SPECIAL_TOKENS, ADDED_TOKENS):
        for key in known | tokens:
            found = odd_key(file, {key: value})
            assert found is None or found[0] in (key, file)
