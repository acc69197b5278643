"""Artifacts that are wrong on purpose, which the gate must fail: a check that kills no mutant checks nothing.

Each mutant changes a copy of an ONNX variant, the original, in one way that has gone wrong somewhere: in
the graph, in its weights, in the tokenizer's file, or in what is fed to the variant. The copy's manifest is
written anew, so that only scores and files can tell.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from exporter.artifact.files import MANIFEST, list_files
from exporter.artifact.manifest import Manifest, VariantEntry, write_manifest
from exporter.errors import RecipeError
from exporter.measure.contents import PRODUCTS
from exporter.pairs import PairSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto


_SEED = 20_243


class NotApplicable(Exception):
    """This mutant cannot be made of this artifact; the text says why."""


@dataclass(frozen=True, slots=True)
class Original:
    """What mutants are made of: an artifact, its ONNX variant, and the pairs this is judged on.

    `n_tokens` is int64[n_pairs], untruncated. `other_precision` is a model file of the other precision.
    """

    folder: Path
    manifest: Manifest
    entry: VariantEntry
    pair_set: PairSet
    n_tokens: NDArray[np.int64]
    other_precision: Path


@dataclass(frozen=True, slots=True)
class Mutant:
    """A way of being wrong: `make` changes the files of a copy, whose folder it is given.

    It returns another manifest, or other pairs to score, in the same number and order; None where neither
    changes.
    """

    name: str
    make: Callable[[Original, Path], Manifest | PairSet | None]


def copy_variant(original: Original, into: Path) -> Manifest:
    """Copy an artifact with the one variant only, and return the copy's manifest."""
    others = {
        path
        for entry in original.manifest.variants
        if entry.kind != original.entry.kind
        for path in entry.files
    }
    for file in original.manifest.files:
        if file.path not in others - set(original.entry.files):
            (into / file.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(original.folder / file.path, into / file.path)
    manifest = replace(original.manifest, variants=(original.entry,), files=list_files(into))
    write_manifest(manifest, into)
    return manifest


def mutate(mutant: Mutant, original: Original, into: Path) -> tuple[Manifest, PairSet]:
    """Make a mutant in an empty folder.

    Returns:
        Its manifest, and the pairs to feed it.

    Raises:
        NotApplicable: there is nothing to change in this artifact.
    """
    manifest = copy_variant(original, into)
    made = mutant.make(original, into)
    manifest = replace(made if isinstance(made, Manifest) else manifest, files=list_files(into))
    (into / MANIFEST).unlink()
    write_manifest(manifest, into)
    return manifest, made if isinstance(made, PairSet) else original.pair_set


# --- graphs ---


def _token_types_zeroed(original: Original, folder: Path) -> None:
    _fed_differently(original, folder, "token_type_ids", "Sub", ["token_type_ids", "token_type_ids"])


def _mask_ignored(original: Original, folder: Path) -> None:
    _fed_differently(original, folder, "attention_mask", "Max", ["attention_mask", "mutant_one"])


def _padded_left(original: Original, folder: Path) -> None:
    """Roll every row to the right by its padding."""
    from onnx import helper

    model, graph = _load(original, folder)
    nodes = [
        helper.make_node("Shape", ["attention_mask"], ["mutant_shape"], start=1),
        helper.make_node("ReduceSum", ["attention_mask", "mutant_axis"], ["mutant_n"], keepdims=1),
        # minus the padding, [n_rows, 1]
        helper.make_node("Sub", ["mutant_n", "mutant_shape"], ["mutant_shift"]),
        helper.make_node("Squeeze", ["mutant_shape"], ["mutant_width"]),
        helper.make_node("Range", ["mutant_zero", "mutant_width", "mutant_one"], ["mutant_at"]),
        helper.make_node("Add", ["mutant_at", "mutant_shift"], ["mutant_from"]),
        helper.make_node("Mod", ["mutant_from", "mutant_shape"], ["mutant_rolled"]),
    ]
    inputs = [value.name for value in graph.input]
    for name in inputs:
        _rename(graph, name, f"mutant_{name}")
        nodes.append(helper.make_node("GatherElements", [name, "mutant_rolled"], [f"mutant_{name}"], axis=1))
    _prepend(graph, nodes)
    _save(model, original, folder)


def _activation_added(original: Original, folder: Path) -> None:
    from onnx import helper

    model, graph = _load(original, folder)
    _rename_output(graph, "logits", "mutant_logits")
    graph.node.append(helper.make_node("Sigmoid", ["mutant_logits"], ["logits"]))
    _save(model, original, folder)


def _nan_at_one_length(original: Original, folder: Path) -> None:
    from onnx import helper, numpy_helper

    lengths, counts = np.unique(
        np.minimum(original.n_tokens, original.manifest.max_length), return_counts=True
    )
    model, graph = _load(original, folder)
    graph.initializer.append(
        numpy_helper.from_array(np.array(lengths[counts.argmax()], np.int64), "mutant_length")
    )
    graph.initializer.append(numpy_helper.from_array(np.array(np.nan, np.float32), "mutant_nan"))
    _rename_output(graph, "logits", "mutant_logits")
    graph.node.extend(
        [
            helper.make_node("ReduceSum", ["attention_mask", "mutant_axis"], ["mutant_n"], keepdims=1),
            helper.make_node("Equal", ["mutant_n", "mutant_length"], ["mutant_hit"]),
            helper.make_node("Where", ["mutant_hit", "mutant_nan", "mutant_logits"], ["logits"]),
        ]
    )
    _prepend(graph, [])
    _save(model, original, folder)


# --- weights ---


def _layer_permuted(original: Original, folder: Path) -> None:
    """Shuffle the rows of the middle product's weight."""

    def shuffled(values: NDArray[np.generic]) -> NDArray[np.generic]:
        return np.random.default_rng(_SEED).permutation(values)

    _change_weight(original, folder, shuffled)


def _weight_saturated(original: Original, folder: Path) -> None:
    """Plant two full-range neighbours in an int8 weight."""
    if original.entry.traits.weights != "int8":
        raise NotApplicable("no int8 weights")

    def planted(values: NDArray[np.generic]) -> NDArray[np.generic]:
        changed = values.copy()
        changed[:2, 0] = 127
        return changed

    _change_weight(original, folder, planted)


def _other_precision(original: Original, folder: Path) -> None:
    shutil.copyfile(original.other_precision, folder / original.entry.model)


# --- the tokenizer ---


def _other_vocabulary(_original: Original, folder: Path) -> None:
    """Exchange the numbers of words, as the tokenizer of another model would."""

    def change(content: dict[str, dict[str, object]]) -> None:
        vocabulary = content["model"]["vocab"]
        # tokenizer.json holds a list of objects here, not an object as in the rest of what is changed.
        special = {token["content"] for token in content["added_tokens"]}  # type: ignore[index]
        if isinstance(vocabulary, dict):
            words = [word for word in vocabulary if word not in special]
            content["model"]["vocab"] = vocabulary | dict(
                zip(words, [vocabulary[word] for word in (*words[1:], words[0])], strict=True)
            )
        else:
            raise NotApplicable("its vocabulary is a list")

    _change_tokenizer(folder, change)


def _case_kept(_original: Original, folder: Path) -> None:
    def change(content: dict[str, dict[str, object]]) -> None:
        if not (content.get("normalizer") or {}).get("lowercase"):
            raise NotApplicable("its tokenizer does not lower-case")
        content["normalizer"]["lowercase"] = False

    _change_tokenizer(folder, change)


def _truncated_from_the_left(original: Original, folder: Path) -> None:
    if not (original.n_tokens > original.manifest.max_length).any():
        raise NotApplicable("no pair is truncated; give the pair set some that are longer than max_length")

    def change(content: dict[str, dict[str, object]]) -> None:
        content["truncation"]["direction"] = "Left"

    _change_tokenizer(folder, change)


def _max_length_halved(original: Original, folder: Path) -> Manifest:
    half = original.manifest.max_length // 2
    if not (original.n_tokens > half).any():
        raise NotApplicable(f"no pair is longer than {half} tokens")

    def change(content: dict[str, dict[str, object]]) -> None:
        content["truncation"]["max_length"] = half

    _change_tokenizer(folder, change)
    return replace(original.manifest, variants=(original.entry,), max_length=half)


# --- what is fed ---


def _sides_swapped(original: Original, _folder: Path) -> PairSet:
    return replace(
        original.pair_set, pairs=tuple((passage, query) for query, passage in original.pair_set.pairs)
    )


def _queries_exchanged(original: Original, _folder: Path) -> PairSet:
    """Exchange the pairs of two queries with the same number of passages."""
    of_size: dict[int, NDArray[np.int64]] = {}
    for query in range(len(original.pair_set.query_ids)):
        rows = np.flatnonzero(original.pair_set.query_of == query)
        if len(rows) in of_size and len(rows) > 1:
            pairs = list(original.pair_set.pairs)
            for a, b in zip(of_size[len(rows)], rows, strict=True):
                pairs[a], pairs[b] = pairs[b], pairs[a]
            return replace(original.pair_set, pairs=tuple(pairs))
        of_size[len(rows)] = rows
    raise NotApplicable("no two queries have as many passages")


MUTANTS = (
    Mutant("token types zeroed", _token_types_zeroed),
    Mutant("query and passage swapped", _sides_swapped),
    Mutant("sigmoid added", _activation_added),
    Mutant("truncated from the left", _truncated_from_the_left),
    Mutant("max_length halved", _max_length_halved),
    Mutant("padded on the left", _padded_left),
    Mutant("attention mask ignored", _mask_ignored),
    Mutant("one layer's weights permuted", _layer_permuted),
    Mutant("one weight saturated", _weight_saturated),
    Mutant("tokenizer of another model", _other_vocabulary),
    Mutant("lower-casing off", _case_kept),
    Mutant("file of another precision", _other_precision),
    Mutant("scores of two queries exchanged", _queries_exchanged),
    Mutant("NaN at one length", _nan_at_one_length),
)


def weaken(original: Original, into: Path, noise: float) -> Manifest:
    """Copy a variant, and add Gaussian noise to the weights of all its matrix products.

    int8 weights stay within the range they had, so that nothing but ranking suffers.

    Args:
        original: what is copied.
        into: an empty folder.
        noise: the noise's standard deviation over that of the weight it is added to.

    Returns:
        The copy's manifest.
    """
    rng = np.random.default_rng(_SEED)

    def noisy(values: NDArray[np.generic]) -> NDArray[np.generic]:
        wide = values.astype(np.float64)
        changed = wide + rng.normal(0.0, noise * wide.std(), wide.shape)
        if values.dtype.kind == "i":
            changed = np.clip(np.round(changed), wide.min(), wide.max())
        return changed.astype(values.dtype)

    copy_variant(original, into)
    model, graph = _load(original, into)
    for tensor in _weights(graph):
        _replace_values(tensor, noisy)
    _save(model, original, into)
    (into / MANIFEST).unlink()
    manifest = replace(original.manifest, variants=(original.entry,), files=list_files(into))
    write_manifest(manifest, into)
    return manifest


# --- ONNX surgery ---


def _load(original: Original, folder: Path) -> tuple[ModelProto, GraphProto]:
    import onnx

    if original.entry.traits.engine != "onnxruntime":
        raise RecipeError(
            f"{original.entry.kind}: mutants are made of ONNX variants; choose one with --variant"
        )
    model = onnx.load(folder / original.entry.model)
    return model, model.graph


def _save(model: ModelProto, original: Original, folder: Path) -> None:
    import onnx

    onnx.save(model, folder / original.entry.model)


def _fed_differently(original: Original, folder: Path, name: str, op: str, inputs: list[str]) -> None:
    """Insert an operator between an input and all nodes that read it."""
    from onnx import helper

    model, graph = _load(original, folder)
    if name not in {value.name for value in graph.input}:
        raise NotApplicable(f"the graph has no {name}")
    _rename(graph, name, f"mutant_{name}")
    _prepend(graph, [helper.make_node(op, inputs, [f"mutant_{name}"])])
    _save(model, original, folder)


def _rename(graph: GraphProto, old: str, new: str) -> None:
    """Make every node, those of subgraphs too, read another value."""
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == old:
                node.input[i] = new
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, old, new)


def _rename_output(graph: GraphProto, old: str, new: str) -> None:
    _rename(graph, old, new)
    for node in graph.node:
        for i, name in enumerate(node.output):
            if name == old:
                node.output[i] = new


def _prepend(graph: GraphProto, nodes: list[NodeProto]) -> None:
    """Insert nodes at the beginning, and the constants that mutants use."""
    from onnx import numpy_helper

    for name, value in (("mutant_zero", 0), ("mutant_one", 1), ("mutant_axis", [1])):
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])


def _weights(graph: GraphProto) -> Iterator[TensorProto]:
    """Yield the constants that matrix products read, in the graph's order."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        index = PRODUCTS.get(node.op_type, len(node.input))
        if (
            index < len(node.input)
            and node.input[index] in tensors
            and len(tensors[node.input[index]].dims) == 2
        ):
            yield tensors[node.input[index]]


def _change_weight(
    original: Original, folder: Path, change: Callable[[NDArray[np.generic]], NDArray[np.generic]]
) -> None:
    """Change the weight of the middle one of the products in the precision that the kind promises."""
    from onnx import TensorProto

    model, graph = _load(original, folder)
    wanted = TensorProto.INT8 if original.entry.traits.weights == "int8" else TensorProto.FLOAT
    tensors = [tensor for tensor in _weights(graph) if tensor.data_type == wanted]
    if not tensors:
        raise NotApplicable("no product has a weight of the kind's precision")
    _replace_values(tensors[len(tensors) // 2], change)
    _save(model, original, folder)


def _replace_values(
    tensor: TensorProto, change: Callable[[NDArray[np.generic]], NDArray[np.generic]]
) -> None:
    from onnx import numpy_helper

    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))


def _change_tokenizer(folder: Path, change: Callable[[dict[str, dict[str, object]]], None]) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
