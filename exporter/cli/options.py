"""The options and arguments that commands share, and what each text on the command line means."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exporter.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.advice import Commands
    from exporter.publish.layout import LayoutProfile
    from exporter.publish.reduced import Extent
    from exporter.publish.signature import Signer, Verifier
    from exporter.recipe.schema import Recipe


RecipePath = Annotated[
    Path,
    typer.Argument(metavar="RECIPE", help="A recipe, for example recipes/int8.yaml.", show_default=False),
]
Target = Annotated[
    Path,
    typer.Argument(
        metavar="ARTIFACT",
        help="An artifact folder, or the recipe it was built from.",
        show_default=False,
    ),
]
Out = Annotated[Path, typer.Option(metavar="FOLDER", help="The folder that holds artifacts.")]
VariantName = Annotated[
    str | None, typer.Option(metavar="KIND", help="Which kind, by default the artifact's first.")
]
ModelName = Annotated[
    str | None,
    typer.Option("--model", metavar="MODEL", help="Use this model: sample, a folder, or a Hub id."),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change the recipe, for example variants.0.bars.min_speedup=2."
    ),
]
Overwrite = Annotated[bool, typer.Option("--replace", help="Replace an artifact that stands there.")]
Replace = Annotated[bool, typer.Option("--replace", help="Build again over an artifact that stands there.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Full = Annotated[
    bool, typer.Option("--full", help="With --json: all that was measured, not the verdict only.")
]
Wide = Annotated[
    bool, typer.Option("--wide", help="Every column, memory and latency, and all checks, also those passed.")
]
VerifyKey = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The public key it must be signed with, PEM.")
]
Roots = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE", help="A certificate that must have issued the signer's, PEM; may be given again."
    ),
]
Subject = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Whom that certificate must be for: its common name or whole subject."),
]
Identity = Annotated[str | None, typer.Option(metavar="NAME", help="Who must have signed it with sigstore.")]
Issuer = Annotated[str | None, typer.Option(metavar="URL", help="Who vouches for that identity.")]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        help="Stop, and exit 4, where a process that runs it takes more memory, for example 8GB.",
        show_default=False,
    ),
]
MaxSeconds = Annotated[
    float | None,
    typer.Option(
        "--max-seconds",
        metavar="SECONDS",
        help="Stop, and exit 4, where running it takes longer altogether.",
        show_default=False,
    ),
]
ARTIFACTS = Path("artifacts")
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([kmgt]i?)?b?", re.IGNORECASE)
_UNITS = {"k": 1, "m": 2, "g": 3, "t": 4}
# Python itself and the libraries that every worker needs take half of it.
_LEAST_BYTES = 128 << 20
_MOST_BYTES = 1 << 60  # no machine has as much, and the kernel takes no larger number


def check_full(*, as_json: bool, full: bool) -> None:
    """Check that `--full` stands beside `--json`.

    Raises:
        RecipeError: it stands alone.
    """
    if full and not as_json:
        raise RecipeError("--full belongs to --json; for people, --wide shows every column and all checks")


def recipe_of(recipe: Path, model: str | None, changes: list[str] | None) -> Recipe:
    """Read a recipe, changed by `--model` and `--set`.

    Raises:
        RecipeError: it is wrong, or is not there.
    """
    from exporter.recipe.load import load_recipe

    return load_recipe(recipe, model=model, changes=changes or ())


def folder_of(target: Path, out: Path) -> Path:
    """Return the artifact's folder: `target` itself, or where the recipe `target` is built to."""
    return out / recipe_of(target, None, None).name if _is_recipe(target) else target


def current_folder(target: Path, out: Path, *, measures: bool = False) -> tuple[Path, str]:
    """Return the artifact's folder, judged by the recipe `target` as it is now; and what of it changed.

    Args:
        target: an artifact, or a recipe.
        out: where recipes are built to.
        measures: whether it is measured again.

    Raises:
        RecipeError: the recipe asks for another build than the artifact's, or, unless it is measured again,
            for another measurement.
    """
    if not _is_recipe(target):
        return target, ""
    from exporter.report.adopt import adopt

    recipe = recipe_of(target, None, None)
    return out / recipe.name, ", ".join(adopt(recipe, out / recipe.name, measures=measures, named=target))


def commands_of(
    target: Path,
    folder: Path,
    out: Path,
    *,
    model: str | None = None,
    changes: Sequence[str] | None = None,
    bars: Path | None = None,
) -> Commands:
    """Return what to type next, in the words that this command was typed in.

    Args:
        target: the recipe or artifact that was named.
        folder: the artifact.
        out: where recipes are built to.
        model: `--model`, where it was given.
        changes: each `--set`.
        bars: a file of other bars that it was judged by.
    """
    from exporter.advice import Commands
    from exporter.invocation import program

    words = [
        *(("--model", model) if model else ()),
        *(word for one in changes or () for word in ("--set", one)),
    ]
    return Commands(
        artifact=str(folder),
        recipe=str(target) if _is_recipe(target) else "RECIPE",
        out=None if out == ARTIFACTS else str(out),
        changes=tuple(words),
        bars=str(bars) if bars else None,
        program=program(),
    )


def _is_recipe(target: Path) -> bool:
    return target.suffix in (".yaml", ".yml")


def layout_of(text: str) -> LayoutProfile:
    """Return the layout that `--profile` names.

    Raises:
        RecipeError: there is none of this name.
    """
    from exporter.publish.layout import PROFILES

    for known in PROFILES:
        if text == known:
            return known
    raise RecipeError(f"--profile {text!r}: known are {', '.join(PROFILES)}")


def extent_of(text: str) -> Extent:
    """Return how much of the report `--report` asks to be published.

    Raises:
        RecipeError: neither all of it nor the reduced one.
    """
    from exporter.publish.reduced import EXTENTS

    for known in EXTENTS:
        if text == known:
            return known
    raise RecipeError(f"--report {text!r}: known are {', '.join(EXTENTS)}")


def signer_of(
    key: Path | None, certificate: Path | None, chain: Sequence[Path], *, sigstore: bool
) -> Signer | None:
    """Return what to sign with, or None where no option asks for a signature.

    Raises:
        RecipeError: the options contradict each other.
    """
    from exporter.publish.keys import CertificateSigner
    from exporter.publish.signature import KeySigner, SigstoreSigner

    if sigstore and (key or certificate):
        raise RecipeError("--sigstore needs no key; pass one or the other")
    if (certificate and not key) or (chain and not certificate):
        raise RecipeError("--certificate belongs to a --sign-key, and --chain to a --certificate")
    if sigstore:
        return SigstoreSigner()
    if key and certificate:
        return CertificateSigner(key, certificate, tuple(chain))
    return KeySigner(key) if key else None


def verifier_of(
    key: Path | None,
    roots: Sequence[Path],
    identity: str | None,
    issuer: str | None,
    *,
    subject: str | None = None,
) -> Verifier | None:
    """Return what to verify a signature with, or None where no option asks for it.

    Raises:
        RecipeError: the options contradict each other, or one lacks another.
    """
    from exporter.publish.signature import CertificateVerifier, KeyVerifier, SigstoreVerifier

    if bool(key) + bool(roots) + bool(identity or issuer) > 1:
        raise RecipeError("one way to verify, please: --key, --root, or --identity with --issuer")
    if bool(identity) != bool(issuer):
        raise RecipeError(
            "--identity and --issuer belong together; --issuer is who vouches for the identity, a URL"
        )
    if subject is not None and not roots:
        raise RecipeError("--subject is whom a certificate must be for; it belongs to a --root FILE")
    if key:
        return KeyVerifier(key)
    if roots:
        return CertificateVerifier(tuple(roots), subject)
    return SigstoreVerifier(identity, issuer) if identity and issuer else None


def limits_of(max_memory: str | None, max_seconds: float | None) -> tuple[int | None, float | None]:
    """Return the bytes and seconds that `--max-memory` and `--max-seconds` allow; None for no limit.

    Raises:
        RecipeError: one is no size, no time, or too little to run anything.
    """
    if max_seconds is not None and not 0 < max_seconds < float("inf"):
        raise RecipeError(f"--max-seconds {max_seconds:g}: wanted a number of seconds above 0")
    return None if max_memory is None else _bytes_of(max_memory), max_seconds


def _bytes_of(text: str) -> int:
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise RecipeError(f"--max-memory {text!r}: wanted a size, for example 8GB or 500MB")
    number, unit = float(found[1]), (found[2] or "").lower()
    base = 1024 if unit.endswith("i") else 1000
    n_bytes = int(min(number * base ** _UNITS.get(unit[:1], 0), _MOST_BYTES))
    if n_bytes < _LEAST_BYTES:
        raise RecipeError(f"--max-memory {text}: a process needs {_LEAST_BYTES >> 20} MiB to start with")
    return n_bytes


def ask_password(prompt: str) -> str:
    """Ask for a password on the terminal.

    Raises:
        RecipeError: there is no terminal.
    """
    from exporter.publish.keys import PASSWORD_VARIABLE

    if sys.stdin is None or not sys.stdin.isatty():
        raise RecipeError(f"{prompt}: there is no terminal to ask at; set {PASSWORD_VARIABLE}")
    return str(typer.prompt(prompt, hide_input=True, err=True))
