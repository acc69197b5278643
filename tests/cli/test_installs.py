"""Each command where packages are missing: exit 3, one line, and the extra that brings them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.cli.app import COMMANDS
from exporter.packages import LIBRARIES

ROOT = Path(__file__).resolve().parents[2]
# Every Python that finds this file at its start has no BLOCKED module: the command and its workers.
BLOCKER = """
import os, sys

BLOCKED = os.environ["BLOCKED"].split(",")

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if any(name == module or name.startswith(module + ".") for module in BLOCKED):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""
BEYOND_BASE = ",".join(
    row.module for row in LIBRARIES.values() if row.extra != "base" and row.module != "yaml"
)


@pytest.fixture(scope="module")
def blocker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blocker")
    (folder / "sitecustomize.py").write_text(BLOCKER, encoding="utf-8")
    return folder


def run(line: str, blocker: Path, blocked: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command where modules are not to be imported, also in its workers."""
    env = {**os.environ, "PYTHONPATH": f"{blocker}:{ROOT}", "BLOCKED": blocked}
    command = [sys.executable, "-m", "exporter", *line.split()]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=env)


# What each command does with the base install; ARTIFACT is a verified one, RECIPE another model's.
BASE = {
    "export": ("RECIPE --out out", 3),
    "plan": ("RECIPE", 3),
    "verify": ("ARTIFACT", 3),
    "init": ("MODEL PAIRS --to first.yaml", 3),
    "advise": ("ARTIFACT", 3),
    "gate": ("ARTIFACT", 0),
    "show": ("ARTIFACT", 0),
    "profile": ("ARTIFACT", 0),
    "bench": ("ARTIFACT", 3),
    "compare": ("ARTIFACT ARTIFACT", 3),
    "selftest": ("ARTIFACT", 3),
    "gpu-check": ("RECIPE", 3),
    "publish": ("ARTIFACT copy", 3),
    "pull": ("ARTIFACT pulled", 0),
    "verify-signature": ("ARTIFACT --key RECIPE", 3),
    "check-consumers": ("ARTIFACT", 3),
    "score": ("ARTIFACT PAIRS scores", 3),
    "rank": ("ARTIFACT question", 0),
    "reproduce": ("ARTIFACT", 3),
    "reference": ("RECIPE out", 3),
    "schema": ("--report", 0),
    "doctor": ("", 0),
}


@pytest.mark.parametrize("command", sorted(BASE))
def test_base_install(command: str, blocker: Path, verified: Path, tiny: Path, tmp_path: Path) -> None:
    """What only reads an artifact works; the rest ends with 3 and names the extra that the command needs."""
    arguments, code = BASE[command]
    places = {"ARTIFACT": verified, "RECIPE": tiny / "recipe.yaml"}
    places |= {"MODEL": tiny / "model", "PAIRS": tiny / "pairs.jsonl"}
    line = " ".join(str(places.get(word, word)) for word in arguments.split())
    done = run(f"{command} {line}", blocker, BEYOND_BASE, tmp_path)
    assert done.returncode == code, done.stderr
    if code == 3:
        last = done.stderr.splitlines()[-1]
        assert last.startswith("error: ")
        assert f"pip install '.[{COMMANDS[command].extra}]'" in last
        assert not [path.name for path in tmp_path.iterdir()]


def test_every_command_is_tried() -> None:
    """A new command stands in the table above."""
    assert set(BASE) == set(COMMANDS)


@pytest.mark.parametrize(
    ("line", "module", "extra"),
    [
        ("export RECIPE --out out", "scipy", "build"),
        ("export RECIPE --out out", "nncf", "build"),
        ("verify ARTIFACT", "psutil", "verify"),
        ("verify ARTIFACT", "sentence_transformers", "verify"),
        ("verify ARTIFACT", "matplotlib", "verify"),
        ("compare ARTIFACT ARTIFACT", "scipy", "verify"),
        ("publish ARTIFACT copy", "jinja2", "verify"),
        ("publish ARTIFACT copy", "huggingface_hub", "hub"),
        ("publish ARTIFACT oci://localhost:1/a:1", "requests", "oci"),
        ("publish ARTIFACT s3://a/b", "s3fs", "s3"),
        ("pull hf://a/b out", "huggingface_hub", "hub"),
        ("pull oci://localhost:1/a:1 out", "requests", "oci"),
        ("pull s3://a/b out", "s3fs", "s3"),
        ("verify-signature ARTIFACT --key RECIPE", "model_signing", "sign"),
        ("reference RECIPE out", "safetensors", "verify"),
        ("reproduce ARTIFACT", "optimum", "build"),
    ],
)
def test_one_package_missing(
    line: str, module: str, extra: str, *, blocker: Path, verified: Path, tiny: Path, tmp_path: Path
) -> None:
    """Also in a worker, and where a library asks for another, the line names the package's extra."""
    line = line.replace("ARTIFACT", str(verified)).replace("RECIPE", str(tiny / "recipe.yaml"))
    done = run(line, blocker, module, tmp_path)
    assert done.returncode == 3, done.stderr
    assert f"pip install '.[{extra}]'" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_versions_that_do_not_fit(verified: Path, tmp_path: Path) -> None:
    """A library that is there and cannot be imported is named with what it said."""
    (tmp_path / "scipy.py").write_text("from json import nothing_of_this_name\n", encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, "-m", "exporter", "compare", str(verified), str(verified)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=env)
    assert done.returncode == 3
    (said,) = done.stderr.splitlines()
    assert said.startswith("error: scipy ")
    assert "cannot import name 'nothing_of_this_name'" in said


def test_base_package_missing(blocker: Path, tmp_path: Path) -> None:
    """Without typer there is no command line, and that is said like anything else."""
    done = run("doctor", blocker, "typer", tmp_path)
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        "error: typer is not installed; install exporter again, with all that it depends on"
    ]
