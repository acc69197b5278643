"""The advice is right: what is recommended, carried out as typed, passes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from exporter import pipeline
from exporter.cache import Cache
from exporter.context import Context
from exporter.guide.after import advise, after
from exporter.recipe.load import load_recipe
from tests.conftest import SHORT
from tests.support import write_pairs, write_tiny_model

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.report.report import Report

_QUICK = replace(SHORT, torch_batch_sizes=(16,), latencies=((10, 1),), token_budgets=(512,))
_RECIPE = """\
name: mine
model: {source: ./model}
pairs: {verify: pairs.jsonl, calibrate: calibrate.jsonl}
measure: {budget_s: 1}
variants:
"""
_OUTPUT = "/bert/encoder/layer.{}/attention/output/dense/MatMul"


def exported(folder: Path, variants: str) -> Report:
    """Write a recipe of these variants and export it."""
    path = folder / "recipe.yaml"
    path.write_text(_RECIPE + variants, encoding="utf-8")
    return pipeline.export(
        load_recipe(path), folder / "artifacts", Context(cache=Cache.of_user()), _QUICK, replace_old=True
    )


def test_outlier_layers_are_named_and_what_is_pasted_passes(tmp_path: Path) -> None:
    """Dynamic int8 fails; the line keeps just the two outlier layers in fp32 and passes, as static does."""
    write_tiny_model(tmp_path / "model", n_layers=3, outlier_layers=(0, 2))
    write_pairs(tmp_path / "pairs.jsonl", n_queries=40)
    write_pairs(tmp_path / "calibrate.jsonl", seed=5)
    variant = "  - kind: onnx-int8\n    bars: {min_kendall_tau: 0.8}\n"
    report = exported(tmp_path, variant)
    assert report.verdict == "fail"

    found = after(report, tmp_path / "artifacts/mine", Cache.of_user())  # measured after the FAIL
    (line,) = (tip.yaml for tip in found.tips if tip.yaml.startswith("keep_fp32"))
    assert line == f'keep_fp32: ["{_OUTPUT.format(0)}", "{_OUTPUT.format(2)}"]'
    (static,) = (tip.yaml for tip in found.tips if "kind: onnx-int8-static" in tip.yaml)

    mended = exported(tmp_path, f"{variant}    {line}\n{static}\n")
    assert {row.kind: row.verdict for row in mended.variants} == {
        "onnx-int8": "pass",
        "onnx-int8-static": "pass",
    }
    told = advise(tmp_path / "artifacts/mine", Context(cache=Cache.of_user()))
    assert told.tips == ()
    kept = {product.name for product in told.products["onnx-int8"]}
    assert not kept & {_OUTPUT.format(0), _OUTPUT.format(2)}
    assert all(product.error < 0.05 for products in told.products.values() for product in products)


def test_as_many_queries_as_advised_tell(tmp_path: Path) -> None:
    """Twelve queries cannot show 0.9; so many as the advice says can."""
    write_tiny_model(tmp_path / "model")
    write_pairs(tmp_path / "pairs.jsonl", n_queries=12)
    write_pairs(tmp_path / "calibrate.jsonl", seed=5)
    variant = "  - kind: onnx\n    bars: {min_top1_agreement: 0.9}\n"
    report = exported(tmp_path, variant)
    assert report.verdict == "invalid"
    tip, *_ = after(report, tmp_path / "artifacts/mine", Cache.of_user()).tips
    assert "about 37 like them" in tip.text

    write_pairs(tmp_path / "pairs.jsonl", n_queries=37)
    assert exported(tmp_path, variant).verdict == "pass"
