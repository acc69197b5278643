"""Run `exporter score` in a process of its own, and kill what it consists of."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.jobs.jobs import parts

if TYPE_CHECKING:
    from collections.abc import Callable


def begun(*words: str | Path) -> subprocess.Popen[str]:
    """Start the command."""
    command = [sys.executable, "-m", "exporter", "score", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for it; return its exit code and what it said."""
    said, _ = process.communicate(timeout=120)
    return process.returncode, said


def wait_for(what: Callable[[], object], seconds: float = 60) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def wait_for_parts(out: Path, n: int) -> None:
    """Wait until so many parts are there."""
    wait_for(lambda: len(parts(out)) >= n)


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The worker processes of a job."""
    return psutil.Process(process.pid).children()
