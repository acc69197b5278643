"""Which matrix products of an ONNX int8 variant lose most, over a few real pairs; kept in the user's cache.

`export.product_error` does the arithmetic, in a worker; here is what it is asked of, and where its answer is
kept. It is asked once a file and pair set, so that a report can be read with it as often as one likes.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from exporter import worker
from exporter.artifact.files import TOKENIZER, to_json
from exporter.artifact.names import kind_of
from exporter.export import product_error as arithmetic
from exporter.export.build import common_graph
from exporter.export.product_error import ProductError
from exporter.pairs import spread_out
from exporter.worker.job import ProductsJob, ProductsSpec, TokenizerSpec

if TYPE_CHECKING:
    from exporter.artifact.manifest import Manifest, VariantEntry
    from exporter.cache import Cache
    from exporter.context import Context
    from exporter.measure.workspace import Workspace

# Real pairs of all lengths, in batches of like length.
N_PRODUCT_PAIRS = 24
_N_BATCH = 4
_STEP, _FILE = "products", "products.json"
_ERRORS = TypeAdapter(tuple[ProductError, ...])


def has_products(entry: VariantEntry) -> bool:
    """Tell whether a variant's products can be measured: those of the ONNX int8 kinds can."""
    return entry.traits.engine == "onnxruntime" and entry.traits.weights == "int8"


def found_errors(manifest: Manifest, entry: VariantEntry, kept: Cache) -> tuple[ProductError, ...]:
    """Return what was measured of a variant's products before; empty where nothing was.

    Args:
        manifest: the artifact's.
        entry: the variant.
        kept: the user's cache.

    Raises:
        BackendError: others could write into the cache.
    """
    folder = kept.find(_STEP, _key(manifest, entry))
    return () if folder is None else _ERRORS.validate_json((folder / _FILE).read_bytes())


def measure_errors(
    workspace: Workspace, entry: VariantEntry, context: Context, *, make: bool = False
) -> tuple[ProductError, ...]:
    """Measure what each int8 product of a variant loses, the one that loses most first, or find it measured.

    Args:
        workspace: the artifact.
        entry: an ONNX int8 variant of it.
        context: its progress is told; its cache has the fp32 graph, and keeps what is measured.
        make: whether the fp32 graph is made where the cache has none; else nothing is measured then.

    Raises:
        BackendError: the graph cannot be made, or a worker fails.
        BackendMissing: the graph has to be made, and a package is missing.
    """
    if found := found_errors(workspace.manifest, entry, context.cache):
        return found
    kind = kind_of(entry.kind)  # the same graph for every instruction set
    variant = next((one for one in workspace.recipe.variants if one.kind == kind), None)
    if variant is None:
        return ()
    graph = common_graph(workspace.recipe, workspace.source, workspace.pair_set, variant, context, make=make)
    if graph is None:
        return ()

    manifest, folder = workspace.manifest, workspace.folder
    tokenizer = TokenizerSpec(str((folder / TOKENIZER).resolve()), manifest.max_length, manifest.pad_id)
    spec = ProductsSpec(str(graph.path), str((folder / entry.model).resolve()), graph.inputs, tokenizer)
    job = ProductsJob(spread_out(workspace.pair_set, N_PRODUCT_PAIRS), spec, _N_BATCH)

    def make_errors(into: Path) -> None:
        (into / _FILE).write_bytes(to_json(worker.product_errors(job)))

    with context.progress.stage(f"{entry.kind}: error per product, {len(job.pairs)} pairs"):
        kept, _ = context.cache.get(_STEP, _key(manifest, entry), make_errors)
    return _ERRORS.validate_json((kept / _FILE).read_bytes())


def _key(manifest: Manifest, entry: VariantEntry) -> dict[str, object]:
    """Return all that the errors follow from; the fp32 graph follows from the model and the tools."""
    return {
        "model": manifest.source.digest,
        "tools": [list(tool) for tool in manifest.tools],
        "files": [file.sha256 for file in manifest.files if file.path in entry.files],
        "pairs": [pairs.digest for pairs in manifest.pairs if pairs.role == "verify"],
        "n_pairs": N_PRODUCT_PAIRS,
        "n_batch": _N_BATCH,
        "code": _code(),
    }


@cache
def _code() -> str:
    """Return a hash of the arithmetic, so that another version measures anew."""
    return hashlib.sha256(Path(arithmetic.__file__).read_bytes()).hexdigest()
