"""Which extra brings which library: the table, and what is said where one is missing."""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from pathlib import Path

import pytest

from exporter.errors import BackendMissing, Unplanned
from exporter.packages import LIBRARIES, install, lacking, missing

PROJECT = tomllib.loads((Path(__file__).resolve().parent.parent / "pyproject.toml").read_text("utf-8"))[
    "project"
]
EXTRAS = {name: wanted for name, wanted in PROJECT["optional-dependencies"].items() if name != "dev"}


def names(requirements: list[str]) -> set[str]:
    """Return the packages of requirements, without this one's own extras."""
    found = {re.split(r"[\[<>=]", text, maxsplit=1)[0].strip().lower() for text in requirements}
    return found - {"reranker-exporter"}


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_table_holds_every_package_of_an_extra(extra: str) -> None:
    """What `pyproject.toml` names stands in the table, under an extra that brings it."""
    for package in names(EXTRAS[extra]):
        rows = [row for row in LIBRARIES.values() if row.package.lower() == package]
        assert rows, package
        assert any(package in names(EXTRAS[row.extra]) or row.package == "transformers" for row in rows)


def test_table_holds_the_base_install() -> None:
    """What every install has is `base`, and nothing else is."""
    assert {row.package for row in LIBRARIES.values() if row.extra == "base"} == names(
        PROJECT["dependencies"]
    )


@pytest.mark.parametrize("module", sorted(LIBRARIES))
def test_missing_package_names_its_extra(module: str) -> None:
    """One line: the package, and the extra to install; of what is being done, if that brings it."""
    row = LIBRARIES[module]
    found = missing(ModuleNotFoundError(f"No module named {module!r}", name=module), what="this")
    assert isinstance(found, BackendMissing)
    assert str(found).startswith(f"this: {row.package} is not installed; ")
    assert "\n" not in str(found)
    assert row.extra == "base" or f"'.[{row.extra}]'" in str(found)


def test_extra_of_what_is_being_done() -> None:
    """A build that lacks scipy needs all that builds; a signature is another matter."""
    scipy = ModuleNotFoundError("No module named 'scipy'", name="scipy")
    assert "'.[build]'" in str(missing(scipy, "build"))
    assert "'.[verify]'" in str(missing(scipy, "verify"))
    assert "'.[verify]'" in str(missing(scipy, "base"))
    assert "'.[sign]'" in str(missing(ModuleNotFoundError(name="model_signing"), "build"))


def test_versions_that_do_not_fit() -> None:
    """A library that is installed and cannot be imported is named with what it said."""
    found = missing(ImportError("cannot import name 'x' from 'scipy.stats'", name="scipy.stats"))
    assert "scipy " in str(found)
    assert "cannot import name 'x'" in str(found)
    assert "requirements.lock" in str(found)


def test_library_whose_own_import_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package nobody here knows is missing: the library that asked for it is named."""
    (tmp_path / "flashrank.py").write_text("import no_such_package\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "flashrank", raising=False)
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module("flashrank")
    found = str(missing(caught.value))
    assert found.startswith("flashrank ")
    assert "No module named 'no_such_package'" in found


def test_own_module_is_a_fault_of_ours() -> None:
    """A module of exporter that is not there is no package that a user could install."""
    found = missing(ModuleNotFoundError("No module named 'exporter.nothing'", name="exporter.nothing"))
    assert isinstance(found, Unplanned)


def test_import_error_without_a_name() -> None:
    """Libraries raise ImportErrors of their own, of many lines and without a name."""
    found = str(missing(ImportError("\nAutoModel requires the PyTorch library\nbut it was not found")))
    assert "AutoModel requires the PyTorch library" in found
    assert "\n" not in found


def test_lacking() -> None:
    """An extra lacks what is not installed, of itself and of what it brings."""
    assert set(lacking("verify")) <= set(lacking("build")) <= set(lacking("peers"))
    assert "base" not in install("base")
