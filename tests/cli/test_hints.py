"""What commands say to type next is carried out as typed."""

from __future__ import annotations

import shlex
import shutil
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from exporter.cli.app import app

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

_FAILS = "onnx: {min_kendall_tau: 0.1}\nonnx-int8: {max_abs_diff: 0.000001, min_kendall_tau: 0.1}\n"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "80"})


def typed(text: str, name: str) -> list[str]:
    """Return the words of the command of this name that a text says to type, without the program's."""
    found = (one[one.index("exporter ") :] for one in text.splitlines() if f"exporter {name} " in one)
    (words,) = {tuple(shlex.split(one, comments=True)) for one in found}
    return list(words[1:])


@pytest.fixture
def here(verified: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the verified artifact and bars of which int8 misses one."""
    shutil.copytree(verified, tmp_path / "my artifacts/tiny")
    (tmp_path / "bars.yaml").write_text(_FAILS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_init_says_what_to_type_next(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe lies there, and the command that is named reads it, to the folder that was named."""
    monkeypatch.chdir(tmp_path)
    done = run("init", tiny / "model", tiny / "pairs.jsonl", "--to", "my recipe.yaml", "--out", "my out")
    assert (done.exit_code, "variants:" in done.stdout) == (0, True)
    name, *words = typed(done.stderr, "export")
    planned = run("plan", *words)
    assert (name, planned.exit_code, "-> my out/" in planned.stdout) == ("export", 0, True)
    again = run("init", tiny / "model", tiny / "pairs.jsonl", "--to", "my recipe.yaml")
    assert (again.exit_code, "left alone" in again.stderr) == (2, True)


def test_advise_names_what_to_deploy(here: Path) -> None:
    """Of an artifact that passed: what to load, and no tip."""
    done = run("advise", here / "my artifacts/tiny")
    assert (done.exit_code, "Deploy onnx" in done.stdout, "What to try" in done.stdout) == (0, True, False)
    missing = run("advise", here / "nowhere")
    assert (missing.exit_code, len(missing.stderr.splitlines())) == (2, 1)


def test_after_other_bars_all_is_about_them(here: Path) -> None:
    """Paths are quoted, the lines are for the file of bars, and pages are said to be of the recorded bars."""
    done = run("gate", "my artifacts/tiny", "--bars", "bars.yaml")
    assert done.exit_code == 1
    assert "are of the recorded bars, not of those judged here" in done.stderr
    advise = typed(done.stderr, "advise")
    assert advise == ["advise", "my artifacts/tiny"]
    assert run(*advise).exit_code == 0


def test_compare_ends_with_what_came_of_it(here: Path) -> None:
    """The last line says the outcome, the counts and the exit code."""
    done = run("compare", here / "my artifacts/tiny", here / "my artifacts/tiny")
    assert done.stderr.splitlines()[-1].startswith("no worse: 0 worse, 0 better, ")
    assert done.stderr.splitlines()[-1].endswith("; exit code 0")
