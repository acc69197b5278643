"""What people read is true: commands, recipe keys, checks and bars, exit codes, recipes, schemas."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from exporter import errors
from exporter.cli.app import app
from exporter.gate import MAX_CLOCK_CHANGE, MAX_CPU_CONTENTION, MAX_DRIFT, MAX_SPREAD, judge
from exporter.recipe.kinds import KINDS
from exporter.recipe.load import load_recipe
from exporter.recipe.schema import AnyVariant, Bars, Measure, Model, Pairs, Publish, Recipe, Reference
from exporter.report.sections import sections
from exporter.report.text import table
from exporter.report.words import TERMS
from tests.factories import a_fidelity, a_report, an_int8_fidelity

ROOT = Path(__file__).parent.parent


def page(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


COMMANDS = [command.name for command in app.registered_commands]


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_documented_and_has_help(command: str) -> None:
    """Every command stands in the reference as it is typed, and answers --help."""
    assert re.search(rf"`exporter {command}[ `]", page("docs/reference/commands.md"))
    assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0


def test_no_other_commands_are_documented() -> None:
    """The reference has a row for no command that is gone."""
    assert set(re.findall(r"^\| `exporter ([a-z-]+)", page("docs/reference/commands.md"), re.MULTILINE)) == {
        *COMMANDS,
        "--version",
    }


SECTIONS = (Recipe, Model, Pairs, Reference, Measure, Publish, Bars, *get_args(AnyVariant))
KEYS = sorted({key for section in SECTIONS for key in section.model_fields})


@pytest.mark.parametrize("key", [*KEYS, *KINDS])
def test_recipe_key_is_documented(key: str) -> None:
    """Every key and kind that a person may write in a recipe stands in the reference."""
    assert f"`{key}`" in page("docs/reference/recipe.md")


def glossary_entry(term: str) -> str:
    """Return a term's entry, from its bullet to the next."""
    found = re.search(
        rf"^- \*\*[^*]*{re.escape(term)}.*?(?=^- |^#|\Z)", page("docs/glossary.md"), re.MULTILINE | re.DOTALL
    )
    assert found, f"{term} is not in the glossary"
    return found[0]


EVERY_BAR = Bars.model_validate(dict.fromkeys(Bars.model_fields, 1.0))
CHECKS = {
    check.name: check.bar
    for fidelity in (a_fidelity(), an_int8_fidelity())
    for check in judge(EVERY_BAR, fidelity, None)
}


@pytest.mark.parametrize("name", CHECKS)
def test_check_is_in_the_glossary(name: str) -> None:
    """Every check is explained under its name; what no recipe sets, with its limit."""
    entry = glossary_entry(f"`{name}`")
    if name in Bars.model_fields:
        return
    numbers = [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\.?\d*(?:e-?\d+)?", entry)]
    limit = float(CHECKS[name].split()[1])
    assert any(number == pytest.approx(limit, rel=1e-3) for number in numbers)


@pytest.mark.parametrize(
    ("term", "limit"),
    [
        ("spread", MAX_SPREAD),
        ("CPU contention", MAX_CPU_CONTENTION),
        ("drift", MAX_DRIFT),
        ("clock", MAX_CLOCK_CHANGE),
    ],
)
def test_validity_limit_is_in_the_glossary(term: str, limit: float) -> None:
    """What makes a speed-up invalid is explained with its limit."""
    assert f"at most {100 * limit:g} %" in glossary_entry(term)


@pytest.mark.parametrize("title", [title for title in table(a_report()).titles if title != "variant"])
def test_column_is_in_the_glossary(title: str) -> None:
    """Every column of the summary is explained; the verdicts have a section of their own."""
    if title == "verdict":
        assert all(glossary_entry(word) for word in ("pass", "fail", "invalid", "not judged"))
    else:
        assert glossary_entry(title)


def test_glossary_is_where_reports_say() -> None:
    """The page that every report names is there."""
    assert (ROOT / TERMS.removeprefix("Terms: ")).is_file()
    assert "rel. RMS" in json.dumps(sections(a_report()))


def test_exit_codes_are_documented() -> None:
    """Every exit code has its row: those of errors, pass, and stopped by a signal."""
    codes = {error.exit_code for error in vars(errors).values() if hasattr(error, "exit_code")}
    stopped = {128 + number for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)}
    rows = re.findall(r"^\| (\d[\d, ]*) \|", page("docs/reference/exit-codes.md"), re.MULTILINE)
    assert {int(code) for row in rows for code in row.split(",")} == codes | stopped | {0}


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipe_loads(path: Path) -> None:
    """Every recipe shipped is valid and has bars for every variant."""
    assert load_recipe(path).variants


@pytest.mark.parametrize("name", ["report", "manifest", "plans"])
def test_published_schema_is_the_commands(name: str) -> None:
    """The copies in docs are what `exporter schema --report`, `--manifest` and `--plans` print."""
    printed = json.loads(CliRunner().invoke(app, ["schema", f"--{name}"]).stdout)
    assert json.loads(page(f"docs/{name}.schema.json")) == printed


PAGES = sorted(path.relative_to(ROOT) for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")))


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_page_names_only_justfile_recipes(path: Path) -> None:
    """Whatever a page tells people to `./just`, just knows."""
    known = set(re.findall(r"^([a-z-]+)(?: [^:\n]*)?:(?!=)", page("justfile"), re.MULTILINE))
    assert set(re.findall(r"\./just ([a-z-]+)", page(str(path)))) <= known
