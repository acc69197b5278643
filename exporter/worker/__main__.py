"""One measurement in a process of its own: `python -m exporter.worker JOB.json RUN.json PARENT_PID`.

`run_job` is the parent's side: it starts the process with its threads pinned and sleeps until it ends. The rest runs in the
worker. Results go to a file, because libraries print to stdout; stdout carries the number of pairs done.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import TypeAdapter

from exporter.errors import ExporterError
from exporter.worker.job import Job, PeerSpec, Run
from exporter.worker.scorers import Scorer, make_scorer
from exporter.worker.timing import Timed, Timing, run_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_CHUNK_PAIRS = 384  # progress is reported this often


def _work(job: Job, folder: Path) -> list[Run]:
    if job.task == "turns":
        return _take_turns(job)
    runs = []
    models: dict[tuple[str, str], object] = {}
    for spec in job.specs:
        started = time.perf_counter()
        scorer = make_scorer(spec, models)
        load_s = time.perf_counter() - started
        if job.task == "score":
            as_given = isinstance(spec, PeerSpec)
            parts = [[job.pairs[i] for i in call.positions] for call in job.calls]
            scores = (
                np.concatenate([scorer.score(p) for p in parts])
                if parts
                else _score_all(scorer, job.pairs, as_given=as_given)
            )
            np.save(folder / "scores.npy", scores)
            runs.append(run_of(scorer, job.pairs, load_s, Timed((0.0,), 0.0, 0.0, 0.0, 0.0, 0.0)))
            continue
        scorer.score(job.pairs[: job.n_warmup])
        for call in job.calls:
            pairs = [job.pairs[i] for i in call.positions]
            timing = Timing(scorer, pairs, spec)
            timing.passes(call.n_passes, job.min_s)
            runs.append(run_of(scorer, pairs, load_s, timing.finished()))
    return runs


def _take_turns(job: Job) -> list[Run]:
    """Load the one side, pass over the pairs once, then as often as each line on stdin says, until one says `end`."""
    (spec,) = job.specs
    started = time.perf_counter()
    scorer = make_scorer(spec, {})
    load_s = time.perf_counter() - started
    started = time.perf_counter()
    scorer.score(job.pairs)
    print(f"ready {time.perf_counter() - started}", flush=True)
    timing = Timing(scorer, job.pairs, spec)
    while (line := sys.stdin.readline().strip()).isdecimal():
        timing.passes(int(line))
        print("passed", flush=True)
    return [run_of(scorer, job.pairs, load_s, timing.finished())]


def _score_all(scorer: Scorer, pairs: Sequence[tuple[str, str]], *, as_given: bool) -> NDArray[np.float32]:
    """Score in chunks, of like length unless the order `as_given` matters, and print how far it is."""
    order = (
        list(range(len(pairs))) if as_given else sorted(range(len(pairs)), key=lambda i: -len(pairs[i][1]))
    )
    scores = np.empty(len(pairs), np.float32)
    for start in range(0, len(order), _CHUNK_PAIRS):
        rows = order[start : start + _CHUNK_PAIRS]
        scores[rows] = scorer.score([pairs[i] for i in rows])
        print(f"done {start + len(rows)}", flush=True)
    return scores


def main() -> None:
    """Read a job, do it, write the runs."""
    if sys.platform == "linux":  # die with the parent, also when it is killed
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != int(sys.argv[3]):  # it was killed before this worker could ask for that
            return
    job_path, run_path = Path(sys.argv[1]), Path(sys.argv[2])
    job = TypeAdapter(Job).validate_json(job_path.read_bytes())
    try:
        result: dict[str, object] = {
            "runs": TypeAdapter(list[Run]).dump_python(_work(job, run_path.parent), mode="json")
        }
    except ExporterError as error:
        result = {"error": type(error).__name__, "message": str(error)}
    scratch = run_path.with_suffix(".part")
    scratch.write_text(json.dumps(result), encoding="utf-8")
    scratch.replace(run_path)


if __name__ == "__main__":
    main()
