"""Build an artifact again from its manifest alone, and compare both builds.

What the manifest says is enough: the resolved recipe, the model's digest and commit, the pair sets' digests,
the packages. The folders and pair files of the machine it was built on are elsewhere, or not here at all;
what stands in for them must have the recorded digest. Nothing is taken from the cache of earlier builds,
which may be the very build in question.

`compare_builds` is pure; a difference is a value here, and no verdict.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import ValidationError

from exporter.artifact.files import CARD, MANIFEST, PLOTS, list_files
from exporter.artifact.manifest import check_files, read_manifest, write_manifest
from exporter.artifact.names import kind_of
from exporter.artifact.plans import read_plans
from exporter.cache import Cache
from exporter.errors import IntegrityError, RecipeError
from exporter.export.build import N_PROOF_PAIRS, build_variants, tools
from exporter.export.folder import write_config_and_tokenizer
from exporter.export.source import find_source
from exporter.machine import cores_allowed, this_isa, this_platform
from exporter.pairs import load_pairs, spread_out
from exporter.recipe.kinds import KINDS
from exporter.recipe.schema import Model, Recipe
from exporter.runtime import Reranker, choose_plan
from exporter.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.artifact.files import FileEntry
    from exporter.artifact.manifest import Manifest, VariantEntry
    from exporter.context import Context
    from exporter.export.source import Source
    from exporter.pairs import Pair, PairSet


# Pairs of all lengths on which builds that differ are compared: seconds, and a changed weight shows on most.
N_PAIRS = 200

# `only recorded`: in the manifest, and not built here. `only rebuilt`: the other way round, as with tokenizer
# files of other versions and layouts that leave one out. `not built`: written when published, as the card is.
FileOutcome = Literal["same", "differs", "only recorded", "only rebuilt", "not built"]


@dataclass(frozen=True, slots=True)
class ToolDifference:
    """A package whose version here is not the recorded one; None where it is not installed, or was not."""

    name: str
    recorded: str | None
    here: str | None


@dataclass(frozen=True, slots=True)
class FileComparison:
    """A file of the manifest beside its rebuilt counterpart; `kind` is its variant's, None if shared."""

    path: str
    kind: str | None
    outcome: FileOutcome


@dataclass(frozen=True, slots=True)
class ScoreComparison:
    """The largest difference, in logits, of two builds of a kind whose files differ, on the same pairs."""

    kind: str
    n_pairs: int
    max_abs_diff: float


@dataclass(frozen=True, slots=True)
class Reproduction:
    """The result of building an artifact again."""

    name: str
    tools: tuple[ToolDifference, ...]
    files: tuple[FileComparison, ...]
    scores: tuple[ScoreComparison, ...] = ()

    @property
    def same(self) -> bool:
        """Whether every file but those that publishing wrote is rebuilt byte by byte."""
        return not any(file.outcome in ("differs", "only recorded") for file in self.files)

    @property
    def kinds_that_differ(self) -> tuple[str, ...]:
        """The variants with a file that differs, in the manifest's order."""
        return tuple(
            dict.fromkeys(file.kind for file in self.files if file.kind and file.outcome == "differs")
        )


@dataclass(frozen=True, slots=True)
class Inputs:
    """What an artifact is built from: its recipe, the model, the pair sets; and the ids of its variants.

    A published copy may have fewer of those than the recipe.
    """

    recipe: Recipe
    source: Source
    verify: PairSet
    calibrate: PairSet | None
    variants: frozenset[str]


def reproduce(
    folder: Path,
    context: Context,
    *,
    model: str | None = None,
    verify_pairs: Path | None = None,
    calibrate_pairs: Path | None = None,
    n_pairs: int = N_PAIRS,
) -> Reproduction:
    """Build an artifact again in a scratch folder and compare files, and scores where files differ.

    Args:
        folder: the artifact or a published copy.
        context: told what goes on; its cache serves to find the model, never to build.
        model: a folder or Hub id in place of the recorded one; must be the same model.
        verify_pairs: a file in place of the recorded one; must hold the same pairs.
        calibrate_pairs: the same for the pairs that static int8 was calibrated on.
        n_pairs: of the verify set, to compare scores on.

    Raises:
        RecipeError: the folder is no artifact, or its model or a pair set is not here; the message says what
            to pass.
        IntegrityError: its files are not what its manifest says, or model or pairs found are not the recorded
            ones.
        BackendMissing: a package that builds one of its kinds is not installed.
        BackendError: a library fails, or the disk is full.
    """
    manifest = read_manifest(folder)
    check_files(manifest, folder)
    with context.progress.stage("model"):
        stand_ins = {"verify_pairs": verify_pairs, "calibrate_pairs": calibrate_pairs}
        inputs = find_inputs(manifest, folder, context.cache, model=model, **stand_ins)
    with Scratch("reproduce") as scratch:
        rebuilt = scratch / "rebuilt"
        rebuilt.mkdir()
        # Nothing from the cache of earlier builds, which may be the very build in question.
        variants = rebuild(inputs, rebuilt, replace(context, cache=Cache(scratch / "cache")))
        files = list_files(rebuilt)
        found = compare_builds(manifest, variants, files, tools())
        platform = tool_differences([("platform", manifest.platform)], [("platform", this_platform())])
        found = replace(found, tools=(*found.tools, *platform))

        if kinds := found.kinds_that_differ:
            # Without a manifest of its own the runtime does not load the rebuilt folder.
            write_manifest(replace(manifest, tools=tools(), variants=variants, files=files), rebuilt)
            pairs = spread_out(inputs.verify, n_pairs)
            with context.progress.stage("scores", len(kinds)) as step:
                scores = []
                for done, kind in enumerate(kinds, 1):
                    scores.append(_compare_scores(folder, rebuilt, manifest, manifest.variant(kind), pairs))
                    step(done)
            found = replace(found, scores=tuple(scores))
    return found


def compare_builds(
    manifest: Manifest,
    rebuilt: Sequence[VariantEntry],
    files: Sequence[FileEntry],
    tools_here: Sequence[tuple[str, str]],
) -> Reproduction:
    """Compare the files of a manifest with those of a second build.

    A variant's files are told apart by their suffix and not by their name: a published copy may call them as
    a consumer does. It may also hold one twice, under a name of no variant; that is the same if any file
    built has its bytes.

    Args:
        manifest: of the artifact.
        rebuilt: the variants built again.
        files: all that was built again, hashed.
        tools_here: the packages it was built with.
    """
    hashes = {file.path: file.sha256 for file in files}
    rows = []
    for entry in manifest.variants:
        theirs = (path for other in rebuilt if other.kind == entry.kind for path in other.files)
        by_suffix = {PurePosixPath(path).suffix: hashes[path] for path in theirs}
        for file in manifest.files:
            if file.path in entry.files:
                again = by_suffix.get(PurePosixPath(file.path).suffix)
                rows.append(FileComparison(file.path, entry.kind, _outcome(file.sha256, again)))

    of_variants = {path for entry in (*manifest.variants, *rebuilt) for path in entry.files}
    shared = {file.path: file.sha256 for file in manifest.files if file.path not in of_variants}
    shared_again = {path: sha256 for path, sha256 in hashes.items() if path not in of_variants}
    for path in sorted(shared | shared_again):
        outcome = _outcome(shared.get(path), shared_again.get(path))
        if shared.get(path) in hashes.values():
            outcome = "same"
        elif path == CARD or PurePosixPath(path).parts[0] == PLOTS:
            outcome = "not built"
        rows.append(FileComparison(path, None, outcome))
    return Reproduction(manifest.name, tool_differences(manifest.tools, tools_here), tuple(rows))


def tool_differences(
    recorded: Sequence[tuple[str, str]], here: Sequence[tuple[str, str]]
) -> tuple[ToolDifference, ...]:
    """Return the packages whose versions differ, in the order recorded."""
    was, now = dict(recorded), dict(here)
    names = dict.fromkeys((*was, *now))
    return tuple(
        ToolDifference(name, was.get(name), now.get(name)) for name in names if was.get(name) != now.get(name)
    )


def find_inputs(
    manifest: Manifest,
    place: Path,
    cache: Cache,
    *,
    model: str | None = None,
    verify_pairs: Path | None = None,
    calibrate_pairs: Path | None = None,
) -> Inputs:
    """Find what an artifact was built from, where recorded or where the caller says, and check its digests.

    `place` is the artifact's folder, named in errors; `reproduce` describes the other arguments.

    Raises:
        RecipeError: the model or a pair set is not here.
        IntegrityError: the model or a pair set is not the recorded one, or the manifest holds no recipe.
    """
    try:
        recipe = Recipe.model_validate_json(manifest.recipe)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(step) for step in problem["loc"])
        raise IntegrityError(
            f"{place / MANIFEST}: its recipe is none that this exporter reads: {where}: {problem['msg']}"
        ) from None
    kinds = {kind_of(entry.kind) for entry in manifest.variants}
    recipe = recipe.model_copy(update={"variants": tuple(v for v in recipe.variants if v.kind in kinds)})
    source = _find_model(recipe, manifest, model, place, cache)
    verify = _find_pairs("verify", recipe.pairs.verify, verify_pairs, manifest, place)
    calibrate = None
    # A recipe may name pairs that none of the variants left was calibrated on.
    if recipe.pairs.calibrate and any(KINDS[variant.kind].traits.calibrated for variant in recipe.variants):
        calibrate = _find_pairs("calibrate", recipe.pairs.calibrate, calibrate_pairs, manifest, place)
    return Inputs(recipe, source, verify, calibrate, frozenset(entry.kind for entry in manifest.variants))


def rebuild(inputs: Inputs, into: Path, context: Context) -> tuple[VariantEntry, ...]:
    """Build the files of an artifact into a folder, without plans, manifest or report.

    Raises:
        BackendMissing: a package that builds one of the kinds is not installed.
        BackendError: a library refuses, or the disk is full.
        RecipeError: a variant asks for what the graph does not have.
    """
    variants = build_variants(
        inputs.recipe,
        inputs.source,
        calibrate=inputs.calibrate.pairs if inputs.calibrate else (),
        proof=spread_out(inputs.verify, N_PROOF_PAIRS),
        into=into,
        context=context,
        only=inputs.variants,
    )
    write_config_and_tokenizer(inputs.source, into)
    return variants


def text(found: Reproduction) -> str:
    """Format a reproduction for people: other versions first, then each file, then the scores."""
    lines = [f"{d.name}: built with {d.recorded or 'none'}, here {d.here or 'none'}" for d in found.tools]
    width = max((len(file.path) for file in found.files), default=0)
    lines += [
        f"{file.path:{width}}  {file.outcome}{f' ({file.kind})' if file.kind else ''}" for file in found.files
    ]
    lines += [
        f"{s.kind}: scores of {s.n_pairs} pairs differ by at most {s.max_abs_diff:.3g} logits"
        for s in found.scores
    ]
    compared = [file for file in found.files if file.outcome != "not built"]
    n_same, n_written = sum(file.outcome == "same" for file in compared), len(found.files) - len(compared)
    said = "reproduced" if found.same else "not reproduced"
    beside = f"; {n_written} more were written when it was published" if n_written else ""
    return "\n".join(
        (*lines, f"{found.name}: {said}, {n_same} of {len(compared)} files are the same{beside}")
    )


def _outcome(recorded: str | None, rebuilt: str | None) -> FileOutcome:
    if recorded is None:
        return "only rebuilt"
    if rebuilt is None:
        return "only recorded"
    return "same" if recorded == rebuilt else "differs"


def _find_model(recipe: Recipe, manifest: Manifest, given: str | None, place: Path, cache: Cache) -> Source:
    name = given or recipe.model.source
    if given and (Path(given).is_dir() or given.startswith((".", "/", "~"))):
        name = str(Path(given).expanduser().resolve())

    wanted = f"the model {manifest.source.digest[:12]}"
    if not given and Path(name).is_absolute() and not Path(name).is_dir():
        raise RecipeError(
            f"{place} was built from {wanted} in {name}, which is not here; pass --model FOLDER, a copy of it"
        )
    local = name == "sample" or Path(name).is_absolute()
    revision = None if local else manifest.source.revision
    source = find_source(Model(source=name, revision=revision, max_length=recipe.model.max_length), cache)
    if source.digest != manifest.source.digest:
        raise IntegrityError(
            f"{name} is model {source.digest[:12]}, {place} was built from {wanted}; "
            "pass --model FOLDER with it"
        )
    return source


def _find_pairs(role: str, name: str, given: Path | None, manifest: Manifest, place: Path) -> PairSet:
    option = f"--{role}-pairs FILE"
    digest = next((used.digest for used in manifest.pairs if used.role == role), None)
    if digest is None:
        raise IntegrityError(f"{place / MANIFEST}: its recipe needs {role} pairs, and it names none")
    if given is None and not name.startswith("sample/") and not Path(name).is_file():
        raise RecipeError(
            f"{place} was built with the {role} pairs {digest[:12]} in {name}, which is not here; "
            f"pass {option}, a copy of it"
        )
    pairs = load_pairs(str(given) if given else name)
    if pairs.digest != digest:
        raise IntegrityError(
            f"{pairs.name} holds pairs {pairs.digest[:12]}, {place} was built with {digest[:12]}; "
            f"pass {option} with those"
        )
    return pairs


def _compare_scores(
    folder: Path, rebuilt: Path, manifest: Manifest, entry: VariantEntry, pairs: Sequence[Pair]
) -> ScoreComparison:
    """Score the same pairs with both builds, by one plan, since int8 scores depend on the batch."""
    plan = choose_plan(read_plans(folder, manifest).of(entry.kind), this_isa(), cores_allowed())
    ours, theirs = (Reranker.load(place, entry.kind, plan=plan).score(pairs) for place in (rebuilt, folder))
    return ScoreComparison(entry.kind, len(pairs), float(np.abs(ours - theirs).max()))
