"""`python -m exporter`, and what the installed command `exporter` runs: the command line."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command that `sys.argv` names, and end the process with its exit code."""
    _fill_standard_streams()
    try:
        from exporter.cli.app import app
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 # a package of the base install that is missing, or broken
        from exporter.escape import terminal
        from exporter.failures import planned, trace_of

        found = planned(error)
        if sys.stderr is not None:
            trace = f"{trace_of(error)}\n" if "--debug" in sys.argv else ""
            sys.stderr.write(terminal(f"{trace}error: {found}\n"))
        sys.exit(found.exit_code)
    app()


def _fill_standard_streams() -> None:
    """Open the null device for each of stdin, stdout and stderr that is closed.

    Else the next file that is opened gets its number, and what a library prints ends up in that file.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number


if __name__ == "__main__":
    main()
