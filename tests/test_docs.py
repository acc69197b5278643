"""What people read is true: commands, recipe fields, exit codes, recipes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from exporter.cli.app import app
from exporter.recipe.kinds import KINDS
from exporter.recipe.load import load_recipe
from exporter.recipe.schema import Bars, Measure, Model

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    command.name or command.callback.__name__.replace("_", "-") for command in app.registered_commands
]


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_documented_and_has_help(command: str) -> None:
    """Every command stands in the README as it is typed, and answers --help."""
    assert f"exporter {command}" in README
    assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0


FIELDS = (
    *Bars.model_fields,
    *Model.model_fields,
    *Measure.model_fields,
    *KINDS,
    "keep_fp32",
    "quantize_embeddings",
)


@pytest.mark.parametrize("field", FIELDS)
def test_recipe_field_is_documented(field: str) -> None:
    """Every key a person may write in a recipe stands in the README."""
    assert re.search(rf"`{field}`|\b{field}: ", README)


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipe_loads(path: Path) -> None:
    """Every recipe shipped is valid and has bars for every variant."""
    assert load_recipe(path).variants


@pytest.mark.parametrize("name", ["report", "manifest", "plans"])
def test_published_schema_is_the_commands(name: str) -> None:
    """The copies in docs are what `exporter schema --report`, `--manifest` and `--plans` print."""
    printed = json.loads(CliRunner().invoke(app, ["schema", f"--{name}"]).stdout)
    assert json.loads((ROOT / f"docs/{name}.schema.json").read_text(encoding="utf-8")) == printed


def test_workflow_is_yaml() -> None:
    """The workflow in docs can be read, and its commands are ours."""
    text = (ROOT / "docs/github-actions.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    steps = YAML(typ="safe").load(block)["jobs"]["gate"]["steps"]
    commands = set(re.findall(r"exporter ([a-z]+)", " ".join(step.get("run", "") for step in steps)))
    assert commands <= set(COMMANDS)


def test_readme_names_only_justfile_recipes() -> None:
    """Whatever the README tells people to `just`, just knows."""
    known = set(
        re.findall(
            r"^([a-z-]+)(?: [^:\n]*)?:(?!=)", (ROOT / "justfile").read_text(encoding="utf-8"), re.MULTILINE
        )
    )
    assert set(re.findall(r"just ([a-z-]+)", README)) <= known
