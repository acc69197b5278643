"""Tables fit a terminal of 80 columns, nothing is wrapped in a pipe, and what passed is counted."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
from dataclasses import replace
from pathlib import Path

from exporter.cli.tables import findings_text, report_text
from exporter.gate import Check
from exporter.report.compare import Finding
from tests.factories import a_ratio, a_report, a_variant_report

LONG = "onnx-int8-static@avx512_vnni"
WHY = "the interval holds the bar; about 1200 queries would tell, and that is said in many words here"
FAILED = Check("min_ndcg_retained", 0.98, "≥ 0.99", "invalid", WHY, 0.97, 0.995, "300 queries")
PASSED = Check("repeat_diff", 0.0, "≤ 1e-06", "pass")
PRINT = """
import dataclasses
from exporter.cli.screen import tell
from exporter.cli.tables import findings_text, report_text
from tests.cli.test_tables import a_failed_report, some_findings
tell(report_text(a_failed_report()))
tell(findings_text(some_findings()))
"""


def a_failed_report():
    rows = (
        a_variant_report("onnx", checks=(PASSED, PASSED)),
        replace(a_variant_report("onnx-int8"), kind=LONG, checks=(PASSED, FAILED), verdict="invalid"),
    )
    return replace(a_report(variants=rows), verdict="invalid")


def some_findings() -> list[Finding]:
    detail = "gain -0.0210 (-0.0300 to -0.0120), least effect 0.005"
    return [Finding(LONG, "ndcg_retained", 0.99, 0.97, "worse", detail)]


def on_a_terminal(code: str) -> list[str]:
    """Return the lines that a piece of code prints on a terminal of 80 columns, without colours."""
    child, screen = pty.fork()
    if child == 0:  # pragma: no cover # another process
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environment = {name: text for name, text in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
        os.chdir(Path(__file__).parents[2])
        os.execve(sys.executable, [sys.executable, "-c", code], environment | {"TERM": "xterm"})
    shown = b""
    try:
        while part := os.read(screen, 1 << 16):
            shown += part
    except OSError:  # Linux says so at the end of a terminal
        pass
    assert os.waitpid(child, 0)[1] == 0, shown.decode()
    os.close(screen)
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).replace("\r", "").splitlines()


def test_a_terminal_is_not_overrun() -> None:
    """On 80 columns no line is longer, a long check goes on indented, a CPU's name goes below its kind."""
    lines = on_a_terminal(PRINT)
    assert max(map(len, lines)) <= 80
    first = next(i for i, line in enumerate(lines) if "INVALID min_ndcg_retained" in line)
    assert lines[first].startswith(f"  {LONG}: ")
    assert lines[first + 1].startswith("      ")
    assert WHY in re.sub(r"\s+", " ", " ".join(lines))
    assert any(line.strip().startswith("@avx512_vnni") for line in lines)
    assert "gain -0.0210" in " ".join(lines)


def test_a_check_is_one_line_in_a_pipe() -> None:
    """Where stdout is no terminal a check is one line, and so is a finding."""
    (line,) = (line for line in report_text(a_failed_report()).splitlines() if "INVALID min" in line)
    assert line.endswith(f"({WHY}; 300 queries)")
    (line,) = (line for line in findings_text(some_findings()).splitlines() if LONG in line)
    assert "worse" in line
    assert "least effect 0.005" in line


def test_what_passed_is_counted() -> None:
    """Checks that passed are counted, those that did not are listed; --wide lists all."""
    report = a_failed_report()
    text = report_text(report)
    assert "onnx: 2 of 2 checks passed" in text
    assert f"{LONG}: 1 of 2 checks passed" in text
    assert "PASS    repeat_diff" not in text
    assert report_text(report, wide=True).count("PASS    repeat_diff 0, bar ≤ 1e-06") == 3


def test_wide_has_every_column_memory_and_latency() -> None:
    """The summary has the speed-up that is judged; --wide all of them, memory, and latency by candidates."""
    report = a_report()
    titles = {"max diff", "vs default", "peak RSS MB", "p50 ms of 10"}
    assert not {title for title in titles if title in report_text(report)}
    assert "vs tuned" in report_text(report)
    assert {title for title in titles if title in report_text(report, wide=True)} == titles


def test_a_restless_speed_up_is_marked() -> None:
    """A speed-up that noise spoilt has a mark, and a line says what it means."""
    row = a_variant_report("onnx", speedup_tuned=a_ratio(value=3.21, spread=0.5))
    text = report_text(a_report(variants=(row,)))
    assert "3.21?" in text
    assert "too restless" in text
    assert "restless" not in report_text(a_report())
