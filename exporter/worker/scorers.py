"""How each side scores pairs inside a worker."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from exporter.worker.job import PEAK_SHAPES, ArtifactSpec, PeakSpec, PeerSpec, Spec, TorchSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Scorer(Protocol):
    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]: ...
    def count_tokens(self, pairs: Sequence[tuple[str, str]]) -> list[int]: ...


def make_scorer(spec: Spec, models: dict[tuple[str, str], object]) -> Scorer:
    match spec:
        case TorchSpec():
            return Torch(spec, models)
        case ArtifactSpec():
            return _Artifact(spec)
        case PeerSpec():
            return _Peer(spec, models)
        case PeakSpec():
            return _Peak(spec)


class _Artifact:
    def __init__(self, spec: ArtifactSpec) -> None:
        from exporter.runtime import Plan, Reranker

        plan = Plan(spec.workers, spec.threads, spec.token_budget)
        self._reranker = Reranker.load(spec.folder, spec.kind, plan=plan, numerics=spec.numerics)
        self.score = self._reranker.score

    def count_tokens(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        return [len(encoding) for encoding in self._reranker.tokenize(pairs)]


class Torch:
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
        # The model's own tokenizer and not the runtime's: this is the side that is timed.
        encoded = self._model.tokenizer(
            [q for q, _ in pairs], [p for _, p in pairs], truncation=True, max_length=self._spec.max_length
        )
        return [len(ids) for ids in encoded["input_ids"]]


class _Peer:
    def __init__(self, spec: PeerSpec, models: dict[tuple[str, str], object]) -> None:
        from exporter.libraries.peers import PEERS

        key = (spec.peer, spec.folder)
        if key not in models:  # both settings of a peer run one model
            models[key] = PEERS[spec.peer].load(Path(spec.folder))
        self._score, self._spec = models[key], spec

    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        assert callable(self._score)
        return np.asarray(self._score(pairs, self._spec.batch), np.float32)

    def count_tokens(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        return [0] * len(pairs)  # peers tokenize internally; token counts come from our side


class _Peak:
    """Matrix products through onnxruntime, on one session as the runtime has it."""

    def __init__(self, spec: PeakSpec) -> None:
        import onnxruntime as ort
        from onnx import TensorProto, helper, numpy_helper

        m, k, n = PEAK_SHAPES[spec.dtype]
        rng = np.random.default_rng(0)
        if spec.dtype == "int8":
            # Weights of 7 bits: where there is no VNNI, these are what an artifact has.
            weights, op, kinds = (
                rng.integers(-64, 64, (k, n), np.int8),
                "MatMulInteger",
                (TensorProto.UINT8, TensorProto.INT32),
            )
            self._feed = {"a": rng.integers(0, 256, (m, k), np.uint8)}
        else:
            weights, op, kinds = (
                rng.random((k, n), np.float32),
                "MatMul",
                (TensorProto.FLOAT, TensorProto.FLOAT),
            )
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

    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        list(self._pool.map(lambda _pair: self._session.run(None, self._feed), pairs))
        return np.zeros(len(pairs), np.float32)

    def count_tokens(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        return [0] * len(pairs)
