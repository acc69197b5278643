"""How long a command will take: what was measured here before, else a rough figure; never an error."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from exporter.cache import Cache
from exporter.cli.app import app
from exporter.duration import Expected, Step, busy, in_words

if TYPE_CHECKING:
    from pathlib import Path

EXPECTED = Expected(
    "model avx2 2", "1 variant", (Step("onnx: scores", 100, 50.0), Step("build onnx", 1, 9.0))
)


def test_a_busy_machine_is_said() -> None:
    """Four of eight cores are others'; less than one core, or one of sixteen, is not worth a word."""
    assert busy(4.2, 8) == "; longer, while other processes keep 4 of 8 cores busy"
    assert busy(30.0, 2).endswith("keep 2 of 2 cores busy")
    assert (busy(0.6, 2), busy(1.0, 16)) == ("", "")


def test_measured_stages_beat_rough_ones(tmp_path: Path) -> None:
    """A stage that was measured counts by what it took a pair; the others, and other models, are rough."""
    cache = Cache(tmp_path)
    assert EXPECTED.seconds(cache) == {"onnx: scores": 50.0, "build onnx": 9.0}
    EXPECTED.keep(cache, {"onnx: scores": 20.0, "something else": 3.0})
    twice = replace(EXPECTED, steps=(Step("onnx: scores", 200, 100.0), EXPECTED.steps[1]))
    assert twice.seconds(cache) == {"onnx: scores": 40.0, "build onnx": 9.0}
    assert replace(twice, key="other").seconds(cache)["onnx: scores"] == 100.0


def test_only_so_many_models_are_remembered(tmp_path: Path) -> None:
    """The file does not grow without end: the oldest model is forgotten."""
    cache = Cache(tmp_path)
    for i in range(52):
        replace(EXPECTED, key=str(i)).keep(cache, {"build onnx": 1.0})
    assert replace(EXPECTED, key="0").seconds(cache)["build onnx"] == 9.0
    assert replace(EXPECTED, key="51").seconds(cache)["build onnx"] == 1.0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"seconds": {"model avx2 2": 3}}'])
def test_a_spoilt_file_is_done_without(tmp_path: Path, text: str) -> None:
    """What cannot be read counts as not measured, and is written over."""
    cache = Cache(tmp_path)
    tmp_path.chmod(0o700)
    (tmp_path / "durations.json").write_text(text, encoding="utf-8")
    assert EXPECTED.seconds(cache)["build onnx"] == 9.0
    EXPECTED.keep(cache, {"build onnx": 1.0})
    assert EXPECTED.seconds(cache)["build onnx"] == 1.0
    nowhere = Cache(None)
    EXPECTED.keep(nowhere, {"build onnx": 1.0})
    assert EXPECTED.seconds(nowhere)["build onnx"] == 9.0


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "10 s"), (34, "30 s"), (89, "90 s"), (100, "2 min"), (7200, "2.0 h")]
)
def test_durations_are_said_as_they_are_known(seconds: float, text: str) -> None:
    """Tens of seconds, minutes, or tenths of an hour."""
    assert in_words(seconds) == text


def test_a_command_says_how_long_it_takes(tiny: Path, tmp_path: Path) -> None:
    """`export` says it first, with what there is to do; where all is there already it says nothing."""
    line = ["export", str(tiny / "recipe.yaml"), "--build-only", "--out", str(tmp_path)]
    for expected in (1, 0):
        done = CliRunner().invoke(app, line)
        assert done.exit_code == 0, done.stderr
        assert (
            len(
                re.findall(
                    r"^about \d+ \w+: \d+ variants, \d+ pairs, \d+ cores(?:$|; longer)",
                    done.stderr,
                    re.MULTILINE,
                )
            )
            == expected
        )
