"""What asks a command to end: it cleans up as after Ctrl-C, in one line, with the code shells give."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exporter.cli.signals import Stopped, stoppable
from tests.conftest import write_recipe_beside

_CODES = {signal.SIGINT: 130, signal.SIGHUP: 129, signal.SIGTERM: 143}


@pytest.mark.parametrize("number", _CODES)
def test_signal_is_raised_once(number: signal.Signals) -> None:
    """A signal raises in the block; a second one at the same time does not cut off what cleans up."""
    before = signal.getsignal(number)
    signal.signal(number, signal.SIG_DFL)
    try:
        cleaned = False
        with pytest.raises(Stopped) as stopped, stoppable():  # noqa: PT012 - the block is what is tested
            try:
                signal.raise_signal(number)
            finally:
                signal.raise_signal(number)
                cleaned = True
        assert stopped.value.number == number
        assert cleaned
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_signal_that_was_lost_is_raised_again() -> None:
    """Raised where Python cannot raise, a signal stops the block a little later all the same."""

    class Lost:
        def __del__(self) -> None:
            try:
                signal.raise_signal(signal.SIGTERM)
            except Stopped:
                return

    started = time.monotonic()
    with pytest.raises(Stopped) as stopped, stoppable():  # noqa: PT012 - the block is what is tested
        Lost()
        while time.monotonic() - started < 30:
            time.sleep(0.01)
    assert stopped.value.number == signal.SIGTERM
    assert time.monotonic() - started < 30
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_ignored_signal_stays_ignored() -> None:
    """Under nohup, a terminal that goes away stops nothing."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("stopped", ["export job SIGTERM", "verify job SIGHUP", "publish publish SIGHUP"])
def test_command_cleans_up(tiny: Path, verified: Path, tmp_path: Path, stopped: str) -> None:
    """Stopped while it has a temporary folder, a command leaves none, nor half an artifact; one line."""
    command, stage, name = stopped.split()
    number = signal.Signals[name]
    (tmp_path / "tmp").mkdir()
    (tmp_path / "out").mkdir()
    arguments = {
        "export": [str(write_recipe_beside(tiny, tmp_path)), "--out", str(tmp_path / "out")],
        "verify": [str(verified)],
        "publish": [str(verified), str(tmp_path / "out/tiny")],
    }[command]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "EXPORTER_CACHE": str(tmp_path / "cache")}
    process = subprocess.Popen(
        [sys.executable, "-m", "exporter", command, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not list((tmp_path / "tmp").glob(f"exporter-{stage}-*")):
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == _CODES[number], said
    last = f"stopped by {number.name}; what was finished is kept, nothing is half-written"
    assert said.splitlines()[-1] == last
    assert list((tmp_path / "tmp").iterdir()) == []
    assert [path for path in (tmp_path / "cache").glob("*") if path.name.startswith(".")] == []
    assert list((tmp_path / "out").iterdir()) == []
