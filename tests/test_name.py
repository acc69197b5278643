"""Nobody is sent to an index for this package: the name `exporter` there is somebody else's."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PATTERNS = (
    "*.md",
    "docs/**/*.md",
    "recipes/*.yaml",
    "artifacts/README.md",
    "justfile",
    "just",
    ".ci/run",
    "pyproject.toml",
    "**/action.yml",
    "**/action.yaml",
    ".github/**/*.yml",
    ".github/**/*.yaml",
    "exporter/**/*.py",
    "exporter/**/*.md",
    "exporter/**/*.j2",
    "exporter/**/*.mjs",
)
_OUTSIDE = {".venv", "build", "dist", "node_modules"}
_FOUND = {path.relative_to(ROOT) for pattern in PATTERNS for path in ROOT.glob(pattern)}
TEXTS = sorted(ROOT / path for path in _FOUND if not _OUTSIDE & set(path.parts))
# What installs, up to the end of the command: a line, a piece of code in prose, a string, a comment.
_INSTALLS = re.compile(r"(?:pip3?|pipx|uv)\s+(?:install|download|wheel|add|tool install)\s([^\n`#;&|]*)")
_IS_OURS = re.compile(r"""['"(]*(?:reranker[-_.])?exporter(?:[\[=<>~!@'",.:)].*)?""", re.IGNORECASE)


def bare_names(text: str) -> list[str]:
    """Name every requirement by which a text sends its reader to an index for this package."""
    # What is installed stands before "in exporter's clone".
    words = (word for command in _INSTALLS.findall(text) for word in command.split(" in ")[0].split())
    return [word for word in words if _IS_OURS.fullmatch(word)]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_text_sends_people_to_an_index(path: Path) -> None:
    """A message or a page names a clone or a wheel: `.[oci]`, `dist/reranker_exporter-...whl[oci]`."""
    assert bare_names(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "pip install exporter",
        "pip install -U exporter==0.3.0",
        "needs requests; pip install 'exporter[oci]'",
        "pip install reranker-exporter",
        "pipx install 'reranker_exporter[sign]>=0.3'",
        "uv add numpy reranker-exporter",
        "run `pip install exporter`.",
    ],
)
def test_bare_name_is_found(text: str) -> None:
    """The test above can fail."""
    assert bare_names(text)


@pytest.mark.parametrize(
    "text",
    [
        "pip install '.[oci]'",
        "pip install 'dist/reranker_exporter-0.3.0-py3-none-any.whl[oci]'",
        "pip install 'reranker_exporter-0.3.0-py3-none-any.whl[oci]'",
        "pip install -r requirements.lock",
        "pip install --target /opt/exporter dist/reranker_exporter-0.3.0-py3-none-any.whl",
        "`pip install '.[hub]'` in the clone of exporter",
        "s3:// needs s3fs: pip install '.[s3]' in exporter's clone",
        "pip install rust-just\nexporter export recipes/int8.yaml",
    ],
)
def test_clone_and_wheel_are_allowed(text: str) -> None:
    """Names of files and folders are no names on an index."""
    assert bare_names(text) == []


def test_every_page_is_read() -> None:
    """A glob that matches nothing would pass."""
    names = {path.relative_to(ROOT).as_posix() for path in TEXTS}
    assert names >= {"README.md", "docs/glossary.md", "justfile", "just", "recipes/int8.yaml"}
    assert "exporter/machine.py" in names


def test_distribution_has_its_own_name() -> None:
    """The index's `exporter` is never asked for by ourselves either: extras name the distribution."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == "reranker-exporter"
    extras = project["optional-dependencies"].values()
    assert not [one for extra in extras for one in extra if re.match(r"exporter\b", one)]
