"""What a worker is asked and what it answers; values only, written to JSON and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from exporter.pairs import Pair
from exporter.runtime.engine import Numerics

Dtype = Literal["float32", "int8"]
TorchDtype = Literal["float32", "float16", "bfloat16"]


@dataclass(frozen=True, slots=True)
class TorchSpec:
    """The PyTorch model: `workers` threads call `CrossEncoder.predict`, each with `threads` of torch's own.

    Each worker takes its part of the pairs, `batch_size` of them a batch; or, with a `token_budget`, the next
    batch of pairs of like length that has at most so many tokens, padding counted, as the runtime cuts them.
    The reference is in float32; other types are compared with it.
    """

    folder: str
    max_length: int
    device: str
    batch_size: int
    workers: int
    threads: int
    dtype: TorchDtype = "float32"
    token_budget: int | None = None

    def __str__(self) -> str:
        """Format as `WORKERSxTHREADS, batch N` or `..., N tokens`, after what is unusual: device, type."""
        where = "" if self.device == "cpu" else f"{self.device}, "
        what = "" if self.dtype == "float32" else f"{self.dtype}, "
        batch = f"{self.token_budget} tokens" if self.token_budget else f"batch {self.batch_size}"
        return f"{where}{what}{self.workers}x{self.threads}, {batch}"


@dataclass(frozen=True, slots=True)
class ArtifactSpec:
    """A variant of an artifact under a plan, run through `runtime.Reranker`.

    `numerics` is the runtime's; `slowdown` is slept after each call, as a share of the time that call took: a
    slow-down of known size.
    """

    folder: str
    kind: str
    workers: int
    threads: int
    token_budget: int
    numerics: Numerics = "pinned"
    slowdown: float = 0.0

    def __str__(self) -> str:
        """Format as `WORKERSxTHREADS, N tokens`."""
        return f"{self.workers}x{self.threads}, {self.token_budget} tokens"


@dataclass(frozen=True, slots=True)
class PeakSpec:
    """The engine's own matrix product, one for each pair, so large that nothing but arithmetic counts.

    Measures what a machine can do. `dtype` is float32, or int8 for unsigned by signed bytes; `peak_flops`
    counts one product.
    """

    dtype: Dtype
    workers: int
    threads: int

    def __str__(self) -> str:
        """Format as `WORKERSxTHREADS, products of MxKxN`."""
        m, k, n = PEAK_SHAPES[self.dtype]
        return f"{self.workers}x{self.threads}, products of {m}x{k}x{n}"


@dataclass(frozen=True, slots=True)
class PeerSpec:
    """Another library on the same weights, prepared in `folder`; `batch` None: a query at a time."""

    peer: str
    folder: str
    batch: int | None
    workers: int
    threads: int

    def __str__(self) -> str:
        """Format as `batch N`, or `a query a batch`."""
        return f"batch {self.batch}" if self.batch else "a query a batch"


@dataclass(frozen=True, slots=True)
class ConsumerSpec:
    """A library that loads published folders, on one file of such a folder; pairs are scored one by one.

    `consumer` names a row of `libraries.consumers`; `max_length` is the folder's, in tokens, for libraries
    that do not read it there.
    """

    consumer: str
    folder: str
    file: str
    max_length: int
    threads: int
    workers: int = 1

    def __str__(self) -> str:
        """Format as `CONSUMER, FILE`."""
        return f"{self.consumer}, {self.file}"


Spec: TypeAlias = TorchSpec | ArtifactSpec | PeerSpec | ConsumerSpec | PeakSpec
# The fastest of seven shapes tried, on AMD EPYC 25/17 with and without AVX-512; the others were up to a
# quarter slower.
PEAK_SHAPES = {"float32": (256, 1536, 384), "int8": (128, 4096, 512)}
PEAK_DTYPES: tuple[Dtype, ...] = ("float32", "int8")


def peak_flops(dtype: Dtype) -> int:
    """Return the multiplications and additions of one product of `PeakSpec`."""
    return 2 * math.prod(PEAK_SHAPES[dtype])


@dataclass(frozen=True, slots=True)
class Scoring:
    """Scores wanted of one spec: of groups of a job's pairs, by position, each given to the spec together.

    Without groups all pairs are scored, in chunks of like length.
    """

    spec: Spec
    groups: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class ScoreJob:
    """Score pairs, one scoring after the other in one process."""

    pairs: tuple[Pair, ...]
    scorings: tuple[Scoring, ...]
    task: Literal["score"] = "score"

    @property
    def specs(self) -> tuple[Spec, ...]:
        """What is loaded, in order."""
        return tuple(scoring.spec for scoring in self.scorings)


@dataclass(frozen=True, slots=True)
class Call:
    """Passes over the pairs at these positions of a job's, at least `n_passes` of them."""

    positions: tuple[int, ...]
    n_passes: int


@dataclass(frozen=True, slots=True)
class TimeJob:
    """Time each call with each spec, after a warm-up on `n_warmup` pairs, `min_s` seconds at least."""

    pairs: tuple[Pair, ...]
    specs: tuple[Spec, ...]
    calls: tuple[Call, ...]
    n_warmup: int = 0
    min_s: float = 0.0
    task: Literal["time"] = "time"


@dataclass(frozen=True, slots=True)
class TurnsJob:
    """Time passes over all pairs with one spec, as many as each line on the worker's stdin asks for."""

    pairs: tuple[Pair, ...]
    spec: Spec
    task: Literal["turns"] = "turns"

    @property
    def specs(self) -> tuple[Spec, ...]:
        """What is loaded."""
        return (self.spec,)


@dataclass(frozen=True, slots=True)
class SweepJob:
    """Time a pass over all pairs with the spec whose position a line on the worker's stdin says.

    A spec is loaded when its first turn comes, and warmed up on `n_warmup` pairs. Specs that differ only in
    how pairs are cut into batches share a model. With one so slow that a pass would take much longer than
    `pass_s` seconds, fewer of the pairs are taken, the same for all specs.
    """

    pairs: tuple[Pair, ...]
    specs: tuple[Spec, ...]
    n_warmup: int = 0
    pass_s: float = 60.0
    task: Literal["sweep"] = "sweep"


@dataclass(frozen=True, slots=True)
class TokenizerSpec:
    """A tokenizer.json that cuts pairs at `max_length` tokens; batches are padded with token `pad_id`."""

    file: str
    max_length: int
    pad_id: int
    threads: int = 1

    def __str__(self) -> str:
        """Format as `tokenizer`."""
        return "tokenizer"


@dataclass(frozen=True, slots=True)
class CountJob:
    """Count the tokens, before truncation, of the pairs that each line on the worker's stdin holds."""

    spec: TokenizerSpec
    task: Literal["count"] = "count"

    @property
    def specs(self) -> tuple[TokenizerSpec, ...]:
        """What is loaded."""
        return (self.spec,)


@dataclass(frozen=True, slots=True)
class ProductsSpec:
    """An int8 file beside the fp32 graph that it was made from, and what gives that graph its `inputs`."""

    graph: str
    quantized: str
    inputs: tuple[str, ...]
    tokenizer: TokenizerSpec
    threads: int = 1

    def __str__(self) -> str:
        """Format as `products of FILE`."""
        return f"products of {self.quantized}"


@dataclass(frozen=True, slots=True)
class ProductsJob:
    """Measure what every int8 product loses on the inputs that pairs give it in fp32."""

    pairs: tuple[Pair, ...]
    spec: ProductsSpec
    n_batch: int
    task: Literal["products"] = "products"

    @property
    def specs(self) -> tuple[ProductsSpec, ...]:
        """What is loaded."""
        return (self.spec,)


Job: TypeAlias = Annotated[
    ScoreJob | TimeJob | TurnsJob | SweepJob | CountJob | ProductsJob, Field(discriminator="task")
]


@dataclass(frozen=True, slots=True)
class Run:
    """What one worker measured with one spec. Raw seconds, never averages.

    `n_tokens` and `n_tokens_squared` are sums over the pairs, as they are without padding. `cpu_share` is the
    processor time over wall time and cores of the timed passes, 0...1. `cpu_contention` is the share of the
    cores it was to use that others had meanwhile, 0...1: other processes, or the host of a virtual machine;
    `steal` is the host's part of it. `clock` is how often a second a fixed piece of arithmetic was done on
    one core, the mean of before and after: it falls when the CPU gets slower. `tokenize_s` is the tokenizer's
    part of one pass. `load_s` includes importing the libraries, PyTorch's in CPU time (also where a
    worker was forked from a process that has them), and hashing the model's files.
    """

    n_pairs: int
    n_tokens: int
    n_tokens_squared: int
    seconds: tuple[float, ...]
    tokenize_s: float
    load_s: float
    cpu_share: float
    cpu_contention: float
    steal: float
    clock: float
    peak_rss_bytes: int
