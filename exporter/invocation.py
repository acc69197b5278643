"""How this process was called, so that a hint is a command that works as typed in the same shell."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_NAME = "exporter"
_MODULE = (os.path.join(_NAME, "__main__.py"), os.path.join(_NAME, "__main__.pyc"))  # noqa: PTH118 # a suffix


def command(*words: str | Path) -> str:
    """Return a command of this program with these words behind it, quoted for a POSIX shell.

    It begins as the one that runs now was typed: `exporter` where the shell finds just that program under the
    name, else the path of the script (as `.venv/bin/exporter`, which `just` calls), or `python -m exporter`.
    In a program that imports this package it is `exporter`.
    """
    return shlex.join([*program(), *map(str, words)])


def program() -> tuple[str, ...]:
    """Return the words by which this program was called, without a command's."""
    called = sys.argv[0]
    if called.endswith(_MODULE):
        return (_python(), "-m", _NAME)
    if os.path.basename(called) != _NAME or os.sep not in called:  # noqa: PTH119 # as typed, `./` and all
        return (_NAME,)
    return (_NAME if _found_as(_NAME, called) else called,)


def _python() -> str:
    """Return the interpreter as it was typed."""
    typed = sys.orig_argv[0]
    return typed if os.sep in typed or shutil.which(typed) else sys.executable


def _found_as(name: str, path: str) -> bool:
    """Tell whether the shell finds a program under a name; its path may be a link, as an environment's is."""
    found = shutil.which(name)
    return found is not None and os.path.abspath(found) == os.path.abspath(path)  # noqa: PTH100 # links stay
