"""Read a recipe's YAML, and word what is wrong with it.

YAML 1.2; duplicate and unknown keys are errors, all of them reported at once with file and line.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from exporter.artifact.bare import HUB_ID, means_hub
from exporter.artifact.names import AT, kind_of
from exporter.errors import RecipeError, did_you_mean, each_once
from exporter.machine import Isa
from exporter.recipe.kinds import KINDS
from exporter.recipe.schema import (
    ONE,
    SEVERAL,
    Bars,
    Measure,
    Model,
    Pairs,
    Part,
    Publish,
    Recipe,
    Reference,
    Variant,
    misfits,
    options_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


# A recipe is a page of text; more than this is a mistake or an attack.
_MAX_BYTES = 256 * 1024
_MAX_KEYS = 1000

# What a recipe says of one model only.
_OF_ONE_MODEL = ("source", "revision", "max_length")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NO_NAME = re.compile(r"[^a-z0-9._-]+")
_MAX_NAME = 100

Yaml: TypeAlias = "str | int | float | bool | None | list[Yaml] | dict[str, Yaml]"
_Loc: TypeAlias = "tuple[int | str, ...]"
# On which line a key stands, by the keys and positions that lead to it, as text.
_Steps: TypeAlias = tuple[str, ...]
_Lines: TypeAlias = dict[_Steps, int]


@dataclass(frozen=True, slots=True)
class Draft:
    """A recipe as far as it is right, so that what it names can be looked at together with what is wrong.

    Attributes:
        findings: what is wrong, one line each; empty where there is a recipe.
        recipe: the whole of it; None if anything is wrong.
        model: that part; None if it is wrong. Keys that it does not know are findings, and left out here.
        pairs: the same.
        variants: those that are right.
    """

    findings: tuple[str, ...]
    recipe: Recipe | None
    model: Model | None
    pairs: Pairs | None
    variants: tuple[Variant, ...]

    @classmethod
    def of(cls, recipe: Recipe) -> Self:
        """Return the draft of a recipe that is right."""
        return cls((), recipe, recipe.model, recipe.pairs, recipe.variants)


def load_recipe(path: Path, *, model: str | None = None, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe; raise all findings at once if it is wrong.

    Args:
        path: the YAML file.
        model: see `read_recipe`.
        changes: see `read_recipe`.

    Raises:
        RecipeError: the file cannot be read or does not describe a recipe; one line per finding.
    """
    draft = read_recipe(path, model=model, changes=changes)
    if draft.recipe is None:
        raise RecipeError("\n".join(draft.findings))
    return draft.recipe


def read_recipe(path: Path, *, model: str | None = None, changes: Sequence[str] = ()) -> Draft:
    """Read a recipe as far as it is right.

    Folders and pair files named relatively are taken from the recipe's own folder, those in `model` and
    `changes` from the working directory.

    Args:
        path: the YAML file.
        model: replaces `model.source`, drops the revision and length that belonged to the old one, and makes
            a name of its own of the recipe's, unless the recipe has this model already.
        changes: `where=value` texts, for example `variants.0.bars.min_speedup=2`; the value is read as YAML.

    Raises:
        RecipeError: the file cannot be read, or is no YAML mapping.
    """
    data, lines, findings = _read_yaml(path)
    if not isinstance(data, dict):
        raise RecipeError(
            f"{path}: a recipe is a mapping with name, model and variants; found {_kind_of(data)}"
        )

    findings += _make_paths_absolute(data, path.parent, path)
    if model is not None:
        _replace_model(data, model, path)
    for change in changes:
        try:
            _set(data, change, path)
        except RecipeError as error:
            findings.append(str(error))
    findings += _make_paths_absolute(data, Path.cwd(), path)
    _take_hub_addresses(data)

    recipe = None
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        findings += [_finding(path, lines, problem) for problem in error.errors()]
    parts = _part(Model, data.get("model")), _part(Pairs, data.get("pairs", {}))
    variants = _right_variants(data.get("variants"))
    if recipe is None and variants:  # else the recipe says so itself
        findings += [f"{path}: {text}" for text in misfits(_kinds(data["variants"]), parts[1])]
    return Draft(each_once(findings), None if findings else recipe, *parts, variants)


_AnyPart = TypeVar("_AnyPart", bound=Part)


def _part(cls: type[_AnyPart], data: Yaml) -> _AnyPart | None:
    """Return a part of a recipe without the keys that it does not know; None if the rest is wrong."""
    if not isinstance(data, dict):
        return None
    try:
        return cls.model_validate({key: value for key, value in data.items() if key in cls.model_fields})
    except ValidationError:
        return None


def _right_variants(data: Yaml) -> tuple[Variant, ...]:
    adapter: TypeAdapter[Variant] = TypeAdapter(Variant)
    found = []
    for one in data if isinstance(data, list) else []:
        try:
            found.append(adapter.validate_python(one))
        except ValidationError:
            continue
    return tuple(found)


def _kinds(data: Yaml) -> list[str]:
    """Return the kinds that variants name, also those of variants that are wrong."""
    kinds = [one.get("kind") for one in data if isinstance(one, dict)] if isinstance(data, list) else []
    return [kind for kind in kinds if isinstance(kind, str) and kind in KINDS]


def load_bars(path: Path) -> dict[str, Bars]:
    """Read bars from a YAML file of `kind: {bar: limit}`, by kind or by a variant's id.

    Raises:
        RecipeError: the file cannot be read, names an unknown kind or an unknown bar.
    """
    data, lines, findings = _read_yaml(path)
    if not isinstance(data, dict) or not data:
        raise RecipeError(
            f"{path}: bars are a mapping of kind to limits, for example `onnx-int8: {{min_speedup: 1.5}}`"
        )
    if unknown := [name for name in data if not _is_id(name)]:
        raise RecipeError(
            f"{path}: {unknown[0]!r} is no kind; the kinds are {', '.join(KINDS)}, "
            f"and of one that is there for several CPUs KIND{AT}ISA"
        )
    bars = {}
    for kind, limits in data.items():
        try:
            bars[kind] = Bars.model_validate(limits)
        except ValidationError as error:
            problems = (
                {**problem, "loc": ("variants", 0, kind_of(kind), "bars", *problem["loc"])}
                for problem in error.errors()
            )
            located = {
                ("variants", "0", "bars", *loc[1:]): line
                for loc, line in lines.items()
                if loc and loc[0] == kind
            }
            findings += [
                _finding(path, located, problem).replace("variants.0.bars", kind) for problem in problems
            ]
    if findings:
        raise RecipeError("\n".join(each_once(findings)))
    return bars


def _is_id(name: object) -> bool:
    """Tell whether a text is a kind, or the id of a variant that is one of several of its kind."""
    kind, at, isa = str(name).partition(AT)
    if kind not in KINDS:
        return False
    return not at or ("isa" in options_of(kind).model_fields and isa in get_args(Isa))


def _read_yaml(path: Path) -> tuple[Yaml, _Lines, list[str]]:
    """Read a YAML file as plain data; return also the line of each key, and findings on keys that repeat."""
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, a device read for ever
            raise RecipeError(f"{path}: no file; a recipe is a YAML file")
        if path.stat().st_size > _MAX_BYTES:
            raise RecipeError(f"{path}: larger than {_MAX_BYTES // 1024} KiB, which no recipe is")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = sorted(p.as_posix() for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        hint = f"; there is {', '.join(near)}" if near else ""
        raise RecipeError(f"{path}: no such file{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read as text: {error}") from None

    try:
        yaml = YAML(typ="safe", pure=True)
        yaml.Constructor = _Constructor
        node = yaml.compose(text)
        lines: _Lines = {}
        _collect_lines(node, (), lines, set())
        data: Yaml = None if node is None else yaml.constructor.construct_document(node)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = (error.problem or "not valid YAML").split("\n", 1)[0]
        if problem.startswith("but ") and error.context:  # half a sentence
            problem = f"{error.context}, {problem}"
        raise RecipeError(f"{place}: {problem}") from None
    except (YAMLError, RecursionError, ValueError) as error:  # ValueError: `!!int long`, month 13
        raise RecipeError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from None
    return data, lines, [f"{path}:{line}: {problem}" for line, problem in yaml.constructor.duplicates]


class _Constructor(SafeConstructor):
    """Merges (`<<`) as YAML does, but stops where merges of merges grow to any size; keeps keys that repeat.

    `duplicates` are their lines and what is said of them; the first value stands.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.duplicates: list[tuple[int, str]] = []

    def check_mapping_key(self, node: Any, key_node: Any, mapping: Any, key: Any, value: Any) -> bool:
        del node, value
        if key in mapping:
            self.duplicates.append((key_node.start_mark.line + 1, f'found duplicate key "{key}"'))
            return False
        return True

    def flatten_mapping(self, node: MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > _MAX_KEYS:
            raise ConstructorError(
                None, None, f"more than {_MAX_KEYS} keys in one mapping, merged ones counted", node.start_mark
            )


def _collect_lines(node: Node | None, loc: _Steps, lines: _Lines, seen: set[int]) -> None:
    """Add the lines on which the keys of a mapping and of all below it stand."""
    if id(node) in seen:  # an alias; a nest of them would be walked 2^n times
        return
    seen.add(id(node))
    if isinstance(node, MappingNode):
        for key, child in node.value:
            lines.setdefault((*loc, key.value), key.start_mark.line + 1)
            _collect_lines(child, (*loc, key.value), lines, seen)
    elif isinstance(node, SequenceNode):
        for i, child in enumerate(node.value):
            lines[(*loc, str(i))] = child.start_mark.line + 1
            _collect_lines(child, (*loc, str(i)), lines, seen)


def _replace_model(data: dict[str, Yaml], model: str, path: Path) -> None:
    """Carry out `--model`: what was said of the old model is not said of the new one, the name included."""
    old = data.get("model")
    kept: dict[str, Yaml] = dict(old) if isinstance(old, dict) else {}
    new: dict[str, Yaml] = {"source": model}
    _make_paths_absolute({"model": new}, Path.cwd(), path)
    if new["source"] == kept.get("source"):
        return
    data["model"] = {key: value for key, value in kept.items() if key not in _OF_ONE_MODEL} | new
    if isinstance(name := data.get("name"), str):
        data["name"] = _name_for(str(new["source"]), str(kept.get("source")), name)


def _name_for(source: str, old: str, name: str) -> str:
    """Return a recipe's name for another model: `my-reranker-int8` for `sample-int8` and ./my-reranker.

    Args:
        source: the model.
        old: the one that it replaces; what the name has of it goes.
        name: the recipe's.
    """
    plain, parts, theirs = _plain_name(source), name.split("-"), _plain_name(old).split("-")
    n_same = sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(parts, theirs, strict=False)))
    rest = "-".join(parts[n_same:])
    if not rest:
        return plain[:_MAX_NAME]
    return f"{plain[: max(_MAX_NAME - len(rest) - 1, 1)].rstrip('-._')}-{rest}"[:_MAX_NAME]


def _plain_name(source: str) -> str:
    """Return what a model is called by itself, as a recipe may be named."""
    own = Path(source)
    if _COMMIT.fullmatch(own.name) and own.parent.name == "snapshots":  # of the Hub's cache
        own = Path(own.parent.parent.name.rpartition("--")[2])
    return _NO_NAME.sub("-", own.name.lower()).strip("-._") or "model"


def _set(data: dict[str, Yaml], change: str, path: Path) -> None:
    """Carry out one `--set where=value` on plain data; what it then means is checked with the rest."""
    where, equals, text = change.partition("=")
    if not equals or not where:
        raise RecipeError(f"--set {change!r}: write where=value, for example variants.0.bars.min_speedup=2")
    try:
        value = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError):
        raise RecipeError(f"--set {change!r}: {text!r} is not a YAML value") from None

    *parents, last = where.split(".")
    node: Yaml = data
    for step in parents:
        if isinstance(node, dict):
            node = node.setdefault(step, {})
        elif isinstance(node, list) and step.isdecimal() and int(step) < len(node):
            node = node[int(step)]
        else:
            raise RecipeError(f"--set {change!r}: {path} has no {where}; {step!r} leads nowhere")
    if isinstance(node, dict):
        node[last] = value
    elif isinstance(node, list) and last.isdecimal() and int(last) < len(node):
        node[int(last)] = value
    else:
        raise RecipeError(f"--set {change!r}: {path} has no {where}")


def _make_paths_absolute(data: dict[str, Yaml], base: Path, recipe: Path) -> list[str]:
    """Make paths of folders and pair files absolute; leave Hub ids and sample sets as they are.

    Returns:
        What is wrong with those that are no paths.
    """
    found = []
    for part, key in (("model", "source"), ("pairs", "verify"), ("pairs", "calibrate")):
        values = data.get(part)
        if isinstance(values, dict) and isinstance(name := values.get(key), str) and name:
            try:
                if _is_path(name, base) if part == "model" else not name.startswith("sample/"):
                    values[key] = _absolute(name, base, recipe)
            except RecipeError as error:
                found.append(str(error))
    return found


def _is_path(source: str, base: Path) -> bool:
    """Tell whether a model is named as a folder, not as the sample or a Hub id."""
    if source == "sample":
        return False
    named_as_path = source.startswith(("./", "../", "/", "~")) or source in (".", "..")
    is_here = bool(HUB_ID.fullmatch(source)) and not means_hub(source, base)
    return named_as_path or is_here or os.path.isdir(base / source)  # noqa: PTH112 - Path.is_dir raises on a name that is too long


def _take_hub_addresses(data: dict[str, Yaml]) -> None:
    """Take `hf://org/name[@revision]` apart; without the scheme it could mean a folder."""
    model = data.get("model")
    if isinstance(model, dict) and isinstance(source := model.get("source"), str):
        address = source.removeprefix("hf://")
        if address != source and (found := HUB_ID.fullmatch(address)):
            model["source"] = found["where"]
            if found["version"]:
                model["revision"] = found["version"]


def _absolute(name: str, base: Path, recipe: Path) -> str:
    try:
        return str((base / Path(name).expanduser()).resolve())
    except (RuntimeError, ValueError, OSError) as error:  # unknown ~user, null byte, symlink loop
        raise RecipeError(f"{recipe}: {name!r} is no path: {error}") from None


def _finding(path: Path, lines: _Lines, problem: object) -> str:
    """Word one pydantic error as `file:line: where: what was found, what was wanted`."""
    assert isinstance(problem, dict)
    loc: _Loc = tuple(problem["loc"])
    plain = tuple(
        step
        for i, step in enumerate(loc)
        if not (i == 2 and loc[0] == "variants" and step in KINDS)
        and not (loc[i - 1] == "isa" and step in (ONE, SEVERAL))
    )
    steps = tuple(map(str, plain))
    line = next((lines[steps[:end]] for end in range(len(steps), 0, -1) if steps[:end] in lines), None)
    place = f"{path}:{line}" if line else str(path)
    where = ".".join(str(step) for step in plain)

    found = problem.get("input")
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        message = f"unknown key{did_you_mean(str(plain[-1]), _fields_at(loc))}"
    elif problem["type"] == "union_tag_invalid":
        tag = str(found.get("kind")) if isinstance(found, dict) else ""
        message = f"{tag!r} is no kind{did_you_mean(tag, tuple(KINDS))}"
        where += ".kind"
    elif problem["type"] == "union_tag_not_found":
        message = f"a variant needs a kind, one of {', '.join(KINDS)}"
    elif problem["type"] == "missing":
        message = "missing"
    elif not isinstance(found, dict | list | BaseModel | tuple):
        text = (
            repr(found)
            if not isinstance(found, int) or abs(found) < 1 << 64
            else "a number of more than 64 bits"
        )
        message = (
            f"{message[0].lower()}{message[1:]}, found {text if len(text) <= 200 else f'{text[:200]}...'}"
        )
    return f"{place}: {where}: {message}" if where else f"{place}: {message}"


def _fields_at(loc: _Loc) -> tuple[str, ...]:
    """Return the keys that may stand where `loc` points."""
    parts: dict[str, type[Part]] = {
        "model": Model,
        "pairs": Pairs,
        "reference": Reference,
        "measure": Measure,
        "publish": Publish,
    }
    if len(loc) == 1:
        return tuple(Recipe.model_fields)
    if loc[0] == "variants":
        return tuple(Bars.model_fields) if "bars" in loc[:-1] else tuple(options_of(str(loc[2])).model_fields)
    return tuple(parts[str(loc[0])].model_fields)


def _kind_of(data: Yaml) -> str:
    return "nothing" if data is None else f"a {type(data).__name__}"
