"""What leaves when an artifact is published: an allow list of every field of report, manifest and recipe.

Pairs may be private: without being asked for it, none of their texts, labels, raw scores and query names is
published, nor a path of this machine. Each field stands in one of the tables below, or nothing is published:
a new one has to be placed here first. Measures by query stay, in the order of the pair set and without names.

Whatever of a report is worded (the reasons of its checks) is not searched for secrets, but left out and
worded again by judging what is left.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Literal, Self, TypeVar, cast, get_args

from pydantic import BaseModel

from exporter.artifact.files import FileEntry
from exporter.artifact.manifest import (
    LOCAL_MODEL,
    NOT_PUBLISHED,
    FlopCount,
    Manifest,
    PairsEntry,
    SourceEntry,
    Traits,
    VariantEntry,
)
from exporter.artifact.plans import PlanEntry, SweepRow
from exporter.gate import Check
from exporter.machine import Machine
from exporter.measure.batch_invariance import BatchInvariance
from exporter.measure.contents import Contents
from exporter.measure.estimate import Estimate
from exporter.measure.fidelity import EngineDefault, Fidelity
from exporter.measure.lengths import LengthBucket, PairScore
from exporter.measure.parity import Parity
from exporter.measure.quality import Quality
from exporter.measure.reference import Bf16Difference
from exporter.measure.saturation import Saturation
from exporter.measure.speed import Latency, LengthSpeed, Ratio, Throughput, Utilization
from exporter.measure.workspace import bars_of, recipe_of
from exporter.recipe.schema import (
    Bars,
    Measure,
    Model,
    Onnx,
    OnnxInt8,
    OnnxInt8Static,
    OpenVino,
    OpenVinoInt8,
    Pairs,
    Publish,
    Recipe,
    Reference,
)
from exporter.report.report import (
    NotJudged,
    PairSetInfo,
    ReferenceReport,
    Report,
    VariantReport,
    rejudge,
)
from exporter.worker.job import Run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_T = TypeVar("_T")

Extent = Literal["reduced", "full"]
EXTENTS: tuple[Extent, ...] = get_args(Extent)
OF_PAIRS = ("texts", "labels", "raw scores", "query names")
LOCAL_PATHS = "local paths"

_QUANTIZED = "kind isa opset quantize_embeddings keep_fp32 bars"
# Fields that leave as they are: numbers, digests, and names that somebody chose for the public. A field that
# holds a class of its own leaves as that class's fields do.
OPEN: Mapping[type, str] = {
    # The report.
    Report: "schema name manifest_root recipe_digest started_at machine pairs reference "
    "variants not_judged verdict left_out",
    PairSetInfo: "digest n_pairs n_queries",
    ReferenceReport: "revision device weights_bytes default tuned bfloat16 bf16_difference speed_over "
    "judged_over latency notes",
    Bf16Difference: "n_pairs max_abs_diff",
    VariantReport: "kind files_digest facts fidelity plan throughput utilization speedup_tuned "
    "speedup_default speedup_bf16 latency length_speeds engine_default checks verdict",
    NotJudged: "kind traits why",
    Check: "name observed bar outcome low high",
    Estimate: "value low high n_queries n_silent",
    Machine: "cpu isa cpu_features n_cores memory_gb system python packages",
    Fidelity: "kind traits isa size_bytes size_ratio contents saturation parity quality lengths batches "
    "repeat_diff",
    EngineDefault: "max_abs_diff kendall_tau pairs_per_s pinned_pairs_per_s",
    Contents: "operators stored_bytes n_products int8_share fp16_share",
    Saturation: "n_products worst highest lowest unsaturated_diff",
    Parity: "n_pairs n_queries n_nonfinite max_abs_diff p99_abs_diff mean_abs_diff pearson kendall_tau "
    "worst_query_tau query_taus relative_rms worst_query_relative_rms top1_agreement top10_overlap",
    Quality: "n_queries n_silent reference_ndcg candidate_ndcg reference_mrr candidate_mrr ndcg_retained "
    "query_ndcgs",
    LengthBucket: "name n_pairs mean_abs_diff p99_abs_diff max_abs_diff relative_rms",
    BatchInvariance: "n_pairs p99_delta max_delta relative_rms n_pairs_ordered n_inversions",
    Throughput: "side plan runs pairs_per_s tokens_per_s spread tokenize_share cpu_share cpu_contention "
    "steal load_s peak_rss_bytes",
    Run: "n_pairs n_tokens n_tokens_squared seconds tokenize_s load_s cpu_share cpu_contention steal clock "
    "peak_rss_bytes",
    Ratio: "value low high spread n_rounds cpu_contention steal drift clock n_left_out default_faster",
    Utilization: "flops_per_s peak_dtype peak_flops_per_s",
    Latency: "side n_documents n_calls p50_ms p95_ms p99_ms",
    LengthSpeed: "name n_pairs pairs_per_s over_tuned",
    PlanEntry: "isa n_cores workers threads token_budget sweep",
    SweepRow: "workers threads token_budget pairs_per_s",
    # The manifest.
    Manifest: "schema name recipe_digest source pairs platform max_length pad_id tools variants files",
    SourceEntry: "revision digest weights_bytes notes",
    PairsEntry: "role digest n_pairs",
    VariantEntry: "kind traits isa model files inputs flop_count facts",
    Traits: "engine weights activations calibrated cpu_features",
    FlopCount: "per_pair per_token per_token_squared",
    FileEntry: "path size_bytes sha256",
    # The recipe in it.
    Recipe: "name model pairs reference measure publish variants",
    Model: "revision max_length",
    Pairs: "",
    Reference: "device speed_over",
    Measure: "precision budget_s",
    Publish: "signed",
    Bars: "min_ndcg_retained min_kendall_tau min_top1_agreement min_top10_overlap max_abs_diff "
    "max_batch_delta min_speedup max_size_ratio",
    Onnx: "kind opset bars",
    OnnxInt8: _QUANTIZED,
    OnnxInt8Static: _QUANTIZED,
    OpenVino: "kind bars",
    OpenVinoInt8: "kind isa keep_fp32 bars",
}
# Fields that tell of the pairs, and what stands instead unless the pairs are the package's own.
OF_THE_PAIRS: Mapping[type, Mapping[str, object]] = {
    PairSetInfo: {"query_ids": (), "query_of": (), "labels": None},
    ReferenceReport: {"scores": ()},
    Fidelity: {"worst_query": "", "worst_pairs": (), "scores": ()},
    Parity: {"worst_query": "", "farthest_query": ""},
    LengthBucket: {"worst": None},
    PairScore: dict.fromkeys(
        ("position", "query_id", "query", "passage", "n_tokens", "reference", "candidate")
    ),
    Check: {"why": "", "note": ""},
}
# Fields that may hold a path of this machine, and what stands instead.
PLACES: Mapping[type, Mapping[str, str]] = {
    PairSetInfo: {"name": "not published"},
    PairsEntry: {"name": "not published"},
    Pairs: {
        "verify": f"{NOT_PUBLISHED}/verify.jsonl",
        "calibrate": f"{NOT_PUBLISHED}/calibrate.jsonl",
    },
    ReferenceReport: {"source": LOCAL_MODEL},
    SourceEntry: {"source": LOCAL_MODEL},
    Model: {"source": f"{NOT_PUBLISHED}/model"},
}
_OF_PAIR_SETS = (PairSetInfo, PairsEntry, Pairs)
# Texts that are made anew from what they hold, once that is reduced.
MADE_ANEW: Mapping[type, str] = {Manifest: "recipe"}
# The package's pair sets, which are public. No dots or further slashes: a path could hide behind the prefix.
_SAMPLE_PAIRS = re.compile(r"sample/[a-z0-9_-]+")


def reduced_report(report: Report, manifest: Manifest, folder: Path) -> Report:
    """Return a report as it is published: without what tells of private pairs, and without local paths.

    Its checks are judged anew by the recipe's bars, so that their reasons are worded from what is left.

    Args:
        report: judged by the recipe's bars.
        manifest: of the artifact that the report is about, not reduced.
        folder: the artifact, for errors.

    Raises:
        IntegrityError: the text in the manifest is no recipe.
    """
    recipe, keep = recipe_of(manifest, folder), _Keep.of(manifest)
    keep = replace(keep, pairs=_is_sample(report.pairs.name))
    reduced = keep.reduced(report)
    kinds = {row.kind for row in report.variants}
    if not keep.pairs and (bars := {kind: bars for kind, bars in bars_of(recipe).items() if kind in kinds}):
        reduced = rejudge(reduced, bars)
    public = keep.reduced(recipe)
    paths = (LOCAL_PATHS,) if public != recipe or f"{NOT_PUBLISHED}/" in manifest.recipe else ()
    left_out = (*(() if keep.pairs else OF_PAIRS), *paths)
    return replace(reduced, recipe_digest=public.digest, left_out=left_out)


def reduced_manifest(manifest: Manifest, folder: Path) -> Manifest:
    """Return a manifest as it is published: without local paths, those of the recipe in it included.

    Raises:
        IntegrityError: the text in the manifest is no recipe.
    """
    keep = _Keep.of(manifest)
    recipe = keep.reduced(recipe_of(manifest, folder))
    return replace(keep.reduced(manifest), recipe=recipe.model_dump_json(), recipe_digest=recipe.digest)


def _is_sample(pairs: str) -> bool:
    return _SAMPLE_PAIRS.fullmatch(pairs) is not None


@dataclass(frozen=True, slots=True)
class _Keep:
    """What of a value is public beside numbers: what tells of its pairs, and its model's name on the Hub."""

    pairs: bool
    model: bool

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        source = manifest.source
        return cls(pairs=False, model=source.source == "sample" or source.revision is not None)

    def reduced(self, value: _T) -> _T:
        """Return a value with every field of it, and of what it holds, as its table says.

        Raises:
            TypeError: a field stands in no table.
        """
        if isinstance(value, tuple):
            return cast("_T", tuple(map(self.reduced, value)))
        if isinstance(value, BaseModel):
            names = list(type(value).model_fields)
            return cast("_T", value.model_copy(update={name: self._field(value, name) for name in names}))
        if is_dataclass(value) and not isinstance(value, type):
            names = [field.name for field in fields(value)]
            return cast("_T", replace(value, **{name: self._field(value, name) for name in names}))
        return value

    def _field(self, value: object, name: str) -> object:
        cls, found = type(value), getattr(value, name)
        if name in PLACES.get(cls, {}):
            return found if found is None or self._is_public(cls, found) else PLACES[cls][name]
        if name in OF_THE_PAIRS.get(cls, {}):
            return self.reduced(found) if self.pairs else OF_THE_PAIRS[cls][name]
        if name in MADE_ANEW.get(cls, "").split():
            return ""
        if name in OPEN.get(cls, "").split():
            return self.reduced(found)
        raise TypeError(f"{cls.__name__}.{name} is in no table of what may be published")

    def _is_public(self, cls: type, place: str) -> bool:
        return _is_sample(place) if cls in _OF_PAIR_SETS else self.model
