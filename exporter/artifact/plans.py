"""The execution plans of an artifact, as they were measured: plans.json, beside the manifest and not in it.

How fast a plan is, is a property of a machine, and says nothing of what was built: so two builds have equal
manifests, and measuring on one machine more changes no hash of them. The file carries its own sha256, and the
manifest's root so that it cannot be taken for another artifact's.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from exporter.artifact.access import changing
from exporter.artifact.files import (
    PLANS,
    Cores,
    Line,
    Rate,
    Sha256,
    Tokens,
    from_python,
    read_sealed,
    sealed,
    to_python,
    write_together,
)
from exporter.artifact.manifest import read_manifest
from exporter.errors import IntegrityError
from exporter.invocation import command

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from exporter.artifact.manifest import Manifest

# 2: verdicts. 1: first version; before, plans stood in the manifest.
PLANS_SCHEMA = 2
# Those that are read: the first lacks verdicts, which then nobody has found yet.
_READ = (1, PLANS_SCHEMA)


@dataclass(frozen=True, slots=True)
class SweepRow:
    """A plan that was tried, and how fast it was."""

    workers: Cores
    threads: Cores
    token_budget: Tokens
    pairs_per_s: Rate


@dataclass(frozen=True, slots=True)
class PlanEntry:
    """The fastest plan of a variant on CPUs of one class.

    `workers` run side by side with `threads` each, on batches of at most `token_budget` padded tokens. `isa`
    and `n_cores` say where it was measured; `sweep` holds every plan tried.
    """

    isa: Line
    n_cores: Cores
    workers: Cores
    threads: Cores
    token_budget: Tokens
    sweep: tuple[SweepRow, ...]


@dataclass(frozen=True, slots=True)
class VerdictEntry:
    """How a variant was judged on CPUs of one class, and how fast it was there at its best plan."""

    isa: Line
    n_cores: Cores
    verdict: Literal["pass", "fail", "invalid", "not judged"]
    pairs_per_s: Rate


@dataclass(frozen=True, slots=True)
class Plans:
    """The measured plans and the verdicts of every variant, by id.

    `manifest_root` stands for the files that ran. The proof of a verdict is the reports; it stands here so
    that the fastest variant that passed can be chosen where no report is read, and is held against them where
    they are, see `exporter.report.machines`.
    """

    schema: int
    manifest_root: Sha256
    plans: dict[Line, tuple[PlanEntry, ...]]
    verdicts: dict[Line, tuple[VerdictEntry, ...]] = field(default_factory=dict)

    def of(self, kind: str) -> tuple[PlanEntry, ...]:
        """Return the plans measured for a kind, one per CPU class and number of cores, maybe none."""
        return self.plans.get(kind, ())

    def only(self, kinds: Collection[str], manifest_root: str) -> Plans:
        """Return what is about some variants, for an artifact with these only."""
        plans = {kind: found for kind, found in self.plans.items() if kind in kinds}
        verdicts = {kind: found for kind, found in self.verdicts.items() if kind in kinds}
        return Plans(self.schema, manifest_root, plans, verdicts)


def no_plans(manifest: Manifest) -> Plans:
    """Return the plans of an artifact that was not measured yet."""
    return Plans(PLANS_SCHEMA, manifest.root, {})


def write_plans(plans: Plans, folder: Path) -> None:
    """Write plans.json into an artifact.

    Raises:
        BackendError: the disk refuses.
    """
    write_together(folder, {PLANS: plans_bytes(plans)})


def plans_bytes(plans: Plans) -> bytes:
    """Return plans.json as it is written."""
    return sealed(to_python(plans))


def keep_plans(plans: Plans, folder: Path) -> Plans:
    """Add plans to those that stand in an artifact; return all that stand there then.

    A plan that another process kept meanwhile for the same machines stays, so that two that measure at a time
    measure with the same one.

    Args:
        plans: as read from the artifact, and those found since.
        folder: the artifact's.

    Raises:
        NoVerdict: the folder holds another artifact by now.
        BackendError: the disk refuses.
        IntegrityError: what stands there was changed, see `read_plans`.
    """
    with changing(folder, plans.manifest_root):
        there = read_plans(folder, read_manifest(folder))
        merged = {kind: _merged(there.of(kind), plans.of(kind)) for kind in {**there.plans, **plans.plans}}
        found = replace(there, plans=merged)
        if found != there:
            write_plans(found, folder)
    return found


def _merged(there: tuple[PlanEntry, ...], ours: tuple[PlanEntry, ...]) -> tuple[PlanEntry, ...]:
    known = {(entry.isa, entry.n_cores) for entry in there}
    return (*there, *(entry for entry in ours if (entry.isa, entry.n_cores) not in known))


def read_plans(folder: Path, manifest: Manifest) -> Plans:
    """Read an artifact's plans.json; without one there are no plans, and the runtime takes its default.

    Raises:
        IntegrityError: the file was changed since it was written, is of another schema, is about other files
            than the manifest's, or says what no measurement of ours says.
    """
    path = folder / PLANS
    if not os.path.lexists(path):
        return no_plans(manifest)

    content = read_sealed(path)
    if content.get("schema") not in _READ:
        raise IntegrityError(f"{path}: schema {content.get('schema')}, this exporter reads {PLANS_SCHEMA}")
    try:
        plans = from_python(Plans, {**content, "schema": PLANS_SCHEMA})
    except ValidationError as error:
        first = error.errors()[0]
        raise IntegrityError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if plans.manifest_root != manifest.root:
        raise IntegrityError(
            f"{path} is about other files (root {plans.manifest_root[:12]}, the manifest's is "
            f"{manifest.root[:12]}); delete it, and run `{command('verify', folder)}`"
        )
    for kind, entries in plans.plans.items():
        for entry in entries:
            if entry.workers * entry.threads > entry.n_cores:
                what = f"{entry.workers}x{entry.threads} for {entry.n_cores} cores"
                raise IntegrityError(f"{path}: {kind} has a plan of {what}")
    return plans
