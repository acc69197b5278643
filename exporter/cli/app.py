"""The command line: parse, call one function, print. Nothing else prints or picks an exit code.

Results go to stdout, progress and errors to stderr, so `exporter show --json ARTIFACT | jq` works.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from exporter import __version__
from exporter.cli.options import (
    ARTIFACTS,
    AsJson,
    Changes,
    Identity,
    Issuer,
    ModelName,
    Out,
    RecipePath,
    Replace,
    Roots,
    Target,
    VerifyKey,
    ask_password,
    folder_of,
    layout_of,
    recipe_of,
    signer_of,
    verifier_of,
)
from exporter.cli.screen import (
    exit_codes,
    print_findings,
    print_profile,
    print_report,
    print_table,
    say,
    watched,
    write_text,
)
from exporter.errors import GateRefused, IntegrityError, RecipeError

app = typer.Typer(
    help="Export a CrossEncoder reranker to ONNX, INT8 ONNX and OpenVINO IR, and gate it on parity and speed.\n\n"
    "Exit codes: 0 pass, 1 gate refused, 2 recipe or usage wrong, 3 a backend failed or is missing, "
    "4 files are not what the manifest says, 5 no verdict (too noisy; measure again).",
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
    with exit_codes():
        loaded = recipe_of(recipe, model, changes)
        from exporter import pipeline

        with watched() as context:
            if build_only:
                folder = pipeline.build(loaded, out, context, replace_old=replace)
                typer.echo(folder)
                return
            report = pipeline.export(loaded, out, context, replace_old=replace)
        print_report(report, out / loaded.name, as_json=as_json)


@app.command()
def plan(
    recipe: RecipePath, *, model: ModelName = None, changes: Changes = None, as_json: AsJson = False
) -> None:
    """Show what a recipe would build, and build nothing."""
    with exit_codes():
        loaded = recipe_of(recipe, model, changes)
        from exporter.pairs import load_pair_sets
        from exporter.recipe.kinds import KINDS

        sets = [pair_set for pair_set in load_pair_sets(loaded) if pair_set]
        if as_json:
            typer.echo(json.dumps(loaded.model_dump(mode="json"), indent=2))
            return
        revision = f" at {loaded.model.revision}" if loaded.model.revision else ""
        typer.echo(
            f"{loaded.name}: {loaded.model.source}{revision}, up to {loaded.model.max_length} tokens a pair"
        )
        for pair_set in sets:
            typer.echo(f"  pairs {pair_set.name}: {len(pair_set.pairs)} of {len(pair_set.query_ids)} queries")
        for variant in loaded.variants:
            bars = ", ".join(
                f"{name} {value:g}" for name, value in variant.bars.model_dump(exclude_none=True).items()
            )
            row = KINDS[variant.kind]
            missing = row.missing_packages
            lacking = f"  (cannot be built here: {', '.join(missing)} missing)" if missing else ""
            typer.echo(
                f"  {variant.kind} -> {ARTIFACTS}/{loaded.name}/{row.path(getattr(variant, 'isa', None))}{lacking}\n    bars: {bars}"
            )


@app.command()
def verify(target: Target, *, out: Out = ARTIFACTS, as_json: AsJson = False) -> None:
    """Measure an artifact against PyTorch again, judge it, and write its report."""
    with exit_codes():
        folder = folder_of(target, out)
        from exporter import pipeline

        with watched() as context:
            report = pipeline.verify(folder, context)
        print_report(report, folder, as_json=as_json)


@app.command()
def gate(
    target: Target,
    *,
    bars: Annotated[Path | None, typer.Option(help="Other bars: a YAML file of kind: {bar: limit}.")] = None,
    out: Out = ARTIFACTS,
    as_json: AsJson = False,
) -> None:
    """Judge an artifact's stored report again, without running a model."""
    with exit_codes():
        folder = folder_of(target, out)
        from exporter import pipeline
        from exporter.recipe.load import load_bars

        report = pipeline.gate(folder, load_bars(bars) if bars else None)
        print_report(report, folder, as_json=as_json)


@app.command()
def show(target: Target, *, out: Out = ARTIFACTS, as_json: AsJson = False) -> None:
    """Print what an artifact holds and its verdict. Exits 0 whatever the verdict is."""
    with exit_codes():
        folder = folder_of(target, out)
        from exporter import pipeline
        from exporter.artifact.files import REPORT
        from exporter.artifact.manifest import read_manifest
        from exporter.artifact.plans import read_plans
        from exporter.runtime.model_file import check_artifact

        manifest = read_manifest(folder)
        check_artifact(manifest, folder)
        plans = read_plans(folder, manifest)
        report = pipeline.gate(folder) if (folder / REPORT).is_file() else None
        if as_json:
            from exporter.artifact.files import to_json
            from exporter.artifact.manifest import manifest_json

            judged = json.loads(to_json(report)) if report else None
            typer.echo(
                json.dumps({"manifest": json.loads(manifest_json(manifest)), "report": judged}, indent=1)
            )
            return
        typer.echo(
            f"{folder}: {manifest.name}, from {manifest.source.source}, up to {manifest.max_length} tokens a pair"
        )
        for entry in manifest.variants:
            typer.echo(f"  {entry.kind}: {entry.model}, {manifest.size_bytes(entry) / 1e6:.1f} MB")
            for found in plans.of(entry.kind):
                plan = f"{found.workers}x{found.threads}, {found.token_budget} tokens"
                typer.echo(
                    f"    plan on {found.n_cores} cores of {found.isa}: {plan}, the best of {len(found.sweep)}"
                )
        if report is None:
            typer.echo(f"not verified yet; run `exporter verify {folder}`")
        else:
            print_table(report)


@app.command()
def profile(
    target: Target,
    *,
    variant: Annotated[str | None, typer.Option(help="Which kind, by default the artifact's first.")] = None,
    out: Out = ARTIFACTS,
    as_json: AsJson = False,
) -> None:
    """Print where a variant's time goes: each operator's share, on one thread, over real pairs."""
    with exit_codes():
        folder = folder_of(target, out)
        from pydantic import TypeAdapter

        from exporter.measure.profile import Profile
        from exporter.measure.profile import profile as run_profile

        found = run_profile(folder, variant)
        if as_json:
            typer.echo(TypeAdapter(Profile).dump_json(found, indent=1))
            return
        print_profile(found)


@app.command()
def bench(
    target: Target,
    *,
    out: Out = ARTIFACTS,
    to: Annotated[Path, typer.Option(help="The folder for table, JSON and charts.")] = Path("bench"),
    peer: Annotated[
        list[str] | None, typer.Option(help="Only this peer; may be given again. By default all.")
    ] = None,
    lengths: Annotated[bool, typer.Option("--lengths", help="Also on short, medium and long pairs.")] = False,
    scaling: Annotated[
        bool, typer.Option("--scaling", help="Also how the cost grows with tokens, cores and pairs.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Time an artifact beside other libraries that run the same model, in one run."""
    with exit_codes():
        folder = folder_of(target, out)
        from pydantic import TypeAdapter

        from exporter.bench.measure import Bench
        from exporter.bench.report import FILES, markdown, write_bench
        from exporter.bench.run import bench as run_bench

        with watched() as context:
            found = run_bench(folder, context, only=peer or (), lengths=lengths, scaling=scaling)
        write_bench(found, to)
        typer.echo(TypeAdapter(Bench).dump_json(found, indent=1) if as_json else markdown(found))
        say(f"written to {to}: {', '.join(name for name in FILES if (to / name).is_file())}")


@app.command()
def compare(
    old: Annotated[Path, typer.Argument(help="An artifact folder or a report.json.", show_default=False)],
    new: Annotated[Path, typer.Argument(help="The other one.", show_default=False)],
    *,
    as_json: AsJson = False,
) -> None:
    """Say what got better or worse from one report to another, beyond noise. Exits 1 if anything got worse."""
    with exit_codes():
        from pydantic import TypeAdapter

        from exporter.report.compare import Finding
        from exporter.report.compare import compare_with as run_compare_with

        found = run_compare_with(old, new)
        if as_json:
            typer.echo(TypeAdapter(tuple[Finding, ...]).dump_json(found, indent=1))
        else:
            print_findings(found)
        if any(finding.change == "worse" for finding in found):
            raise typer.Exit(GateRefused.exit_code)


@app.command()
def selftest(
    target: Target,
    *,
    variant: Annotated[
        str | None, typer.Option(help="Which ONNX kind, by default the artifact's first.")
    ] = None,
    trials: Annotated[
        int, typer.Option(help="Speed trials of the artifact against itself, 1 to 3 minutes each.", min=0)
    ] = 0,
    to: Annotated[Path | None, typer.Option(help="A folder for selftest.json and selftest.md.")] = None,
    out: Out = ARTIFACTS,
    as_json: AsJson = False,
) -> None:
    """Try the gate on artifacts that are wrong on purpose; with --trials also measure how often it is wrong."""
    with exit_codes():
        folder = folder_of(target, out)
        from pydantic import TypeAdapter

        from exporter.selftest.report import markdown, write_selftest
        from exporter.selftest.run import selftest as run_selftest
        from exporter.selftest.trials import SelfTest

        with watched() as context:
            found = run_selftest(folder, context, kind=variant, n_trials=trials)
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
    with exit_codes():
        loaded = recipe_of(recipe, model, changes)
        from pydantic import TypeAdapter

        from exporter.bench.gpu import GpuReport, markdown, write_gpu_report
        from exporter.bench.gpu import gpu_check as run_gpu_check

        with watched() as context:
            found = run_gpu_check(loaded, context)
        say(f"written to {write_gpu_report(found, to)}")
        typer.echo(TypeAdapter(GpuReport).dump_json(found, indent=1) if as_json else markdown(found))
        if found.problems:
            raise GateRefused("; ".join(found.problems))


@app.command()
def publish(
    target: Target,
    to: Annotated[
        str,
        typer.Argument(
            help="A folder, hf://org/name[@branch], oci://registry/name:tag, or s3://bucket/prefix.",
            show_default=False,
        ),
    ],
    *,
    out: Out = ARTIFACTS,
    variant: Annotated[
        list[str] | None, typer.Option(help="Only this kind; may be given again. By default all that passed.")
    ] = None,
    profile: Annotated[
        str,
        typer.Option(help="hub: every variant under its name. flat: one ONNX variant as onnx/model.onnx."),
    ] = "hub",
    sign_key: Annotated[Path | None, typer.Option(help="Sign with this private key, PEM.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="The key's certificate, PEM.")] = None,
    chain: Annotated[
        list[Path] | None, typer.Option(help="A certificate on the way to the root; may be given again.")
    ] = None,
    sigstore: Annotated[
        bool, typer.Option("--sigstore", help="Sign as the identity of this CI job, or who logs in.")
    ] = False,
    builder: Annotated[
        str, typer.Option(help="Who built it, for the provenance; a URI.")
    ] = "urn:exporter:builder:local",
    consumers: Annotated[
        bool,
        typer.Option("--consumers", help="Load it in other libraries first; their scores go into the card."),
    ] = False,
    pull_request: Annotated[
        bool, typer.Option("--pull-request", help="Open a pull request on the Hub instead.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace an artifact that stands there.")
    ] = False,
) -> None:
    """Deliver the variants that passed, with their card and proof, and refuse the rest."""
    with exit_codes():
        folder = folder_of(target, out)
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
            ask=ask_password,
        )
        with watched() as context:
            done = pipeline.publish(folder, to, context, options)
        typer.echo(done.sent.reference)
        say(str(done.sent))
        if done.left:
            say(f"left behind: {', '.join(done.left)}")


@app.command()
def pull(
    source: Annotated[
        str,
        typer.Argument(
            help="hf://org/name[@branch], oci://registry/name:tag, s3://bucket/prefix, or a folder.",
            show_default=False,
        ),
    ],
    folder: Annotated[Path, typer.Argument(help="The folder to become the copy.", show_default=False)],
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace an artifact that stands there.")
    ] = False,
    key: VerifyKey = None,
    root: Roots = None,
    identity: Identity = None,
    issuer: Issuer = None,
) -> None:
    """Fetch a published artifact; check every file, and its signature if told whose, before it appears."""
    with exit_codes():
        verifier = verifier_of(key, root or [], identity, issuer)
        from exporter.publish.signature import check_signature as run_check_signature
        from exporter.remote import fetch_artifact

        check = None if verifier is None else (lambda fetched: run_check_signature(fetched, verifier))
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
    with exit_codes():
        verifier = verifier_of(key, root or [], identity, issuer)
        if verifier is None:
            raise RecipeError(
                "whose signature? pass --key FILE, --root FILE, or --identity NAME with --issuer URL"
            )
        from exporter.publish.signature import check_signature as run_check_signature

        signed = run_check_signature(folder, verifier)
        typer.echo(f"{folder}: signed by {signed.by}, {len(signed.files)} files")


@app.command()
def check_consumers(
    folder: Annotated[Path, typer.Argument(help="A published folder, or an artifact.", show_default=False)],
    *,
    only: Annotated[
        list[str] | None, typer.Option(help="Only this consumer; may be given again. By default all.")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="A file for the table, Markdown.")] = None,
    as_json: AsJson = False,
) -> None:
    """Load a folder in the libraries that are expected to load it, and compare their scores. Exits 1 if one is wrong."""
    with exit_codes():
        from pydantic import TypeAdapter

        from exporter.consumers.check import consumers as run_consumers
        from exporter.consumers.report import ConsumerReport, markdown

        with watched() as context:
            found = run_consumers(folder, context, only=only or ())
        if to:
            write_text(to, markdown(found))
        typer.echo(TypeAdapter(ConsumerReport).dump_json(found, indent=1) if as_json else markdown(found))
        if found.problems:
            raise GateRefused("; ".join(found.problems))


@app.command()
def reproduce(
    folder: Annotated[Path, typer.Argument(help="An artifact, or a published copy.", show_default=False)],
    *,
    model: Annotated[
        str | None, typer.Option(help="A copy of the model, where the recorded folder is not here.")
    ] = None,
    verify_pairs: Annotated[Path | None, typer.Option(help="A copy of the verify pairs.")] = None,
    calibrate_pairs: Annotated[Path | None, typer.Option(help="A copy of the calibration pairs.")] = None,
    as_json: AsJson = False,
) -> None:
    """Build an artifact again from its manifest alone, and compare hashes, and scores where they differ. Exits 4 if they do."""
    with exit_codes():
        from pydantic import TypeAdapter

        from exporter.reproduce import Reproduction, text
        from exporter.reproduce import reproduce as run_reproduce

        with watched() as context:
            found = run_reproduce(
                folder, context, model=model, verify_pairs=verify_pairs, calibrate_pairs=calibrate_pairs
            )
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
    with exit_codes():
        loaded = recipe_of(recipe, model, changes)
        from exporter.export.folder import reference as run_reference

        with watched() as context:
            run_reference(loaded.model, folder, context)
        typer.echo(folder)


@app.command()
def schema(
    *,
    report: Annotated[bool, typer.Option("--report", help="Of report.json instead.")] = False,
    manifest: Annotated[bool, typer.Option("--manifest", help="Of manifest.json instead.")] = False,
    plans: Annotated[bool, typer.Option("--plans", help="Of plans.json instead.")] = False,
) -> None:
    """Print the JSON schema of recipes, for editors, or of a file of an artifact, for those who read it."""
    from exporter.artifact.files import sealed_schema
    from exporter.artifact.manifest import Manifest
    from exporter.artifact.plans import Plans
    from exporter.recipe.schema import Recipe
    from exporter.report.report import Report

    chosen = [cls for cls, asked in ((Report, report), (Manifest, manifest), (Plans, plans)) if asked]
    if len(chosen) > 1:
        raise typer.BadParameter("one of --report, --manifest and --plans")
    found = sealed_schema(chosen[0]) if chosen else Recipe.model_json_schema()
    typer.echo(json.dumps(found, indent=2))


@app.command()
def doctor(*, as_json: AsJson = False) -> None:
    """Print the machine, its instruction set, the cores allowed, and which kinds can be built here."""
    from pydantic import TypeAdapter

    from exporter.cache import Cache
    from exporter.machine import Machine, this_machine
    from exporter.recipe.kinds import KINDS, saturates

    machine = this_machine()
    missing = {row.name: row.missing_packages for row in KINDS.values()}
    if as_json:
        found = TypeAdapter(Machine).dump_python(machine, mode="json")
        typer.echo(
            json.dumps({"machine": found, "missing": {k: list(v) for k, v in missing.items()}}, indent=1)
        )
        return
    vnni = "no VNNI: int8 weights must keep to 7 bits" if saturates(machine.isa) else "int8 sums in int32"
    typer.echo(f"{machine.cpu}, {machine.isa} ({vnni})")
    typer.echo(
        f"{machine.n_cores} cores allowed, {machine.memory_gb} GiB, {machine.system}, Python {machine.python}"
    )
    typer.echo(", ".join(f"{name} {version}" for name, version in machine.packages))
    typer.echo(f"cache {Cache.of_user().root}")
    for kind, packages in missing.items():
        lacking = ", ".join(packages)
        typer.echo(f"  {kind}: {'can be built' if not packages else f'cannot be built, {lacking} missing'}")


if __name__ == "__main__":
    app()
