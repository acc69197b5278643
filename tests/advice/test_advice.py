"""What is advised on reports made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.advice import Commands, advice, deploy
from exporter.advice.accuracy import own_isa, standing_out
from exporter.advice.evidence import rounded_up
from exporter.export.product_error import ProductError
from exporter.gate import judge, outcome
from exporter.measure.estimate import shown_at_most
from exporter.recipe.kinds import KINDS
from tests.factories import (
    a_fidelity,
    a_machine,
    a_parity,
    a_quality,
    a_ratio,
    a_recipe,
    a_report,
    a_throughput,
    a_variant_report,
    an_estimate,
    an_int8_fidelity,
    bars,
)

if TYPE_CHECKING:
    from exporter.measure.fidelity import Fidelity
    from exporter.measure.speed import Ratio
    from exporter.recipe.schema import Recipe
    from exporter.report.report import VariantReport

FAR = a_parity(kendall_tau=an_estimate(0.8, 0.75, 0.85))


def judged(kind: str, found: Fidelity, ratio: Ratio | None = None, **limits: float) -> VariantReport:
    """Return a variant judged by the gate, against these bars."""
    checks = judge(bars(**limits), found, ratio)
    verdict = outcome(checks)
    return a_variant_report(
        kind, fidelity=found, speedup_tuned=ratio or a_ratio(), checks=checks, verdict=verdict
    )


def far_int8(kind: str = "onnx-int8", isa: str | None = "avx2") -> VariantReport:
    """Return an int8 variant that ranks far too differently."""
    found = an_int8_fidelity(kind=kind, traits=KINDS[kind].traits, isa=isa, parity=FAR)
    return judged(kind, found, min_kendall_tau=0.95)


def recipe(*, calibrate: str | None = "sample/calibrate", **limits: float) -> Recipe:
    """Return a recipe of one onnx-int8 variant with these bars."""
    variants = [{"kind": "onnx-int8", "isa": "avx2", "bars": limits or {"min_kendall_tau": 0.95}}]
    return a_recipe(variants=variants, pairs={"verify": "sample/verify", "calibrate": calibrate})


def products(*errors: float) -> tuple[ProductError, ...]:
    """Return products of these errors, the largest first, all of activations."""
    named = sorted(errors, reverse=True)
    return tuple(ProductError(f"/layer.{i}", e, 0.01, e, 1 / len(errors)) for i, e in enumerate(named))


def test_nothing_is_advised_where_all_passed() -> None:
    """A report that passed has no tips."""
    assert advice(a_report()) == ()


def test_dynamic_int8_that_is_too_far_is_led_to_static() -> None:
    """The lines to paste name the static kind, its isa and the bars that were missed."""
    tips = advice(a_report(variants=(far_int8(),)), recipe())
    (tip,) = (tip for tip in tips if "- kind: onnx-int8-static" in tip.yaml)
    assert tip.yaml == ("  - kind: onnx-int8-static\n    isa: avx2\n    bars: {min_kendall_tau: 0.95}")


def test_without_calibration_pairs_the_lines_say_where_they_go() -> None:
    """`pairs.calibrate` is part of what is pasted."""
    tips = advice(a_report(variants=(far_int8(),)), recipe(calibrate=None))
    (tip,) = (tip for tip in tips if "- kind: onnx-int8-static" in tip.yaml)
    assert tip.yaml.startswith("pairs:\n  calibrate: FILE\nvariants:\n")


def test_a_kind_that_fails_in_the_same_report_is_not_advised() -> None:
    """Static int8 failed too, so nobody is sent there."""
    tips = advice(a_report(variants=(far_int8(), far_int8("onnx-int8-static"))), recipe())
    assert not any("onnx-int8-static" in tip.yaml or "deploy" in tip.text for tip in tips)


def test_a_kind_that_passed_in_the_same_report_is_to_be_deployed() -> None:
    """What was measured comes before what would have to be tried."""
    static = judged(
        "onnx-int8-static",
        an_int8_fidelity(kind="onnx-int8-static", traits=KINDS["onnx-int8-static"].traits),
        min_kendall_tau=0.95,
    )
    tips = advice(a_report(variants=(far_int8(), static)), recipe())
    assert tips[0].text == "deploy onnx-int8-static, which passed in this run (tau-b 0.9700)"
    assert not any("kind: onnx-int8-static" in tip.yaml for tip in tips)


def test_eight_bits_are_advised_only_where_sums_have_32() -> None:
    """`isa` is advised for a 7-bit file on a CPU with VNNI, not without, not for an 8-bit file."""
    vnni = a_machine(isa="avx512_vnni")
    said = {tip.yaml for tip in advice(a_report(machine=vnni, variants=(far_int8(),)), recipe())}
    assert "isa: avx512_vnni" in said
    assert not any(tip.yaml.startswith("isa:") for tip in advice(a_report(variants=(far_int8(),)), recipe()))
    wide = a_report(machine=vnni, variants=(far_int8(isa="avx512_vnni"),))
    assert not any(tip.yaml.startswith("isa:") for tip in advice(wide, recipe()))


def test_own_isa_is_one_that_a_recipe_takes() -> None:
    """AVX-VNNI takes the weights of AVX512-VNNI; AVX2 and AVX-512 have none of full 8 bits."""
    names = ("avx2", "avx512", "avx512_vnni", "avx_vnni", "arm64")
    assert [own_isa(a_machine(isa=isa)) for isa in names] == [
        None,
        None,
        "avx512_vnni",
        "avx512_vnni",
        "arm64",
    ]


def test_bf16_is_advised_where_the_cpu_has_it() -> None:
    """A kind that this CPU cannot run is not advised."""
    with_units = a_machine(cpu_features=("amx_bf16",))
    tips = advice(a_report(machine=with_units, variants=(far_int8(),)), recipe())
    assert any("kind: openvino-bf16" in tip.yaml for tip in tips)
    assert not any("bf16" in tip.yaml for tip in advice(a_report(variants=(far_int8(),)), recipe()))


def test_products_that_stand_out_are_kept_in_fp32() -> None:
    """Two of ten lose far more than the rest; the line names both."""
    measured = products(0.4, 0.2, *[0.01] * 8)
    tips = advice(a_report(variants=(far_int8(),)), recipe(), products={"onnx-int8": measured})
    (tip,) = (tip for tip in tips if tip.yaml.startswith("keep_fp32"))
    assert tip.yaml == 'keep_fp32: ["/layer.0", "/layer.1"]'
    assert "keep 2 of 10 products in fp32, 20% of the int8 weights" in tip.text


def test_products_alike_are_not_kept_in_fp32() -> None:
    """Where none stands out, that is said, and there is no line to paste."""
    assert standing_out(products(*[0.02] * 6, 0.03)) == ()
    tips = advice(
        a_report(variants=(far_int8(),)), recipe(), products={"onnx-int8": products(*[0.02] * 6, 0.03)}
    )
    assert not any("keep_fp32" in tip.yaml for tip in tips)
    assert any("no product stands out" in tip.text for tip in tips)


def test_a_name_with_signs_of_patterns_is_matched_as_it_is() -> None:
    """`keep_fp32` takes shell patterns, so what means something there is set in brackets."""
    measured = (ProductError("/layer[0]", 0.9, 0.1, 0.9, 0.1), *products(*[0.01] * 8))
    tips = advice(a_report(variants=(far_int8(),)), recipe(), products={"onnx-int8": measured})
    assert any(tip.yaml == 'keep_fp32: ["/layer[[]0]"]' for tip in tips)


def test_too_few_queries_are_told_how_many_would_do() -> None:
    """Ten queries without a loss show 0.741; 59 show 0.95, and a quarter more are asked for."""
    found = an_int8_fidelity(parity=a_parity(top1_agreement=an_estimate(1.0, shown_at_most(10), 1.0)))
    row = judged("onnx-int8", found, min_top1_agreement=0.95)
    tips = advice(a_report(variants=(row,)), recipe(min_top1_agreement=0.95))
    assert row.verdict == "invalid"
    assert tips[0].text == (
        "min_top1_agreement: 10 queries leave it between 0.741 and 1.000; about 74 like them in pairs.verify "
        "would tell it from 0.95"
    )


def test_the_bar_that_is_shown_is_offered_only_if_it_is_near() -> None:
    """0.93 is offered for 0.95; 0.741 is not."""
    near = judged(
        "onnx-int8",
        an_int8_fidelity(parity=a_parity(top1_agreement=an_estimate(0.97, 0.9321, 0.99))),
        min_top1_agreement=0.95,
    )
    tips = advice(a_report(variants=(near,)), recipe(min_top1_agreement=0.95, max_size_ratio=0.3))
    assert [tip.yaml for tip in tips if tip.yaml] == [
        "bars: {min_top1_agreement: 0.932, max_size_ratio: 0.3}"
    ]


def test_round_numbers_are_rounded_up() -> None:
    """Two digits, and never fewer than asked for."""
    assert [rounded_up(n) for n in (7.2, 73.75, 101, 374, 1250.5)] == [8, 74, 110, 380, 1300]


def test_a_restless_machine_is_told_what_was_restless() -> None:
    """Contention by others here, and a verdict without the speed bar as the way on."""
    row = judged(
        "onnx-int8", an_int8_fidelity(), a_ratio(cpu_contention=0.3), min_speedup=1.5, min_kendall_tau=0.5
    )
    tips = advice(a_report(variants=(row,)), recipe(min_speedup=1.5, min_kendall_tau=0.5))
    assert row.verdict == "invalid"
    assert tips[0].text == (
        "min_speedup: other processes here had 30% of the cores: stop them, then measure again"
    )
    assert tips[0].command == "exporter verify ARTIFACT"
    assert tips[-1].yaml == "bars: {min_kendall_tau: 0.5}"


def test_a_bar_out_of_reach_is_no_matter_of_noise() -> None:
    """A whole interval below half of the bar asks for another variant or bar, and for no quieter machine."""
    row = judged("onnx-int8", an_int8_fidelity(), a_ratio(cpu_contention=0.3), min_speedup=90.0)
    tips = advice(a_report(variants=(row,)), recipe(min_speedup=90.0))
    assert row.verdict == "invalid"
    assert "is far below 90, which no quieter machine will mend" in tips[0].text
    assert "nothing measured here is known to reach 90" in tips[1].text
    assert not any(tip.command.startswith("exporter verify") for tip in tips)


def test_bars_that_were_judged_are_those_that_are_advised() -> None:
    """After `gate --bars FILE` lines are for that file, with its bars, and judged by it again."""
    row = judged("onnx-int8", an_int8_fidelity(), a_ratio(), min_speedup=3.0, min_kendall_tau=0.5)
    tips = advice(
        a_report(variants=(row,)),
        recipe(min_kendall_tau=0.9),
        commands=Commands("artifacts/x", bars="new.yaml"),
        judged_by={"onnx-int8": bars(min_speedup=3.0, min_kendall_tau=0.5)},
    )
    (tip,) = (tip for tip in tips if tip.yaml)
    assert tip.yaml.startswith("onnx-int8: {min_kendall_tau: 0.5, min_speedup: ")
    assert tip.command == "exporter gate artifacts/x --bars new.yaml"


def test_commands_are_quoted_and_keep_what_was_typed() -> None:
    """A recipe that `--set` changed is judged again by `export`, which reuses; only `--replace` builds."""
    plain = Commands("out/my model", "my recipe.yaml", out="out", program=("./bin/exporter",))
    assert plain.judge == "./bin/exporter gate 'my recipe.yaml' --out out"
    assert plain.rebuild == "./bin/exporter export 'my recipe.yaml' --out out --replace"
    assert plain.of("verify") == "./bin/exporter verify 'out/my model'"
    changed = Commands("artifacts/m", "r.yaml", changes=("--set", "measure.budget_s=9"))
    assert changed.measure == "exporter export r.yaml --set measure.budget_s=9"


def test_a_clock_that_changed_is_named() -> None:
    """Heat and turbo are not other processes."""
    row = judged("onnx-int8", an_int8_fidelity(), a_ratio(clock=0.4), min_speedup=1.5)
    (first, *_) = advice(a_report(variants=(row,)), recipe(min_speedup=1.5))
    assert "clock changed by 40%" in first.text


def test_three_rounds_ask_for_verify_and_nothing_built() -> None:
    """A bar that is new to a kind timed in three rounds needs a measurement only."""
    row = judged("onnx-int8", an_int8_fidelity(), a_ratio(n_rounds=3), min_speedup=1.5)
    (first, *_) = advice(a_report(variants=(row,)), recipe(min_speedup=1.5), commands=Commands("artifacts/x"))
    assert (first.command, "3 rounds" in first.text) == ("exporter verify artifacts/x", True)


def test_a_missed_speed_bar_names_what_reaches_it_or_says_that_nothing_does() -> None:
    """Of two variants one reaches 3; without it nothing does."""
    slow = judged("onnx", a_fidelity(), a_ratio(value=1.3, low=1.2, high=1.4), min_speedup=3.0)
    quick = judged("onnx-int8", an_int8_fidelity(), a_ratio(value=3.3, low=3.1, high=3.4), min_speedup=3.0)
    both = advice(a_report(variants=(slow, quick)))
    assert both[0].text == "min_speedup: onnx-int8 passed at 3.30 times; deploy that"
    alone = advice(a_report(variants=(slow,)))
    assert "nothing measured here is known to reach 3" in alone[0].text


def test_a_missed_size_names_what_has_it_or_says_that_nothing_has() -> None:
    """A quarter passed beside a whole; alone, the whole is the smallest."""
    large = judged("onnx", a_fidelity(size_ratio=1.0), max_size_ratio=0.35)
    small = judged("onnx-int8", an_int8_fidelity(), max_size_ratio=0.35)
    assert "onnx-int8 passed with 0.25" in advice(a_report(variants=(large, small)))[0].text
    assert "smaller than 1.00" in advice(a_report(variants=(large,)))[0].text


def test_what_failed_soundness_is_explained() -> None:
    """Scores that are not finite, and sums that saturate, which has a line to paste."""
    lost = judged("onnx", a_fidelity(parity=a_parity(n_nonfinite=2)), min_kendall_tau=0.5)
    assert "65,504" in advice(a_report(variants=(lost,)))[0].text
    sums = an_int8_fidelity().saturation
    assert sums is not None
    wide = judged(
        "onnx-int8", an_int8_fidelity(saturation=replace(sums, highest=40_000)), min_kendall_tau=0.5
    )
    assert advice(a_report(variants=(wide,)))[0].yaml == "isa: avx2"


def test_fp32_that_is_far_off_is_a_fault_not_rounding() -> None:
    """Nobody is told to loosen a bar on an exact kind."""
    row = judged("onnx", a_fidelity(parity=a_parity(max_abs_diff=0.5)), max_abs_diff=1e-3)
    (tip,) = advice(a_report(variants=(row,)))
    assert "wrong graph" in tip.text


def test_deploy_names_the_fastest_that_passed() -> None:
    """A faster one that failed is no candidate."""
    quick = a_variant_report("onnx-int8", throughput=a_throughput(pairs_per_s=300.0), verdict="fail")
    report = a_report(variants=(a_variant_report("onnx"), quick))
    assert deploy(report, "artifacts/tiny") == (
        "Deploy onnx: 2.00x tuned PyTorch, 100.0% nDCG, 0.0 MB",
        '  Reranker.load("artifacts/tiny", "onnx")',
        '  sentence-transformers: file_name="onnx/model.onnx"',
    )


def test_deploy_holds_int8_against_bf16_too() -> None:
    """Where PyTorch was measured in bfloat16, its speed-up stands beside; `~` marks restlessness."""
    row = a_variant_report(
        "onnx-int8-static",
        speedup_tuned=a_ratio(value=3.33, spread=0.3),
        speedup_bf16=a_ratio(value=1.75),
        fidelity=an_int8_fidelity(isa="avx512_vnni", size_bytes=24_400_000),
    )
    first, load, other = deploy(a_report(variants=(row,)), "artifacts/tiny")
    assert first == "Deploy onnx-int8-static: ~3.33x tuned, 1.75x bf16 PyTorch, 100.0% nDCG, 24.4 MB"
    assert load == '  Reranker.load("artifacts/tiny")'
    assert other == '  sentence-transformers: file_name="onnx/model_qint8_static_avx512_vnni.onnx"'
    assert max(map(len, (first, load, other))) <= 80


def test_deploy_without_labels_says_how_alike_rankings_are() -> None:
    """There is no nDCG without labels."""
    row = a_variant_report("onnx", fidelity=a_fidelity(quality=None))
    assert "tau-b 0.970" in deploy(a_report(variants=(row,)), "x")[0]


def test_nothing_is_deployed_where_nothing_passed() -> None:
    """A FAIL has no line on loading."""
    assert deploy(a_report(variants=(a_variant_report("onnx", verdict="fail"),)), "x") == ()


def test_quality_without_queries_that_tell_asks_for_labels() -> None:
    """No query can tell, so no number of them is named."""
    row = judged("onnx", a_fidelity(quality=None), min_ndcg_retained=0.99)
    assert "label the passages" in advice(a_report(variants=(row,)))[0].text
    assert a_quality().n_queries == 10
