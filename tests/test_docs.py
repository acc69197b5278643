"""What people read is true: commands, recipe fields, exit codes, recipes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from exporter.cli import app
from exporter.recipe import KINDS, Bars, Model, load_recipe

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands]


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_documented_and_has_help(command: str) -> None:
    """Every command stands in the README as it is typed, and answers --help."""
    assert f"exporter {command}" in README
    assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0


@pytest.mark.parametrize("field", [*Bars.model_fields, *Model.model_fields, *KINDS, "keep_fp32", "quantize_embeddings"])
def test_recipe_field_is_documented(field: str) -> None:
    """Every key a person may write in a recipe stands in the README."""
    assert f"`{field}`" in README


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipe_loads(path: Path) -> None:
    """Every recipe shipped is valid and has bars for every variant."""
    assert load_recipe(path).variants


def test_readme_names_only_justfile_recipes() -> None:
    """Whatever the README tells people to `just`, just knows."""
    known = set(re.findall(r"^([a-z]+)[^:\n=]*:(?!=)", (ROOT / "justfile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"just ([a-z]+)", README)) <= known
