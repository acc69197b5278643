"""The command line: parse, call one function, print. Nothing else prints or picks an exit code.

Results go to stdout, progress and errors to stderr, so `exporter show --json ARTIFACT | jq` works.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from exporter import __version__
from exporter.errors import BackendError, ExporterError, GateRefused, IntegrityError, NoVerdict, RecipeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from exporter.publish.layout import Profile as Layout
    from exporter.publish.signature import Signer, Verifier
    from exporter.recipe import Recipe
    from exporter.verify.compare import Finding
    from exporter.verify.profile import Profile
    from exporter.verify.report import Report

app = typer.Typer(
    help="Export a CrossEncoder reranker to ONNX, INT8 ONNX and OpenVINO IR, and gate it on parity and speed.\n\n"
    "Exit codes: 0 pass, 1 gate refused, 2 recipe or usage wrong, 3 a backend failed or is missing, "
    "4 files are not what the manifest says, 5 no verdict (too noisy; measure again).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RecipePath = Annotated[Path, typer.Argument(help="A recipe, for example recipes/int8.yaml.", show_default=False)]
Target = Annotated[Path, typer.Argument(help="An artifact folder, or the recipe it was built from.", show_default=False)]
Out = Annotated[Path, typer.Option(help="The folder that holds artifacts.")]
ModelName = Annotated[str | None, typer.Option("--model", help="Use this model: sample, a folder, or a Hub id.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="Change the recipe, for example variants.0.bars.min_speedup=2.")]
Replace = Annotated[bool, typer.Option("--replace", help="Build again over an artifact that stands there.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
VerifyKey = Annotated[Path | None, typer.Option(help="The public key it must be signed with, PEM.")]
Roots = Annotated[
    list[Path] | None, typer.Option(help="A certificate that must have issued the signer's, PEM; may be given again.")
]
Identity = Annotated[str | None, typer.Option(help="Who must have signed it with sigstore.")]
Issuer = Annotated[str | None, typer.Option(help="Who vouches for that identity, a URL.")]
ARTIFACTS = Path("artifacts")


def _print_version(wanted: bool) -> None:  # noqa: FBT001 # typer's protocol
    if wanted:
        typer.echo(f"exporter {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None: ...


@app.command()
def export(
    recipe: RecipePath,
    *,
    out: Out = ARTIFACTS,
    model: ModelName = None,
    changes: Changes = None,
    replace: Replace = False,
    build_only: Annotated[bool, typer.Option("--build-only", help="Do not verify.")] = False,
    as_json: AsJson = False,
) -> None:
    """Build a recipe's artifact, verify it against PyTorch, and judge it. The main job."""
    with _exit_codes():
        loaded = _load(recipe, model, changes)
        from exporter import pipeline

        with _Terminal() as progress:
            if build_only:
                folder = pipeline.build(loaded, out, progress, replace_old=replace)
                typer.echo(folder)
                return
            report = pipeline.export(loaded, out, progress, started_at=_now(), replace_old=replace)
        _print_report(report, out / loaded.name, as_json=as_json)


@app.command()
def plan(recipe: RecipePath, *, model: ModelName = None, changes: Changes = None, as_json: AsJson = False) -> None:
    """Show what a recipe would build, and build nothing."""
    with _exit_codes():
        loaded = _load(recipe, model, changes)
        from exporter.export.build import missing_packages, model_file
        from exporter.verify.pairs import load_pair_sets

        sets = [pair_set for pair_set in load_pair_sets(loaded) if pair_set]
        if as_json:
            typer.echo(json.dumps(loaded.model_dump(mode="json"), indent=2))
            return
        revision = f" at {loaded.model.revision}" if loaded.model.revision else ""
        typer.echo(f"{loaded.name}: {loaded.model.source}{revision}, up to {loaded.model.max_length} tokens a pair")
        for pair_set in sets:
            typer.echo(f"  pairs {pair_set.name}: {len(pair_set.pairs)} of {len(pair_set.query_ids)} queries")
        for variant in loaded.variants:
            bars = ", ".join(f"{name} {value:g}" for name, value in variant.bars.model_dump(exclude_none=True).items())
            missing = missing_packages(variant.kind)
            lacking = f"  (cannot be built here: {', '.join(missing)} missing)" if missing else ""
            typer.echo(f"  {variant.kind} -> {ARTIFACTS}/{loaded.name}/{model_file(variant)}{lacking}\n    bars: {bars}")


@app.command()
def verify(target: Target, *, out: Out = ARTIFACTS, as_json: AsJson = False) -> None:
    """Measure an artifact against PyTorch again, judge it, and write its report."""
    with _exit_codes():
        folder = _folder(target, out)
        from exporter import pipeline

        with _Terminal() as progress:
            report = pipeline.verify(folder, progress, started_at=_now())
        _print_report(report, folder, as_json=as_json)


@app.command()
def gate(
    target: Target,
    *,
    bars: Annotated[Path | None, typer.Option(help="Other bars: a YAML file of kind: {bar: limit}.")] = None,
    out: Out = ARTIFACTS,
    as_json: AsJson = False,
) -> None:
    """Judge an artifact's stored report again, without running a model."""
    with _exit_codes():
        folder = _folder(target, out)
        from exporter import pipeline
        from exporter.recipe import load_bars

        report = pipeline.gate(folder, load_bars(bars) if bars else None)
        _print_report(report, folder, as_json=as_json)


@app.command()
def show(target: Target, *, out: Out = ARTIFACTS, as_json: AsJson = False) -> None:
    """Print what an artifact holds and its verdict. Exits 0 whatever the verdict is."""
    with _exit_codes():
        folder = _folder(target, out)
        from exporter import pipeline
        from exporter.artifact import REPORT, read_manifest
        from exporter.runtime.inspect import check_artifact

        manifest = read_manifest(folder)
        check_artifact(manifest, folder)
        report = pipeline.gate(folder) if (folder / REPORT).is_file() else None
        if as_json:
            from exporter.artifact import manifest_json
            from exporter.verify.report import to_json

            judged = json.loads(to_json(report)) if report else None
            typer.echo(json.dumps({"manifest": json.loads(manifest_json(manifest)), "report": judged}, indent=1))
            return
        typer.echo(f"{folder}: {manifest.name}, from {manifest.source.source}, up to {manifest.max_length} tokens a pair")
        for entry in manifest.variants:
            typer.echo(f"  {entry.kind}: {entry.model}, {manifest.size_bytes(entry) / 1e6:.1f} MB")
            for found in entry.plans:
                plan = f"{found.workers}x{found.threads}, {found.token_budget} tokens"
                typer.echo(f"    plan on {found.n_cores} cores of {found.isa}: {plan}, the best of {len(found.sweep)}")
        if report is None:
            typer.echo(f"not verified yet; run `exporter verify {folder}`")
        else:
            _print_table(report)


@app.command()
def profile(
    target: Target,
    *,
    variant: Annotated[str | None, typer.Option(help="Which kind, by default the artifact's first.")] = None,
    out: Out = ARTIFACTS,
    as_json: AsJson = False,
) -> None:
    """Print where a variant's time goes: each operator's share, on one thread, over real pairs."""
    with _exit_codes():
        folder = _folder(target, out)
        from pydantic import TypeAdapter

        from exporter import pipeline
        from exporter.verify.profile import Profile

        found = pipeline.profile(folder, variant)
        if as_json:
            typer.echo(TypeAdapter(Profile).dump_json(found, indent=1))
            return
        _print_profile(found)


@app.command()
def bench(
    target: Target,
    *,
    out: Out = ARTIFACTS,
    to: Annotated[Path, typer.Option(help="The folder for table, JSON and charts.")] = Path("bench"),
    peer: Annotated[list[str] | None, typer.Option(help="Only this peer; may be given again. By default all.")] = None,
    lengths: Annotated[bool, typer.Option("--lengths", help="Also on short, medium and long pairs.")] = False,
    scaling: Annotated[bool, typer.Option("--scaling", help="Also how the cost grows with tokens, cores and pairs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Time an artifact beside other libraries that run the same model, in one run."""
    with _exit_codes():
        folder = _folder(target, out)
        from pydantic import TypeAdapter

        from exporter import pipeline
        from exporter.verify.bench import Bench
        from exporter.verify.bench_report import FILES, markdown, write_bench

        with _Terminal() as progress:
            found = pipeline.bench(folder, progress, started_at=_now(), only=peer or (), lengths=lengths, scaling=scaling)
        write_bench(found, to)
        typer.echo(TypeAdapter(Bench).dump_json(found, indent=1) if as_json else markdown(found))
        _say(f"written to {to}: {', '.join(name for name in FILES if (to / name).is_file())}")


@app.command()
def compare(
    old: Annotated[Path, typer.Argument(help="An artifact folder or a report.json.", show_default=False)],
    new: Annotated[Path, typer.Argument(help="The other one.", show_default=False)],
    *,
    as_json: AsJson = False,
) -> None:
    """Say what got better or worse from one report to another, beyond noise. Exits 1 if anything got worse."""
    with _exit_codes():
        from pydantic import TypeAdapter

        from exporter import pipeline
        from exporter.verify.compare import Finding

        found = pipeline.compare_with(old, new)
        if as_json:
            typer.echo(TypeAdapter(tuple[Finding, ...]).dump_json(found, indent=1))
        else:
            _print_findings(found)
        if any(finding.change == "worse" for finding in found):
            raise typer.Exit(GateRefused.exit_code)


@app.command()
def selftest(
    target: Target,
    *,
    variant: Annotated[str | None, typer.Option(help="Which ONNX kind, by default the artifact's first.")] = None,
    trials: Annotated[int, typer.Option(help="Speed trials of the artifact against itself, 1 to 3 minutes each.", min=0)] = 0,
    to: Annotated[Path | None, typer.Option(help="A folder for selftest.json and selftest.md.")] = None,
    out: Out = ARTIFACTS,
    as_json: AsJson = False,
) -> None:
    """Try the gate on artifacts that are wrong on purpose; with --trials also measure how often it is wrong."""
    with _exit_codes():
        folder = _folder(target, out)
        from pydantic import TypeAdapter

        from exporter import pipeline
        from exporter.verify.selftest import SelfTest, markdown, write_selftest

        with _Terminal() as progress:
            found = pipeline.selftest(folder, progress, started_at=_now(), kind=variant, n_trials=trials)
        if to:
            write_selftest(found, to)
        typer.echo(TypeAdapter(SelfTest).dump_json(found, indent=1) if as_json else markdown(found))
        if found.problems:
            raise GateRefused("; ".join(found.problems))


@app.command()
def gpu_check(
    recipe: RecipePath,
    *,
    model: ModelName = None,
    changes: Changes = None,
    to: Annotated[Path, typer.Option(help="The folder for the report.")] = Path(),
    as_json: AsJson = False,
) -> None:
    """Score and time PyTorch on an NVIDIA GPU in float32, float16 and bfloat16, against float32 on the CPU. Builds nothing."""
    with _exit_codes():
        loaded = _load(recipe, model, changes)
        from pydantic import TypeAdapter

        from exporter import pipeline
        from exporter.verify.gpu import GpuReport, markdown, write_gpu_report

        with _Terminal() as progress:
            found = pipeline.gpu_check(loaded, progress, started_at=_now())
        _say(f"written to {write_gpu_report(found, to)}")
        typer.echo(TypeAdapter(GpuReport).dump_json(found, indent=1) if as_json else markdown(found))
        if found.problems:
            raise GateRefused("; ".join(found.problems))


@app.command()
def publish(
    target: Target,
    to: Annotated[
        str,
        typer.Argument(
            help="A folder, hf://org/name[@branch], oci://registry/name:tag, or s3://bucket/prefix.", show_default=False
        ),
    ],
    *,
    out: Out = ARTIFACTS,
    variant: Annotated[
        list[str] | None, typer.Option(help="Only this kind; may be given again. By default all that passed.")
    ] = None,
    profile: Annotated[
        str, typer.Option(help="hub: every variant under its name. flat: one ONNX variant as onnx/model.onnx.")
    ] = "hub",
    sign_key: Annotated[Path | None, typer.Option(help="Sign with this private key, PEM.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="The key's certificate, PEM.")] = None,
    chain: Annotated[list[Path] | None, typer.Option(help="A certificate on the way to the root; may be given again.")] = None,
    sigstore: Annotated[bool, typer.Option("--sigstore", help="Sign as the identity of this CI job, or who logs in.")] = False,
    builder: Annotated[str, typer.Option(help="Who built it, for the provenance; a URI.")] = "urn:exporter:builder:local",
    consumers: Annotated[
        bool, typer.Option("--consumers", help="Load it in other libraries first; their scores go into the card.")
    ] = False,
    pull_request: Annotated[bool, typer.Option("--pull-request", help="Open a pull request on the Hub instead.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an artifact that stands there.")] = False,
) -> None:
    """Deliver the variants that passed, with their card and proof, and refuse the rest."""
    with _exit_codes():
        folder = _folder(target, out)
        signer = _signer(sign_key, certificate, chain or [], sigstore=sigstore)
        from exporter import pipeline

        with _Terminal() as progress:
            done = pipeline.publish(
                folder,
                to,
                progress,
                started_at=_now(),
                kinds=variant or (),
                layout=_profile(profile),
                signer=signer,
                ask=_ask,
                builder=builder,
                with_consumers=consumers,
                pull_request=pull_request,
                replace_there=replace,
            )
        typer.echo(done.sent.reference)
        _say(str(done.sent))
        if done.left:
            _say(f"left behind: {', '.join(done.left)}")


@app.command()
def pull(
    source: Annotated[
        str,
        typer.Argument(
            help="hf://org/name[@branch], oci://registry/name:tag, s3://bucket/prefix, or a folder.", show_default=False
        ),
    ],
    folder: Annotated[Path, typer.Argument(help="The folder to become the copy.", show_default=False)],
    *,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an artifact that stands there.")] = False,
    key: VerifyKey = None,
    root: Roots = None,
    identity: Identity = None,
    issuer: Issuer = None,
) -> None:
    """Fetch a published artifact, check every file, and its signature if told whose; what is wrong never appears."""
    with _exit_codes():
        verifier = _verifier(key, root or [], identity, issuer)
        from exporter import pipeline
        from exporter.remote import fetch_artifact

        check = None if verifier is None else (lambda fetched: pipeline.check_signature(fetched, verifier))
        fetched, version = fetch_artifact(source, folder, replace=replace, check=check)
        typer.echo(f"{fetched} ({version})")


@app.command()
def verify_signature(
    folder: Annotated[Path, typer.Argument(help="A published folder.", show_default=False)],
    *,
    key: VerifyKey = None,
    root: Roots = None,
    identity: Identity = None,
    issuer: Issuer = None,
) -> None:
    """Check who signed a published folder, and that no file changed, came or went since."""
    with _exit_codes():
        verifier = _verifier(key, root or [], identity, issuer)
        if verifier is None:
            raise RecipeError("whose signature? pass --key FILE, --root FILE, or --identity NAME with --issuer URL")
        from exporter import pipeline

        signed = pipeline.check_signature(folder, verifier)
        typer.echo(f"{folder}: signed by {signed.by}, {len(signed.files)} files")


@app.command()
def check_consumers(
    folder: Annotated[Path, typer.Argument(help="A published folder, or an artifact.", show_default=False)],
    *,
    only: Annotated[list[str] | None, typer.Option(help="Only this consumer; may be given again. By default all.")] = None,
    to: Annotated[Path | None, typer.Option(help="A file for the table, Markdown.")] = None,
    as_json: AsJson = False,
) -> None:
    """Load a folder in the libraries that are expected to load it, and compare their scores. Exits 1 if one is wrong."""
    with _exit_codes():
        from pydantic import TypeAdapter

        from exporter import pipeline
        from exporter.publish.consumers import ConsumerReport, markdown

        with _Terminal() as progress:
            found = pipeline.consumers(folder, progress, started_at=_now(), only=only or ())
        if to:
            _write(to, markdown(found))
        typer.echo(TypeAdapter(ConsumerReport).dump_json(found, indent=1) if as_json else markdown(found))
        if found.problems:
            raise GateRefused("; ".join(found.problems))


@app.command()
def reproduce(
    folder: Annotated[Path, typer.Argument(help="An artifact, or a published copy.", show_default=False)],
    *,
    model: Annotated[str | None, typer.Option(help="A copy of the model, where the recorded folder is not here.")] = None,
    verify_pairs: Annotated[Path | None, typer.Option(help="A copy of the verify pairs.")] = None,
    calibrate_pairs: Annotated[Path | None, typer.Option(help="A copy of the calibration pairs.")] = None,
    as_json: AsJson = False,
) -> None:
    """Build an artifact again from its manifest alone, and compare hashes, and scores where they differ. Exits 4 if they do."""
    with _exit_codes():
        from pydantic import TypeAdapter

        from exporter import pipeline
        from exporter.publish.reproduce import Reproduction, text

        with _Terminal() as progress:
            found = pipeline.reproduce(folder, progress, model=model, verify_pairs=verify_pairs, calibrate_pairs=calibrate_pairs)
        typer.echo(TypeAdapter(Reproduction).dump_json(found, indent=1) if as_json else text(found))
        if not found.same:
            raise typer.Exit(IntegrityError.exit_code)


@app.command()
def reference(
    recipe: RecipePath,
    folder: Annotated[Path, typer.Argument(help="The folder to write.", show_default=False)],
    *,
    model: ModelName = None,
    changes: Changes = None,
) -> None:
    """Write the PyTorch reference as an ordinary sentence-transformers folder."""
    with _exit_codes():
        loaded = _load(recipe, model, changes)
        from exporter import pipeline

        with _Terminal() as progress:
            pipeline.reference(loaded.model, folder, progress)
        typer.echo(folder)


@app.command()
def schema(*, report: Annotated[bool, typer.Option("--report", help="Of report.json instead.")] = False) -> None:
    """Print the JSON schema of recipes, for editors, or of reports, for those who read them."""
    if report:
        from exporter.verify.report import json_schema

        typer.echo(json.dumps(json_schema(), indent=2))
        return
    from exporter.recipe import Recipe

    typer.echo(json.dumps(Recipe.model_json_schema(), indent=2))


@app.command()
def doctor(*, as_json: AsJson = False) -> None:
    """Print the machine, its instruction set, the cores allowed, and which kinds can be built here."""
    from pydantic import TypeAdapter

    from exporter.cache import cache_dir
    from exporter.export.build import missing_packages
    from exporter.machine import Machine, has_vnni, this_machine
    from exporter.recipe import KINDS

    machine = this_machine()
    missing = {kind: missing_packages(kind) for kind in KINDS}
    if as_json:
        found = TypeAdapter(Machine).dump_python(machine, mode="json")
        typer.echo(json.dumps({"machine": found, "missing": {k: list(v) for k, v in missing.items()}}, indent=1))
        return
    vnni = "int8 sums in int32" if has_vnni(machine.isa) else "no VNNI: int8 weights must keep to 7 bits"
    typer.echo(f"{machine.cpu}, {machine.isa} ({vnni})")
    typer.echo(f"{machine.n_cores} cores allowed, {machine.memory_gb} GiB, {machine.system}, Python {machine.python}")
    typer.echo(", ".join(f"{name} {version}" for name, version in machine.packages))
    typer.echo(f"cache {cache_dir()}")
    for kind, packages in missing.items():
        lacking = ", ".join(packages)
        typer.echo(f"  {kind}: {'can be built' if not packages else f'cannot be built, {lacking} missing'}")


def _load(recipe: Path, model: str | None, changes: list[str] | None) -> Recipe:
    from exporter.recipe import load_recipe

    return load_recipe(recipe, model=model, changes=changes or ())


def _folder(target: Path, out: Path) -> Path:
    """Take an artifact folder as it is, a recipe as the name of one."""
    return out / _load(target, None, None).name if target.suffix in (".yaml", ".yml") else target


def _profile(text: str) -> Layout:
    from exporter.publish.layout import PROFILES

    for known in PROFILES:
        if text == known:
            return known
    raise RecipeError(f"--profile {text!r}: known are {', '.join(PROFILES)}")


def _signer(key: Path | None, certificate: Path | None, chain: Sequence[Path], *, sigstore: bool) -> Signer | None:
    from exporter.publish.signature import CertificateSigner, KeySigner, SigstoreSigner

    if sigstore and (key or certificate):
        raise RecipeError("--sigstore needs no key; pass one or the other")
    if (certificate and not key) or (chain and not certificate):
        raise RecipeError("--certificate belongs to a --sign-key, and --chain to a --certificate")
    if sigstore:
        return SigstoreSigner()
    if key and certificate:
        return CertificateSigner(key, certificate, tuple(chain))
    return KeySigner(key) if key else None


def _verifier(key: Path | None, roots: Sequence[Path], identity: str | None, issuer: str | None) -> Verifier | None:
    from exporter.publish.signature import CertificateVerifier, KeyVerifier, SigstoreVerifier

    if bool(key) + bool(roots) + bool(identity or issuer) > 1:
        raise RecipeError("one way to verify, please: --key, --root, or --identity with --issuer")
    if bool(identity) != bool(issuer):
        raise RecipeError("--identity and --issuer belong together: a name is worth what vouches for it")
    if key:
        return KeyVerifier(key)
    if roots:
        return CertificateVerifier(tuple(roots))
    return SigstoreVerifier(identity, issuer) if identity and issuer else None


def _ask(prompt: str) -> str:
    from exporter.publish.signature import PASSWORD_VARIABLE

    if not sys.stdin.isatty():
        raise RecipeError(f"{prompt}: there is no terminal to ask at; set {PASSWORD_VARIABLE}")
    return str(typer.prompt(prompt, hide_input=True, err=True))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BackendError(f"{path}: cannot be written: {error.strerror}") from error


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _shown(text: str) -> str:
    """Write characters that move a terminal's cursor, or change what it shows, as escapes: names and reports come from others."""
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)


@contextmanager
def _exit_codes() -> Iterator[None]:
    """Errors raised on purpose become a line and their own exit code; others keep their traceback, they are our bugs."""
    try:
        yield
    except ExporterError as error:
        typer.secho(f"error: {_shown(str(error))}", err=True, fg="red")
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        typer.secho("stopped; what was finished is kept, nothing is half-written", err=True, fg="red")
        raise typer.Exit(130) from None


def _print_report(report: Report, folder: Path, *, as_json: bool) -> None:
    """Print a verdict and end with its exit code."""
    from exporter.verify.report import to_json

    if as_json:
        typer.echo(to_json(report))
    else:
        _print_table(report)
        _say(f"artifact {folder}, report {folder}/report.html, report.md, report.xml (JUnit)")
    code = {"pass": 0, "fail": GateRefused.exit_code, "invalid": NoVerdict.exit_code}[report.verdict]
    if code:
        raise typer.Exit(code)


def _print_table(report: Report) -> None:
    """Print the summary, and the checks of every variant."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from exporter.verify.report_text import table

    titles, rows = table(report)
    machine = report.machine
    title = f"{report.name} on {machine.cpu}, {machine.isa}, {machine.n_cores} cores"
    summary = Table(title=escape(_shown(title)), box=SIMPLE, pad_edge=False)
    for i, title in enumerate(titles):
        summary.add_column(title, justify="left" if i == 0 else "right", no_wrap=True)
    colours = {"PASS": "green", "FAIL": "red", "INVALID": "yellow"}
    for cells in rows:
        summary.add_row(*(escape(_shown(cell)) for cell in cells), style=colours.get(cells[-1]))
    console = Console()
    console.width = max(console.width, 100)  # a log or a pipe has no width; a narrow terminal wraps, which beats losing digits
    console.print(summary)
    for row in report.variants:
        for check in row.checks:
            why = f" ({check.why})" if check.why else ""
            console.print(
                _shown(f"  {row.kind}: {check.outcome.upper():7s} {check.name} {check.observed:.4g}, bar {check.bar}{why}"),
                style=colours[check.outcome.upper()],
                markup=False,
                highlight=False,
            )


def _print_findings(found: Sequence[Finding]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False)
    for title in ("variant", "what", "old", "new", "", "how far"):
        table.add_column(title, justify="right" if title in ("old", "new") else "left")
    colours = {"better": "green", "worse": "red", "unknown": "yellow"}
    for row in found:
        old, new = ("" if value is None else f"{value:.4g}" for value in (row.old, row.new))
        cells = (row.kind, row.what, old, new, row.change, row.said)
        table.add_row(*(escape(_shown(cell)) for cell in cells), style=colours.get(row.change))
    console = Console()
    console.width = max(console.width, 100)
    console.print(table)


def _print_profile(found: Profile) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    rate = found.n_pairs / found.wall_s
    title = (
        f"{found.kind}, {found.plan}: {found.n_pairs} pairs of {found.n_tokens / found.n_pairs:.0f} tokens, {rate:.1f} pairs/s"
    )
    table = Table(title=title, box=SIMPLE, pad_edge=False)
    table.add_column("operator")
    for name in ("runs", "ms", "share", "GFLOP/s"):
        table.add_column(name, justify="right")
    for row in found.operators:
        speed = f"{row.flops / row.seconds / 1e9:.1f}" if row.flops else ""
        table.add_row(row.op, str(row.n_runs), f"{row.seconds * 1e3:.1f}", f"{row.share:.1%}", speed)
    Console().print(table)


class _Terminal:
    """Draws progress on stderr: a bar per stage on a terminal, a line per stage in a log."""

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._console = Console(stderr=True)
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            # A busy parent spoils a measurement: redraw once a second.
            refresh_per_second=1,
            disable=not self._console.is_terminal,
        )
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        started = datetime.now(UTC)
        task = self._bars.add_task(name, total=total)
        try:
            yield lambda done: self._bars.update(task, completed=done)
        finally:
            self._bars.remove_task(task)
        seconds = (datetime.now(UTC) - started).total_seconds()
        if seconds >= 1:
            self.note(f"{name}: {seconds:.0f} s")

    def note(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)


if __name__ == "__main__":
    app()
