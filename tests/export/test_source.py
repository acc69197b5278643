"""A model is read as sentence-transformers reads it, and what does not fit is refused before a build."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from exporter.cache import Cache
from exporter.errors import RecipeError
from exporter.export.folder import artifact_tokenizer, write_config_and_tokenizer, write_reference
from exporter.export.source import Source, find_source
from exporter.recipe.schema import Model
from tests.families import FAMILIES, change_json, change_tensors, write_family, write_tokenizer
from tests.support import WORDS

if TYPE_CHECKING:
    from collections.abc import Callable

PAIRS = [("wing lift", "drag flow heat"), ("mach", " ".join(WORDS * 4)), (" ".join(WORDS * 4), "jet gas")]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a model of a family, written once."""
    made: dict[str, Path] = {}

    def write(family: str) -> Path:
        if family not in made:
            made[family] = write_family(tmp_path_factory.mktemp("families") / family, family)
        return made[family]

    return write


@pytest.fixture
def bert(saved: Callable[[str], Path], tmp_path: Path) -> Path:
    """Return a copy of a tiny BERT, to be changed."""
    return Path(shutil.copytree(saved("bert"), tmp_path / "model"))


def found(folder: Path, max_length: int | None = None) -> Source:
    return find_source(Model(source=str(folder), max_length=max_length), Cache.of_user())


def refused(folder: Path, words: str, max_length: int | None = None) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        found(folder, max_length)
    assert "\n" not in str(caught.value)


def scores(folder: Path, **options: Any) -> Any:
    """Score pairs with sentence-transformers, raw logits."""
    import torch
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(folder), device="cpu", local_files_only=True, **options)
    return model.predict([list(pair) for pair in PAIRS], activation_fn=torch.nn.Identity())


# --- how much of a pair is read ---


@pytest.mark.parametrize("family", FAMILIES)
def test_every_architecture_reads_as_many_tokens_as_it_has_positions(
    family: str, saved: Callable[[str], Path]
) -> None:
    """Without a limit of its tokenizer, all 64 positions that tokens can have, RoBERTa's offset taken off."""
    source = found(saved(family))
    assert source.max_length == 64
    assert source.notes == ()


@pytest.mark.parametrize("family", FAMILIES)
def test_reference_and_tokens_are_those_of_the_folder(
    family: str, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    """The folder that is measured against scores as the user's, and the artifact's tokens are its tokens."""
    from transformers import AutoTokenizer

    folder, source = saved(family), found(saved(family))
    wanted = scores(folder, max_length=source.max_length)
    assert np.ptp(wanted) > 0.01
    np.testing.assert_array_equal(scores(source.folder, max_length=source.max_length), wanted)
    write_reference(source, tmp_path)
    np.testing.assert_array_equal(scores(tmp_path), wanted)

    theirs = AutoTokenizer.from_pretrained(folder, model_max_length=source.max_length)
    ours = artifact_tokenizer(source).encode(PAIRS)
    encoded = theirs([list(pair) for pair in PAIRS], padding=True, truncation="longest_first")
    for mine, ids, mask in zip(ours, encoded["input_ids"], encoded["attention_mask"], strict=True):
        assert list(mine.ids) == [token for token, real in zip(ids, mask, strict=True) if real]


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (32, 32),
        (512, 64),
        (int(1e30), 64),
        (1e30, 64),
        (float("inf"), 64),
        (48.0, 48),
        (..., 64),
    ],
)
def test_length_in_tokenizer_config(bert: Path, said: object, wanted: int) -> None:
    """The tokenizer's limit counts, a number that means none does not, positions are never exceeded."""
    change_json(bert / "tokenizer_config.json", model_max_length=said)
    assert found(bert).max_length == wanted


@pytest.mark.parametrize("said", ["64", 0, -1, 7, 32.5, True, [64], float("nan")])
def test_length_that_is_none(bert: Path, said: object) -> None:
    """What is no number of tokens is named, not guessed at."""
    change_json(bert / "tokenizer_config.json", model_max_length=said)
    refused(bert, "model_max_length|transformers cannot read it")


@pytest.mark.parametrize("said", [16, 40, 64])
def test_saved_length_is_what_sentence_transformers_reads(bert: Path, tmp_path: Path, said: int) -> None:
    """A CrossEncoder saved with a length is read with it, and scores of cut pairs are its scores."""
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(bert), max_length=said, device="cpu")
    model.save_pretrained(str(tmp_path / "saved"))
    source = found(tmp_path / "saved")
    assert source.max_length == said == CrossEncoder(str(tmp_path / "saved"), device="cpu").max_seq_length
    np.testing.assert_array_equal(scores(source.folder), scores(tmp_path / "saved"))


def test_length_in_the_settings_of_sentence_transformers(bert: Path, tmp_path: Path) -> None:
    """`max_seq_length` counts, a tokenizer argument before it; more than there are positions is noted."""
    from sentence_transformers import CrossEncoder

    folder = tmp_path / "saved"
    CrossEncoder(str(bert), device="cpu").save_pretrained(str(folder))
    change_json(folder / "sentence_bert_config.json", max_seq_length=24)
    assert found(folder).max_length == 24 == CrossEncoder(str(folder), device="cpu").max_seq_length
    change_json(folder / "sentence_bert_config.json", processor_kwargs={"model_max_length": 20})
    assert found(folder).max_length == 20 == CrossEncoder(str(folder), device="cpu").max_seq_length
    change_json(folder / "sentence_bert_config.json", processor_kwargs={}, max_seq_length=512)
    source = found(folder)
    assert source.max_length == 64
    assert "says 512 tokens a pair, its weights have positions for 64" in source.notes[0]


def test_length_of_the_recipe(bert: Path) -> None:
    """One that differs from the model's own is noted; one that is its own is not; too much is refused."""
    change_json(bert / "tokenizer_config.json", model_max_length=48)
    assert found(bert, 48).notes == ()
    for wanted, differ in ((32, 32), (64, 48)):
        source = found(bert, wanted)
        assert source.max_length == wanted
        assert (
            f"sets max_length {wanted}, the model's own is 48: pairs of more than {differ}" in source.notes[0]
        )
    refused(bert, "max_length is 65, .* has 64 positions", 65)


def test_length_of_the_recipe_past_the_positions_of_roberta(saved: Callable[[str], Path]) -> None:
    """Of RoBERTa's 66 positions two are no token's: 65 is refused, where PyTorch would fail."""
    refused(saved("roberta"), "max_length is 65, .* has 64 positions", 65)


def test_model_without_any_length(tmp_path: Path) -> None:
    """XLNet's positions are relative: a recipe has to say how much is read, and is noted to have said it."""
    folder = write_family(tmp_path / "xlnet", "xlnet")
    refused(folder, "names no length of its own; set model.max_length")
    assert "names none of its own" in found(folder, 128).notes[0]


def test_sample_names_its_own_length() -> None:
    """The sample's folder says 512, so its recipes need not."""
    source = find_source(Model(source="sample"), Cache.of_user())
    assert (source.max_length, source.notes) == (512, ())


@pytest.mark.parametrize("side", ["left", "right"])
def test_truncation_side_is_the_tokenizers(bert: Path, side: str) -> None:
    """Which end of a long pair is cut off is the model's to say."""
    from transformers import AutoTokenizer

    change_json(bert / "tokenizer_config.json", truncation_side=side, model_max_length=16)
    source = found(bert)
    theirs = AutoTokenizer.from_pretrained(bert)([list(pair) for pair in PAIRS], truncation="longest_first")
    assert [list(one.ids) for one in artifact_tokenizer(source).encode(PAIRS)] == theirs["input_ids"]


def test_special_tokens_that_are_split(bert: Path) -> None:
    """A switch of the tokenizer's Python part, which tokenizer.json does not hold, is refused by name."""
    change_json(bert / "tokenizer_config.json", split_special_tokens=True)
    refused(bert, "tokenizer_config.json sets split_special_tokens")


def test_padding_on_the_left(bert: Path, tmp_path: Path) -> None:
    """A model that reads its first position is refused with it; one that ignores padding is not."""
    change_json(bert / "tokenizer_config.json", padding_side="left")
    refused(bert, "pads on the left .* depends on its batch")
    decoder = write_family(tmp_path / "qwen2", "qwen2", padding_side="left")
    source = found(decoder)
    np.testing.assert_allclose(scores(source.folder), scores(decoder), atol=1e-5)


def test_scores_that_depend_on_padding_are_noted(bert: Path, tmp_path: Path) -> None:
    """Where padding moves a score in PyTorch too, as in a model with convolutions, a line says so."""
    (note,) = found(write_family(tmp_path / "convbert", "convbert", model_max_length=64)).notes
    assert note.startswith("the model's score of a pair depends on its batch, in PyTorch too: ")
    assert found(bert).notes == ()


# --- every weight from the file ---


@pytest.mark.parametrize("family", FAMILIES)
def test_missing_head_is_named(family: str, saved: Callable[[str], Path], tmp_path: Path) -> None:
    """A classifier that would be made up at random is refused, by the names of its tensors."""
    folder = Path(shutil.copytree(saved(family), tmp_path / family))
    change_tensors(folder, lambda t: {k: v for k, v in t.items() if not k.startswith("classifier.")})
    refused(folder, r"its weights lack classifier\.\w+.* made up at random")


def test_tensors_of_nothing_are_named(bert: Path) -> None:
    """Weights under other names are missing and not the model's, and both are named; so are more of them."""
    change_tensors(bert, lambda t: {f"x.{name}": tensor for name, tensor in t.items()})
    refused(bert, r"lack bert\.embeddings\.\S+ .* and \d+ more, .* of the file are not a BertFor")


@pytest.mark.parametrize(
    "name",
    [
        "bert.encoder.layer.2.output.dense.weight",
        "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight",
        "classifier.scale",
        "score.weight",
    ],
)
def test_unexpected_tensors_are_named(bert: Path, name: str) -> None:
    """A layer too many, an adapter that was not merged, another head: the config describes another model."""
    import torch

    change_tensors(bert, lambda t: {**t, name: torch.zeros(2, 2)})
    refused(bert, f"hold {name}, which a BertForSequenceClassification of its config.json does not read")


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("bert", "bert.embeddings.position_ids"),
        ("bert", "cls.predictions.bias"),
        ("roberta", "roberta.embeddings.position_ids"),
        ("roberta", "roberta.pooler.dense.weight"),
        ("roberta", "lm_head.bias"),
        ("distilbert", "vocab_projector.bias"),
        ("electra", "discriminator_predictions.dense.bias"),
    ],
)
def test_what_published_models_carry_along_is_let_be(
    family: str, name: str, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    """Buffers, a pooler of a model without one and heads of pre-training change no score."""
    import torch

    folder = Path(shutil.copytree(saved(family), tmp_path / family))
    change_tensors(folder, lambda t: {**t, name: torch.zeros(4)})
    changed = scores(found(folder).folder, max_length=64)
    np.testing.assert_array_equal(changed, scores(saved(family), max_length=64))


def test_shapes_are_held_against_the_config(bert: Path) -> None:
    """Another width or number of scores than the config says: named, with both shapes."""
    import torch

    change_tensors(
        bert, lambda t: t | {"classifier.weight": torch.zeros(3, 32), "classifier.bias": torch.zeros(3)}
    )
    refused(bert, r"classifier\.bias, classifier\.weight in other shapes .* found \(3,\), wanted \(1,\)")


def test_layer_that_the_file_lacks(bert: Path) -> None:
    """A config with a layer more than the weights."""
    change_json(bert / "config.json", num_hidden_layers=3)
    refused(bert, r"its weights lack bert\.encoder\.layer\.2\.")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(bert: Path, value: float) -> None:
    """NaN and infinity are found before a build, in whichever tensor they are."""

    def spoilt(tensors: dict[str, Any]) -> dict[str, Any]:
        tensors["bert.encoder.layer.1.output.dense.bias"][3] = value
        return tensors

    change_tensors(bert, spoilt)
    refused(bert, r"hold NaN or infinity, in bert\.encoder\.layer\.1\.output\.dense\.bias")


def test_weights_of_a_type_that_is_not_carried_out(bert: Path) -> None:
    """Weights in 8 bits stay so when they are loaded, and mean nothing without scales."""
    import torch

    change_tensors(bert, lambda t: {name: tensor.to(torch.float8_e4m3fn) for name, tensor in t.items()})
    refused(bert, r"its weights are float8_e4m3fn in \S+; wanted float32, float16 or bfloat16")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_size_is_that_of_float32(bert: Path, dtype: str) -> None:
    """The size that files are held against is 4 bytes an element, however the weights are stored."""
    import torch

    plain = found(bert).weights_bytes
    change_tensors(bert, lambda t: {name: tensor.to(getattr(torch, dtype)) for name, tensor in t.items()})
    assert found(bert).weights_bytes == plain
    n_elements = 37 * 32 + 64 * 32 + 2 * 32 + 2 * 32 + 2 * (4 * (32 * 32 + 32) + 2 * 64 + 64 * 32 * 2 + 96)
    assert plain == 4 * (n_elements + 32 * 32 + 32 + 33)


def test_shards(saved: Callable[[str], Path], tmp_path: Path) -> None:
    """Weights in several files load, are hashed, and are copied; a shard that is missing is named."""
    whole = saved("bert")
    folder = write_family(tmp_path / "sharded", "bert", save={"max_shard_size": "20KB"})
    shards = sorted(path.name for path in folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    source = found(folder)
    assert source.weights == ("model.safetensors.index.json", *shards)
    assert source.weights_bytes == found(whole).weights_bytes
    np.testing.assert_array_equal(scores(source.folder), scores(whole))
    (tmp_path / "reference").mkdir()
    write_reference(source, tmp_path / "reference")
    np.testing.assert_array_equal(scores(tmp_path / "reference", max_length=64), scores(whole, max_length=64))

    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / shards[1])
    save_file({name: tensor * 2 for name, tensor in tensors.items()}, folder / shards[1], {"format": "pt"})
    assert found(folder).digest != source.digest
    (folder / shards[0]).unlink()
    refused(folder, rf"names {shards[0]}, which is missing \(1 of {len(shards)} files\)")


def test_shard_without_a_tensor_of_its_index(tmp_path: Path) -> None:
    """A head that the index names and no file has is missing, as without an index."""
    from safetensors.torch import load_file, save_file

    folder = write_family(tmp_path / "sharded", "bert", save={"max_shard_size": "20KB"})
    index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
    shard = folder / index["weight_map"]["classifier.weight"]
    tensors = {name: tensor for name, tensor in load_file(shard).items() if name != "classifier.weight"}
    save_file(tensors, shard, {"format": "pt"})
    refused(folder, r"its weights lack classifier\.weight, which .* made up at random")


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({"weight_map": {"a": "../model.safetensors"}}, "wanted .safetensors files of this folder"),
        ({"weight_map": {"a": "/etc/passwd"}}, "wanted .safetensors files of this folder"),
        ({"weight_map": {"a": "pytorch_model.bin"}}, "wanted .safetensors files of this folder"),
        ({"weight_map": {"a": "model-1.safetensors"}}, "names model-1.safetensors, which is missing"),
        ({"weight_map": {}}, "has no weight_map"),
        ({"weight_map": ["model-1.safetensors"]}, "has no weight_map"),
        ({}, "has no weight_map"),
    ],
)
def test_index_of_shards_that_is_wrong(bert: Path, index: dict[str, object], words: str) -> None:
    """An index names safetensors files of its own folder, and all of them are there."""
    (bert / "model.safetensors").unlink()
    (bert / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    refused(bert, words)


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "vocab.txt",
        "config.json",
        "tokenizer_config.json",
        "modules.json",
    ],
)
def test_pointers_of_git_lfs(bert: Path, name: str) -> None:
    """A clone without Git LFS has pointers for files; they are named as such, with the command to run."""
    if name == "model.safetensors.index.json":
        (bert / "model.safetensors").unlink()
    (bert / name).write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 90888945\n",
        encoding="utf-8",
    )
    refused(bert, rf"{name} is a pointer of Git LFS .* `git lfs pull`")


def test_weights_in_other_formats(bert: Path) -> None:
    """Pickles and other formats are named, with the way to save safetensors."""
    (bert / "model.safetensors").rename(bert / "tf_model.h5")
    refused(bert, "found tf_model.h5; save it with safe_serialization=True")
    (bert / "tf_model.h5").rename(bert / "model.fp16.safetensors")
    refused(bert, "found model.fp16.safetensors")
    (bert / "model.fp16.safetensors").rename(bert / "pytorch_model.bin")
    refused(bert, "found pytorch_model.bin, which can run code when opened")


# --- tokens, positions and types fit ---


@pytest.mark.parametrize("family", FAMILIES)
def test_tokenizer_of_another_model(family: str, saved: Callable[[str], Path], tmp_path: Path) -> None:
    """Tokens without an embedding are found before PyTorch fails on them, in every architecture."""
    from transformers import AutoTokenizer

    folder = Path(shutil.copytree(saved(family), tmp_path / family))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["supersonic", "hypersonic"])
    tokenizer.save_pretrained(folder)
    refused(folder, r"tokens up to number 38, and its weights embeddings for 37, numbers 0 to 36")


def test_token_types_without_an_embedding(saved: Callable[[str], Path], tmp_path: Path) -> None:
    """BERT's tokenizer gives types 0 and 1; a RoBERTa has one, and PyTorch would fail on each passage."""
    folder = Path(shutil.copytree(saved("roberta"), tmp_path / "model"))
    (folder / "tokenizer.json").unlink()
    write_tokenizer(folder, "bert")
    refused(folder, r"token types up to 1, and its weights have 1 \(type_vocab_size\)")


def test_token_types_that_a_model_does_not_take(saved: Callable[[str], Path], tmp_path: Path) -> None:
    """DistilBERT under BERT's tokenizer fails in sentence-transformers itself; the line says what to set."""
    folder = Path(shutil.copytree(saved("distilbert"), tmp_path / "model"))
    change_json(folder / "tokenizer_config.json", model_input_names=...)
    with pytest.raises(TypeError):
        scores(folder)
    refused(folder, 'gives token_type_ids, and a DistilBertFor.* "model_input_names"')


@pytest.mark.parametrize("family", ["modernbert", "deberta-v2", "bert", "electra"])
@pytest.mark.parametrize("inputs", [..., ["input_ids", "attention_mask"]])
def test_token_types_or_none(
    family: str, inputs: object, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    """Token types that a model ignores, or that its tokenizer leaves to it, are no reason to refuse."""
    folder = Path(shutil.copytree(saved(family), tmp_path / family))
    change_json(folder / "tokenizer_config.json", model_input_names=inputs)
    np.testing.assert_array_equal(scores(found(folder).folder), scores(folder))


def test_fewer_positions_than_the_config_says(bert: Path) -> None:
    """The weights' positions count, and a config that says others is named with both."""
    change_json(bert / "config.json", max_position_embeddings=128)
    refused(bert, r"position_embeddings.weight in other shapes .* found \(64, 32\), wanted \(128, 32\)")


def test_config_of_another_architecture(bert: Path) -> None:
    """What transformers loads by the model_type is held against the weights, not what it calls itself."""
    change_json(bert / "config.json", model_type="roberta")
    refused(
        bert, r"its weights lack classifier\.dense.* RobertaForSequenceClassification has .* bert\.embeddings"
    )


def test_quantized_weights(bert: Path) -> None:
    """Weights in another library's format are refused before that library is asked for."""
    change_json(
        bert / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True}
    )
    refused(bert, "config.json has a quantization_config")


def test_what_is_written_beside_a_graph_reads_as_much(bert: Path, tmp_path: Path) -> None:
    """The artifact's tokenizer files have the model's own length where the recipe has none."""
    change_json(bert / "tokenizer_config.json", model_max_length=24)
    write_config_and_tokenizer(found(bert), tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["model_max_length"] == 24
    assert json.loads((tmp_path / "tokenizer.json").read_text())["truncation"]["max_length"] == 24
