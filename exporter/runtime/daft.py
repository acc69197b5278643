"""Rerank a Daft data frame with an artifact: `rerank(df, query="question", passage="text", artifact=folder)`.

Both functions build a user-defined function over `@daft.cls` and `@daft.method.batch`, and always say how
many processes there are, how many threads each has, and how many rows a batch has at most: left alone, Daft
makes one batch of up to 131,072 rows, and calls one engine from two threads at once.
Source: https://docs.daft.ai/en/stable/custom-code/cls/

A process loads the artifact once, from where it is; the variant is chosen before, for all of them.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.errors import ArgumentTypeError, ArgumentValueError
from exporter.machine import cores_allowed
from exporter.packages import missing
from exporter.runtime.arguments import place_of, shown, whole_number
from exporter.runtime.reranker import Reranker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import daft

# Rows of a batch at most. A batch is scored as one call: long enough that its end, where cores run idle, is a
# small part, and short enough that several processes get an even share of a morsel.
_BATCH_ROWS = 1024
# The same of queries, each with a list of passages.
_BATCH_QUERIES = 32
# Cores of a Ray cluster that stay free: where actors take all, Daft's own tasks and the actors of a node that
# died find none, and the query hangs.
# Source: https://docs.ray.io/en/latest/ray-core/scheduling/resources.html
_SPARE_CPUS = 1


@dataclass(frozen=True, slots=True)
class Layout:
    """How scorers are laid over the cores: so many processes of so many threads each."""

    processes: int
    threads: int


def layout(n_cores: int, processes: int | None = None, threads: int | None = None) -> Layout:
    """Return a layout that takes no more than the cores allowed.

    One process with all cores by default: batches are shared out among its threads, while Daft shares out
    whole morsels, of which the last leaves some processes idle.

    Args:
        n_cores: the cores allowed.
        processes: how many processes, by default what the threads of each leave room for, one at least.
        threads: of each, by default an equal share of the cores.

    Raises:
        ArgumentTypeError: a number is no whole number.
        ArgumentValueError: a number is below one, or both together take more cores than there are.
    """
    if processes is not None:
        processes = whole_number("processes", processes, at_least=1)
    if threads is not None:
        threads = whole_number("threads", threads, at_least=1)
    found = processes or (max(1, n_cores // threads) if threads else 1)
    each = threads or max(1, n_cores // found)
    if found * each > max(1, n_cores):
        raise ArgumentValueError(
            f"{found} processes of {each} threads need {found * each} cores, and {n_cores} are allowed here"
        )
    return Layout(found, each)


def rerank(
    df: daft.DataFrame,
    *,
    query: str,
    passage: str,
    artifact: str | Path,
    variant: str | None = None,
    revision: str | None = None,
    score: str = "score",
    processes: int | None = None,
    threads: int | None = None,
    batch_size: int = _BATCH_ROWS,
) -> daft.DataFrame:
    """Return a frame with one column more: the raw logit of each row's pair, float64.

    Where query or passage is null the score is null; an empty text is scored.

    Args:
        df: a frame with two columns of strings.
        query: the column of queries.
        passage: the column of passages.
        artifact: any place that `Reranker.load` takes. On a cluster, one that every node can read.
        variant: see `Reranker.load`. `onnx-int8-static` and the kinds in floating point score a pair alike
            however Daft cuts batches; the scores of dynamic int8 depend on them.
        revision: see `Reranker.load`.
        score: the name of the new column.
        processes: how many load the artifact, on a cluster in all, see `layout`.
        threads: cores of each.
        batch_size: rows of a batch at most.

    Raises:
        ArgumentTypeError, ArgumentValueError: an argument is not what is said here.
        BackendMissing: Daft, or the variant's engine, is not installed.
        RecipeError, IntegrityError, BackendError: see `Reranker.load`.
    """
    library = _daft()
    _check_columns(df, library, {"query": query, "passage": passage}, new=score)
    rows = whole_number("batch_size", batch_size, at_least=1)
    scorer = _scorer(
        library,
        artifact,
        variant=variant,
        revision=revision,
        processes=processes,
        threads=threads,
        rows=rows,
    )
    return df.with_column(score, scorer.scores(df[query], df[passage]))


def rerank_topk(
    df: daft.DataFrame,
    *,
    query: str,
    passages: str,
    k: int,
    artifact: str | Path,
    variant: str | None = None,
    revision: str | None = None,
    ranked: str = "ranked",
    processes: int | None = None,
    threads: int | None = None,
    batch_size: int = _BATCH_QUERIES,
) -> daft.DataFrame:
    """Return a frame with one column more: each query's best passages, best first.

    The column is a list of structs: `corpus_id` int64, where the passage stands in its list; `score` float64,
    the raw logit; `text`. Passages that are null are left out; equal scores keep the list's order. Where
    query or list is null the result is null.

    Args:
        df: a frame with a column of strings and one of lists of strings.
        query: the column of queries.
        passages: the column of lists of passages.
        k: how many of each list at most.
        artifact: see `rerank`.
        variant: see `rerank`.
        revision: see `Reranker.load`.
        ranked: the name of the new column.
        processes: see `rerank`.
        threads: cores of each.
        batch_size: queries of a batch at most.

    Raises:
        ArgumentTypeError, ArgumentValueError, BackendMissing, RecipeError, IntegrityError, BackendError: see
            `rerank`.
    """
    library = _daft()
    _check_columns(df, library, {"query": query, "passages": passages}, new=ranked)
    n_best, rows = whole_number("k", k, at_least=1), whole_number("batch_size", batch_size, at_least=1)
    scorer = _scorer(
        library,
        artifact,
        variant=variant,
        revision=revision,
        processes=processes,
        threads=threads,
        rows=rows,
    )
    return df.with_column(ranked, scorer.best(df[query], df[passages], n_best))


class Scorer:
    """What a process of Daft's runs: an artifact, loaded once."""

    def __init__(self, load: Callable[[], Reranker]) -> None:
        """Load it."""
        self._reranker = load()

    def scores(self, queries: Sequence[str | None], passages: Sequence[str | None]) -> list[float | None]:
        """Return the raw logit of each pair, None where one of its texts is."""
        rows = list(zip(queries, passages, strict=True))
        found = iter(
            self._reranker.score([(q, p) for q, p in rows if q is not None and p is not None]).tolist()
        )
        return [None if q is None or p is None else next(found) for q, p in rows]

    def best(
        self, queries: Sequence[str | None], passages: Sequence[Sequence[str | None] | None], k: int
    ) -> list[list[dict[str, object]] | None]:
        """Return of each query its best passages, as `rerank_topk` says."""
        there: list[list[tuple[int, str]] | None] = []
        pairs: list[tuple[str, str]] = []
        for query, of_query in zip(queries, passages, strict=True):
            if query is None or of_query is None:
                there.append(None)
                continue
            there.append([(i, text) for i, text in enumerate(of_query) if text is not None])
            pairs += [(query, text) for text in of_query if text is not None]
        found = iter(self._reranker.score(pairs).tolist())
        return [
            None if rows is None else _best([(i, text, next(found)) for i, text in rows], k) for rows in there
        ]


def _best(rows: Sequence[tuple[int, str, float]], k: int) -> list[dict[str, object]]:
    in_order = sorted(rows, key=lambda row: -row[2])[:k]  # stable: equal scores keep their order
    return [{"corpus_id": i, "score": score, "text": text} for i, text, score in in_order]


def _daft() -> Any:
    try:
        import daft
    except ImportError as error:
        raise missing(error, "daft", what="exporter.runtime.daft") from None
    return daft


def _check_columns(df: object, library: Any, columns: dict[str, object], *, new: object) -> None:
    """Check that a frame has columns of the right types, and none yet of the new one's name."""
    if not isinstance(df, library.DataFrame):
        raise ArgumentTypeError(f"df is {shown(df)}; wanted a daft.DataFrame")
    text = library.DataType.string()
    of_type = {"query": text, "passage": text, "passages": library.DataType.list(text)}
    types = {field.name: field.dtype for field in df.schema()}
    for name, column in columns.items():
        if not isinstance(column, str):
            raise ArgumentTypeError(f"{name} is {shown(column)}; wanted the name of a column")
        if column not in types:
            raise ArgumentValueError(f"{name} is {shown(column)}; the columns are {', '.join(types)}")
        if types[column] not in (of_type[name], library.DataType.null()):
            raise ArgumentTypeError(
                f"{name}: column {column} is of type {types[column]}; wanted {of_type[name]}"
            )
    if not isinstance(new, str) or not new:
        raise ArgumentTypeError(f"the new column's name is {shown(new)}; wanted a string")
    if new in types:
        raise ArgumentValueError(f"there is a column {new!r} already; name the new one otherwise")


def _scorer(
    library: Any,
    artifact: str | Path,
    *,
    variant: str | None,
    revision: str | None,
    processes: int | None,
    threads: int | None,
    rows: int,
) -> Any:
    """Return an instance of a Daft class for an artifact, which is loaded here too: mistakes show now."""
    place = place_of(artifact)
    if Path(place).is_dir():
        place = str(Path(place).absolute())
    ray = library.get_or_create_runner().name == "ray"
    laid = layout(_cluster_cores() if ray else cores_allowed(), processes, threads or (1 if ray else None))
    chosen = Reranker.load(place, variant, revision=revision, threads=1)
    if not chosen.batch_invariant:
        warnings.warn(
            f"a score of {chosen.kind} depends on the pairs it is scored with, and Daft cuts batches by what "
            "the input is made of; take onnx-int8-static for scores that do not",
            stacklevel=3,
        )
    load = partial(Reranker.load, place, chosen.kind, revision=revision, threads=laid.threads)
    of_daft = _daft_class(library, laid, rows, on_ray=ray)
    return of_daft(load)


def _cluster_cores() -> int:
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)) - _SPARE_CPUS)


def _daft_class(library: Any, laid: Layout, rows: int, *, on_ray: bool) -> Any:
    """Return `Scorer` as a Daft class of so many processes; its methods take and give Daft's series."""
    types = library.DataType
    ranked = types.list(
        types.struct({"corpus_id": types.int64(), "score": types.float64(), "text": types.string()})
    )

    scores_of: Callable[[Any], Any] = library.method.batch(return_dtype=types.float64(), batch_size=rows)
    best_of: Callable[[Any], Any] = library.method.batch(return_dtype=ranked, batch_size=rows)

    class Reranking:
        def __init__(self, load: Callable[[], Reranker]) -> None:
            self.scorer = Scorer(load)

        @scores_of
        def scores(self, queries: Any, passages: Any) -> list[float | None]:
            return self.scorer.scores(queries.to_pylist(), passages.to_pylist())

        @best_of
        def best(self, queries: Any, passages: Any, k: int) -> list[list[dict[str, object]] | None]:
            return self.scorer.best(queries.to_pylist(), passages.to_pylist(), k)

    # A share of a node's cores is asked for on a cluster only: the native runner has one node, which is ours.
    cpus = laid.threads if on_ray else None
    return library.cls(Reranking, cpus=cpus, max_concurrency=laid.processes)
