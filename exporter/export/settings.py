"""What a folder says beside weights, config and tokenizer, as sentence-transformers' CrossEncoder reads it.

A saved CrossEncoder may put a prompt before its pairs, a chat template around them, modules behind its
transformer, an adapter into its weights. None of these is carried out here, so a folder that has one which
would be used is refused by name; what CrossEncoder itself does not use is no reason to refuse a model.
Source: https://github.com/huggingface/sentence-transformers/blob/main/sentence_transformers/base/model.py
Source: https://github.com/huggingface/sentence-transformers/blob/main/sentence_transformers/base/modules/transformer.py
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.artifact.configs import is_activation
from exporter.artifact.files import read_json, read_json_object
from exporter.artifact.names import plain_file, shown
from exporter.errors import IntegrityError, RecipeError

if TYPE_CHECKING:
    from pathlib import Path

_MODULES = "modules.json"
_MODEL = "config_sentence_transformers.json"
# What CrossEncoder writes into it, and what models of other classes have besides.
_OF_MODEL = frozenset(
    (
        *("__version__", "activation_fn", "default_prompt_name", "model_type", "prompts"),
        *("similarity_fn_name", "truncate_dim"),
    )
)
# The first of these that is there holds the arguments of the Transformer module.
_TRANSFORMER = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_ADAPTER = "adapter_config.json"
_TEMPLATE = "chat_template.jinja"
_TEMPLATES = "additional_chat_templates"
# Where a folder may name another processor than its tokenizer.
# Source: https://github.com/huggingface/transformers/blob/main/src/transformers/models/auto/processing_auto.py
_PROCESSORS = (
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "tokenizer_config.json",
    "config.json",
)
# What of a folder is read here and by no library: fetched with a Hub's model, to be refused if it has to be.
WITNESSES = (
    _MODULES,
    _MODEL,
    *_TRANSFORMER,
    _ADAPTER,
    _TEMPLATE,
    f"{_TEMPLATES}/*",
    *(name for name in _PROCESSORS if name not in ("tokenizer_config.json", "config.json")),
)
_CLASS = re.compile(r"sentence_transformers(\.[A-Za-z_]+)+")
# What embedding models end with; CrossEncoder takes no notice of them where a model was trained on.
_OF_EMBEDDINGS = frozenset(("Transformer", "Pooling", "Normalize"))
# Activations under which scores keep their order; raw scores can then stand for them.
# Source: https://docs.pytorch.org/docs/stable/nn.html#non-linear-activations-weighted-sum-nonlinearity
_INCREASING = frozenset(
    ("Identity", "Sigmoid", "Tanh", "LogSigmoid", "Softplus", "Softsign", "ELU", "SELU", "CELU", "LeakyReLU")
)
_ARGUMENTS = {
    "model_args": "model_kwargs",
    "tokenizer_args": "processor_kwargs",
    "config_args": "config_kwargs",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What CrossEncoder takes from a folder beside weights, config and tokenizer.

    `files` are the JSON files it reads for that, `max_length` the tokens of a pair they name, `activation`
    the class it applies to logits (None: a sigmoid), `lowercase` whether it lowercases texts before the
    tokenizer does, `notes` what a person should know.
    """

    files: tuple[str, ...] = ()
    max_length: object = None
    activation: str | None = None
    lowercase: bool = False
    notes: tuple[str, ...] = ()


def read_settings(where: str, folder: Path) -> Settings:
    """Read what a folder says beside weights, config and tokenizer.

    Args:
        where: how errors name the folder.
        folder: the model.

    Raises:
        RecipeError: a file of it cannot be read, or would change scores in a way that is not carried out.
    """
    try:
        return _read(where, folder)
    except IntegrityError as error:
        raise RecipeError(f"{where}: {error}") from None


def _read(where: str, folder: Path) -> Settings:
    if _has(folder, _ADAPTER):
        raise RecipeError(
            f"{where}: {_ADAPTER} puts an adapter on another model's weights; "
            "merge it (peft's merge_and_unload) and save the model whole"
        )
    for name in _PROCESSORS:
        said = (
            read_json_object(folder / name, wide=True).get("processor_class") if _has(folder, name) else None
        )
        if isinstance(said, str) and said.endswith("Processor"):
            raise RecipeError(
                f"{where}: {name} names {said[:80]!a}; wanted a model whose input is text alone"
            )

    whole = _saved_whole(where, folder)
    model = read_json_object(folder / _MODEL) if _has(folder, _MODEL) else {}
    if whole and (unknown := sorted(key for key in model.keys() - _OF_MODEL if model[key])):
        raise RecipeError(
            f"{where}: {_MODEL}: {unknown[0][:80]!a} is no key that exporter knows; "
            "remove it, if the model does without"
        )
    transformer, arguments = _arguments(where, folder) if whole else ("", {})
    if template := _template(folder):
        modalities = arguments.get("modality_config")
        if not whole or (isinstance(modalities, dict) and "message" in modalities):
            raise RecipeError(
                f"{where}: {template} puts a chat template around pairs; exporter does not carry that out"
            )
    notes = _prompts(where, model, read=whole)
    if not whole:
        return Settings(activation=_activation(where, folder, {}), notes=notes)
    _check_arguments(where, transformer, arguments)
    processor = arguments.get("processor_kwargs")
    assert isinstance(processor, dict | None)
    return Settings(
        files=tuple(name for name in (_MODULES, _MODEL, transformer) if _has(folder, name)),
        max_length=(processor or {}).get("model_max_length", arguments.get("max_seq_length")),
        activation=_activation(where, folder, model),
        lowercase=arguments.get("do_lower_case") is True,
        notes=(*notes, *_half(transformer, arguments)),
    )


def _half(name: str, arguments: dict[str, object]) -> tuple[str, ...]:
    """Return a note where CrossEncoder would load the model in another type than the reference's."""
    asked = arguments.get("model_kwargs")
    assert isinstance(asked, dict | None)
    dtype = (asked or {}).get("dtype", (asked or {}).get("torch_dtype"))
    if dtype in (None, "float32"):
        return ()
    return (f"{name} asks for {str(dtype)[:80]!a}; scores are held against float32",)


def _has(folder: Path, name: str) -> bool:
    return os.path.lexists(folder / name) and plain_file(folder, name).is_file()


def _saved_whole(where: str, folder: Path) -> bool:
    """Return whether the modules are a CrossEncoder's own, which reads settings from files beside them.

    Without modules.json, or with another kind of model's, it reads config, weights and tokenizer alone.
    """
    if not _has(folder, _MODULES):
        return False
    modules = read_json(plain_file(folder, _MODULES))
    if not isinstance(modules, list) or not all(
        isinstance(module, dict) and isinstance(module.get("type"), str) for module in modules
    ):
        raise RecipeError(f"{where}: {_MODULES} is no list of modules")
    types = [module["type"] for module in modules]
    names = [name.rpartition(".")[2] for name in types]
    listed = ", ".join(name[:80] for name in types) or "none"
    if foreign := [name for name in types if not _CLASS.fullmatch(name)]:
        raise RecipeError(
            f"{where}: {_MODULES} names {foreign[0][:80]!a}, code that is not sentence-transformers'"
        )

    kind = read_json_object(folder / _MODEL).get("model_type") if _has(folder, _MODEL) else None
    if kind != "CrossEncoder":
        if set(names) <= _OF_EMBEDDINGS:
            return False
        raise RecipeError(
            f"{where}: {_MODULES} has {listed}, and {_MODEL} does not say that they are a CrossEncoder's; "
            f"remove {_MODULES} if it is left over"
        )
    if names != ["Transformer"]:
        raise RecipeError(f"{where}: {_MODULES} has {listed}; exporter carries out one Transformer alone")
    if path := modules[0].get("path"):
        raise RecipeError(
            f"{where}: {_MODULES} keeps the model in {shown(str(path))}; wanted in the folder itself"
        )
    return True


def _template(folder: Path) -> str | None:
    """Return the file that brings a chat template, or None."""
    if os.path.lexists(folder / _TEMPLATE):
        return _TEMPLATE
    if (folder / _TEMPLATES).is_dir() and any((folder / _TEMPLATES).glob("*.jinja")):
        return _TEMPLATES
    name = "tokenizer_config.json"
    said = read_json_object(folder / name, wide=True).get("chat_template") if _has(folder, name) else None
    return None if said is None else name


def _prompts(where: str, model: dict[str, object], *, read: bool) -> tuple[str, ...]:
    """Refuse a default prompt that has words, and note those that are used when asked for by name."""
    prompts, default = model.get("prompts") or {}, model.get("default_prompt_name")
    if not isinstance(prompts, dict) or not isinstance(default, str | None):
        raise RecipeError(
            f"{where}: {_MODEL}: prompts are names and texts, default_prompt_name is one of them"
        )
    if default is not None and default not in prompts:
        if not read:
            return ()
        raise RecipeError(f"{where}: {_MODEL} names the prompt {default[:80]!a}, and has none of that name")
    if (
        default is not None
        and prompts[default]
        and (read or model.get("model_type") != "SentenceTransformer")
    ):
        raise RecipeError(
            f"{where}: {_MODEL} puts the prompt {default[:80]!a} ({str(prompts[default])[:80]!a}) "
            "before every query; exporter does not carry that out"
        )
    if not read or not any(prompts.values()):
        return ()
    n_named = sum(bool(text) for text in prompts.values())
    return (
        f"{n_named} prompt{'s' * (n_named > 1)} used where predict() is given a name; scores are without",
    )


def _activation(where: str, folder: Path, model: dict[str, object]) -> str | None:
    """Return the activation that CrossEncoder applies to logits, None for its default, a sigmoid."""
    config = read_json_object(folder / "config.json", wide=True)
    own = config.get("sentence_transformers", {})
    if not isinstance(own, dict):
        raise RecipeError(f"{where}: config.json: sentence_transformers is no mapping")
    if (said := model.get("activation_fn")) is not None:
        name = _MODEL
    else:
        name = "config.json"
        said = own.get("activation_fn", config.get("sbert_ce_default_activation_function"))
    if said is None:
        return None
    if not is_activation(said):
        raise RecipeError(
            f"{where}: {name} names the activation {str(said)[:80]!a}, which is none of torch.nn"
        )
    assert isinstance(said, str)
    if said.rpartition(".")[2] not in _INCREASING:
        raise RecipeError(
            f"{where}: {name} names the activation {said[:80]}, which does not keep the order of scores; "
            f"exporter carries out {', '.join(sorted(_INCREASING))}"
        )
    return said


def _arguments(where: str, folder: Path) -> tuple[str, dict[str, object]]:
    """Return the file with the arguments of the Transformer module, and them under their newer names."""
    present = [name for name in _TRANSFORMER if _has(folder, name)]
    said, name = {}, _TRANSFORMER[0]
    for name in present:
        if said := read_json_object(folder / name, wide=True):
            break
    arguments = {_ARGUMENTS.get(key, key): value for key, value in said.items()}
    for key in _ARGUMENTS.values():
        if not isinstance(arguments.get(key, {}), dict):
            raise RecipeError(f"{where}: {name}: {key} is no mapping")
    return name, arguments


def _check_arguments(where: str, name: str, arguments: dict[str, object]) -> None:
    """Refuse arguments of the Transformer module that change scores and are not carried out."""

    def parts(key: str) -> dict[str, object]:
        found = arguments.get(key)
        return found if isinstance(found, dict) else {}

    known = {"transformer_task", "modality_config", "module_output_name", "max_seq_length", "do_lower_case"}
    known |= {"unpad_inputs", "processing_kwargs", *_ARGUMENTS.values()}
    unknown = sorted(arguments.keys() - known)
    unknown += ["processing_kwargs"] * bool(arguments.get("processing_kwargs"))
    neutral = {
        "model_kwargs": {
            "dtype",
            "torch_dtype",
            "use_safetensors",
            "attn_implementation",
            "trust_remote_code",
        },
        "processor_kwargs": {"model_max_length", "use_fast", "trust_remote_code"},
        "config_kwargs": {"trust_remote_code"},
    }
    unknown += [
        f"{part}.{key}" for part, keys in neutral.items() for key in sorted(parts(part).keys() - keys)
    ]
    if parts("model_kwargs").get("attn_implementation") not in (None, "eager", "sdpa"):
        unknown.append("model_kwargs.attn_implementation")
    if parts("processor_kwargs").get("use_fast") is False:
        unknown.append("processor_kwargs.use_fast")
    if unknown:
        raise RecipeError(f"{where}: {name} sets {unknown[0][:80]}, which exporter does not carry out")

    modalities = arguments.get("modality_config", {"text": {}})
    if not isinstance(modalities, dict) or set(modalities) != {"text"}:
        raise RecipeError(f"{where}: {name}: wanted pairs of text alone in modality_config")
    task, output = arguments.get("transformer_task"), arguments.get("module_output_name")
    if task != "sequence-classification" or output not in (None, "scores"):
        raise RecipeError(
            f"{where}: {name}: transformer_task is {str(task)[:80]!a}, module_output_name "
            f"{str(output)[:80]!a}; wanted 'sequence-classification' and 'scores'"
        )
