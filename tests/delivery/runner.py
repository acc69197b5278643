"""Runs a composite action's shell steps as GitHub does, without GitHub: contexts, outputs, step files."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent.parent
ACTION = YAML(typ="safe").load(ROOT / "action.yml")
_EXPRESSION = re.compile(r"\$\{\{ (.*?) \}\}")


@dataclass
class Ran:
    """What a run of the action left behind."""

    code: int = 0
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    uses: list[dict[str, Any]] = field(default_factory=list)
    log: str = ""
    summary: str = ""

    def output(self, name: str) -> str:
        """Return one of the action's outputs."""
        return Action({}, {}, self.outputs).filled(ACTION["outputs"][name]["value"])


@dataclass
class Action:
    """The contexts of a run, and how expressions over them are filled in."""

    inputs: dict[str, str]
    github: dict[str, str]
    steps: dict[str, dict[str, str]] = field(default_factory=dict)

    def filled(self, text: str) -> str:
        """Return a text with its expressions replaced by their values."""
        return _EXPRESSION.sub(lambda match: self._value(match[1]), str(text))

    def holds(self, condition: str | None) -> bool:
        """Return whether a step's `if` holds: an equality of a name and a text."""
        if condition is None:
            return True
        name, operator, text = re.fullmatch(r"(\S+) (==|!=) '(.*)'", condition).groups()
        return (self._name(name) == text) is (operator == "==")

    def _value(self, expression: str) -> str:
        return next(filter(None, (self._name(name) for name in expression.split(" || "))), "")

    def _name(self, name: str) -> str:
        match name.split("."):
            case ["inputs", key]:
                return self.filled(self.inputs[key])
            case ["steps", step, "outputs", key]:
                return self.steps.get(step, {}).get(key, "")
            case ["github", *_]:
                return self.github.get(name.removeprefix("github."), "")
        raise AssertionError(f"{name} is in no context that is known here")


def run(
    folder: Path,
    given: dict[str, str],
    env: dict[str, str],
    github: dict[str, str],
    stand_ins: dict[str, dict[str, str]],
) -> Ran:
    """Run every shell step of action.yml in order, until one fails.

    Args:
        folder: where it runs, in place of the checkout.
        given: the inputs that a workflow sets.
        env: what the runner sets, beside the files of a step.
        github: the context `github`, by dotted names.
        stand_ins: outputs of steps that are not run, because they need GitHub or a package index.
    """
    assert not set(given) - set(ACTION["inputs"])
    action = Action({name: one.get("default", "") for name, one in ACTION["inputs"].items()} | given, github)
    ran = Ran(outputs=action.steps)
    summary, files = folder / "summary.md", folder / "runner"
    files.mkdir()
    for i, step in enumerate(ACTION["runs"]["steps"]):
        if not action.holds(step.get("if")):
            continue
        if step.get("id") in stand_ins:
            action.steps[step["id"]] = stand_ins[step["id"]]
        elif "uses" in step:
            named = {key: action.filled(value) for key, value in step.get("with", {}).items()}
            ran.uses.append({"uses": step["uses"].partition("@")[0], **named})
        else:
            output = files / f"output-{i}"
            done = subprocess.run(
                # As GitHub runs `shell: bash`.
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
                check=False,
                cwd=folder,
                env={
                    **env,
                    "GITHUB_ACTION_PATH": str(ROOT),
                    "GITHUB_OUTPUT": str(output),
                    "GITHUB_STEP_SUMMARY": str(summary),
                    "RUNNER_TEMP": str(files),
                    **{key: action.filled(value) for key, value in step.get("env", {}).items()},
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            ran.log += done.stdout
            if output.is_file():
                action.steps[step["id"]] = dict(
                    line.split("=", 1) for line in output.read_text(encoding="utf-8").splitlines()
                )
            if done.returncode:
                ran.code = done.returncode
                break
    ran.summary = summary.read_text(encoding="utf-8") if summary.is_file() else ""
    return ran


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return what the shell of a step has: this process's, with programs of `folder` first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "RUNNER_"))}
    return {
        **kept,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "RUNNER_OS": "Linux",
        "RUNNER_ARCH": "X64",
        **more,
    }
