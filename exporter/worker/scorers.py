"""How each side scores pairs inside a worker: one class a spec."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from exporter.backend import error_line
from exporter.errors import BackendError
from exporter.runtime.plan import Plan, batches
from exporter.worker.job import (
    PEAK_SHAPES,
    ArtifactSpec,
    ConsumerSpec,
    PeakSpec,
    PeerSpec,
    Spec,
    TorchSpec,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from sentence_transformers import CrossEncoder

    from exporter.libraries.loading import Score
    from exporter.pairs import Pair
    from exporter.runtime import Reranker


class Scorer(Protocol):
    """A loaded side."""

    def score(self, pairs: Sequence[Pair]) -> NDArray[np.float32]:
        """Return float32[n_pairs], in the order of the pairs."""
        ...

    def count_tokens(self, pairs: Sequence[Pair]) -> list[int]:
        """Return each pair's tokens, special ones counted; 0 where the side keeps them to itself."""
        ...


@dataclass(frozen=True, slots=True)
class Models:
    """What several specs of one job share, so that it is loaded once."""

    torch: dict[tuple[str, str, str], CrossEncoder] = field(default_factory=dict)
    rerankers: dict[ArtifactSpec, Reranker] = field(default_factory=dict)
    peers: dict[tuple[str, str], Score] = field(default_factory=dict)


def make_scorer(spec: Spec, models: Models) -> Scorer:
    """Load the side that a spec describes.

    Raises:
        ExporterError: the side's own library cannot load it.
    """
    match spec:
        case TorchSpec():
            return _Torch(spec, models)
        case ArtifactSpec():
            return _Artifact(spec, models)
        case PeerSpec():
            return _Peer(spec, models)
        case ConsumerSpec():
            return _Consumer(spec)
        case PeakSpec():
            return _Peak(spec)


class _Artifact:
    """A variant, through the runtime that a user runs."""

    def __init__(self, spec: ArtifactSpec, models: Models) -> None:
        from exporter.runtime import Reranker

        plan = Plan(spec.workers, spec.threads, spec.token_budget)
        key = replace(spec, token_budget=0, slowdown=0.0)
        if key not in models.rerankers:
            models.rerankers[key] = Reranker.load(spec.folder, spec.kind, plan=plan, numerics=spec.numerics)
        self._reranker = models.rerankers[key].with_token_budget(spec.token_budget)
        self.score = self._reranker.score

    def count_tokens(self, pairs: Sequence[Pair]) -> list[int]:
        return [len(encoding) for encoding in self._reranker.tokenize(pairs)]


class _Torch:
    """`CrossEncoder.predict`, raw logits."""

    def __init__(self, spec: TorchSpec, models: Models) -> None:
        import torch
        from sentence_transformers import CrossEncoder

        torch.set_num_threads(spec.threads)
        # TF32 keeps 10 bits of mantissa: no reference to hold float32 against.
        # Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#tensorfloat-32-tf32-on-ampere-and-later-devices
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        key = (spec.folder, spec.device, spec.dtype)
        if key not in models.torch:
            models.torch[key] = CrossEncoder(
                spec.folder,
                max_length=spec.max_length,
                device=spec.device,
                activation_fn=torch.nn.Identity(),
                # transformers 5 loads fp16 checkpoints as fp16 unless told.
                model_kwargs={"dtype": getattr(torch, spec.dtype), "use_safetensors": True},
                local_files_only=True,
                trust_remote_code=False,
            )
        self._model, self._spec = models.torch[key], spec
        # torch's number of threads is each thread's own, and MKL's is the process's: set in both.
        # Source: https://docs.pytorch.org/docs/stable/notes/cpu_threading_torchscript_inference.html
        self._pool = ThreadPoolExecutor(
            spec.workers, initializer=torch.set_num_threads, initargs=(spec.threads,)
        )
        self._set_threads = partial(torch.set_num_threads, spec.threads)
        self._on_gpu = spec.device.startswith("cuda")

    def score(self, pairs: Sequence[Pair]) -> NDArray[np.float32]:
        self._set_threads()  # another side of this process may have had its turn
        if self._on_gpu:
            return self._synchronised(pairs)
        if self._spec.workers == 1 and not self._spec.token_budget:
            return self._predict(pairs)

        parts = self._parts(pairs)
        scores = np.empty(len(pairs), np.float32)
        done = self._pool.map(self._predict, ([pairs[i] for i in part] for part in parts))
        for part, values in zip(parts, done, strict=True):
            scores[part] = values
        return scores

    def _parts(self, pairs: Sequence[Pair]) -> list[list[int]]:
        """Return which pairs are handed to `predict` together: a worker's part, or a batch of few tokens."""
        if self._spec.token_budget:
            plan = Plan(self._spec.workers, self._spec.threads, self._spec.token_budget)
            return batches(self.count_tokens(pairs), plan)
        order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i][1]))
        parts = [order[w :: self._spec.workers] for w in range(self._spec.workers)]
        return [part for part in parts if part]

    def _synchronised(self, pairs: Sequence[Pair]) -> NDArray[np.float32]:
        """Score with nothing running on the GPU before or after, so that a clock around the call is right.

        Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#asynchronous-execution
        """
        import torch

        torch.cuda.synchronize()
        scores = self._predict(pairs)
        torch.cuda.synchronize()
        return scores

    def _predict(self, pairs: Sequence[Pair]) -> NDArray[np.float32]:
        texts = [list(pair) for pair in pairs]
        # A batch that was cut by tokens is scored as it is.
        size = len(texts) if self._spec.token_budget else self._spec.batch_size
        scores = self._model.predict(texts, batch_size=size, show_progress_bar=False)
        return np.asarray(scores, np.float32)

    def count_tokens(self, pairs: Sequence[Pair]) -> list[int]:
        # The library's own tokenizer and not ours: the time that it takes is part of the side.
        encoded = self._model.tokenizer(
            [q for q, _ in pairs], [p for _, p in pairs], truncation=True, max_length=self._spec.max_length
        )
        return [len(ids) for ids in encoded["input_ids"]]


class _Peer:
    """Another library, as `libraries.peers` loads it."""

    def __init__(self, spec: PeerSpec, models: Models) -> None:
        from exporter.libraries.peers import PEERS

        key = (spec.peer, spec.folder)
        if key not in models.peers:  # both settings of a peer run one model
            models.peers[key] = PEERS[spec.peer].load(Path(spec.folder))
        self._score, self._batch = models.peers[key], spec.batch

    def score(self, pairs: Sequence[Pair]) -> NDArray[np.float32]:
        return np.asarray(self._score(pairs, self._batch), np.float32)

    def count_tokens(self, pairs: Sequence[Pair]) -> list[int]:
        return [0] * len(pairs)  # peers tokenize internally; token counts come from our side


class _Consumer:
    """Another library on a published file, as `libraries.consumers` opens it; pairs one by one."""

    def __init__(self, spec: ConsumerSpec) -> None:
        from exporter.libraries.consumers import CONSUMERS

        load = CONSUMERS[spec.consumer].load
        assert load is not None
        with _errors_as_one_line():
            self._score = load(Path(spec.folder), spec.file, spec.max_length)

    def score(self, pairs: Sequence[Pair]) -> NDArray[np.float32]:
        with _errors_as_one_line():
            return np.asarray(self._score(pairs, 1), np.float32).reshape(len(pairs))

    def count_tokens(self, pairs: Sequence[Pair]) -> list[int]:
        return [0] * len(pairs)  # consumers tokenize internally


@contextmanager
def _errors_as_one_line() -> Iterator[None]:
    """Turn whatever another library raises into a BackendError of one line."""
    try:
        yield
    except Exception as error:
        raise BackendError(error_line(error)) from error


class _Peak:
    """Matrix products through onnxruntime, on one session as the runtime has it."""

    def __init__(self, spec: PeakSpec) -> None:
        import onnxruntime as ort
        from onnx import TensorProto, helper, numpy_helper

        m, k, n = PEAK_SHAPES[spec.dtype]
        rng = np.random.default_rng(0)
        if spec.dtype == "int8":
            # Weights of 7 bits: where there is no VNNI, these are what an artifact has.
            weights, op = rng.integers(-64, 64, (k, n), np.int8), "MatMulInteger"
            kinds = (TensorProto.UINT8, TensorProto.INT32)
            self._feed = {"a": rng.integers(0, 256, (m, k), np.uint8)}
        else:
            weights, op = rng.random((k, n), np.float32), "MatMul"
            kinds = (TensorProto.FLOAT, TensorProto.FLOAT)
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
        self._session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._pool = ThreadPoolExecutor(spec.workers)

    def score(self, pairs: Sequence[Pair]) -> NDArray[np.float32]:
        list(self._pool.map(lambda _pair: self._session.run(None, self._feed), pairs))
        return np.zeros(len(pairs), np.float32)

    def count_tokens(self, pairs: Sequence[Pair]) -> list[int]:
        return [0] * len(pairs)
