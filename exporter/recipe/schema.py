"""The recipe: what a person asks for, checked whole before anything runs.

`Recipe` and its parts are frozen data without I/O; `load_recipe` is the one place that reads YAML and words
what is wrong with it. YAML 1.2; duplicate and unknown keys are errors, all of them reported at once with file
and line.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeAlias, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from exporter.artifact.names import AT
from exporter.machine import Isa
from exporter.recipe.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Tokens of a pair that a model may read, special ones counted.
MIN_LENGTH = 8
MAX_LENGTH = 1 << 17


class Part(BaseModel):
    """A part of a recipe: it does not change, and refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Model(Part):
    """Which cross-encoder, and how much of a pair it reads."""

    source: str = Field(
        min_length=1,
        description="`sample`, a folder, or a Hub id such as cross-encoder/ms-marco-MiniLM-L6-v2 (or hf://ID)",
    )
    revision: str | None = Field(None, min_length=1, description="branch, tag or commit of a Hub id")
    max_length: int | None = Field(
        None,
        ge=MIN_LENGTH,
        le=MAX_LENGTH,
        description="tokens of a pair, special tokens counted; longer pairs are truncated. "
        "By default the model's own, as sentence-transformers reads it",
    )

    @model_validator(mode="after")
    def _revision_is_for_the_hub(self) -> Self:
        if self.revision and (self.source == "sample" or Path(self.source).is_absolute()):
            raise ValueError("revision is for a Hub id; take it out for `sample` or a folder")
        return self


class Pairs(Part):
    """The pair sets, each `sample/NAME` or a .jsonl, .tsv, .csv (or .gz) or .parquet file."""

    verify: str = Field(
        "sample/verify", min_length=1, description="what parity, ranking and speed are measured on"
    )
    calibrate: str | None = Field(
        None, min_length=1, description="what static int8 is calibrated on; disjoint from verify"
    )


SpeedOver = Literal["float32", "best"]


class Reference(Part):
    """Where the PyTorch reference runs, and which of its types speed bars are held against."""

    device: Literal["cpu", "cuda", "auto"] = Field(
        "cpu", description="auto is cuda where there is one, else cpu"
    )
    speed_over: SpeedOver = Field(
        "float32",
        description="what min_speedup is held against, at its own best plan: float32, or best: the faster of "
        "float32 and, on CPUs with bf16 units, bfloat16",
    )


Share = Annotated[float, Field(gt=0, le=1, strict=True)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]


class Bars(Part):
    """The limits a variant is held against. A bar left out is not checked; non-finite scores always fail."""

    min_ndcg_retained: Share | None = Field(
        None,
        description="nDCG@10 of the candidate over the reference's; the whole 95 % interval must clear it",
    )
    min_kendall_tau: Share | None = Field(None, description="mean Kendall tau-b per query")
    min_top1_agreement: Share | None = Field(None, description="share of queries with the same best passage")
    min_top10_overlap: Share | None = Field(
        None, description="mean share of the reference's ten best among the candidate's"
    )
    max_abs_diff: Positive | None = Field(None, description="largest |difference| of two scores, in logits")
    max_batch_delta: Positive | None = Field(
        None,
        description="batch invariance: largest |difference|, in logits, of a pair scored alone and batched",
    )
    min_speedup: Positive | None = Field(None, description="pairs per second over tuned PyTorch")
    max_size_ratio: Positive | None = Field(
        None, description="bytes of the variant's files over the reference's weights"
    )

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError(
                f"a gate without a bar cannot fail; set at least one of {', '.join(type(self).model_fields)}"
            )
        return self


class Measure(Part):
    """How long speed is measured: rounds end once every gated speed-up is precise, or the time is up."""

    precision: float = Field(
        0.10,
        gt=0,
        lt=1,
        strict=True,
        description="half the width of a speed-up's 95 % interval over its value, at which rounds end",
    )
    budget_s: float = Field(
        180, gt=0, le=86_400, strict=True, description="seconds after which they end in any case"
    )


class Publish(Part):
    """What publishing this recipe's artifact asks for."""

    signed: bool = Field(False, description="refuse to publish without a signature")


class Onnx(Part):
    """fp32 ONNX, lossless rewrites only."""

    kind: Literal["onnx"]
    opset: int = Field(18, ge=17, le=21)
    bars: Bars


def _only_one(value: object) -> object:
    """Take a list of one instruction set for that one, which is the same recipe."""
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value


def _each_once(value: tuple[Isa, ...]) -> tuple[Isa, ...]:
    if twice := [isa for isa in value if value.count(isa) > 1]:
        raise ValueError(f"{twice[0]} stands twice; each variant is for another instruction set")
    return value


# The tags of the two forms stand in the places that pydantic names in its errors, see `load`.
ONE, SEVERAL = "one", "several"
_Several = Annotated[tuple[Isa, ...], Field(min_length=1), AfterValidator(_each_once)]
Isas = Annotated[
    Annotated[Isa, Tag(ONE)] | Annotated[_Several, Tag(SEVERAL)],
    Discriminator(lambda value: SEVERAL if isinstance(value, list | tuple) else ONE),
    BeforeValidator(_only_one),
]
_ISAS = "; a list gives a variant for each, by the id KIND@ISA"


class _OnnxInt8(Part):
    isa: Isas = Field(
        "avx2",
        description="the CPUs it is for; "
        f"avx2 and avx512 keep weights to 7 bits so that int16 sums cannot saturate{_ISAS}",
    )
    opset: int = Field(18, ge=17, le=21)
    quantize_embeddings: bool = Field(True, description="int8 embedding tables too")
    keep_fp32: tuple[str, ...] = Field(
        (), description="shell patterns of weight names left in fp32, beside pooler and classifier"
    )
    bars: Bars


class OnnxInt8(_OnnxInt8):
    """ONNX with int8 weights and activations quantized at run time."""

    kind: Literal["onnx-int8"]


class OnnxInt8Static(_OnnxInt8):
    """ONNX with int8 weights and activations quantized by ranges measured on `pairs.calibrate`."""

    kind: Literal["onnx-int8-static"]


class OpenVino(Part):
    """OpenVINO IR that is not quantized: the kinds differ in the precision of weights and of products."""

    kind: Literal["openvino", "openvino-fp16", "openvino-bf16"]
    bars: Bars


class OpenVinoInt8(Part):
    """OpenVINO IR quantized by NNCF, calibrated on `pairs.calibrate`."""

    kind: Literal["openvino-int8"]
    isa: Isas = Field(
        "avx2",
        description="the CPUs it is for; avx2 and avx512 halve the range so that int16 sums cannot "
        f"saturate{_ISAS}",
    )
    keep_fp32: tuple[str, ...] = Field((), description="shell patterns of operation names left in fp32")
    bars: Bars


AnyVariant: TypeAlias = Onnx | OnnxInt8 | OnnxInt8Static | OpenVino | OpenVinoInt8
Variant = Annotated[AnyVariant, Field(discriminator="kind")]


def options_of(kind: str) -> type[AnyVariant]:
    """Return the class that holds the options of a kind.

    Raises:
        KeyError: there is no such kind.
    """
    classes: tuple[type[AnyVariant], ...] = get_args(AnyVariant)
    return {name: cls for cls in classes for name in get_args(cls.model_fields["kind"].annotation)}[kind]


def default_variant(kind: str, bars: Bars) -> AnyVariant:
    """Return a variant of a kind with its default options.

    Raises:
        KeyError: there is no such kind.
    """
    return options_of(kind).model_validate({"kind": kind, "bars": bars})


def by_id(variants: Iterable[AnyVariant]) -> dict[str, AnyVariant]:
    """Return one variant an instruction set, by id: its kind, or `kind@isa` where a recipe lists several."""
    found: dict[str, AnyVariant] = {}
    for variant in variants:
        isas = getattr(variant, "isa", None)
        if not isinstance(isas, tuple):
            found[variant.kind] = variant
            continue
        for isa in isas:
            found[f"{variant.kind}{AT}{isa}"] = variant.model_copy(update={"isa": isa})
    return found


def isa_of(variant: AnyVariant) -> Isa | None:
    """Return the instruction set of one of `by_id`'s variants; None for a kind that is for any CPU.

    Raises:
        TypeError: the variant is for several.
    """
    if isinstance(variant, Onnx | OpenVino):
        return None
    return int8_isa_of(variant)


def int8_isa_of(variant: OnnxInt8 | OnnxInt8Static | OpenVinoInt8) -> Isa:
    """Return the instruction set of one of `by_id`'s int8 variants.

    Raises:
        TypeError: the variant is for several.
    """
    if isinstance(variant.isa, tuple):
        raise TypeError(f"{variant.kind} is for several instruction sets: {', '.join(variant.isa)}")
    return variant.isa


def path_of(variant: str, options: AnyVariant) -> str:
    """Return the path of a variant's model file in an artifact's folder.

    Args:
        variant: its id.
        options: of `by_id`.
    """
    return KINDS[options.kind].path(isa_of(options), one_of_several=AT in variant)


def misfits(kinds: Sequence[str], pairs: Pairs | None) -> list[str]:
    """Return what does not fit together in a recipe whose parts are right by themselves.

    Args:
        kinds: the kinds of its variants.
        pairs: its pair sets, or None where that part is wrong.
    """
    found = []
    if twice := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
        found.append(
            f"{', '.join(twice)} stands twice; a recipe builds each kind once, write a second recipe"
        )
    calibrated = [kind for kind in kinds if KINDS[kind].traits.calibrated]
    if calibrated and pairs is not None and pairs.calibrate is None:
        found.append(f"{calibrated[0]} is calibrated; set pairs.calibrate, for example sample/calibrate")
    if pairs is not None and pairs.calibrate == pairs.verify:
        found.append(
            "pairs.calibrate and pairs.verify are the same set; "
            "a model is not judged on what it was fitted to"
        )
    return found


class Recipe(Part):
    """One model, the variants wanted of it, the pairs that prove them and the bars they must meet."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$", description="the artifact's folder under artifacts/"
    )
    model: Model
    pairs: Pairs = Field(default_factory=lambda: Pairs.model_validate({}))
    reference: Reference = Field(default_factory=lambda: Reference.model_validate({}))
    measure: Measure = Field(default_factory=lambda: Measure.model_validate({}))
    publish: Publish = Field(default_factory=lambda: Publish.model_validate({}))
    variants: tuple[Variant, ...]

    @model_validator(mode="after")
    def _variants_fit_together(self) -> Self:
        if not self.variants:
            raise ValueError("variants is empty; ask for at least one, for example `- kind: onnx-int8`")
        if found := misfits([variant.kind for variant in self.variants], self.pairs):
            raise ValueError("; ".join(found))
        return self

    @property
    def by_id(self) -> dict[str, AnyVariant]:
        """The variants to build by id, one an instruction set, see the function."""
        return by_id(self.variants)

    @property
    def digest(self) -> str:
        """One sha256 over everything the recipe says."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
