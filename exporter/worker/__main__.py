"""One measurement in a process of its own: `python -m exporter.verify.worker JOB.json RUN.json PARENT_PID`.

`run_job` is the parent's side: it starts the process with its threads pinned and sleeps until it ends. The rest runs in the
worker. Results go to a file, because libraries print to stdout; stdout carries the number of pairs done.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, Self

import numpy as np
from pydantic import TypeAdapter

from exporter.errors import BackendError, ExporterError
from exporter.runtime.engine import Precision

Dtype = Literal["float32", "int8"]
TorchDtype = Literal["float32", "float16", "bfloat16"]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# How long a big model takes nobody knows, but a worker that works uses a processor: one that uses less than a second of it in
# so long hangs, and is killed.
_HUNG_S = 300.0
_CHUNK_PAIRS = 384  # progress is reported this often
# Small enough for the first cache; a try takes well under a millisecond.
_CLOCK_BLOCK = bytes(1 << 16)
_CLOCK_TRIES = 50


@dataclass(frozen=True, slots=True)
class TorchSpec:
    """The PyTorch model: `workers` threads call `CrossEncoder.predict`, each with `threads` of torch's own.

    The reference is in float32; other types are for comparing on a GPU.
    """

    folder: str
    max_length: int
    device: str
    batch_size: int
    workers: int
    threads: int
    dtype: TorchDtype = "float32"

    def __str__(self) -> str:
        """Give the plan as people write it."""
        where = "" if self.device == "cpu" else f"{self.device}, "
        what = "" if self.dtype == "float32" else f"{self.dtype}, "
        return f"{where}{what}{self.workers}x{self.threads}, batch {self.batch_size}"


@dataclass(frozen=True, slots=True)
class ArtifactSpec:
    """A variant of an artifact under a plan, run through `runtime.Reranker`.

    `precision` is the runtime's; `slowdown` is slept after each call, as a share of what it took: a slow-down of known size.
    """

    folder: str
    kind: str
    workers: int
    threads: int
    token_budget: int
    precision: Precision = "stated"
    slowdown: float = 0.0

    def __str__(self) -> str:
        """Give the plan as people write it."""
        return f"{self.workers}x{self.threads}, {self.token_budget} tokens"


@dataclass(frozen=True, slots=True)
class PeakSpec:
    """The engine's own matrix product, one for each pair, so large that nothing but arithmetic counts: what a machine can do.

    `dtype` is float32, or int8 for unsigned by signed bytes; `peak_flops` counts a product.
    """

    dtype: Dtype
    workers: int
    threads: int

    def __str__(self) -> str:
        """Give it as people write it."""
        m, k, n = _PEAK_SHAPES[self.dtype]
        return f"{self.workers}x{self.threads}, products of {m}x{k}x{n}"


@dataclass(frozen=True, slots=True)
class PeerSpec:
    """Another library on the same weights, prepared in `folder`: `batch` pairs at a time, or all candidates of a query."""

    peer: str
    folder: str
    batch: int | None
    workers: int
    threads: int

    def __str__(self) -> str:
        """Give the plan as people write it."""
        return f"batch {self.batch}" if self.batch else "a query a batch"


Spec = TorchSpec | ArtifactSpec | PeerSpec | PeakSpec
# The fastest of seven shapes tried, on AMD EPYC 25/17 with and without AVX-512; the others were up to a quarter slower.
_PEAK_SHAPES = {"float32": (256, 1536, 384), "int8": (128, 4096, 512)}
PEAK_DTYPES: tuple[Dtype, ...] = ("float32", "int8")


def peak_flops(dtype: Dtype) -> int:
    """Count the multiplications and additions of one product of `PeakSpec`."""
    return 2 * math.prod(_PEAK_SHAPES[dtype])


@dataclass(frozen=True, slots=True)
class Call:
    """Passes over the pairs at these positions of a job's, at least `n_passes` of them."""

    positions: tuple[int, ...]
    n_passes: int


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker does with each of `specs`.

    `score`: give the scores of all pairs, or, where there are `calls`, of each call's, one call after the other. `time`: warm
    up on the first `n_warmup` pairs, then time each of `calls`, whose passes go on until `min_s` seconds.
    """

    task: Literal["score", "time", "turns"]
    specs: tuple[Spec, ...]
    pairs: tuple[tuple[str, str], ...]
    calls: tuple[Call, ...] = ()
    n_warmup: int = 0
    min_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Run:
    """What one worker measured with one spec. Raw seconds, never averages.

    `n_tokens` and `n_tokens_squared` are sums over the pairs, as they are without padding. `cpu_share` is the processor time
    over wall time and cores of the timed passes, 0...1; `crowding` how much of the cores it was to use others had meanwhile,
    0...1: other processes, or the host of a virtual machine, `steal` the host's part of it; `clock` is how often a second a
    fixed piece of arithmetic was done on one core before and after, the mean: it falls when the CPU gets slower; `tokenize_s`
    is the tokenizer's part of one pass; `load_s` includes importing the engine.
    """

    n_pairs: int
    n_tokens: int
    n_tokens_squared: int
    seconds: tuple[float, ...]
    tokenize_s: float
    load_s: float
    cpu_share: float
    crowding: float
    steal: float
    clock: float
    device_s: float
    peak_rss_bytes: int


class _Scorer(Protocol):
    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]: ...
    def count_tokens(self, pairs: Sequence[tuple[str, str]]) -> list[int]: ...


def run_job(job: Job, progress: Callable[[int], None] = lambda _n: None) -> tuple[tuple[Run, ...], NDArray[np.float32] | None]:
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


def _run_in(scratch: Path, job: Job, progress: Callable[[int], None]) -> tuple[tuple[Run, ...], NDArray[np.float32] | None]:
    with _Process(scratch, job) as process:
        while line := process.read_line():
            if line.startswith("done ") and line[5:].strip().isdecimal():
                progress(int(line[5:]))
        runs = process.result()
    scores_path = scratch / "scores.npy"
    return runs, np.load(scores_path, allow_pickle=False) if scores_path.is_file() else None


class Contestant:
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
    return BackendError(f"a worker cannot be run: {error}; its files go to {tempfile.gettempdir()}, or $TMPDIR")


class _Process:
    """A started worker: lines to it and from it, and its result. It is watched while it is waited for, and killed in the end."""

    def __init__(self, scratch: Path, job: Job) -> None:
        job_path, self._run_path, self._job = scratch / "job.json", scratch / "run.json", job
        job_path.write_bytes(TypeAdapter(Job).dump_json(job))
        command = [sys.executable, "-m", "exporter.verify.worker", str(job_path), str(self._run_path), str(os.getpid())]
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
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
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
            raise BackendError(f"a worker hung and was stopped ({job.task}, {job.specs[0]}); run the same command again:\n{tail}")
        if not self._run_path.is_file():
            raise BackendError(f"a worker ended with {self._worker.returncode} ({job.task}, {job.specs[0]}):\n{tail}")
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


def _work(job: Job, folder: Path) -> list[Run]:
    if job.task == "turns":
        return _take_turns(job)
    runs = []
    models: dict[tuple[str, str], object] = {}
    for spec in job.specs:
        started = time.perf_counter()
        scorer = _scorer(spec, models)
        load_s = time.perf_counter() - started
        if job.task == "score":
            as_given = isinstance(spec, PeerSpec)
            parts = [[job.pairs[i] for i in call.positions] for call in job.calls]
            scores = (
                np.concatenate([scorer.score(p) for p in parts]) if parts else _score_all(scorer, job.pairs, as_given=as_given)
            )
            np.save(folder / "scores.npy", scores)
            runs.append(_run(scorer, job.pairs, load_s, _Timed((0.0,), 0.0, 0.0, 0.0, 0.0, 0.0)))
            continue
        scorer.score(job.pairs[: job.n_warmup])
        for call in job.calls:
            pairs = [job.pairs[i] for i in call.positions]
            timing = _Timing(scorer, pairs, spec)
            timing.passes(call.n_passes, job.min_s)
            runs.append(_run(scorer, pairs, load_s, timing.finished()))
    return runs


class _Timing:
    """Times passes over pairs, and sees what else the cores were doing meanwhile; between passes it does not look."""

    def __init__(self, scorer: _Scorer, pairs: Sequence[tuple[str, str]], spec: Spec) -> None:
        self._scorer, self._pairs, self._cores = scorer, pairs, spec.workers * spec.threads
        self._slowdown = spec.slowdown if isinstance(spec, ArtifactSpec) else 0.0
        self._clock = _clock()
        self._device_s = scorer.device_s if isinstance(scorer, _Torch) else 0.0
        self._seconds: list[float] = []
        self._own = self._everyone = self._stolen = self._wall = 0.0

    def passes(self, n: int, min_s: float = 0.0) -> None:
        """Pass over the pairs so often at least, and so long."""
        seconds: list[float] = []
        own, (everyone, stolen), started_all = time.process_time(), _everyones_cpu_s(), time.perf_counter()
        while len(seconds) < n or sum(seconds) < min_s:
            started = time.perf_counter()
            self._scorer.score(self._pairs)
            if self._slowdown:
                time.sleep((time.perf_counter() - started) * self._slowdown)
            seconds.append(time.perf_counter() - started)
        self._wall += time.perf_counter() - started_all
        self._own += time.process_time() - own
        everyone_after, stolen_after = _everyones_cpu_s()
        self._everyone += everyone_after - everyone
        self._stolen += stolen_after - stolen
        self._seconds += seconds

    def finished(self) -> _Timed:
        """Give what was seen."""
        of_machine = os.cpu_count() or self._cores
        return _Timed(
            seconds=tuple(self._seconds),
            cpu_share=self._own / self._wall / self._cores,
            crowding=_crowding((self._everyone - self._own) / self._wall, self._cores, of_machine),
            steal=min(1.0, self._stolen / self._wall / self._cores),
            clock=(self._clock + _clock()) / 2,
            device_s=self._scorer.device_s - self._device_s if isinstance(self._scorer, _Torch) else 0.0,
        )


def _take_turns(job: Job) -> list[Run]:
    """Load the one side, pass over the pairs once, then as often as each line on stdin says, until one says `end`."""
    (spec,) = job.specs
    started = time.perf_counter()
    scorer = _scorer(spec, {})
    load_s = time.perf_counter() - started
    started = time.perf_counter()
    scorer.score(job.pairs)
    print(f"ready {time.perf_counter() - started}", flush=True)
    timing = _Timing(scorer, job.pairs, spec)
    while (line := sys.stdin.readline().strip()).isdecimal():
        timing.passes(int(line))
        print("passed", flush=True)
    return [_run(scorer, job.pairs, load_s, timing.finished())]


def _clock() -> float:
    """Give how often a second one core hashes a block, the best of a few tries: what is left is how fast it is clocked.

    A virtual machine does not say its frequency. No memory is waited for, so that a neighbour on other cores does not show.
    """
    best = math.inf
    for _ in range(_CLOCK_TRIES):
        started = time.perf_counter()
        hashlib.sha256(_CLOCK_BLOCK).digest()
        best = min(best, time.perf_counter() - started)
    return 1 / best


def _everyones_cpu_s() -> tuple[float, float]:
    """Give the seconds of processor time that anybody used since the machine started, the host included, and the host's alone.

    Source: https://docs.kernel.org/filesystems/proc.html#miscellaneous-kernel-statistics-in-proc-stat
    """
    import psutil

    times = psutil.cpu_times()._asdict()
    steal = float(times.get("steal", 0.0))
    return float(sum(times.get(what, 0.0) for what in ("user", "nice", "system", "irq", "softirq"))) + steal, steal


def _crowding(others_cores: float, cores: int, cores_of_machine: int) -> float:
    """Give the share of `cores` that others left no room for: on a large machine with cores to spare they do no harm."""
    return min(1.0, max(0.0, others_cores + cores - cores_of_machine) / cores)


def _scorer(spec: Spec, models: dict[tuple[str, str], object]) -> _Scorer:
    match spec:
        case TorchSpec():
            return _Torch(spec, models)
        case ArtifactSpec():
            return _Artifact(spec)
        case PeerSpec():
            return _Peer(spec, models)
        case PeakSpec():
            return _Peak(spec)


class _Timed(NamedTuple):
    seconds: tuple[float, ...]
    cpu_share: float
    crowding: float
    steal: float
    clock: float
    device_s: float


def _run(scorer: _Scorer, pairs: Sequence[tuple[str, str]], load_s: float, timed: _Timed) -> Run:
    peak = _peak_rss_bytes()  # before the tokens are counted once more
    started = time.perf_counter()
    n_tokens = scorer.count_tokens(pairs)
    tokenize_s = time.perf_counter() - started
    return Run(
        n_pairs=len(pairs),
        n_tokens=sum(n_tokens),
        n_tokens_squared=sum(n * n for n in n_tokens),
        seconds=timed.seconds,
        tokenize_s=tokenize_s,
        load_s=load_s,
        cpu_share=timed.cpu_share,
        crowding=timed.crowding,
        steal=timed.steal,
        clock=timed.clock,
        device_s=timed.device_s,
        peak_rss_bytes=peak,
    )


def _peak_rss_bytes() -> int:
    """Give this process's own peak. `ru_maxrss` would start from that of the parent, which has torch loaded.

    Source: https://man7.org/linux/man-pages/man2/getrusage.2.html (ru_maxrss is kept across execve)
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _score_all(scorer: _Scorer, pairs: Sequence[tuple[str, str]], *, as_given: bool) -> NDArray[np.float32]:
    """Score in chunks, of like length unless the order `as_given` matters, and print how far it is."""
    order = list(range(len(pairs))) if as_given else sorted(range(len(pairs)), key=lambda i: -len(pairs[i][1]))
    scores = np.empty(len(pairs), np.float32)
    for start in range(0, len(order), _CHUNK_PAIRS):
        rows = order[start : start + _CHUNK_PAIRS]
        scores[rows] = scorer.score([pairs[i] for i in rows])
        print(f"done {start + len(rows)}", flush=True)
    return scores


class _Artifact:
    def __init__(self, spec: ArtifactSpec) -> None:
        from exporter.runtime import Plan, Reranker

        plan = Plan(spec.workers, spec.threads, spec.token_budget)
        self._reranker = Reranker.load(spec.folder, spec.kind, plan=plan, precision=spec.precision)
        self.score = self._reranker.score

    def count_tokens(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        return [len(encoding) for encoding in self._reranker.tokenize(pairs)]


class _Torch:
    """`CrossEncoder.predict`, raw logits. `device_s` adds up what a GPU took, between events on its own stream."""

    def __init__(self, spec: TorchSpec, models: dict[tuple[str, str], object]) -> None:
        import torch
        from sentence_transformers import CrossEncoder

        torch.set_num_threads(spec.threads)
        # TF32 keeps 10 bits of mantissa: no reference to hold float32 against.
        # Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#tensorfloat-32-tf32-on-ampere-and-later-devices
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        key = (spec.folder, f"{spec.device} {spec.dtype}")
        if key not in models:
            models[key] = CrossEncoder(
                spec.folder,
                max_length=spec.max_length,
                device=spec.device,
                activation_fn=torch.nn.Identity(),
                # transformers 5 loads fp16 checkpoints as fp16 unless told.
                model_kwargs={"dtype": getattr(torch, spec.dtype), "use_safetensors": True},
                local_files_only=True,
                trust_remote_code=False,
            )
        model = models[key]
        assert isinstance(model, CrossEncoder)
        self._model, self._spec = model, spec
        self._pool = ThreadPoolExecutor(spec.workers)
        self._on_gpu = spec.device.startswith("cuda")
        self.device_s = 0.0

    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        if self._on_gpu:
            return self._synchronised(pairs)
        if self._spec.workers == 1:
            return self._predict(pairs)
        order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i][1]))
        parts = [order[w :: self._spec.workers] for w in range(self._spec.workers)]
        scores = np.empty(len(pairs), np.float32)
        done = self._pool.map(self._predict, ([pairs[i] for i in part] for part in parts if part))
        for part, values in zip([part for part in parts if part], done, strict=True):
            scores[part] = values
        return scores

    def _synchronised(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Score with nothing left running on the GPU before or after, so that a clock around this tells the truth.

        Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#asynchronous-execution
        """
        import torch

        started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        started.record()
        scores = self._predict(pairs)
        ended.record()
        torch.cuda.synchronize()
        self.device_s += started.elapsed_time(ended) / 1000
        return scores

    def _predict(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        texts = [list(pair) for pair in pairs]
        scores = self._model.predict(texts, batch_size=self._spec.batch_size, show_progress_bar=False)
        return np.asarray(scores, np.float32)

    def count_tokens(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        encoded = self._model.tokenizer(
            [q for q, _ in pairs], [p for _, p in pairs], truncation=True, max_length=self._spec.max_length
        )
        return [len(ids) for ids in encoded["input_ids"]]


class _Peer:
    def __init__(self, spec: PeerSpec, models: dict[tuple[str, str], object]) -> None:
        from exporter.verify.peers import PEERS

        key = (spec.peer, spec.folder)
        if key not in models:  # both settings of a peer run one model
            models[key] = PEERS[spec.peer].load(Path(spec.folder))
        self._score, self._spec = models[key], spec

    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        assert callable(self._score)
        return np.asarray(self._score(pairs, self._spec.batch), np.float32)

    def count_tokens(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        return [0] * len(pairs)  # its own affair; ours say how many there are


class _Peak:
    """Matrix products through onnxruntime, on one session as the runtime has it."""

    def __init__(self, spec: PeakSpec) -> None:
        import onnxruntime as ort
        from onnx import TensorProto, helper, numpy_helper

        m, k, n = _PEAK_SHAPES[spec.dtype]
        rng = np.random.default_rng(0)
        if spec.dtype == "int8":
            # Weights of 7 bits: where there is no VNNI, these are what an artifact has.
            weights, op, kinds = rng.integers(-64, 64, (k, n), np.int8), "MatMulInteger", (TensorProto.UINT8, TensorProto.INT32)
            self._feed = {"a": rng.integers(0, 256, (m, k), np.uint8)}
        else:
            weights, op, kinds = rng.random((k, n), np.float32), "MatMul", (TensorProto.FLOAT, TensorProto.FLOAT)
            self._feed = {"a": rng.random((m, k), np.float32)}
        graph = helper.make_graph(
            [helper.make_node(op, ["a", "b"], ["c"])],
            "peak",
            [helper.make_tensor_value_info("a", kinds[0], (m, k))],
            [helper.make_tensor_value_info("c", kinds[1], (m, n))],
            [numpy_helper.from_array(weights, "b")],
        )
        options = ort.SessionOptions()
        options.intra_op_num_threads = spec.threads
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        self._session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self._pool = ThreadPoolExecutor(spec.workers)

    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        list(self._pool.map(lambda _pair: self._session.run(None, self._feed), pairs))
        return np.zeros(len(pairs), np.float32)

    def count_tokens(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        return [0] * len(pairs)


def main() -> None:
    """Read a job, do it, write the runs."""
    if sys.platform == "linux":  # die with the parent, also when it is killed
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != int(sys.argv[3]):  # it was killed before this worker could ask for that
            return
    job_path, run_path = Path(sys.argv[1]), Path(sys.argv[2])
    job = TypeAdapter(Job).validate_json(job_path.read_bytes())
    try:
        result: dict[str, object] = {"runs": TypeAdapter(list[Run]).dump_python(_work(job, run_path.parent), mode="json")}
    except ExporterError as error:
        result = {"error": type(error).__name__, "message": str(error)}
    scratch = run_path.with_suffix(".part")
    scratch.write_text(json.dumps(result), encoding="utf-8")
    scratch.replace(run_path)


if __name__ == "__main__":
    main()
