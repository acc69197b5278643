"""The GPU checks, tried on the CPU: all but the device is the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from exporter.bench.gpu import GpuReport, GpuSettings, gpu_check, markdown, write_gpu_report
from exporter.context import Context
from exporter.errors import BackendMissing
from exporter.recipe.load import load_recipe
from tests.conftest import STARTED_AT
from tests.factories import a_parity


@pytest.fixture(scope="module")
def report(tiny: Path) -> GpuReport:
    """The tiny model in every type on the CPU."""
    recipe, context = load_recipe(tiny / "recipe.yaml"), Context(started_at=STARTED_AT)
    return gpu_check(recipe, context, GpuSettings(batch_sizes=(4, 16), n_passes=1), device="cpu")


def test_types_are_compared_and_timed(report: GpuReport) -> None:
    """float32 is the reference again; half precisions are close, and not the same."""
    assert [row.dtype for row in report.rows] == ["float32", "float16", "bfloat16"]
    exact, *half = report.rows
    assert exact.parity.max_abs_diff < 1e-5
    assert all(1e-5 < row.parity.max_abs_diff < 0.5 for row in half)
    assert all(batch.pairs_per_s > 0 for row in report.rows for batch in row.batches)
    assert report.problems == ()


def test_report_is_written(report: GpuReport, tmp_path: Path) -> None:
    """The file is named for the device, and says what was measured."""
    path = write_gpu_report(replace(report, device="NVIDIA H100 80GB"), tmp_path)
    assert path.name == "gpu-nvidia-h100-80gb.md"
    assert "bfloat16" in path.read_text(encoding="utf-8")


def test_reduced_float32_is_noticed(report: GpuReport) -> None:
    """float32 that is as far off as TF32 would be is a problem, and said first."""
    first, *rest = report.rows
    off = replace(report, rows=(replace(first, parity=a_parity(max_abs_diff=0.02)), *rest))
    assert off.problems == ("float32 on the GPU is 0.02 off the CPU, 0.001 allowed; is TF32 on?",)
    assert off.problems[0] in markdown(off)


def test_no_gpu_is_one_line(tiny: Path) -> None:
    """Without a CUDA device the error says so, and nothing is measured."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(BackendMissing, match="sees no CUDA device"):
        gpu_check(load_recipe(tiny / "recipe.yaml"), Context(started_at=STARTED_AT))
