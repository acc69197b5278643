"""Two reports against each other: what is beyond noise, what is not, and what cannot be told."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from exporter.errors import RecipeError
from exporter.gate import Check
from exporter.report.compare import MIN_EFFECTS, Comparison, compare_reports, min_effects
from tests.factories import (
    a_fidelity,
    a_machine,
    a_not_judged,
    a_parity,
    a_quality,
    a_ratio,
    a_report,
    a_run,
    a_throughput,
    a_variant_report,
)

if TYPE_CHECKING:
    from exporter.report.report import Report, VariantReport

RNG = np.random.default_rng(5)


def one(**changes: object) -> Report:
    """Return a report of one fp32 variant with something changed, built anew: its bytes are its own."""
    return a_report(variants=(a_variant_report(**{"files_digest": "1" * 64, **changes}),))


def built_again(**changes: object) -> Report:
    """Return the same with other bytes."""
    return one(**{"files_digest": "2" * 64, **changes})


def changes(old: Report, new: Report, effects: dict[str, float] = MIN_EFFECTS) -> dict[str, str]:
    """Return the changes by what they are of."""
    return {finding.what: finding.change for finding in compare_reports(old, new, effects).findings}


def detail(found: Comparison, what: str) -> str:
    """Return the detail of a finding."""
    return next(finding.detail for finding in found.findings if finding.what == what)


def fast(factor: float, noise: float = 0.01, n: int = 8) -> dict[str, object]:
    """Return runs that take half as long as the reference's, over a factor, with noise."""
    seconds = np.exp(RNG.normal(0, noise, n)) / factor
    runs = tuple(a_run(seconds=(float(s),)) for s in seconds)
    return {"throughput": a_throughput(runs=runs), "speedup_tuned": a_ratio(value=2 * factor)}


def ranked(taus: object, ndcgs: object) -> dict[str, object]:
    """Return a fidelity with tau and nDCG of each query."""
    ndcg = tuple(np.asarray(ndcgs, float).tolist())
    return {
        "fidelity": a_fidelity(
            parity=a_parity(query_taus=tuple(np.asarray(taus, float).tolist())),
            quality=a_quality(query_ndcgs=ndcg, candidate_ndcg=float(np.mean(ndcg))),
        )
    }


SPEED, RSS, SIZE, TAU, NDCG = (
    "speed-up over tuned torch",
    "peak RSS, MB",
    "size, MB",
    "Kendall tau-b",
    "nDCG@10",
)
ALL = ("verdict", NDCG, TAU, SPEED, RSS, SIZE)


def test_same_is_same() -> None:
    """A report against itself has nothing better and nothing worse."""
    found = compare_reports(one(), one())
    assert {finding.what: finding.change for finding in found.findings} == dict.fromkeys(ALL, "same")
    assert (found.outcome, found.why) == ("no worse", "")


@pytest.mark.parametrize(
    ("factor", "noise", "change"),
    [(1.3, 0.01, "better"), (0.7, 0.01, "worse"), (0.95, 0.001, "same"), (0.85, 0.3, "same")],
    ids=["faster", "slower", "less than the least effect", "within the noise"],
)
def test_speed(factor: float, noise: float, change: str) -> None:
    """Faster or slower only beyond the noise of the rounds and beyond a tenth, either way round."""
    old, new = one(**fast(1.0)), built_again(**fast(factor, noise))
    assert changes(old, new)[SPEED] == change
    turned = {"better": "worse", "worse": "better", "same": "same"}[change]
    assert changes(new, old)[SPEED] == turned


def test_ranking_that_fell_is_worse() -> None:
    """Every query's agreement fell by a tenth: beyond any noise."""
    old, new = one(**ranked([0.8] * 10, [0.9] * 10)), built_again(**ranked([0.7] * 10, [0.8] * 10))
    found = compare_reports(old, new)
    assert (changes(old, new)[TAU], changes(old, new)[NDCG]) == ("worse", "worse")
    assert found.outcome == "worse"
    assert detail(found, NDCG).startswith("gain -0.1111 (-0.1111 to -0.1111)")


def test_ranking_that_wavers_is_the_same() -> None:
    """Half the queries up by a tenth and half down is noise."""
    old, new = one(**ranked([0.8] * 10, [0.8] * 10)), built_again(**ranked([0.7, 0.9] * 5, [0.7, 0.9] * 5))
    assert (changes(old, new)[TAU], changes(old, new)[NDCG]) == ("same", "same")


def test_least_effect() -> None:
    """A certain loss of 0.4 % is of no consequence, unless a smaller effect is asked for."""
    old, new = one(**ranked([0.9] * 10, [0.9] * 10)), built_again(**ranked([0.896] * 10, [0.8964] * 10))
    assert (changes(old, new)[TAU], changes(old, new)[NDCG]) == ("same", "same")
    stricter = min_effects(["ndcg=0.001", "tau=0"])
    assert (changes(old, new, stricter)[TAU], changes(old, new, stricter)[NDCG]) == ("worse", "worse")


def test_the_same_bytes_are_equal() -> None:
    """Files equal to the byte rank the same, whatever another batching did to their scores; speed counts."""
    old = one(**ranked([0.8] * 10, [0.9] * 10), **fast(1.0))
    new = one(**ranked([0.7] * 10, [0.8] * 10), **fast(0.5))
    found = changes(old, new)
    assert (found[TAU], found[NDCG], found[SIZE], found[SPEED]) == ("same", "same", "same", "worse")
    assert detail(compare_reports(old, new), NDCG) == "the same bytes"


def test_size_and_memory() -> None:
    """Half the size is better; a quarter more memory is worse, and 5 % more is no consequence."""
    new = built_again(
        fidelity=a_fidelity(size_bytes=50),
        throughput=a_throughput(runs=(a_run(peak_rss_bytes=250_000_000),) * 6),
    )
    found = changes(one(), new)
    assert (found[SIZE], found[RSS]) == ("better", "worse")
    little = built_again(throughput=a_throughput(runs=(a_run(peak_rss_bytes=210_000_000),) * 6))
    assert changes(one(), little)[RSS] == "same"


@pytest.mark.parametrize(
    ("before", "after", "change", "outcome"),
    [
        ("pass", "fail", "worse", "worse"),
        ("fail", "pass", "better", "no worse"),
        ("pass", "invalid", "unknown", "no verdict"),
        ("invalid", "pass", "unknown", "no verdict"),
        ("invalid", "fail", "unknown", "no verdict"),
        ("fail", "fail", "same", "no worse"),
    ],
)
def test_verdicts(before: str, after: str, change: str, outcome: str) -> None:
    """A pass that fails is worse; what is invalid on one side says nothing, and leaves no verdict."""
    old, new = one(verdict=before), built_again(verdict=after)
    assert changes(old, new)["verdict"] == change
    assert compare_reports(old, new).outcome == outcome


def test_worse_counts_before_invalid() -> None:
    """A ranking that fell is worse, though the speed of one side is invalid."""
    old = one(**ranked([0.8] * 10, [0.9] * 10))
    new = built_again(verdict="invalid", **ranked([0.7] * 10, [0.8] * 10))
    found = compare_reports(old, new)
    assert (found.outcome, found.why) == ("worse", "worse: onnx nDCG@10, onnx Kendall tau-b")


def test_speed_measured_invalidly_is_not_compared() -> None:
    """A speed-up measured while others had a quarter of the cores is shown as such, and is not worse."""
    disturbed = fast(0.5) | {"speedup_tuned": a_ratio(value=1.0, cpu_contention=0.28)}
    old, new = one(**fast(1.0)), built_again(**disturbed)
    assert changes(old, new)[SPEED] == "unknown"
    for what in (SPEED, RSS):
        assert "new is invalid: others had 28.0% of the cores" in detail(compare_reports(old, new), what)


def test_speed_over_another_reference_is_not_compared() -> None:
    """A speed-up over PyTorch on a GPU, or over a larger model, is another quantity; memory is not."""
    new = built_again(**fast(0.5))
    for changed in ({"device": "cuda"}, {"weights_bytes": 800}):
        found = changes(one(**fast(1.0)), replace(new, reference=replace(new.reference, **changed)))
        assert (found[SPEED], found[RSS]) == ("unknown", "same")


def test_verdicts_on_other_grounds_are_not_compared() -> None:
    """A fail on other pairs, on another machine or against other bars is not what the pass was about."""
    failed = built_again(verdict="fail")
    stricter = (Check("min_kendall_tau", 0.97, "≥ 0.99", "fail"),)
    for new, why in (
        (replace(failed, pairs=replace(failed.pairs, digest="9" * 64)), "measured on other pairs"),
        (replace(failed, machine=a_machine(isa="avx512")), "measured on another machine (isa)"),
        (built_again(verdict="fail", checks=stricter), "held against other bars"),
    ):
        found = compare_reports(one(), new)
        assert detail(found, "verdict") == f"pass → fail, {why}"
        assert changes(one(), new)["verdict"] == "unknown"
        assert found.outcome != "worse"


def kinds(found: Comparison) -> list[tuple[str, str, str]]:
    """Return the findings on whole variants."""
    return [(f.kind, f.change, f.detail) for f in found.findings if f.what == "variant"]


def test_gone_and_new() -> None:
    """A kind that is gone from a recipe is worse, a new one is only named."""
    both, single = a_report(), one()
    assert kinds(compare_reports(both, single)) == [("onnx-int8", "worse", "gone")]
    assert kinds(compare_reports(single, both)) == [("onnx-int8", "same", "new")]


def test_kinds_of_other_recipes_are_aligned() -> None:
    """Between two recipes the kinds that both have are compared, and the others are named."""
    both, single = a_report(), replace(one(), name="other")
    found = compare_reports(both, single)
    assert kinds(found) == [("onnx-int8", "unknown", "only in the old report")]
    assert found.outcome == "no worse"
    assert kinds(compare_reports(single, both)) == [("onnx-int8", "unknown", "only in the new report")]


def test_judged_in_one_of_the_two() -> None:
    """A kind that one machine could not run is neither better nor worse, and nothing can be compared."""
    needs = "needs a CPU with avx512_bf16 or amx_bf16"
    without = a_report(variants=(), not_judged=(a_not_judged("onnx"),))
    lost = compare_reports(one(), without)
    assert kinds(lost) == [("onnx", "unknown", f"pass → not judged: {needs}")]
    assert (lost.outcome, lost.why) == ("no verdict", "nothing could be compared")
    gained = compare_reports(without, one())
    assert kinds(gained) == [("onnx", "unknown", f"not judged before: {needs} → pass")]
    assert kinds(compare_reports(without, without)) == [("onnx", "same", "judged in neither")]


def test_what_cannot_be_compared() -> None:
    """What was measured on another class of machine, or on other pairs, is not guessed at; bytes are."""
    new = replace(built_again(**fast(0.5)), machine=a_machine(isa="avx512_vnni"))
    found = compare_reports(one(), new)
    for what in (SPEED, RSS, TAU, NDCG):
        assert detail(found, what) == "measured on another machine (isa)"
    assert detail(found, SIZE).startswith("gain")
    other = replace(built_again(**fast(0.5)), pairs=replace(one().pairs, digest="9" * 64))
    found = compare_reports(one(), other)
    assert {f.change for f in found.findings if f.what in (SPEED, RSS, TAU, NDCG)} == {"unknown"}


def test_another_kernel_or_package_is_the_same_class() -> None:
    """An upgrade of a library is what one wants to compare."""
    new = replace(built_again(), machine=a_machine(memory_gb=9, system="Linux 7", packages=(("numpy", "3"),)))
    assert set(changes(one(), new).values()) == {"same"}


def test_level_is_shared_over_the_findings() -> None:
    """The more that is compared, the wider each interval: of two kinds wider than of one."""

    def width(report_of: object) -> float:
        assert callable(report_of)
        finding = next(f for f in compare_reports(*report_of()).findings if f.what == TAU)
        low, _, high = finding.detail.partition("(")[2].partition(")")[0].partition(" to ")
        return float(high) - float(low)

    values = np.linspace(0.5, 0.9, 10)

    def row(kind: str, digest: str, taus: np.ndarray) -> VariantReport:
        return a_variant_report(kind, files_digest=digest * 64, **ranked(taus, [0.9] * 10))

    def reports(*names: str) -> tuple[Report, Report]:
        old = a_report(variants=tuple(row(name, "1", np.full(10, 0.7)) for name in names))
        return old, a_report(variants=tuple(row(name, "2", values) for name in names))

    assert width(lambda: reports("onnx")) < width(lambda: reports("onnx", "onnx-int8"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ndgc=0.1", "unknown metric 'ndgc', did you mean"),
        ("accuracy=0.1", "known are ndcg, tau, speed, rss, size"),
        ("ndcg", "wanted METRIC=SHARE"),
        ("ndcg=1", "wanted METRIC=SHARE"),
        ("ndcg=-0.1", "wanted METRIC=SHARE"),
        ("ndcg=nan", "wanted METRIC=SHARE"),
        ("ndcg=ten", "wanted METRIC=SHARE"),
    ],
)
def test_least_effects_that_make_no_sense(change: str, said: str) -> None:
    """A least effect is a share of a known metric."""
    with pytest.raises(RecipeError) as caught:
        min_effects([change])
    assert said in str(caught.value)


def test_one_of_several_is_compared_with_the_only_one() -> None:
    """A kind that a recipe lists for more CPUs than before is compared under its id, and not gone."""
    row = a_variant_report()
    row = replace(row, fidelity=replace(row.fidelity, isa="avx2"))
    plain, listed = a_report(variants=(row,)), a_report(variants=(replace(row, kind=f"{row.kind}@avx2"),))
    for old, new in ((plain, listed), (listed, plain)):
        found = compare_reports(old, new)
        assert kinds(found) == []
        assert {finding.kind for finding in found.findings} == {f"{row.kind}@avx2"}
