"""Find and read the pair files that a recipe names, and check that they can do what the recipe asks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from exporter.errors import RecipeError
from exporter.pairs.jsonl import jsonl_rows
from exporter.pairs.pair_set import N_TOP, PairSet
from exporter.pairs.parquet import parquet_rows
from exporter.pairs.reading import Reading
from exporter.pairs.rows import gathered
from exporter.pairs.table import table_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from exporter.recipe.schema import Recipe


_SAMPLE_DIR = Path(__file__).parent.parent / "sample"
_FORMATS = (".jsonl", ".tsv", ".csv", ".jsonl.gz", ".tsv.gz", ".csv.gz", ".parquet")


def load_pairs(name: str) -> PairSet:
    """Read `sample/NAME`, or a .jsonl, .tsv or .csv file (each also .gz), or a .parquet file.

    The columns are `query`, `passage` and, if wanted, `label`, `query_id`, `passage_id`: keys of JSONL, a
    header in any order, or the first columns in this order where a file has no header. Rows are grouped by
    `query_id`, or by the query's text. `PairSet.reading` says how the file was read.

    Raises:
        RecipeError: the file is missing, empty, no text, or a row is not a pair; the line is named.
        BackendMissing: the file is .parquet, and pyarrow is not installed.
    """
    path = _SAMPLE_DIR / f"{name.removeprefix('sample/')}.jsonl" if name.startswith("sample/") else Path(name)
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises on a name that is too long
        known = sorted(f"sample/{p.stem}" for p in _SAMPLE_DIR.glob("*.jsonl"))
        raise RecipeError(f"pairs {name}: no such file; write one, or one of {', '.join(known)}")
    suffix = next((known for known in _FORMATS if path.name.lower().endswith(known)), None)
    if suffix is None:
        raise RecipeError(
            f"pairs {name}: wanted {', '.join(_FORMATS)}; found {''.join(path.suffixes[-2:]) or 'no suffix'}"
        )

    match suffix.removesuffix(".gz"):
        case ".parquet":
            reading = Reading(path, "row")
            rows = parquet_rows(reading)
        case ".jsonl":
            reading = Reading(path, "line")
            rows = jsonl_rows(reading)
        case kind:
            reading = Reading(path, "line")
            rows = table_rows(reading, kind)
    return gathered(name, rows, reading, typed=suffix not in (".tsv", ".csv", ".tsv.gz", ".csv.gz"))


def load_pair_sets(recipe: Recipe) -> tuple[PairSet, PairSet | None]:
    """Read a recipe's verify and calibrate sets and check that they can do what the recipe asks of them.

    Raises:
        RecipeError: a set cannot be read, is too small to rank, lacks the labels a bar needs, or the two
            share a pair.
    """
    verify = load_pairs(recipe.pairs.verify)
    sizes = np.bincount(verify.query_of)
    n_ranked = int((sizes > 1).sum())
    if n_ranked < 2:
        without = "" if verify.labels is not None else " and no labels"
        raise RecipeError(
            f"pairs {verify.name}: {n_ranked} query with more than one passage{without}; "
            "ranking is judged over queries, give at least two with two passages each"
        )

    for bar, found, mend in _untellable(verify, sizes):
        if any(getattr(variant.bars, bar) is not None for variant in recipe.variants):
            raise RecipeError(f"pairs {verify.name}: {found}, so bar {bar} has nothing to tell by; {mend}")

    calibrate = load_pairs(recipe.pairs.calibrate) if recipe.pairs.calibrate else None
    if calibrate and (shared := set(calibrate.pairs) & set(verify.pairs)):
        raise RecipeError(
            f"pairs {calibrate.name} and {verify.name} share {len(shared)} pairs; "
            "a model is not judged on what it was calibrated on"
        )
    return verify, calibrate


def _untellable(verify: PairSet, sizes: NDArray[np.int64]) -> Iterator[tuple[str, str, str]]:
    """Yield the bars that any candidate would meet on these pairs, why, and what would mend it."""
    if verify.labels is None:
        yield "min_ndcg_retained", "no labels", "add labels or take the bar out"
    elif not verify.tellable.any():
        mend = "label some passages of a query higher than others, or take the bar out"
        yield "min_ndcg_retained", "in every query all labels are alike", mend
    if not (sizes > N_TOP).any():
        mend = f"give a query more than {N_TOP} passages, or take the bar out"
        yield "min_top10_overlap", f"no query has more than {N_TOP} passages", mend
