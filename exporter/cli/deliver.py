"""The commands that bring an artifact to others, and check what others receive."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exporter.artifact.files import SIGNATURE
from exporter.cli.options import (
    ARTIFACTS,
    AsJson,
    Identity,
    Issuer,
    MaxMemory,
    MaxSeconds,
    Out,
    Overwrite,
    Roots,
    Subject,
    Target,
    VerifyKey,
    ask_password,
    current_folder,
    extent_of,
    layout_of,
    limits_of,
    signer_of,
    verifier_of,
)
from exporter.cli.screen import say, show, tell, watched, write_text
from exporter.errors import GateRefused, RecipeError

_WHOSE = "pass --key FILE, --root FILE, or --identity NAME with --issuer URL"


def publish(
    target: Target,
    to: Annotated[
        str,
        typer.Argument(
            metavar="PLACE",
            help="A folder, hf://org/name[@branch], oci://registry/name:tag, or s3://bucket/prefix.",
            show_default=False,
        ),
    ],
    *,
    out: Out = ARTIFACTS,
    variant: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Only this kind; may be given again. By default all that passed."),
    ] = None,
    profile: Annotated[
        str,
        typer.Option(
            metavar="hub|flat",
            help="hub: every variant under its name. flat: one ONNX variant as onnx/model.onnx.",
        ),
    ] = "hub",
    sign_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Sign with this private key, PEM.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The key's certificate, PEM.")
    ] = None,
    chain: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A certificate on the way to the root; may be given again."),
    ] = None,
    sigstore: Annotated[
        bool, typer.Option("--sigstore", help="Sign as the identity of this CI job, or who logs in.")
    ] = False,
    builder: Annotated[
        str, typer.Option(metavar="URI", help="Who built it, for the provenance.")
    ] = "urn:exporter:builder:local",
    consumers: Annotated[
        bool,
        typer.Option("--consumers", help="Load it in other libraries first; their scores go into the card."),
    ] = False,
    pull_request: Annotated[
        bool, typer.Option("--pull-request", help="Open a pull request on the Hub instead.")
    ] = False,
    replace: Overwrite = False,
    report: Annotated[
        str,
        typer.Option(
            metavar="reduced|full",
            help="reduced: no texts, labels, scores and names of private pairs, no local paths. full: all.",
        ),
    ] = "reduced",
) -> None:
    """Deliver the variants that passed, with their card and proof, and refuse the rest."""
    folder, changed = current_folder(target, out)
    if changed:
        say(f"recorded in {folder} from the recipe: {changed}")
    signer = signer_of(sign_key, certificate, chain or [], sigstore=sigstore)
    from exporter import pipeline
    from exporter.publish.folder import Publication

    options = Publication(
        kinds=tuple(variant or ()),
        layout=layout_of(profile),
        signer=signer,
        builder=builder,
        consumers=consumers,
        pull_request=pull_request,
        replace=replace,
        report=extent_of(report),
        ask=ask_password,
    )
    with watched() as context:
        done = pipeline.publish(folder, to, context, options)
    tell(done.sent.reference)
    say(str(done.sent))
    if done.sent.lost_signature:
        say("warning: what was there was signed, and this is not; --sign-key or --sigstore signs it")
    if done.left_out:
        say(f"not published: {', '.join(done.left_out)}; --report full publishes them")
    if done.left:
        say(f"left behind: {', '.join(done.left)}")


def pull(
    source: Annotated[
        str,
        typer.Argument(
            metavar="PLACE",
            help="hf://org/name[@branch], oci://registry/name:tag, s3://bucket/prefix, or a folder.",
            show_default=False,
        ),
    ],
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The folder to become the copy.", show_default=False)
    ],
    *,
    replace: Overwrite = False,
    key: VerifyKey = None,
    root: Roots = None,
    subject: Subject = None,
    identity: Identity = None,
    issuer: Issuer = None,
    tried: Annotated[
        bool,
        typer.Option(
            "--try",
            help="Score a few pairs with each variant too, in processes that have half of the memory and "
            "five minutes unless you set other limits.",
        ),
    ] = False,
    max_memory: MaxMemory = None,
    max_seconds: MaxSeconds = None,
) -> None:
    """Fetch a published artifact; check every file, and its signature if told whose, before it appears."""
    verifier = verifier_of(key, root or [], identity, issuer, subject=subject)
    n_bytes, seconds = limits_of(max_memory, max_seconds)
    if not tried and (n_bytes or seconds):
        raise RecipeError("--max-memory and --max-seconds are for --try: nothing is run without it")
    from exporter.publish.received import receive

    def run_it(fetched: Path) -> None:
        if tried:
            _try(fetched, n_bytes, seconds)

    fetched, version = receive(source, folder, verifier, say, replace=replace, then=run_it)
    if verifier is None:
        signed = f"is there, and was not checked: {_WHOSE}" if (fetched / SIGNATURE).exists() else "none"
        say(f"signature: {signed}")
    tell(f"{fetched} ({version})")


def _try(fetched: Path, max_bytes: int | None, max_s: float | None) -> None:
    from exporter import worker
    from exporter.consumers import trial

    limits = max_bytes or trial.max_bytes(), max_s or trial.MAX_SECONDS
    with watched() as context, worker.limited(*limits):
        ran, not_run = trial.try_artifact(fetched, context.progress)
    say(f"tried: {', '.join(ran) or 'nothing'}")
    if not_run:
        say(f"not tried, this CPU cannot run them: {', '.join(not_run)}")


def verify_signature(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A published folder.", show_default=False)],
    *,
    key: VerifyKey = None,
    root: Roots = None,
    subject: Subject = None,
    identity: Identity = None,
    issuer: Issuer = None,
) -> None:
    """Check who signed a published folder, and that no file changed, came or went since."""
    verifier = verifier_of(key, root or [], identity, issuer, subject=subject)
    if verifier is None:
        raise RecipeError(f"whose signature? {_WHOSE}")
    from exporter.publish.signature import check_signature

    signed = check_signature(folder, verifier)
    tell(f"{folder}: signed by {signed.by}, {len(signed.files)} files")
    if signed.passed_over:
        say(f"not signed, since a working copy has them of its own: {', '.join(signed.passed_over)}")


def check_consumers(
    folder: Annotated[
        Path,
        typer.Argument(metavar="ARTIFACT", help="A published folder, or an artifact.", show_default=False),
    ],
    *,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this consumer; may be given again. By default all."),
    ] = None,
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="A file for the table, Markdown.")] = None,
    max_memory: MaxMemory = None,
    max_seconds: MaxSeconds = None,
    as_json: AsJson = False,
) -> None:
    """Load a folder in the libraries that are expected to load it, and compare their scores.

    Exits 1 if one is wrong. Each library runs in a process of its own, without limits unless you set some.
    """
    limits = limits_of(max_memory, max_seconds)
    from exporter import worker
    from exporter.consumers.check import consumers
    from exporter.consumers.report import markdown

    with watched() as context, worker.limited(*limits):
        found = consumers(folder, context, only=only or ())
    if to:
        write_text(to, markdown(found))
    show(found, markdown(found), as_json=as_json)
    if found.problems:
        raise GateRefused("; ".join(found.problems))
