"""How the program was called, and the commands that hints are made of."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from exporter import invocation


def script(folder: Path) -> Path:
    """Return a console script that prints a command, as an environment has one."""
    path = folder / "exporter"
    code = "from exporter.invocation import command\nprint(command('gate', 'my model'))\n"
    path.write_text(f"#!{sys.executable}\n{code}", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def environment() -> dict[str, str]:
    """Where the package is found, and nothing else."""
    return {"PYTHONPATH": str(Path(invocation.__file__).parent.parent), "PATH": "/usr/bin:/bin"}


def test_a_script_on_the_path_is_its_name(tmp_path: Path, environment: dict[str, str]) -> None:
    """However it was called: the shell finds the same program under its name."""
    environment["PATH"] = f"{script(tmp_path).parent}:{environment['PATH']}"
    done = subprocess.run(["exporter"], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "exporter gate 'my model'\n"


def test_a_script_elsewhere_is_its_path_as_typed(tmp_path: Path, environment: dict[str, str]) -> None:
    """As with `.venv/bin/exporter` and just, which calls that; and where the path has another `exporter`."""
    folder, other = tmp_path / "my env", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    script(folder)
    script(other)
    environment["PATH"] = f"{other}:{environment['PATH']}"
    done = subprocess.run(
        ["./my env/exporter"], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
    )
    assert done.stdout == "'./my env/exporter' gate 'my model'\n"


def test_a_module_is_run_by_the_same_python(environment: dict[str, str], tmp_path: Path) -> None:
    """What `python -m exporter` says to type is carried out as typed."""
    typed = [sys.executable, "-m", "exporter", "nonsense"]
    done = subprocess.run(typed, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    hint = done.stderr.split("`")[1]
    assert shlex.split(hint) == [sys.executable, "-m", "exporter", "--help"]
    again = subprocess.run(shlex.split(hint), capture_output=True, text=True, check=False, env=environment)
    assert (again.returncode, "Usage:" in again.stdout) == (0, True)


def test_in_another_program_it_is_the_name() -> None:
    """Nobody can type how a notebook or a server calls this package."""
    assert invocation.program() == ("exporter",)
