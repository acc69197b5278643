"""The parent's side: start a worker with its threads pinned, sleep until it ends, and read what it left."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import TypeAdapter

from exporter.errors import BackendError, ExporterError
from exporter.worker.job import Job, Run, Spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray


def score_job(job: Job, progress: Callable[[int], None] = lambda _n: None) -> NDArray[np.float32]:
    _, scores = run_job(job, progress)
    assert scores is not None
    return scores


_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# How long a big model takes nobody knows, but a worker that works uses a processor: one that uses less than a second of it in
# so long hangs, and is killed.
_HUNG_S = 300.0


def run_job(
    job: Job, progress: Callable[[int], None] = lambda _n: None
) -> tuple[tuple[Run, ...], NDArray[np.float32] | None]:
    """Run a job in a new process and sleep until it ends.

    Args:
        job: what to do; all its specs ask for one number of threads.
        progress: called with the number of pairs scored so far.

    Returns:
        One run per spec and call, and, if the task is `score`, float32 of the last spec: of the pairs, or of its calls' pairs.

    Raises:
        BackendError: the worker failed, or hung. Errors raised on purpose in the worker come through as they are.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="exporter-job-") as scratch:
            return _run_in(Path(scratch), job, progress)
    except OSError as error:
        raise _no_room(error) from error


def _run_in(
    scratch: Path, job: Job, progress: Callable[[int], None]
) -> tuple[tuple[Run, ...], NDArray[np.float32] | None]:
    with _Process(scratch, job) as process:
        while line := process.read_line():
            if line.startswith("done ") and line[5:].strip().isdecimal():
                progress(int(line[5:]))
        runs = process.result()
    scores_path = scratch / "scores.npy"
    return runs, np.load(scores_path, allow_pickle=False) if scores_path.is_file() else None


class TimedWorker:
    """A worker that times passes when it is told to, so that several can take turns; a context manager that ends it.

    `warm_s` is what a first pass took, which is not counted.
    """

    def __init__(self, spec: Spec, pairs: tuple[tuple[str, str], ...]) -> None:
        """Start it, and wait until it has loaded its side and passed over the pairs once.

        Raises:
            BackendError: the worker failed, or hung. Errors raised on purpose in the worker come through as they are.
        """
        try:
            self._scratch = tempfile.TemporaryDirectory(prefix="exporter-job-")
            self._process = _Process(Path(self._scratch.name), Job("turns", (spec,), pairs))
        except OSError as error:
            raise _no_room(error) from error
        try:
            self.warm_s = float(self._answer("ready"))
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process, whatever it does, and remove its files."""
        self._process.__exit__()
        self._scratch.cleanup()

    def passes(self, n: int) -> None:
        """Let it pass over the pairs so often, and sleep until it has.

        Raises:
            BackendError: it failed, or hung.
        """
        self._process.write_line(str(n))
        self._answer("passed")

    def end(self) -> Run:
        """Give what it measured; it ends.

        Raises:
            BackendError: it failed.
        """
        self._process.write_line("end")
        while self._process.read_line():
            pass
        (run,) = self._process.result()
        return run

    def _answer(self, word: str) -> str:
        while line := self._process.read_line():
            if line.startswith(word):
                return line.removeprefix(word).strip()
        self._process.result()  # says what went wrong
        raise BackendError(f"a worker did not answer ({word})")


def _no_room(error: OSError) -> BackendError:
    return BackendError(
        f"a worker cannot be run: {error}; its files go to {tempfile.gettempdir()}, or $TMPDIR"
    )


class _Process:
    """A started worker: lines to it and from it, and its result. It is watched while it is waited for, and killed in the end."""

    def __init__(self, scratch: Path, job: Job) -> None:
        job_path, self._run_path, self._job = scratch / "job.json", scratch / "run.json", job
        job_path.write_bytes(TypeAdapter(Job).dump_json(job))
        command = [
            sys.executable,
            "-m",
            "exporter.worker",
            str(job_path),
            str(self._run_path),
            str(os.getpid()),
        ]
        environment = {
            **os.environ,
            **dict.fromkeys(_THREAD_VARIABLES, str(job.specs[0].threads)),
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_VERBOSITY": "error",
            "TOKENIZERS_PARALLELISM": "true",
            "PYTHONUNBUFFERED": "1",
        }
        self._log = (scratch / "stderr").open("w+", encoding="utf-8")
        self._hung = threading.Event()
        self._worker = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.kill()
        with suppress(BrokenPipeError):  # what was written to it and not read
            self._worker.__exit__(None, None, None)
        self._log.close()

    def write_line(self, text: str) -> None:
        """Tell it something; one that has died says so when it is asked for its answer."""
        assert self._worker.stdin is not None
        with suppress(BrokenPipeError):
            self._worker.stdin.write(f"{text}\n")
            self._worker.stdin.flush()

    def read_line(self) -> str:
        """Wait for its next line; empty when it has ended."""
        assert self._worker.stdout is not None
        with _killed_when_hung(self._worker, self._hung):
            return self._worker.stdout.readline()

    def result(self) -> tuple[Run, ...]:
        """Give what it left when it ended, or raise what went wrong."""
        self._worker.wait()
        job = self._job
        self._log.seek(0)
        tail = self._log.read()[-4000:]
        if self._hung.is_set():
            raise BackendError(
                f"a worker hung and was stopped ({job.task}, {job.specs[0]}); run the same command again:\n{tail}"
            )
        if not self._run_path.is_file():
            raise BackendError(
                f"a worker ended with {self._worker.returncode} ({job.task}, {job.specs[0]}):\n{tail}"
            )
        result = json.loads(self._run_path.read_text(encoding="utf-8"))
        if "error" in result:
            kind = next(k for k in _error_classes() if k.__name__ == result["error"])
            raise kind(result["message"])
        return TypeAdapter(tuple[Run, ...]).validate_python(result["runs"])


@contextmanager
def _killed_when_hung(worker: subprocess.Popen[str], hung: threading.Event) -> Iterator[None]:
    """Look after a worker that is waited for; set an event, and kill it, when it hangs."""
    import psutil

    ended = threading.Event()

    def watch() -> None:
        used = -math.inf
        while not ended.wait(_HUNG_S):
            try:
                before, used = used, sum(psutil.Process(worker.pid).cpu_times()[:2])
            except psutil.NoSuchProcess:
                return
            if used - before < 1.0:
                hung.set()
                worker.kill()
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _error_classes() -> list[type[ExporterError]]:
    found: list[type[ExporterError]] = [ExporterError]
    for kind in found:
        found += kind.__subclasses__()
    return found
