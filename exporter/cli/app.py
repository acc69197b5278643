"""The command line: which commands there are, and what `exporter --help` says.

A command parses, calls one function and prints: results to stdout, progress and errors to stderr, so that
`exporter show --json ARTIFACT | jq` works. Nothing outside this room prints or picks an exit code.
"""

from __future__ import annotations

import inspect
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from exporter import __version__
from exporter.cli import build, deliver, diagnose, guide, judge, score
from exporter.cli.ending import DEBUG, Program
from exporter.cli.helps import Command, listed

if TYPE_CHECKING:
    from collections.abc import Callable

CODES = {
    0: "done",
    1: "measured, and a bar was missed",
    2: "recipe or usage wrong",
    3: "a backend failed or is missing",
    4: "files are not what the manifest says",
    5: "no verdict: too noisy, too few queries, or nothing that this CPU can run",
    70: "an error nobody planned; --debug shows its trace",
    130: "interrupted",
}


# The module that holds a command says what it is for.
_GROUPS = {
    build.__name__: "Build",
    judge.__name__: "Judge",
    deliver.__name__: "Publish",
    score.__name__: "Use",
    diagnose.__name__: "Diagnose",
    guide.__name__: "Build",
}
_WHOLE_SENTENCE = 1000


class _Command(NamedTuple):
    """A command: the function, the exit codes it can end with beside 70 and 130, the extra it needs.

    `one` is what 1 means for it, `group` where it stands in `--help`, by default with its module's others.
    """

    run: Callable[..., None]
    codes: tuple[int, ...]
    extra: str = "base"
    one: str = CODES[1]
    group: str | None = None


COMMANDS = {  # in the order of `exporter --help`
    "init": _Command(guide.init, (0, 2, 3, 4), "build", group="Build"),
    "export": _Command(build.export, (0, 1, 2, 3, 4, 5), "build"),
    "plan": _Command(build.plan, (0, 2, 3, 4), "build"),
    "verify": _Command(judge.verify, (0, 1, 2, 3, 4, 5), "verify"),
    "gate": _Command(judge.gate, (0, 1, 2, 3, 4, 5)),
    "show": _Command(judge.show_artifact, (0, 2, 3, 4)),
    "advise": _Command(guide.advise, (0, 2, 3, 4), "verify", group="Judge"),
    "profile": _Command(diagnose.profile, (0, 2, 3, 4), "verify"),
    "bench": _Command(diagnose.bench, (0, 2, 3, 4), "verify"),
    "compare": _Command(judge.compare, (0, 1, 2, 3, 4, 5), "verify", "something got worse"),
    "selftest": _Command(
        judge.selftest,
        (0, 1, 2, 3, 4),
        "verify",
        "the gate let a wrong artifact pass, or refused a right one",
    ),
    "gpu-check": _Command(diagnose.gpu_check, (0, 1, 2, 3, 4), "verify", "the GPU scores wrongly"),
    "publish": _Command(deliver.publish, (0, 1, 2, 3, 4, 5), "verify"),
    "pull": _Command(deliver.pull, (0, 2, 3, 4)),
    "score": _Command(score.score, (0, 2, 3, 4), "parquet"),
    "rank": _Command(score.rank, (0, 2, 3, 4)),
    "verify-signature": _Command(deliver.verify_signature, (0, 2, 3, 4), "sign"),
    "check-consumers": _Command(
        deliver.check_consumers, (0, 1, 2, 3, 4), "verify", "a library scores wrongly"
    ),
    "reproduce": _Command(build.reproduce, (0, 2, 3, 4), "build"),
    "reference": _Command(build.reference, (0, 2, 3, 4), "verify"),
    "schema": _Command(diagnose.schema, (0, 2, 3)),
    "doctor": _Command(diagnose.doctor, (0, 2, 3)),
}


def exit_codes(name: str) -> dict[int, str]:
    """Return the exit codes that a command can end with, and what each means for it.

    Raises:
        KeyError: there is no such command.
    """
    command = COMMANDS[name]
    return {code: command.one if code == 1 else CODES[code] for code in (*command.codes, 70, 130)}


class _Exporter(Program):
    extras = {name: command.extra for name, command in COMMANDS.items()}  # noqa: RUF012 # not changed

    def format_commands(self, _ctx: Any, formatter: Any) -> None:  # typer's own classes are private
        """Write the commands for `exporter --help`, group by group, each with a whole sentence."""
        width = max(map(len, self.commands))
        for group in dict.fromkeys(_GROUPS.values()):
            rows = [
                (name.ljust(width), command.get_short_help_str(_WHOLE_SENTENCE))
                for name, command in self.commands.items()
                if isinstance(command, Command) and command.rich_help_panel == group
            ]
            with formatter.section(group):
                formatter.write_dl(rows)


app = typer.Typer(
    cls=_Exporter,
    help="Export a CrossEncoder reranker to ONNX, INT8 ONNX and OpenVINO IR, and gate it on parity and "
    f"speed.\n\n{listed(CODES)}",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 # typer's protocol
    if wanted:
        typer.echo(f"exporter {__version__}")
        raise typer.Exit


_Debug = Annotated[bool, typer.Option(DEBUG, help="Print the trace of an error, also after the command.")]


@app.callback()
def _options(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end."),
    ] = False,
    _debug: _Debug = False,
) -> None: ...


def _with_debug(run: Callable[..., None]) -> Callable[..., None]:
    """Let a command take `--debug`, which `Program` reads: it also holds for what cannot be parsed."""

    @wraps(run)
    def command(**options: object) -> None:
        del options["debug"]
        run(**options)

    signature = inspect.signature(run, eval_str=True)
    debug = inspect.Parameter(
        "debug",
        inspect.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[bool, typer.Option(DEBUG, help="Print the trace of an error.")],
    )
    parameters = [*signature.parameters.values(), debug]
    command.__dict__["__signature__"] = signature.replace(parameters=parameters)
    return command


for _name, _row in COMMANDS.items():
    _entered = app.command(
        _name,
        cls=Command,
        epilog=listed(exit_codes(_name)),
        rich_help_panel=_row.group or _GROUPS[_row.run.__module__],
    )
    _entered(_with_debug(_row.run))
