"""Values with one thing changed: runs, measurements, reports, recipes, a small artifact of dummy files."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from exporter.artifact.files import MANIFEST, list_files, write_together
from exporter.artifact.manifest import (
    MANIFEST_SCHEMA,
    FlopCount,
    Manifest,
    PairsEntry,
    SourceEntry,
    Traits,
    VariantEntry,
    read_manifest,
    write_manifest,
)
from exporter.artifact.plans import PlanEntry, Plans, SweepRow, no_plans, read_plans
from exporter.gate import Check
from exporter.machine import Machine
from exporter.measure.batch_invariance import BatchInvariance
from exporter.measure.contents import Contents
from exporter.measure.estimate import Estimate
from exporter.measure.fidelity import Fidelity
from exporter.measure.lengths import LengthBucket, PairScore
from exporter.measure.parity import Parity
from exporter.measure.quality import Quality
from exporter.measure.saturation import Saturation
from exporter.measure.speed import Latency, LengthSpeed, Ratio, Throughput, Utilization
from exporter.pairs import PairSet
from exporter.recipe.kinds import KINDS
from exporter.recipe.schema import Bars, Recipe
from exporter.report.machines import Reports
from exporter.report.report import (
    REPORT_SCHEMA,
    NotJudged,
    PairSetInfo,
    ReferenceReport,
    Report,
    VariantReport,
)
from exporter.report.write import data_files, report_files
from exporter.worker.job import Run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_T = TypeVar("_T")

FILES = {
    "config.json": '{"model_type": "bert"}\n',
    "tokenizer.json": '{"version": "1.0"}\n',
    "onnx/model.onnx": "x" * 100,
    "onnx/model_qint8_avx2.onnx": "y" * 25,
}
MODELS = {"onnx": "onnx/model.onnx", "onnx-int8": "onnx/model_qint8_avx2.onnx"}


def _changed(value: _T, changes: dict[str, object]) -> _T:
    return dataclasses.replace(value, **changes)  # type: ignore[type-var] # every caller passes a dataclass


def bars(**limits: float) -> Bars:
    """Return bars; without limits one that is easily met."""
    return Bars.model_validate(limits or {"min_kendall_tau": 0.5})


def a_recipe(**changes: object) -> Recipe:
    """Return a recipe for `onnx` and `onnx-int8` of the sample."""
    variants = [{"kind": kind, "bars": {"min_kendall_tau": 0.5}} for kind in MODELS]
    return Recipe.model_validate(
        {"name": "tiny", "model": {"source": "sample"}, "variants": variants, **changes}
    )


def a_pair_set(sizes: Sequence[int] = (3, 2), labels: Sequence[float] | None = None) -> PairSet:
    """Return a pair set of queries `a`, `b`, ... with `sizes` passages; passage n is n + 1 letters long."""
    query_of = np.repeat(np.arange(len(sizes)), sizes).astype(np.int64)
    names = tuple(chr(ord("a") + i) for i in range(len(sizes)))
    pairs = tuple((names[q], "p" * (i + 1)) for i, q in enumerate(query_of))
    grades = None if labels is None else np.array(labels, np.float64)
    return PairSet("made up", pairs, grades, query_of, names)


def a_machine(**changes: object) -> Machine:
    """Return a machine with AVX2 and two cores."""
    machine = Machine(
        cpu="Some CPU",
        isa="avx2",
        cpu_features=(),
        n_cores=2,
        memory_gb=8,
        system="Linux x86_64",
        python="3.11.0",
        packages=(("numpy", "2.0.0"),),
    )
    return _changed(machine, changes)


def a_run(**changes: object) -> Run:
    """Return a run that scored 100 pairs of 1000 tokens in one second, a tenth of it tokenizing."""
    run = Run(
        n_pairs=100,
        n_tokens=1000,
        n_tokens_squared=11_000,
        seconds=(1.0,),
        tokenize_s=0.1,
        load_s=0.5,
        cpu_share=0.9,
        cpu_contention=0.02,
        steal=0.01,
        clock=20_000.0,
        peak_rss_bytes=200_000_000,
    )
    return _changed(run, changes)


def a_throughput(**changes: object) -> Throughput:
    """Return what six runs like `a_run` come to."""
    throughput = Throughput(
        side="onnx",
        plan="2x1, 512 tokens",
        runs=(a_run(),) * 6,
        pairs_per_s=100.0,
        tokens_per_s=1000.0,
        spread=0.01,
        tokenize_share=0.1,
        cpu_share=0.9,
        cpu_contention=0.02,
        steal=0.01,
        load_s=0.5,
        peak_rss_bytes=200_000_000,
    )
    return _changed(throughput, changes)


def a_ratio(**changes: object) -> Ratio:
    """Return a speed-up of 2, between 1.9 and 2.1, of six rounds."""
    ratio = Ratio(
        value=2.0,
        low=1.9,
        high=2.1,
        spread=0.02,
        n_rounds=6,
        cpu_contention=0.02,
        steal=0.01,
        drift=0.01,
        clock=0.02,
    )
    return _changed(ratio, changes)


def an_estimate(
    value: float, low: float | None = None, high: float | None = None, n_queries: int = 10
) -> Estimate:
    """Return an estimate; without an interval, one of no width."""
    return Estimate(value, value if low is None else low, value if high is None else high, n_queries)


def a_parity(**changes: object) -> Parity:
    """Return a candidate that is close to the reference."""
    parity = Parity(
        n_pairs=100,
        n_queries=10,
        n_nonfinite=0,
        max_abs_diff=0.25,
        p99_abs_diff=0.2,
        mean_abs_diff=0.05,
        pearson=0.999,
        kendall_tau=an_estimate(0.97),
        worst_query_tau=0.8,
        worst_query="q7",
        query_taus=(0.8, *(0.99,) * 9),
        relative_rms=0.05,
        worst_query_relative_rms=0.1,
        farthest_query="q7",
        top1_agreement=an_estimate(0.9),
        top10_overlap=an_estimate(0.95),
    )
    return _changed(parity, changes)


def a_quality(**changes: object) -> Quality:
    """Return a candidate that keeps all of the reference's nDCG, give or take a hundredth."""
    quality = Quality(
        n_queries=10,
        n_silent=0,
        reference_ndcg=0.8,
        candidate_ndcg=0.8,
        reference_mrr=0.7,
        candidate_mrr=0.7,
        ndcg_retained=an_estimate(1.0, 0.99, 1.01),
        query_ndcgs=(0.8,) * 10,
    )
    return _changed(quality, changes)


def a_latency(**changes: object) -> Latency:
    """Return the latency of ten candidates."""
    latency = Latency(side="onnx", n_documents=10, n_calls=40, p50_ms=20.0, p95_ms=25.0, p99_ms=30.0)
    return _changed(latency, changes)


def a_pair_score() -> PairScore:
    """Return a pair that is a quarter off."""
    return PairScore(1, "a", "a query", "a passage", 12, reference=1.0, candidate=1.25)


def a_bucket(name: str = "1 to 64", relative_rms: float = 0.05, n_pairs: int = 12) -> LengthBucket:
    """Return the pairs of one length."""
    return LengthBucket(name, n_pairs, 0.05, 0.2, 0.25, relative_rms, a_pair_score())


def a_batches(**changes: object) -> BatchInvariance:
    """Return what batches change of an fp32 candidate's scores: next to nothing."""
    batches = BatchInvariance(
        n_pairs=12, p99_delta=1e-7, max_delta=1e-6, relative_rms=1e-7, n_pairs_ordered=12, n_inversions=0
    )
    return _changed(batches, changes)


def a_fidelity(**changes: object) -> Fidelity:
    """Return all of a candidate that is close to the reference, but its speed."""
    fidelity = Fidelity(
        kind="onnx",
        traits=KINDS["onnx"].traits,
        isa=None,
        size_bytes=100,
        size_ratio=0.25,
        contents=Contents(
            (("MatMul", 10),), (("float32", 100),), n_products=10, int8_share=0.0, fp16_share=0.0
        ),
        saturation=None,
        parity=a_parity(),
        quality=a_quality(),
        lengths=(a_bucket(),),
        batches=a_batches(),
        repeat_diff=0.0,
        worst_query="a query",
        worst_pairs=(a_pair_score(),),
        scores=(0.5, 1.25, -0.5, -1.0),
    )
    return _changed(fidelity, changes)


def a_plan() -> PlanEntry:
    """Return a plan for two cores with AVX2, the better of two."""
    return PlanEntry("avx2", 2, 2, 1, 512, (SweepRow(2, 1, 512, 40.0), SweepRow(1, 2, 1024, 30.0)))


def a_variant_report(kind: str = "onnx", **changes: object) -> VariantReport:
    """Return a variant that passed; its runs take half as long as the reference's."""
    row = VariantReport(
        kind=kind,
        files_digest="1" * 64,
        facts=("built by hand",),
        fidelity=a_fidelity(kind=kind) if kind == "onnx" else an_int8_fidelity(kind=kind),
        plan=a_plan(),
        throughput=a_throughput(side=kind),
        utilization=Utilization(6e10, "float32", 8e10),
        speedup_tuned=a_ratio(),
        speedup_default=a_ratio(value=3.0, low=2.9, high=3.1),
        speedup_bf16=None,
        latency=(a_latency(side=kind),),
        length_speeds=(LengthSpeed("1 to 64", 4, pairs_per_s=100.0, over_tuned=2.0),),
        engine_default=None,
        checks=(Check("min_kendall_tau", 0.97, "≥ 0.5", "pass"),),
        verdict="pass",
    )
    return _changed(row, changes)


def an_int8_fidelity(**changes: object) -> Fidelity:
    """Return an int8 candidate for AVX2 whose sums cannot saturate."""
    contents = Contents(
        (("MatMulInteger", 10),), (("int8", 25),), n_products=10, int8_share=0.95, fp16_share=0.0
    )
    sums = Saturation(10, "layer.1, n 2, k 3 and 4: 64 and 64", 32_640, -32_640, unsaturated_diff=0.0)
    return a_fidelity(
        **{
            "kind": "onnx-int8",
            "traits": KINDS["onnx-int8"].traits,
            "isa": "avx2",
            "contents": contents,
            "saturation": sums,
            **changes,
        }
    )


def a_not_judged(kind: str = "openvino-bf16") -> NotJudged:
    """Return a variant that needs a CPU with bf16 units."""
    traits = Traits("openvino", "fp32", "bf16", cpu_features=("avx512_bf16", "amx_bf16"))
    return NotJudged(kind, traits, "needs a CPU with avx512_bf16 or amx_bf16")


def a_report(**changes: object) -> Report:
    """Return a report of `onnx` and `onnx-int8`, both passed."""
    reference = ReferenceReport(
        source="sample",
        revision=None,
        device="cpu",
        weights_bytes=400,
        default=a_throughput(side="torch default", pairs_per_s=40.0),
        tuned=a_throughput(side="torch tuned", pairs_per_s=50.0, runs=(a_run(seconds=(2.0,)),) * 6),
        bfloat16=None,
        judged_over="float32",
        bf16_difference=None,
        speed_over="float32",
        latency=(a_latency(side="torch tuned"),),
        scores=(0.5, 1.0, -0.5, -1.0),
    )
    report = Report(
        schema=REPORT_SCHEMA,
        name="tiny",
        manifest_root="0" * 64,
        recipe_digest=a_recipe().digest,
        started_at="2026-01-01T00:00:00Z",
        machine=a_machine(),
        pairs=PairSetInfo(
            "made up", "2" * 64, 4, 2, query_ids=("a", "b"), query_of=(0, 0, 1, 1), labels=(1, 0, 0, 1)
        ),
        reference=reference,
        variants=tuple(a_variant_report(kind) for kind in MODELS),
        not_judged=(),
        verdict="pass",
    )
    return _changed(report, changes)


def measured_on(report: Report, **machine: object) -> Report:
    """Return a report as if another machine had measured it, whose plans are of that machine's class."""
    there = _changed(report.machine, machine)
    rows = tuple(
        dataclasses.replace(row, plan=dataclasses.replace(row.plan, isa=there.isa, n_cores=there.n_cores))
        for row in report.variants
    )
    return dataclasses.replace(report, machine=there, variants=rows)


def a_manifest(folder: Path, **changes: object) -> Manifest:
    """Return the manifest of a folder that holds `FILES`; nothing is written."""
    recipe = a_recipe()
    manifest = Manifest(
        schema=MANIFEST_SCHEMA,
        name=recipe.name,
        recipe_digest=recipe.digest,
        recipe=recipe.model_dump_json(),
        source=SourceEntry(source="sample", revision=None, digest="3" * 64, weights_bytes=400),
        pairs=(PairsEntry("verify", "made up", "2" * 64, 4),),
        platform="Linux x86_64, avx2, Python 3.12.0",
        max_length=512,
        pad_id=0,
        tools=(("onnx", "1.19.0"),),
        variants=tuple(
            VariantEntry(
                kind=kind,
                isa=None,
                traits=KINDS[kind].traits,
                model=model,
                files=(model,),
                inputs=("input_ids", "attention_mask"),
                flop_count=FlopCount(per_pair=1000, per_token=100, per_token_squared=1),
                facts=("built by hand",),
            )
            for kind, model in MODELS.items()
        ),
        files=list_files(folder),
    )
    return _changed(manifest, changes)


def an_artifact(folder: Path, **changes: object) -> Manifest:
    """Write an artifact of dummy files and its manifest, and return the manifest."""
    for path, text in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    manifest = a_manifest(folder, **changes)
    write_manifest(manifest, folder)
    return manifest


def write_report(report: Report, folder: Path, *others: Report) -> None:
    """Write an artifact's reports in all forms, the newest first, with plans and verdicts beside them."""
    reports, manifest = Reports(report, others), _manifest_of(folder)
    write_together(folder, report_files(reports, manifest, _plans_of(reports, manifest, folder)))


def write_report_data(report: Report, folder: Path, *others: Report) -> None:
    """As `write_report`, without the forms that people read, which take their time to draw."""
    reports = Reports(report, others)
    write_together(folder, data_files(reports, _plans_of(reports, _manifest_of(folder), folder)))


def _manifest_of(folder: Path) -> Manifest:
    return read_manifest(folder) if (folder / MANIFEST).exists() else a_manifest(folder, files=())


def _plans_of(reports: Reports, manifest: Manifest, folder: Path) -> Plans:
    """Return an artifact's plans, with those that its reports were measured with."""
    plans = dict(read_plans(folder, manifest).plans)
    for row in (row for report in reports for row in report.variants):
        if row.plan not in plans.get(row.kind, ()):
            plans[row.kind] = (*plans.get(row.kind, ()), row.plan)
    return dataclasses.replace(no_plans(manifest), plans=plans)
