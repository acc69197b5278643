"""How `--help` looks: whole sentences in 80 columns, commands by group, and no type names of typer's.

Typer's own columns, `ARTIFACT <path>` and `{ARTIFACT}`, say a type of Python where a user asks what to type.
"""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Any

from typer.core import TyperArgument, TyperCommand

if TYPE_CHECKING:
    from collections.abc import Mapping

# 80 columns, less typer's own margin on the right and the indentation.
_WIDTH = 76


class Command(TyperCommand):
    """A command, in whose help an argument is called as it is typed."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # typer's own class is private
        """Return what stands behind `Usage:`, an argument without its braces."""
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, by name and meaning, and options."""
        parameters = self.get_params(ctx)
        arguments = [(one.display_name_raw, one.help) for one in parameters if isinstance(one, TyperArgument)]
        options = [one.get_help_record(ctx) for one in parameters if not isinstance(one, TyperArgument)]
        for title, rows in (("Arguments", arguments), ("Options", options)):
            if shown := [row for row in rows if row]:
                with formatter.section(title):
                    formatter.write_dl(shown)


def listed(codes: Mapping[int, str]) -> str:
    """Return exit codes for a help text, one below the other; the first character tells typer not to wrap."""
    rows = [fill(f"{code:>3} {meaning}", _WIDTH, subsequent_indent="    ") for code, meaning in codes.items()]
    return "\n".join(("\b", "Exit codes:", *rows))
