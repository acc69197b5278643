"""How a command ends: what is said of an error and with which exit code, so that nothing ends by chance.

Python ends with 1 after an error that nobody caught, and here 1 says that a bar was missed.
"""

from __future__ import annotations

import errno
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from exporter.cli.screen import say, say_error
from exporter.cli.signals import Stopped, stoppable
from exporter.cli.streams import unfailing
from exporter.errors import BackendError, RecipeError, Unplanned
from exporter.failures import paths_of, planned, refused, trace_of
from exporter.invocation import command as called
from exporter.invocation import program

if TYPE_CHECKING:
    from collections.abc import Sequence

DEBUG = "--debug"
_COMMAND = "exporter"
# What the system says of a path that cannot be meant; any other refusal is the disk's.
_WRONG_PATH = frozenset(
    (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)
)


class Program(TyperGroup):
    """All commands: runs the one that was typed, and ends the process with an exit code of the table.

    Typer itself ends with 1 where a reader of stdout goes away, where a prompt is stopped, and after an error
    that nobody caught.
    """

    # The extra that holds all a command needs, by the command's name.
    extras: dict[str, str]

    def main(
        self, args: Sequence[str] | None = None, prog_name: str | None = None, *_: Any, **__: Any
    ) -> Any:
        """Run the command that `args` name; never return.

        Raises:
            SystemExit: always, with the exit code.
        """
        given = list(sys.argv[1:] if args is None else args)
        self._main_shell_completion({}, _COMMAND)  # where a shell asks, by a variable; it ends the process
        with unfailing() as (out, _err), stoppable():
            try:
                code = self._run(given, _COMMAND if _completes(given) else prog_name or " ".join(program()))
            except BaseException as error:  # noqa: BLE001 # raised while another was worded
                say_error(f"{type(error).__name__}: {error}")
                code = Unplanned.exit_code
            out.flush()
            if out.lost:
                say_error(f"stdout cannot be written: {out.lost}; what was done is kept")
                code = code or BackendError.exit_code
        sys.exit(code)

    def _run(self, given: list[str], name: str) -> int:
        """Run a command and say what it raised; return the exit code.

        Not by Typer's own `main`, which swallows what stops a command and what closed pipes raise.
        """
        try:
            with self.make_context(name, list(given)) as context:
                self.invoke(context)
        except typer.Exit as done:
            return RecipeError.exit_code if done.exit_code and _completes(given) else done.exit_code
        except BaseException as error:  # noqa: BLE001 # worded, whatever it is: Rust's panics are no Exception
            if isinstance(error, SystemExit) and _completes(given):  # typer's own way to end there
                return RecipeError.exit_code if error.code else 0
            return self._say(error, given)
        return 0

    def _say(self, error: BaseException, given: Sequence[str]) -> int:
        """Print what an error means, with its trace where `--debug` asks for it; return the exit code."""
        if not given:  # no mistake, but no command either: typer's text is the help
            typer.echo(getattr(error, "format_message", str)(), err=True)  # our own help
            return RecipeError.exit_code
        command = next((word for word in given if word in self.commands), "")
        if DEBUG in given:
            say(trace_of(error))
        if isinstance(error, typer.Abort | KeyboardInterrupt | Stopped):
            number = error.number if isinstance(error, Stopped) else signal.SIGINT
            by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
            say_error(f"stopped{by}; what was finished is kept, nothing is half-written", prefix="")
            return 128 + number  # as shells have it
        text, code = worded(error, command, self.extras.get(command), typed=given)
        say_error(text)
        return code


def worded(
    error: BaseException, command: str, extra: str | None = None, *, typed: Sequence[str] = ()
) -> tuple[str, int]:
    """Return what is said of an error, and the exit code.

    Args:
        error: what a command raised, on purpose or not.
        command: the command's name; empty where none was recognized.
        extra: the extra that holds all that the command needs.
        typed: the arguments; a path among them that cannot be opened is a mistake in what was typed.
    """
    if (usage := getattr(error, "format_message", None)) is not None:  # typer's own class moves about
        words = (command,) if command else ()
        return f"{_first_line(usage()).rstrip('.')}; see `{called(*words, '--help')}`", 2
    if isinstance(error, OSError) and error.errno is not None:
        return _of_system(error, typed)

    found = planned(error, extra)
    if not isinstance(found, Unplanned):
        return str(found), found.exit_code
    where = f"`exporter {command}`" if command else "exporter"
    text = f"{found}, in {where}, which nobody planned for; "
    return f"{text}run it again with {DEBUG} for the trace, and report it", found.exit_code


def _of_system(error: OSError, typed: Sequence[str]) -> tuple[str, int]:
    """Word what the operating system refused, and no command worded."""
    try:
        Path.cwd()
    except OSError:
        gone = "the current folder is not there any more; change to another, or give absolute paths"
        return gone, RecipeError.exit_code
    wrong = error.errno in _WRONG_PATH and any(
        _leads_to(path, word) for path in paths_of(error) for word in typed
    )
    return refused(error), (RecipeError if wrong else BackendError).exit_code


def _leads_to(path: str, typed: str) -> bool:
    """Tell whether a path is one that was typed, or a folder on the way to it."""
    wanted = Path(typed).absolute()
    return Path(path).absolute() in (wanted, *wanted.parents)


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "wrong usage."


def _completes(given: Sequence[str]) -> bool:
    """Tell whether a script for a shell is asked for: it completes the command's own name, however called."""
    return bool({"--show-completion", "--install-completion"} & set(given))
