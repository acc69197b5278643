"""The parent's side of a worker: start it with its threads pinned, sleep until it ends, read its results.

Results go to files, because libraries print to stdout; the worker's stdout carries how far it is.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import TypeAdapter

from exporter.artifact.files import TOKENIZER
from exporter.artifact.manifest import check_needed
from exporter.errors import BackendError, ExporterError, Unplanned
from exporter.export.product_error import ProductError
from exporter.memory import ULIMIT, limit_bytes, says_short, shortage
from exporter.scratch import Scratch
from exporter.worker.forkserver import OWN_VARIABLES, Forked, forked
from exporter.worker.job import (
    CountJob,
    Job,
    ProductsJob,
    Run,
    ScoreJob,
    Scoring,
    Spec,
    SweepJob,
    TimeJob,
    TokenizerSpec,
    TorchSpec,
    TurnsJob,
)
from exporter.worker.limits import current_limits
from exporter.worker.watch import Watch, kill, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from exporter.artifact.manifest import Manifest
    from exporter.pairs import Pair

# How long a big model takes nobody knows, but a worker that works uses a processor: one that uses less than a
# second of it in this time hangs, and is killed.
_HUNG_S = 300.0
# How C++ ends where it gets no memory and asks nobody.
_CRASHES = (-signal.SIGSEGV, -signal.SIGABRT)
_JOB: TypeAdapter[Job] = TypeAdapter(Job)
_RUNS = TypeAdapter(tuple[Run, ...])
_PRODUCTS = TypeAdapter(tuple[ProductError, ...])


def _unwatched(_n_done: int) -> None:
    pass


def score(
    spec: Spec,
    pairs: tuple[Pair, ...],
    progress: Callable[[int], None] = _unwatched,
    *,
    hung_s: float = _HUNG_S,
) -> NDArray[np.float32]:
    """Score pairs in a new process.

    Args:
        spec: who scores, and how.
        pairs: (query, passage) texts.
        progress: called with the number of pairs scored so far.
        hung_s: seconds without a second of processor time after which the worker is stopped.

    Returns:
        float32[n_pairs], in the order of the pairs.

    Raises:
        BackendError: the worker failed, or hung. Errors raised on purpose in the worker come through as they
            are.
    """
    (scores,) = score_each(ScoreJob(pairs, (Scoring(spec),)), progress, hung_s=hung_s)
    return scores


def score_each(
    job: ScoreJob, progress: Callable[[int], None] = _unwatched, *, hung_s: float = _HUNG_S
) -> tuple[NDArray[np.float32], ...]:
    """Score pairs in one new process, by each of a job's scorings in turn.

    Args:
        job: what to score; the process has the first spec's number of threads, which matters to torch only.
        progress: called with the number of pairs scored so far by a scoring without groups.
        hung_s: see `score`.

    Returns:
        float32 for each scoring: of all pairs, or of its groups' pairs, one group after the other.

    Raises:
        BackendError: see `score`.
    """
    with Scratch("job") as scratch, _Process(scratch, job, hung_s) as process:
        while line := process.read_line():
            if line.startswith("done ") and line[5:].strip().isdecimal():
                progress(int(line[5:]))
        process.result()
        return tuple(
            np.load(scratch / f"scores-{i}.npy", allow_pickle=False) for i in range(len(job.scorings))
        )


def time(job: TimeJob, *, hung_s: float = _HUNG_S) -> tuple[Run, ...]:
    """Time calls in a new process.

    Args:
        job: what to time; all its specs ask for one number of threads.
        hung_s: see `score`.

    Returns:
        One run per spec and call, the calls of a spec one after the other.

    Raises:
        BackendError: see `score`.
    """
    with Scratch("job") as scratch, _Process(scratch, job, hung_s) as process:
        while process.read_line():
            pass
        return process.result()


def product_errors(job: ProductsJob, *, hung_s: float = _HUNG_S) -> tuple[ProductError, ...]:
    """Measure in a new process what each int8 product loses, the one that loses most first.

    Args:
        job: the files and the pairs.
        hung_s: see `score`.

    Raises:
        BackendError: see `score`.
    """
    with Scratch("job") as scratch, _Process(scratch, job, hung_s) as process:
        while process.read_line():
            pass
        process.result()
        return _PRODUCTS.validate_json((scratch / "products.json").read_bytes())


class _DrivenWorker:
    """A worker that does a thing for each line it is told; a context manager that ends it."""

    def __init__(self, job: TurnsJob | SweepJob | CountJob, hung_s: float) -> None:
        self._scratch = Scratch("job")
        try:
            self._process = _Process(self._scratch.path, job, hung_s)
        except BaseException:
            self._scratch.cleanup()
            raise

    def __enter__(self) -> Self:
        """Return the worker itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process, whatever it does, and remove its files."""
        self._process.__exit__()
        self._scratch.cleanup()

    def _answer(self, word: str) -> str:
        while line := self._process.read_line():
            if line.startswith(word):
                return line.removeprefix(word).strip()
        self._process.result()  # raises what went wrong
        raise BackendError(f"a worker did not answer ({word})")


class TimedWorker(_DrivenWorker):
    """A worker driven turn by turn, so that several can alternate; a context manager that ends the worker.

    It imports its side's libraries as soon as it is made; others may do so meanwhile. `warm_s` is what a
    first pass took, in seconds, once it is loaded; it is not counted.
    """

    def __init__(self, spec: Spec, pairs: tuple[Pair, ...], *, hung_s: float = _HUNG_S) -> None:
        """Start the worker, and wait for nothing.

        Raises:
            BackendError: see `score`.
        """
        super().__init__(TurnsJob(pairs, spec), hung_s)
        self.warm_s = 0.0

    def wait_imported(self) -> None:
        """Block until the worker has imported its libraries, and is idle.

        Raises:
            BackendError: it failed, or hung.
        """
        self._answer("imported")

    def load(self) -> None:
        """Load the side, and pass over the pairs once; `wait_imported` comes before.

        Raises:
            BackendError: the worker failed, or hung.
        """
        self._process.write_line("load")
        self.warm_s = float(self._answer("ready"))

    def passes(self, n: int) -> None:
        """Run `n` passes over the pairs and block until they finish.

        Raises:
            BackendError: the worker failed, or hung.
        """
        self._process.write_line(str(n))
        self._answer("passed")

    def end(self) -> Run:
        """Return what the worker measured; the worker ends.

        Raises:
            BackendError: the worker failed.
        """
        self._process.write_line("end")
        while self._process.read_line():
            pass
        (run,) = self._process.result()
        return run


class SweepWorker(_DrivenWorker):
    """A worker that passes over pairs with one of many specs at a time; a context manager that ends it."""

    def __init__(self, job: SweepJob, *, hung_s: float = _HUNG_S) -> None:
        """Start the worker; nothing is loaded yet.

        Raises:
            BackendError: see `score`.
        """
        super().__init__(job, hung_s)
        self._number_of = {spec: number for number, spec in enumerate(job.specs)}

    def seconds(self, spec: Spec) -> float:
        """Return what a pass over the job's pairs takes with one of its specs, in seconds.

        Raises:
            BackendError: the side failed, or hung.
        """
        self._process.write_line(str(self._number_of[spec]))
        return float(self._answer("took"))


class CountWorker(_DrivenWorker):
    """A worker that counts tokens: a tokenizer of a stranger's is opened in no other process."""

    def __init__(self, folder: Path, manifest: Manifest, *, hung_s: float = _HUNG_S) -> None:
        """Start the worker, and load the tokenizer.

        Args:
            folder: the artifact, or one staged to become it; the tokenizer's file is hashed first.
            manifest: its manifest.
            hung_s: see `score`.

        Raises:
            IntegrityError: the file is missing, is not the one the manifest names, or is another kind of
                tokenizer.
            BackendError: see `score`.
        """
        check_needed(manifest, folder, (TOKENIZER,))
        spec = TokenizerSpec(str(folder / TOKENIZER), manifest.max_length, manifest.pad_id)
        super().__init__(CountJob(spec), hung_s)
        try:
            self._answer("loaded")
        except BaseException:
            self.__exit__()
            raise

    def count(self, pairs: Sequence[Pair]) -> NDArray[np.int64]:
        """Count the tokens of pairs before truncation, special tokens included: int64[n_pairs].

        Raises:
            BackendError: the worker failed, or hung.
        """
        self._process.write_line(json.dumps([list(pair) for pair in pairs]))
        return np.array(json.loads(self._answer("counted")), np.int64)


def job_from_json(raw: bytes) -> Job:
    """Read a job as the parent wrote it."""
    return _JOB.validate_json(raw)


class _Process:
    """A started worker: its lines and its result; watched while it is waited for, killed in the end."""

    def __init__(self, scratch: Path, job: Job, hung_s: float) -> None:
        job_path, self._run_path = scratch / "job.json", scratch / "run.json"
        environment = {
            **os.environ,
            **dict.fromkeys(OWN_VARIABLES, str(job.specs[0].threads)),
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(scratch / "hf"),  # what a library keeps of one folder must not stand for another
            "TRANSFORMERS_VERBOSITY": "error",
            "TOKENIZERS_PARALLELISM": "true",
            "PYTHONUNBUFFERED": "1",
        }
        self._what = f"({job.task}, {job.specs[0]})"
        self._limits = current_limits()
        if self._limits.left_s == 0:
            raise self._limits.out_of_time(self._what)
        try:
            job_path.write_bytes(_JOB.dump_json(job))
            self._log = (scratch / "stderr").open("w+", encoding="utf-8", errors="replace")
            self._worker = _started(job, job_path, self._run_path, environment, self._log.fileno())
        except OSError as error:
            raise BackendError(
                f"a worker cannot be run: {error}; its files go to {tempfile.gettempdir()}, or $TMPDIR"
            ) from error
        self._watch = Watch(self._worker, hung_s, self._limits)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        kill(self._worker)
        with suppress(BrokenPipeError):  # what was written to it and not read
            self._worker.__exit__(None, None, None)
        self._log.close()

    def write_line(self, text: str) -> None:
        """Write a line to the worker; one that has died reports so when it is asked for its answer."""
        assert self._worker.stdin is not None
        with suppress(BrokenPipeError):
            self._worker.stdin.write(f"{text}\n")
            self._worker.stdin.flush()

    def read_line(self) -> str:
        """Wait for the worker's next line; empty when it has ended."""
        assert self._worker.stdout is not None
        with self._watch.watching():
            return self._worker.stdout.readline()

    def result(self) -> tuple[Run, ...]:
        """Return the runs that the worker left when it ended, or raise what went wrong."""
        with self._watch.watching():
            used_bytes = wait(self._worker)
        if self._watch.stopped or not self._run_path.is_file():
            raise self._failure(used_bytes)

        result = json.loads(self._run_path.read_text(encoding="utf-8"))
        if "error" in result:
            kind = next(k for k in _error_classes() if k.__name__ == result["error"])
            if issubclass(kind, BackendError | Unplanned) and self._limits.refused(result["message"], None):
                raise self._limits.out_of_memory(self._what)
            if issubclass(kind, Unplanned):
                raise kind(result["message"], result["trace"])
            raise kind(result["message"])
        return _RUNS.validate_python(result["runs"])

    def _failure(self, used_bytes: int | None) -> ExporterError:
        """Return the error for a worker that was stopped, or ended without a word."""
        what, ended = self._what, self._worker.returncode
        self._log.seek(0)
        tail = self._log.read()[-4000:]
        stopped = self._watch.stopped
        if stopped == "hung":
            return BackendError(f"a worker hung and was stopped {what}; run the same command again:\n{tail}")
        if stopped == "seconds":
            return self._limits.out_of_time(what)
        if stopped == "memory" or self._limits.refused(tail, used_bytes):
            return self._limits.out_of_memory(what)
        if ended == -signal.SIGKILL:
            killed = f"a worker {what} was killed, as the system does when memory runs out"
            return shortage(killed, used_bytes, who="the worker", certain=False)
        said = says_short(tail)
        if said is None and ended in _CRASHES and limit_bytes()[1] == ULIMIT:
            said = f"a worker {what} crashed ({signal.Signals(-ended).name})"
        if said:
            return shortage(said, used_bytes, who="the worker")
        return BackendError(f"a worker ended with {ended} {what}:\n{tail}")


def _started(
    job: Job, job_path: Path, run_path: Path, environment: dict[str, str], stderr: int
) -> subprocess.Popen[str] | Forked:
    """Start a worker in a group of its own: what it starts ends with it, and a Ctrl-C is answered once."""
    spec = job.specs[0]
    if isinstance(spec, TorchSpec) and spec.device == "cpu":
        worker = forked(spec.folder, job_path, run_path, environment, stderr)
        if worker is not None:
            return worker
    return subprocess.Popen(
        [sys.executable, "-m", "exporter.worker", str(os.getpid()), str(job_path), str(run_path)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        encoding="utf-8",
        errors="replace",  # libraries print what they like
        process_group=None if sys.platform == "win32" else 0,
    )


def _error_classes() -> list[type[ExporterError]]:
    found: list[type[ExporterError]] = [ExporterError]
    for kind in found:
        found += kind.__subclasses__()
    return found
