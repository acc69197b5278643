"""Run one graph on one engine. The engines' libraries are imported here, and only when asked for."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from exporter.backend import backend
from exporter.errors import BackendError, IntegrityError
from exporter.packages import missing
from exporter.runtime.forked import PerProcess
from exporter.runtime.operators import Operation, recorded_by_onnxruntime
from exporter.runtime.tokenizer import KNOWN_INPUTS
from exporter.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from openvino import InferRequest

    from exporter.artifact.manifest import Traits
    from exporter.runtime.plan import Plan


# How an engine computes.
# `pinned`: in the precision of the variant's traits, on every CPU the same; what a user runs.
# `no-saturation`: as `pinned`, but onnxruntime's int8 products in kernels that cannot saturate, which cost
# time on CPUs without VNNI.
# `engine-default`: as the engine chooses for itself: in OpenVINO bf16 on CPUs that have it, in onnxruntime
# with fusions that round in another order. The last two are for comparing.
# Source: https://github.com/microsoft/onnxruntime/issues/14642 (session.x64quantprecision)
Numerics = Literal["pinned", "no-saturation", "engine-default"]
# Fusions that onnxruntime makes when it loads a graph, and that run slower than what they replace. With
# SkipLayerNormalization int8 did 142 pairs/s, with Add and LayerNormalization 155; fp32 the same (onnxruntime
# 1.32.0, AMD EPYC 25/17, two cores).
_SLOW_FUSIONS = ("SkipLayerNormFusion",)
# OpenVINO's bindings make their table of numpy types on the first call, in a C++ static whose making lets go
# of the GIL: a second thread that comes by then waits for the static with the GIL held, the first for the
# GIL, and the process hangs for good (seen with 2026.4.1 in 5 of 12 processes). One thread at a time makes
# its first call; any lock of Python's lets go of the GIL.
# Source: https://github.com/pybind/pybind11/pull/4877 (the same deadlock, mended in pybind11's own statics)
_first_call = PerProcess(threading.Lock)
# OpenVINO's name of the precision in which it computes what is not int8 in the graph, by a variant's
# activations; f32 where nothing stands here.
# Source: https://docs.openvino.ai/2025/openvino-workflow/running-inference/optimize-inference/precision-control.html
_OPENVINO_PRECISION = {"bf16": "bf16"}


class Engine(Protocol):
    """One loaded graph; `logits` may be called by several threads at once."""

    inputs: tuple[str, ...]

    def operations(self) -> list[Operation]:
        """Return what ran since a load with `profiled`, and end the recording; nothing after another load."""
        ...

    def width(self, n_tokens: int) -> int:
        """Return to how many tokens a batch is padded whose longest pair has `n_tokens`."""
        ...

    def rows(self, n_rows: int) -> int:
        """Return how many pairs a batch had better have, of `n_rows` that would fit."""
        ...

    def logits(self, feed: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """Run a padded batch, int64[n_rows, n_tokens] per input, and return float32[n_rows], raw logits.

        Raises:
            BackendError: the engine fails, or gives anything but one number a row.
        """
        ...


def open_engine(
    traits: Traits, model: Path, plan: Plan, *, profiled: bool = False, numerics: Numerics = "pinned"
) -> Engine:
    """Load a variant's graph for a plan.

    Args:
        traits: of the variant's kind; name the engine, and the precision in which it computes.
        model: the file the engine opens.
        plan: how many threads share it, and how many it has itself.
        profiled: record every operator's run.
        numerics: whose choice the arithmetic is.

    Raises:
        BackendMissing: the engine is not installed.
        BackendError: the engine refuses the file, or the graph asks for inputs no tokenizer gives.
        IntegrityError: the manifest names an engine this version does not know.
    """
    engine = traits.engine
    if engine not in ("onnxruntime", "openvino"):
        raise IntegrityError(f"{model}: engine {engine!r}, this exporter runs onnxruntime and openvino")
    loaded: Engine
    with backend(f"{engine} cannot load {model}"):
        try:
            if engine == "onnxruntime":
                loaded = _OnnxRuntime(model, plan, profiled=profiled, numerics=numerics)
            else:
                precision = _OPENVINO_PRECISION.get(traits.activations, "f32")
                pinned = precision if numerics != "engine-default" else None
                loaded = _OpenVino(model, plan, profiled=profiled, precision=pinned)
        except ImportError as error:
            raise missing(error) from error

    if unknown := set(loaded.inputs) - set(KNOWN_INPUTS):
        raise BackendError(f"{model} asks for {', '.join(sorted(unknown))}, which no tokenizer gives")
    return loaded


class _OnnxRuntime:
    """An onnxruntime session on the CPU.

    The threads that call it do the work when the plan has one thread a worker.
    """

    def __init__(self, model: Path, plan: Plan, *, profiled: bool, numerics: Numerics) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        self._profiles = Scratch("profile") if profiled else None
        if self._profiles:
            options.enable_profiling = True
            options.profile_file_prefix = f"{self._profiles.path}/ort"
        options.intra_op_num_threads = plan.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what it says on stderr, it raises too
        # Spinning threads of one worker take the core of another.
        # Source: https://onnxruntime.ai/docs/performance/tune-performance/threading.html
        options.add_session_config_entry("session.intra_op.allow_spinning", "0" if plan.workers > 1 else "1")
        if numerics == "no-saturation":
            options.add_session_config_entry("session.x64quantprecision", "1")
        self._session = ort.InferenceSession(
            str(model),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=[] if numerics == "engine-default" else list(_SLOW_FUSIONS),
        )
        self._model = model
        self.inputs = tuple(value.name for value in self._session.get_inputs())

    def width(self, n_tokens: int) -> int:
        return n_tokens

    def rows(self, n_rows: int) -> int:
        return n_rows

    def logits(self, feed: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        with backend(f"onnxruntime cannot run {self._model}"):
            (logits,) = self._session.run(["logits"], dict(feed))
            return _one_a_row(np.asarray(logits), feed)

    def operations(self) -> list[Operation]:
        if self._profiles is None:
            return []
        with self._profiles:
            return recorded_by_onnxruntime(Path(self._session.end_profiling()))


class _OpenVino:
    """A compiled OpenVINO model on the CPU, with as many infer requests as were ever needed at once.

    Requests belong to no thread: a thread's own are taken down with it, in a forked process for every thread
    that stayed in the parent, which ended that process.
    """

    def __init__(self, model: Path, plan: Plan, *, profiled: bool, precision: str | None) -> None:
        """Compile a model; `precision` is OpenVINO's name of the one it computes in, None its own choice."""
        import openvino as ov

        properties: dict[str, str | bool] = {
            "NUM_STREAMS": str(plan.workers),
            "INFERENCE_NUM_THREADS": str(plan.workers * plan.threads),
        }
        if precision is not None:
            # On CPUs with bf16 the default is bf16. Activations are quantized where the graph says so and
            # nowhere else.
            # Source: https://github.com/openvinotoolkit/openvino/issues/24501
            properties |= {"INFERENCE_PRECISION_HINT": precision, "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
        if profiled:
            properties["PERF_COUNT"] = True
        # The last account of each request, by thread, and how many runs it is of.
        self._profiled: dict[int, tuple[int, list[Operation]]] | None = {} if profiled else None
        self._compiled = ov.Core().compile_model(str(model), "CPU", properties)
        self.inputs = tuple(port.get_any_name() for port in self._compiled.inputs)
        self._model = model
        self._idle: list[InferRequest] = []

    def width(self, n_tokens: int) -> int:
        """Return the next multiple of 32; beyond 512 tokens one of eight widths from a length to its double.

        OpenVINO makes kernels for every shape it meets, and keeps them in caches that count entries and not
        bytes. With every width its own shape, a 6-layer int8 model came to 3.4 GB after 3,000 mixed pairs
        and did 70 pairs/s; so padded, to 0.39 GB, and 120 pairs/s. Pairs of 21 tokens are a tenth slower
        (2026.4.1, Intel Xeon 6/207, two cores).
        Source: https://github.com/openvinotoolkit/openvino/issues/23316
        """
        step = max(32, 1 << max(0, (n_tokens - 1).bit_length() - 4))
        return -(-n_tokens // step) * step

    def rows(self, n_rows: int) -> int:
        """Return the next lower power of two, for the same reason: few shapes."""
        return 1 << (n_rows.bit_length() - 1)

    def logits(self, feed: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        with backend(f"openvino cannot run {self._model}"):
            try:
                request = self._idle.pop()
            except IndexError:
                with _first_call.get():
                    request = self._compiled.create_infer_request()
                    logits = self._infer(request, feed)
            else:
                logits = self._infer(request, feed)
        self._idle.append(request)
        return logits

    def _infer(self, request: InferRequest, feed: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        request.infer(dict(feed), share_inputs=True)
        if self._profiled is not None:
            n_runs, _ = self._profiled.get(threading.get_ident(), (0, []))
            self._profiled[threading.get_ident()] = (
                n_runs + 1,
                [
                    Operation(node.node_type, node.node_name, node.real_time.total_seconds(), 0)
                    for node in request.profiling_info
                    if node.real_time
                ],
            )
        # The request's buffer is overwritten by the next call: copy.
        return _one_a_row(np.array(request.get_output_tensor(0).data), feed)

    def operations(self) -> list[Operation]:
        """Return each node's run as often as the graph ran, at its mean time.

        OpenVINO tells a node's mean over all runs so far, not the time of the last one.
        Source: https://github.com/openvinotoolkit/openvino/blob/master/src/plugins/intel_cpu/src/perf_count.h
        """
        recorded, self._profiled = self._profiled or {}, None
        return [operation for n_runs, nodes in recorded.values() for operation in nodes * n_runs]


def _one_a_row(logits: NDArray[Any], feed: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
    """Return float32[n_rows] of float32[n_rows, 1]; of several numbers a row, which is the score?"""
    if logits.dtype != np.float32:
        raise BackendError(f"it gives logits of {logits.dtype}, wanted float32")
    n_rows = len(next(iter(feed.values())))
    if logits.shape != (n_rows, 1):
        raise BackendError(f"it gives logits of shape {list(logits.shape)}, wanted [{n_rows}, 1]")
    return logits[:, 0]
