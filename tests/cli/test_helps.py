"""What `--help` says of every command, and how it fits a terminal."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from exporter.cli.app import COMMANDS, app, exit_codes


def help_of(*words: str, columns: int = 80) -> str:
    done = CliRunner().invoke(app, list(words), env={"COLUMNS": str(columns)})
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_line_fits_80_columns(command: str, columns: int) -> None:
    """Each help, by `--help` or `-h`, fits 80 columns on any terminal, and no sentence is cut off."""
    text = help_of(*command.split(), "--help", columns=columns)
    assert max(map(len, text.splitlines())) <= 80
    assert "..." not in text.replace("COMMAND [ARGS]...", "").replace("INPUT...", "")
    assert help_of(*command.split(), "-h", columns=columns) == text


def test_commands_stand_in_groups() -> None:
    """`exporter --help` lists every command once, under what it is for."""
    words = help_of("--help").split("Build:")[1].splitlines()
    groups = [line for line in words if line.endswith(":") and not line.startswith(" ")]
    assert groups == ["Judge:", "Publish:", "Use:", "Diagnose:"]
    listed = [line.split()[0] for line in words if line.startswith("  ") and not line.startswith("   ")]
    assert sorted(listed) == sorted(COMMANDS)
    assert words.index("Publish:") < next(i for i, line in enumerate(words) if line.startswith("  pull "))


@pytest.mark.parametrize("command", COMMANDS)
def test_arguments_are_called_as_they_are_typed(command: str) -> None:
    """A help names RECIPE, FOLDER, KIND, no types of Python's; exit codes stand one below the other."""
    text = help_of(command, "--help")
    assert "<" not in text
    assert "{" not in text.splitlines()[0]
    usage = text.splitlines()[0].split("[OPTIONS]")[1].split()
    assert all(word.isupper() for word in usage)
    lines = [line.strip() for line in text.splitlines()]
    first = lines.index("Exit codes:") + 1
    assert [int(line.split()[0]) for line in lines[first:]] == list(exit_codes(command))


def test_shells_complete_commands_and_options() -> None:
    """What a shell's completion asks is answered with commands and options, and ends with 0."""
    for typed, at, expected in (("exporter ver", "1", "verify"), ("exporter gate --ba", "2", "--bars")):
        asked = {"_EXPORTER_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": at}
        done = subprocess.run(
            [sys.executable, "-m", "exporter"],
            env={**os.environ, **asked},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert expected in done.stdout.split()


def test_completion_is_printed_for_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--show-completion` prints a script that completes `exporter`; an unknown shell is a usage error."""
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))
    done = CliRunner().invoke(app, ["--show-completion"])
    assert done.exit_code == 0
    assert "_EXPORTER_COMPLETE=complete_bash" in done.stdout
    assert done.stdout.strip().endswith("exporter")
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("tcsh", "/bin/tcsh"))
    assert CliRunner().invoke(app, ["--show-completion"]).exit_code == 2
