"""What speaks against building a recipe, found before anything is built: `plan` and `export` ask here alike.

Everything that can be known beforehand is looked at, and all that is wrong is said at once. What only shows
while a graph is exported (an operator that a library lacks, a `keep_fp32` pattern that matches nothing) is
not known here.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from exporter.artifact.cpus import fits, runs_on, saturates
from exporter.artifact.files import MANIFEST
from exporter.artifact.names import AT
from exporter.artifact.place import check_place
from exporter.errors import BackendError, BackendMissing, ExporterError, IntegrityError, RecipeError
from exporter.export.build import is_current, pair_entries
from exporter.export.source import find_source
from exporter.failures import planned
from exporter.machine import this_machine
from exporter.measure.estimate import queries_to_show, shown_at_most
from exporter.measure.reference import device_for
from exporter.owners import folder_problem
from exporter.packages import SAMPLE_PACKAGE, install, lacking
from exporter.pairs import load_pair_sets, load_pairs
from exporter.recipe.kinds import KINDS
from exporter.recipe.schema import Model, Pairs, Recipe, by_id, isa_of, path_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.context import Context
    from exporter.export.source import Source
    from exporter.pairs import PairSet
    from exporter.recipe.load import Draft

_EXTRA = "build"
# Bytes of a weight over those in float32.
_SHARES = {"fp32": 1.0, "fp16": 0.5, "int8": 0.25}


@dataclass(frozen=True, slots=True)
class Ready:
    """A recipe that nothing speaks against, with all it names; `reusable` if its artifact is there.

    `warnings` are what its user should know all the same.
    """

    recipe: Recipe
    source: Source
    verify_set: PairSet
    calibrate_set: PairSet | None
    warnings: tuple[str, ...]
    reusable: bool


@dataclass(slots=True)
class Found:
    """What was found out about a recipe.

    Attributes:
        errors: what speaks against building it.
        warnings: what does not, and moves scores or what they mean: of the model, the pairs, the bars.
        notes: what does not either, and should be known.
        sets: the pair sets for verifying and calibrating, or None where they are wrong.
        source: the model; None where it is wrong or was not fetched.
        reusable: whether the artifact is there already, and is what would be built.
    """

    errors: list[ExporterError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sets: tuple[PairSet, PairSet | None] | None = None
    source: Source | None = None
    reusable: bool = False

    def refuse(self) -> None:
        """Raise what speaks against building, if anything does.

        Raises:
            ExporterError: all of it as one, of the kind that has to be mended first.
        """
        if not self.errors:
            return
        first = min(self.errors, key=lambda error: error.exit_code)
        if len(self.errors) == 1:
            raise first
        raise type(first)("\n".join(dict.fromkeys(map(str, self.errors))))

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Keep what the block raises on purpose, and imports that fail."""
        try:
            yield
        except (ExporterError, ImportError) as error:
            self.errors.append(planned(error, _EXTRA))


def check(
    recipe: Recipe, out: Path, context: Context, *, replace_old: bool = False, judged: bool = True
) -> Ready:
    """Return a recipe with all it names, or say all that speaks against building it.

    Args:
        recipe: what would be built.
        out: the folder that holds artifacts.
        context: its cache keeps what is made of the model on the way.
        replace_old: whether an artifact of the same name may be replaced.
        judged: whether the artifact will be verified too.

    Raises:
        RecipeError: the recipe cannot be carried out, or another artifact of this name exists.
        BackendError: the hub or the disk fails, or the disk is too small.
        BackendMissing: a package, or the reference's device, is missing.
        IntegrityError: an artifact of this recipe exists, and its files were changed.
    """
    from exporter.recipe.load import Draft

    found = look(Draft.of(recipe), out, context, replace_old=replace_old, judged=judged)
    found.refuse()
    assert found.source is not None
    assert found.sets is not None
    return Ready(recipe, found.source, *found.sets, warnings=tuple(found.warnings), reusable=found.reusable)


def look(
    draft: Draft,
    out: Path,
    context: Context,
    *,
    replace_old: bool = False,
    judged: bool = True,
    fetch: bool = True,
) -> Found:
    """Find out what speaks against building a recipe; raise none of it.

    Args:
        draft: the recipe as far as it is right.
        out: see `check`.
        context: see `check`.
        replace_old: see `check`.
        judged: see `check`.
        fetch: whether a model may be fetched from the Hub; else it is not looked at.
    """
    found = Found()
    if draft.findings:
        found.errors.append(RecipeError("\n".join(draft.findings)))
    _pairs(draft, found)
    _packages(draft, found)
    if draft.model is not None:
        _model(draft.model, found, context, fetch=fetch)
    if found.source is not None:
        found.warnings += found.source.notes
        found.warnings += _borrowed(draft.pairs, found.source)
    found.warnings += _out_of_reach(draft, found)
    if draft.recipe is not None:
        if judged:
            with found.keeping():
                device_for(draft.recipe.reference.device)
        _place(draft.recipe, out, found, replace_old=replace_old)
    _scratch(found, context)
    _cpu(draft, found)
    return found


def _pairs(draft: Draft, found: Found) -> None:
    if draft.pairs is None:
        return
    try:
        found.sets = load_pair_sets(Recipe.model_construct(pairs=draft.pairs, variants=draft.variants))
    except ExporterError as error:
        found.errors.append(error)
        for name in filter(None, (draft.pairs.verify, draft.pairs.calibrate)):  # the other may be wrong too
            with found.keeping():
                load_pairs(name)


def _packages(draft: Draft, found: Found) -> None:
    kinds = [variant.kind for variant in draft.variants]
    missing = dict.fromkeys(package for kind in kinds for package in KINDS[kind].missing_packages)
    missing |= dict.fromkeys(package for package in lacking("verify") if package != SAMPLE_PACKAGE)
    if missing:
        what = f"{', '.join(kinds) or 'building'} cannot be built here, {', '.join(missing)} missing"
        found.errors.append(BackendMissing(f"{what}; {install(_EXTRA)}"))


def _model(model: Model, found: Found, context: Context, *, fetch: bool) -> None:
    if not (fetch or model.source == "sample" or Path(model.source).is_absolute()):
        found.notes.append(f"{model.source} is a Hub id; the model is fetched and checked by `export`")
        return
    try:
        with context.progress.stage("model"):
            found.source = find_source(model, context.cache)
    except ImportError as error:
        # Named already, with all the others that are missing.
        if not any(isinstance(known, BackendMissing) for known in found.errors):
            found.errors.append(planned(error, _EXTRA))
    except ExporterError as error:
        found.errors.append(error)


def _borrowed(pairs: Pairs | None, source: Source) -> list[str]:
    """Say where another model is judged on the sample's pairs."""
    named = {pairs.verify, pairs.calibrate or ""} if pairs else set()
    samples = sorted(name for name in named if name.startswith("sample/"))
    if not samples or source.name == "sample":
        return []
    return [
        f"the pairs are the sample's ({', '.join(samples)}), biomedical questions; "
        "set pairs.verify to your own for figures of your use"
    ]


def _out_of_reach(draft: Draft, found: Found) -> list[str]:
    """Name the bars that these queries could not show to be met by a candidate without a single loss."""
    if found.sets is None:
        return []
    verify, _ = found.sets
    n_of = {
        "min_ndcg_retained": int(verify.tellable.sum()),
        "min_top1_agreement": int((np.bincount(verify.query_of) > 1).sum()),
    }
    lines = []
    for variant in draft.variants:
        for name, n in n_of.items():
            bar = getattr(variant.bars, name)
            if bar is None or not n or shown_at_most(n) >= bar:
                continue
            needed = queries_to_show(bar)
            wanted = f"{needed} would" if needed else "no number of queries would"
            lines.append(
                f"{variant.kind}: {name} {bar:g} cannot be shown: {n} queries without a single loss show "
                f"{shown_at_most(n):.3f}, {wanted}"
            )
    return lines


def _place(recipe: Recipe, out: Path, found: Found, *, replace_old: bool) -> None:
    """Look at where the artifact would stand."""
    final = out / recipe.name
    with found.keeping():
        parent = check_place(final)
        if problem := folder_problem(final):
            raise IntegrityError(problem)
        if final.exists() and replace_old and not (final / MANIFEST).is_file():
            raise RecipeError(f"{final} exists and is no artifact; it is left alone, choose another place")
        if final.exists() and not replace_old:
            if found.source is None or found.sets is None:
                return  # nothing to compare it with
            found.reusable = is_current(final, recipe, found.source, pair_entries(*found.sets))
        if not found.reusable:
            _room(recipe, final, parent, found.source)


def _scratch(found: Found, context: Context) -> None:
    """Look at where steps and workers keep their files."""
    with found.keeping():
        context.cache.check()
    try:
        if problem := folder_problem(Path(tempfile.gettempdir())):
            found.errors.append(BackendError(f"temporary files: {problem}; TMPDIR says where they go"))
    except OSError as error:
        found.errors.append(BackendError(f"{error.strerror}; set TMPDIR to a folder that can be written"))


def _room(recipe: Recipe, final: Path, parent: Path, source: Source | None) -> None:
    """Check that a disk has room for the least an artifact can weigh."""
    if source is None:
        return
    files = {path_of(name, one): KINDS[one.kind].traits for name, one in recipe.by_id.items()}
    least = sum(_SHARES.get(traits.weights, 0) for traits in files.values()) * source.weights_bytes
    free = shutil.disk_usage(parent).free
    if free < least:
        raise BackendError(
            f"{final.parent}: {free / 1e6:.2f} MB are free there, and the artifact has at least "
            f"{least / 1e6:.2f}; make room, or use --out"
        )


def _cpu(draft: Draft, found: Found) -> None:
    """Note the variants that this CPU can build and not judge, or not judge rightly."""
    machine = this_machine()
    for name, variant in by_id(draft.variants).items():
        traits = KINDS[variant.kind].traits
        if not runs_on(traits, machine):
            found.notes.append(
                f"{name} is built and not judged here: it needs a CPU with {' or '.join(traits.cpu_features)}"
            )
        wanted = isa_of(variant)
        if wanted is None or fits(wanted, machine.isa):
            continue
        if AT in name:
            found.notes.append(
                f"{name} is built and not judged here: this CPU is {machine.isa}; "
                "verify the artifact on a CPU that it is for too"
            )
        else:
            whom = "CPUs whose int8 sums have 32 bits" if saturates(machine.isa) else "others"
            found.notes.append(
                f"{variant.kind} for {wanted} is for {whom}; this CPU is {machine.isa}: "
                "judge it on a CPU that it is for, or set isa: avx2"
            )
