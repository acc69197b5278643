"""Files beside the weights that change scores are refused by name; those that change none are let be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.cache import Cache
from exporter.errors import RecipeError
from exporter.export.folder import write_config_and_tokenizer
from exporter.export.source import Source, find_source
from exporter.recipe.schema import Model
from tests.families import change_json, write_family

TEMPLATE = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}"
PAIRS = [["wing lift", "drag flow heat"], ["mach", "cone blunt body jet"]]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder as transformers saves it."""
    return write_family(tmp_path_factory.mktemp("models") / "bert", "bert")


@pytest.fixture(scope="module")
def whole(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same as sentence-transformers saves it, with settings in files of their own."""
    from sentence_transformers import CrossEncoder

    folder = tmp_path_factory.mktemp("models") / "saved"
    CrossEncoder(str(plain), device="cpu").save_pretrained(str(folder))
    return folder


@pytest.fixture
def folder(plain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain, tmp_path / "plain"))


@pytest.fixture
def saved(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "saved"))


def found(folder: Path) -> Source:
    return find_source(Model(source=str(folder)), Cache.of_user())


def refused(folder: Path, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        found(folder)
    assert "\n" not in str(caught.value)


def scores(folder: Path, **options: Any) -> Any:
    from sentence_transformers import CrossEncoder

    return CrossEncoder(str(folder), device="cpu", local_files_only=True).predict(PAIRS, **options)


def same_scores(folder: Path) -> None:
    """Check that the folder that is measured against scores as the user's own."""
    import torch

    source = found(folder)
    assert source.notes == ()
    raw = torch.nn.Identity()
    wanted = scores(folder, activation_fn=raw)
    np.testing.assert_array_equal(scores(source.folder, activation_fn=raw), wanted)


# --- prompts ---


def test_default_prompt(plain: Path, tmp_path: Path) -> None:
    """A prompt before every query moves scores, and is refused by its name and words."""
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(
        str(plain), device="cpu", prompts={"query": "wing ", "document": ""}, default_prompt_name="query"
    )
    model.save_pretrained(str(tmp_path / "saved"))
    assert np.abs(scores(tmp_path / "saved") - scores(plain)).max() > 1e-4
    refused(tmp_path / "saved", r"config_sentence_transformers.json puts the prompt 'query' \('wing '\)")


@pytest.mark.parametrize(
    "said",
    [
        {"prompts": {"query": "", "document": ""}, "default_prompt_name": None},
        {"prompts": {"query": "", "document": ""}, "default_prompt_name": "query"},
        {"prompts": {}, "default_prompt_name": None},
        {"prompts": ..., "default_prompt_name": ...},
    ],
)
def test_prompts_without_words(saved: Path, said: dict[str, object]) -> None:
    """What sentence-transformers writes for every model changes nothing."""
    change_json(saved / "config_sentence_transformers.json", **said)
    same_scores(saved)


def test_prompt_that_is_asked_for_by_name(saved: Path) -> None:
    """`predict` alone uses none of them: the model is taken, and a note says so."""
    change_json(saved / "config_sentence_transformers.json", prompts={"query": "wing ", "document": ""})
    source = found(saved)
    assert source.notes == ("1 prompt used where predict() is given a name; scores are without",)
    np.testing.assert_array_equal(scores(source.folder), scores(saved))


def test_prompts_that_make_no_sense(saved: Path) -> None:
    """A default that is none of the prompts, which sentence-transformers refuses too, and other types."""
    config = saved / "config_sentence_transformers.json"
    change_json(config, prompts={"query": ""}, default_prompt_name="passage")
    refused(saved, "names the prompt 'passage', and has none of that name")
    change_json(config, prompts=["query"], default_prompt_name=None)
    refused(saved, "prompts are names and texts")


def test_prompts_without_modules(folder: Path) -> None:
    """Settings that are not read for want of a modules.json are refused if they say something."""
    config = folder / "config_sentence_transformers.json"
    change_json(config, prompts={"query": "wing "}, default_prompt_name="query")
    refused(folder, "puts the prompt 'query'")
    change_json(config, prompts={"query": "wing "}, default_prompt_name=None)
    same_scores(folder)


# --- chat templates ---


def _in_config(folder: Path) -> None:
    change_json(folder / "tokenizer_config.json", chat_template=TEMPLATE)


def _in_list(folder: Path) -> None:
    change_json(folder / "tokenizer_config.json", chat_template=[{"name": "default", "template": TEMPLATE}])


def _empty(folder: Path) -> None:
    change_json(folder / "tokenizer_config.json", chat_template="")


def _in_file(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")


def _in_folder(folder: Path) -> None:
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "default.jinja").write_text(TEMPLATE, encoding="utf-8")


TEMPLATES = (_in_config, _in_list, _empty, _in_file, _in_folder)


@pytest.mark.parametrize("change", TEMPLATES)
def test_chat_template(folder: Path, change: Any) -> None:
    """Wherever it stands: sentence-transformers puts it around every pair, whatever the architecture."""
    change(folder)
    refused(folder, "puts a chat template around pairs")


@pytest.mark.parametrize("change", TEMPLATES)
def test_chat_template_that_is_not_used(saved: Path, change: Any) -> None:
    """Beside settings that name text alone it is left aside, and the model scores as it does."""
    change(saved)
    same_scores(saved)


def test_chat_template_of_a_decoder(tmp_path: Path) -> None:
    """A decoder with roles for query and document."""
    folder = write_family(tmp_path / "qwen2", "qwen2")
    _in_file(folder)
    refused(folder, "chat_template.jinja puts a chat template")


def test_chat_template_in_the_settings(saved: Path) -> None:
    """Settings that ask for messages, with a template."""
    _in_file(saved)
    entry = {"method": "forward", "method_output_name": "logits"}
    change_json(
        saved / "sentence_bert_config.json",
        modality_config={"text": entry, "message": {**entry, "format": "flat"}},
    )
    refused(saved, "puts a chat template around pairs")
    (saved / "chat_template.jinja").unlink()
    refused(saved, "wanted pairs of text alone in modality_config")


# --- modules ---


def _modules(*names: str) -> str:
    places = {
        "Transformer": "sentence_transformers.base.modules.transformer",
        "Dense": "sentence_transformers.base.modules.dense",
    }
    return json.dumps(
        [
            {
                "idx": i,
                "name": str(i),
                "path": "" if i == 0 else f"{i}_{name}",
                "type": f"{places.get(name, 'sentence_transformers.models')}.{name}",
            }
            for i, name in enumerate(names)
        ]
    )


def test_modules_behind_the_transformer(plain: Path, tmp_path: Path) -> None:
    """A CrossEncoder with a layer of its own behind the transformer is refused by its modules."""
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.modules import Dense

    model = CrossEncoder(str(plain), device="cpu")
    dense = Dense(1, 1, module_input_name="scores", module_output_name="scores")
    CrossEncoder(modules=[model[0], dense], device="cpu").save_pretrained(str(tmp_path / "saved"))
    refused(tmp_path / "saved", r"modules.json has .*Transformer, .*Dense; exporter carries out one")


def test_modules_left_over_from_an_embedding_model(folder: Path) -> None:
    """CrossEncoder does not read them, and neither do we; others than the usual ones are asked about."""
    (folder / "modules.json").write_text(_modules("Transformer", "Pooling", "Normalize"), encoding="utf-8")
    same_scores(folder)
    (folder / "modules.json").write_text(_modules("Transformer", "Pooling", "Dense"), encoding="utf-8")
    refused(folder, "modules.json has .*Dense, .*remove modules.json if it is left over")


@pytest.mark.parametrize("text", ["{}", "[1]", "[{}]", "nonsense", "[" * 100_000])
def test_modules_that_cannot_be_read(saved: Path, text: str) -> None:
    """No list of modules: one line."""
    (saved / "modules.json").write_text(text, encoding="utf-8")
    refused(saved, "modules.json")


def test_modules_elsewhere(saved: Path) -> None:
    """The transformer in a folder of its own."""
    modules = json.loads((saved / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (saved / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    refused(saved, "modules.json keeps the model in 0_Transformer")


# --- arguments of the transformer module ---


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"processing_kwargs": {"text": {"max_length": 8}}}, "sets processing_kwargs"),
        ({"processor_kwargs": {"truncation_side": "left"}}, "sets processor_kwargs.truncation_side"),
        ({"tokenizer_args": {"padding_side": "left"}}, "sets processor_kwargs.padding_side"),
        ({"processor_kwargs": {"use_fast": False}}, "sets processor_kwargs.use_fast"),
        ({"config_args": {"num_labels": 1}}, "sets config_kwargs.num_labels"),
        ({"model_kwargs": {"attn_implementation": "org/kernel"}}, "sets model_kwargs.attn_implementation"),
        ({"model_kwargs": {"quantization_config": {}}}, "sets model_kwargs.quantization_config"),
        ({"model_kwargs": []}, "model_kwargs is no mapping"),
        ({"tokenizer_name_or_path": "elsewhere"}, "sets tokenizer_name_or_path"),
        ({"transformer_task": "feature-extraction"}, "transformer_task is 'feature-extraction'"),
        ({"module_output_name": "token_embeddings"}, "module_output_name 'token_embeddings'"),
        ({"max_seq_length": "64"}, "max_seq_length.* says '64'"),
    ],
)
def test_arguments_that_change_scores(saved: Path, said: dict[str, object], words: str) -> None:
    """What the transformer module would be made with is refused by key, unless it is carried out."""
    change_json(saved / "sentence_bert_config.json", **said)
    refused(saved, f"sentence.*{words}")


def test_arguments_in_a_file_of_another_name(saved: Path) -> None:
    """The first file with any arguments counts, and a CrossEncoder without is none."""
    arguments = saved / "sentence_bert_config.json"
    shutil.copyfile(arguments, saved / "sentence_roberta_config.json")
    change_json(saved / "sentence_roberta_config.json", max_seq_length=24)
    same_scores(saved)
    assert found(saved).max_length == 64
    arguments.write_text("{}", encoding="utf-8")
    same_scores(saved)
    assert found(saved).max_length == 24
    (saved / "sentence_roberta_config.json").unlink()
    refused(saved, "sentence_bert_config.json: transformer_task is 'None'")


@pytest.mark.parametrize(
    "said",
    [
        {"max_seq_length": None, "do_lower_case": False},
        {"do_lower_case": True},  # the tokenizer does it too
        {"model_args": {"torch_dtype": "float32"}, "tokenizer_args": {}, "config_args": {}},
        {"model_kwargs": {"attn_implementation": "eager"}, "unpad_inputs": False, "processing_kwargs": {}},
    ],
)
def test_arguments_that_change_nothing(saved: Path, said: dict[str, object]) -> None:
    """What older versions of sentence-transformers write is no reason to refuse a model."""
    change_json(saved / "sentence_bert_config.json", **said)
    same_scores(saved)


def test_lowercasing_that_the_tokenizer_does_not_do(tmp_path: Path) -> None:
    """A cased tokenizer under `do_lower_case` reads other texts than the artifact would."""
    from sentence_transformers import CrossEncoder

    write_family(tmp_path / "cased", "bert", do_lower_case=False)
    saved = tmp_path / "saved"
    CrossEncoder(str(tmp_path / "cased"), device="cpu").save_pretrained(str(saved))
    same_scores(saved)
    change_json(saved / "sentence_bert_config.json", do_lower_case=True)
    refused(saved, "lowercases texts .do_lower_case. and its tokenizer does not")


# --- adapters, processors ---


def test_adapter(folder: Path) -> None:
    """Weights of another model with an adapter on them are not the weights of this folder."""
    change_json(folder / "adapter_config.json", base_model_name_or_path="org/model", peft_type="LORA")
    refused(folder, "adapter_config.json puts an adapter")


@pytest.mark.parametrize("name", ["processor_config.json", "preprocessor_config.json", "config.json"])
def test_processor_of_more_than_text(folder: Path, name: str) -> None:
    """A processor of images or sound in place of the tokenizer; a tokenizer's own name is none."""
    change_json(folder / name, processor_class="BertTokenizerFast")
    same_scores(folder)
    change_json(folder / name, processor_class="CLIPProcessor")
    refused(folder, f"{name} names 'CLIPProcessor'")


# --- activation ---


@pytest.mark.parametrize("name", ["torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Tanh"])
def test_activation_goes_with_the_artifact(plain: Path, tmp_path: Path, name: str) -> None:
    """What sentence-transformers applies to the model's logits it applies to the artifact's, too."""
    from sentence_transformers import CrossEncoder
    from sentence_transformers.util import import_from_string

    saved = tmp_path / "saved"
    activation = import_from_string(name)()
    CrossEncoder(str(plain), device="cpu", activation_fn=activation).save_pretrained(str(saved))
    source = found(saved)
    assert source.activation == name
    (tmp_path / "artifact").mkdir()
    write_config_and_tokenizer(source, tmp_path / "artifact")
    shutil.copyfile(saved / "model.safetensors", tmp_path / "artifact" / "model.safetensors")
    np.testing.assert_array_equal(scores(tmp_path / "artifact"), scores(saved))


def test_activation_that_was_never_named(folder: Path, tmp_path: Path) -> None:
    """Without one sentence-transformers takes a sigmoid; the config is copied byte for byte."""
    source = found(folder)
    assert source.activation is None
    write_config_and_tokenizer(source, tmp_path)
    assert (tmp_path / "config.json").read_bytes() == (folder / "config.json").read_bytes()


def test_activation_of_earlier_versions(folder: Path) -> None:
    """The key that sentence-transformers 3 wrote."""
    change_json(
        folder / "config.json", sbert_ce_default_activation_function="torch.nn.modules.linear.Identity"
    )
    assert found(folder).activation == "torch.nn.modules.linear.Identity"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("torch.nn.modules.activation.ReLU", "does not keep the order of scores"),
        ("torch.nn.modules.activation.Softmax", "does not keep the order of scores"),
        ("torch.hub.load", "none of torch.nn"),
        ("my_module.Scale", "none of torch.nn"),
        (3, "none of torch.nn"),
    ],
)
def test_activation_that_changes_rankings(folder: Path, saved: Path, said: object, words: str) -> None:
    """Raw scores cannot stand for what an activation folds together, or for code that is not run."""
    change_json(folder / "config.json", sentence_transformers={"activation_fn": said})
    refused(folder, f"config.json names the activation .* {words}")
    change_json(saved / "config_sentence_transformers.json", activation_fn=said)
    refused(saved, f"config_sentence_transformers.json names the activation .* {words}")


def test_settings_that_nobody_knows(saved: Path) -> None:
    """What a later version, or a stranger, puts into the settings is refused by name; null says nothing."""
    change_json(saved / "config_sentence_transformers.json", pipeline=None)
    found(saved)
    change_json(saved / "config_sentence_transformers.json", pipeline="org/name")
    refused(saved, "config_sentence_transformers.json: 'pipeline' is no key that exporter knows")


# --- what lies beside models on the Hub ---


def test_folder_as_on_the_hub(saved: Path) -> None:
    """Cards, graphs, pickles, logs and checkpoints of a training change nothing, and are not looked at."""
    for name in ("onnx", "openvino", "runs", "checkpoint-500", ".cache", "1_Pooling", "eval"):
        (saved / name).mkdir()
        (saved / name / "model.onnx").write_bytes(b"\0")
    for name in ("optimizer.pt", "training_args.bin", "scheduler.pt", "rng_state.pth", "pytorch_model.bin"):
        (saved / name).write_bytes(b"\0")
    for name in (".gitattributes", "LICENSE", "trainer_state.json", "flax_model.msgpack", "data_config.json"):
        (saved / name).write_text("{}", encoding="utf-8")
    change_json(saved / "preprocessor_config.json", do_lower_case=True)
    change_json(saved / "generation_config.json", max_length=20)
    same_scores(saved)


def test_settings_are_part_of_the_digest(saved: Path) -> None:
    """Two folders that differ in what is read are two models."""
    first = found(saved).digest
    change_json(saved / "sentence_bert_config.json", max_seq_length=32)
    assert found(saved).digest != first
