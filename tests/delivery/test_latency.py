"""The script behind the table of memory and latency."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.delivery.runner import ROOT


def latency(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script on an artifact."""
    return subprocess.run(
        [sys.executable, ROOT / "docs" / "measurements" / "latency.py", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_table_has_a_row_for_each_variant(verified: Path) -> None:
    """Each variant is measured: memory twice, and two percentiles in order for 10 and for 100 documents."""
    done = latency(str(verified))
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| `(\S+)` \| (.*) \|$", done.stdout, re.MULTILINE)
    assert [variant for variant, _ in rows] == ["onnx", "onnx-int8"]
    for _, cells in rows:
        loaded, used, ten, hundred = (
            [float(one) for one in cell.split(" / ")] for cell in cells.split(" | ")
        )
        assert loaded[0] > 20  # MB; an engine is more
        assert used[0] > 20
        assert 0 < ten[0] <= ten[1]
        assert 0 < hundred[0] <= hundred[1]


def test_variant_that_is_not_there(verified: Path) -> None:
    """What cannot be measured is one line and an exit code; the others are still measured."""
    done = latency(str(verified), "onnx-int9", "onnx")
    assert done.returncode == 1
    assert re.search(r"^error: tiny has no onnx-int9", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr
    assert "| `onnx-int9` | not measured |" in done.stdout
    assert re.search(r"^\| `onnx` \| \d", done.stdout, re.MULTILINE)
