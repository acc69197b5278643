"""The command line: which commands there are, and what `exporter --help` says.

A command parses, calls one function and prints: results to stdout, progress and errors to stderr, so that
`exporter show --json ARTIFACT | jq` works. Nothing outside this room prints or picks an exit code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from exporter import __version__
from exporter.cli import build, deliver, diagnose, judge

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(
    help="Export a CrossEncoder reranker to ONNX, INT8 ONNX and OpenVINO IR, and gate it on parity and "
    "speed.\n\nExit codes: 0 pass, 1 gate refused, 2 recipe or usage wrong, 3 a backend failed or is "
    "missing, 4 files are not what the manifest says, 5 no verdict (too noisy, measure again; or nothing "
    "that this CPU can run).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 # typer's protocol
    if wanted:
        typer.echo(f"exporter {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end."),
    ] = False,
) -> None: ...


_COMMANDS: dict[str, Callable[..., None]] = {  # in the order of `exporter --help`
    "export": build.export,
    "plan": build.plan,
    "verify": judge.verify,
    "gate": judge.gate,
    "show": judge.show_artifact,
    "profile": diagnose.profile,
    "bench": diagnose.bench,
    "compare": judge.compare,
    "selftest": judge.selftest,
    "gpu-check": diagnose.gpu_check,
    "publish": deliver.publish,
    "pull": deliver.pull,
    "verify-signature": deliver.verify_signature,
    "check-consumers": deliver.check_consumers,
    "reproduce": build.reproduce,
    "reference": build.reference,
    "schema": diagnose.schema,
    "doctor": diagnose.doctor,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)
