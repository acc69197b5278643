"""The child's side of a worker: `python -m exporter.worker PARENT_PID JOB.json RUN.json`.

Reads a job, does it, and writes runs and scores beside RUN.json; stdout carries the number of pairs done.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import TypeAdapter

from exporter.failures import planned, trace_of
from exporter.worker.forkserver import SERVE, Order, end_with, serve
from exporter.worker.job import (
    CountJob,
    PeerSpec,
    ProductsJob,
    Run,
    ScoreJob,
    Scoring,
    Spec,
    SweepJob,
    TimeJob,
    TorchSpec,
    TurnsJob,
)
from exporter.worker.process import job_from_json
from exporter.worker.scorers import Models, make_scorer
from exporter.worker.timing import Timing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from exporter.pairs import Pair
    from exporter.worker.job import Job
    from exporter.worker.scorers import Scorer

_CHUNK_PAIRS = 384  # progress is reported this often
_MIN_SWEPT = 8  # pairs of a sweep's pass, however slow a model is


def _work(job: Job, order: Order) -> list[Run]:
    """Do a job; scores go to files beside the runs."""
    match job:
        case ScoreJob():
            models = Models()
            for i, scoring in enumerate(job.scorings):
                np.save(order.run.with_name(f"scores-{i}.npy"), _scored(scoring, job.pairs, models))
            return []
        case TimeJob():
            return _timed(job, order.import_s)
        case TurnsJob():
            return [_take_turns(job, order.import_s)]
        case SweepJob():
            return _sweep(job)
        case CountJob():
            return _count(job)
        case ProductsJob():
            return _products(job, order)


def _scored(scoring: Scoring, pairs: Sequence[Pair], models: Models) -> NDArray[np.float32]:
    scorer = make_scorer(scoring.spec, models)
    if not scoring.groups:
        return _score_all(scorer, pairs, as_given=isinstance(scoring.spec, PeerSpec))
    return np.concatenate([scorer.score([pairs[i] for i in group]) for group in scoring.groups])


def _score_all(scorer: Scorer, pairs: Sequence[Pair], *, as_given: bool) -> NDArray[np.float32]:
    """Score in chunks, of like length unless the order matters, and print how many pairs are done."""
    order = list(range(len(pairs)))
    if not as_given:
        order.sort(key=lambda i: -len(pairs[i][1]))
    scores = np.empty(len(pairs), np.float32)
    for start in range(0, len(order), _CHUNK_PAIRS):
        rows = order[start : start + _CHUNK_PAIRS]
        scores[rows] = scorer.score([pairs[i] for i in rows])
        print(f"done {start + len(rows)}", flush=True)
    return scores


def _timed(job: TimeJob, forked_import_s: float) -> list[Run]:
    runs = []
    models = Models()
    for spec in job.specs:
        import_s = _imported(spec, forked_import_s)
        scorer, load_s = _loaded(spec, models)
        scorer.score(job.pairs[: job.n_warmup])
        for call in job.calls:
            timing = Timing(scorer, [job.pairs[i] for i in call.positions], spec)
            timing.passes(call.n_passes, job.min_s)
            runs.append(timing.run(load_s + import_s))
    return runs


def _take_turns(job: TurnsJob, forked_import_s: float) -> Run:
    """Load the side when told, pass over the pairs once, then as often as each line says, until `end`.

    Sides import their libraries at once, and load in turn: an import is one thread of Python, and in CPU time
    takes as long in company as alone.
    """
    import_s = _imported(job.spec, forked_import_s)
    print("imported", flush=True)
    sys.stdin.readline()
    scorer, load_s = _loaded(job.spec, Models())
    load_s += import_s
    started = time.perf_counter()
    scorer.score(job.pairs)
    print(f"ready {time.perf_counter() - started}", flush=True)

    timing = Timing(scorer, job.pairs, job.spec)
    while (line := sys.stdin.readline().strip()).isdecimal():
        timing.passes(int(line))
        print("passed", flush=True)
    return timing.run(load_s)


def _sweep(job: SweepJob) -> list[Run]:
    """Pass over the pairs with the spec that each line on stdin numbers, until `end`; no run is kept."""
    models = Models()
    scorers: dict[int, Scorer] = {}
    pairs = job.pairs
    while (line := sys.stdin.readline().strip()).isdecimal():
        number = int(line)
        if number not in scorers:
            scorers[number] = make_scorer(job.specs[number], models)
            started = time.perf_counter()
            scorers[number].score(job.pairs[: job.n_warmup])
            if len(scorers) == 1:
                pairs = _fewer(job, time.perf_counter() - started)
        started = time.perf_counter()
        scorers[number].score(pairs)
        print(f"took {(time.perf_counter() - started) * len(job.pairs) / len(pairs)}", flush=True)
    return []


def _fewer(job: SweepJob, warmup_s: float) -> tuple[Pair, ...]:
    """Return every pair, or so many, evenly picked, that a pass does not take much longer than wanted."""
    n_warmup = max(1, min(job.n_warmup, len(job.pairs)))
    n = min(len(job.pairs), max(_MIN_SWEPT, int(job.pass_s / warmup_s * n_warmup)))
    return tuple(job.pairs[i * len(job.pairs) // n] for i in range(n))


def _count(job: CountJob) -> list[Run]:
    """Count the tokens of the pairs on each line of stdin, until it ends; no run is kept."""
    from exporter.runtime import PairTokenizer

    tokenizer = PairTokenizer(Path(job.spec.file), job.spec.max_length, job.spec.pad_id)
    print("loaded", flush=True)
    while line := sys.stdin.readline():
        pairs = [(query, passage) for query, passage in json.loads(line)]
        print(f"counted {json.dumps(tokenizer.count_untruncated(pairs).tolist())}", flush=True)
    return []


def _products(job: ProductsJob, order: Order) -> list[Run]:
    """Write what each int8 product loses beside the runs; no run is kept."""
    from exporter.artifact.files import to_json
    from exporter.export.product_error import product_errors
    from exporter.runtime import PairTokenizer

    spec, pairs = job.spec, sorted(job.pairs, key=lambda pair: len(pair[1]))
    named = spec.tokenizer
    tokenizer = PairTokenizer(Path(named.file), named.max_length, named.pad_id)
    encodings = tokenizer.encode(pairs)
    batches = (encodings[start : start + job.n_batch] for start in range(0, len(encodings), job.n_batch))
    feeds = [tokenizer.padded(batch, spec.inputs) for batch in batches]
    found = product_errors(Path(spec.graph), Path(spec.quantized), feeds, order.run.parent)
    order.run.with_name("products.json").write_bytes(to_json(found))
    return []


def _imported(spec: Spec, forked_import_s: float) -> float:
    """Import what takes a side longest, and return the CPU seconds it took, here or before the fork."""
    if not isinstance(spec, TorchSpec):
        return 0.0
    started = time.process_time()
    import sentence_transformers  # noqa: F401 # torch and transformers with it

    return forked_import_s + time.process_time() - started


def _loaded(spec: Spec, models: Models) -> tuple[Scorer, float]:
    """Return a spec's scorer, and the seconds it took to load."""
    started = time.perf_counter()
    scorer = make_scorer(spec, models)
    return scorer, time.perf_counter() - started


def main() -> None:
    """Read a job, do it, write the runs; or be the server that such workers are forked from."""
    if sys.argv[1] == SERVE:
        order = serve(int(sys.argv[2]), int(sys.argv[3]))
    else:
        end_with(int(sys.argv[1]))
        order = Order(Path(sys.argv[2]), Path(sys.argv[3]))
    try:
        runs = _work(job_from_json(order.job.read_bytes()), order)
        result: dict[str, object] = {"runs": TypeAdapter(list[Run]).dump_python(runs, mode="json")}
    except BaseException as error:  # noqa: BLE001 # goes to the parent, a panic of a library in Rust too
        found = planned(error)
        result = {"error": type(found).__name__, "message": str(found), "trace": trace_of(error)}

    scratch = order.run.with_suffix(".part")
    scratch.write_text(json.dumps(result), encoding="utf-8")
    scratch.replace(order.run)


if __name__ == "__main__":
    main()
    # Everything is written. PyTorch would take a second and a half to take itself apart.
    os._exit(0)
