"""The report as data, and report.json: every measurement of an artifact with the checks held against it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from exporter.artifact.cpus import why_not_judged
from exporter.artifact.manifest import Manifest, Traits
from exporter.artifact.names import kind_of
from exporter.artifact.plans import PlanEntry
from exporter.errors import RecipeError
from exporter.gate import Check, Outcome, judge, outcome
from exporter.machine import Machine
from exporter.measure.fidelity import EngineDefault, Fidelity
from exporter.measure.reference import Bf16Difference
from exporter.measure.speed import Latency, LengthSpeed, Ratio, Throughput, Utilization
from exporter.pairs import whole_if_possible
from exporter.recipe.schema import SpeedOver
from exporter.worker.job import TorchDtype

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.artifact.manifest import VariantEntry
    from exporter.measure.run import Measurements
    from exporter.measure.workspace import Workspace
    from exporter.pairs import PairSet
    from exporter.recipe.schema import Bars


# 6: the sha256 of plans.json went, in which other machines have rows. 5: estimates with their intervals,
# queries that cannot tell, checks with what they rest on. 4: the field's words, checks under their bars'
# keys, a kind's traits, the sha256 of plans.json, variants that this CPU cannot run. 3: fidelity with raw
# scores, lengths, contents, saturation. 2: arithmetic against the machine's peak. 1: first version.
REPORT_SCHEMA = 6
# Those that are read: the one before says one thing more, which is not asked any longer.
READ_SCHEMAS = (5, REPORT_SCHEMA)


@dataclass(frozen=True, slots=True)
class PairSetInfo:
    """Which pairs were scored; how they are grouped and labelled as in `PairSet`, but not their texts."""

    name: str
    digest: str
    n_pairs: int
    n_queries: int
    query_ids: tuple[str, ...]
    query_of: tuple[int, ...]
    labels: tuple[int | float, ...] | None


@dataclass(frozen=True, slots=True)
class ReferenceReport:
    """The PyTorch reference: raw logits, speed with default arguments and at its best plan, latency there.

    `bfloat16` is the speed of the same model in that type at its own best plan, `bf16_difference` how far its
    scores are off; None where the CPU has no units for it. `speed_over` is the recipe's, `judged_over` the
    type that speed bars are held against. `notes` are the manifest's on its model, for people.
    """

    source: str
    revision: str | None
    device: str
    weights_bytes: int
    default: Throughput
    tuned: Throughput
    bfloat16: Throughput | None
    bf16_difference: Bf16Difference | None
    speed_over: SpeedOver
    judged_over: TorchDtype
    latency: tuple[Latency, ...]
    scores: tuple[float, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VariantReport:
    """One candidate: measurements, checks, verdict; speed-ups over `tuned`, `default` and `bfloat16` PyTorch.

    `files_digest` is one sha256 over the files it is scored with; `plan` is what the variant was run by;
    `engine_default` is accuracy and speed at the engine's default numerics, None where these are the pinned
    ones.
    """

    kind: str
    files_digest: str
    facts: tuple[str, ...]
    fidelity: Fidelity
    plan: PlanEntry
    throughput: Throughput
    utilization: Utilization | None
    speedup_tuned: Ratio
    speedup_default: Ratio
    speedup_bf16: Ratio | None
    latency: tuple[Latency, ...]
    length_speeds: tuple[LengthSpeed, ...]
    engine_default: EngineDefault | None
    checks: tuple[Check, ...]
    verdict: Outcome

    @property
    def outcome(self) -> Outcome:
        """The verdict, under the name `gate.outcome` reduces."""
        return self.verdict


@dataclass(frozen=True, slots=True)
class NotJudged:
    """A variant that the machine of this report cannot run: built, and neither measured nor judged here."""

    kind: str
    traits: Traits
    why: str


@dataclass(frozen=True, slots=True)
class Report:
    """All measurements of one artifact on one machine; a verdict holds for its instruction set only.

    `left_out` names what was left out when it was published, such as texts; empty where nothing was.
    """

    schema: int
    name: str
    manifest_root: str
    recipe_digest: str
    started_at: str  # ISO 8601, UTC
    machine: Machine
    pairs: PairSetInfo
    reference: ReferenceReport
    variants: tuple[VariantReport, ...]
    not_judged: tuple[NotJudged, ...]
    verdict: Outcome
    left_out: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """The verdict, under the name `gate.outcome` reduces."""
        return self.verdict


def assemble(
    workspace: Workspace,
    measured: Measurements,
    checks: Mapping[str, tuple[Check, ...]],
    started_at: str,
) -> Report:
    """Build the report of an artifact from what was measured and how it was judged.

    Args:
        workspace: the artifact.
        measured: all that was measured of it.
        checks: of every measured variant, by kind.
        started_at: ISO 8601, UTC.
    """
    manifest, source, reference = workspace.manifest, workspace.source, measured.reference
    rows = tuple(
        VariantReport(
            kind=one.kind,
            files_digest=_files_digest(manifest, one.entry),
            facts=one.entry.facts,
            fidelity=one.fidelity,
            plan=one.plan,
            throughput=one.throughput,
            utilization=one.utilization,
            speedup_tuned=one.speedup_tuned,
            speedup_default=one.speedup_default,
            speedup_bf16=one.speedup_bf16,
            latency=one.latency,
            length_speeds=one.length_speeds,
            engine_default=one.engine_default,
            checks=checks[one.kind],
            verdict=outcome(checks[one.kind]),
        )
        for one in measured.variants
    )
    return Report(
        schema=REPORT_SCHEMA,
        name=manifest.name,
        manifest_root=manifest.root,
        recipe_digest=manifest.recipe_digest,
        started_at=started_at,
        machine=workspace.machine,
        pairs=pairs_info(workspace.pair_set),
        reference=ReferenceReport(
            source=source.name,
            revision=source.revision,
            device=reference.device,
            weights_bytes=source.weights_bytes,
            default=reference.default,
            tuned=reference.tuned,
            bfloat16=reference.bfloat16,
            bf16_difference=reference.bf16_difference,
            speed_over=reference.speed_over,
            judged_over=reference.judged_over,
            latency=reference.latency,
            scores=tuple(map(float, reference.scores.scores)),
            notes=(*manifest.source.notes, *reference.notes),
        ),
        variants=rows,
        not_judged=tuple(
            NotJudged(entry.kind, entry.traits, why_not_judged(entry, workspace.machine))
            for entry in workspace.not_runnable
        ),
        verdict=outcome(rows),
    )


def _files_digest(manifest: Manifest, entry: VariantEntry) -> str:
    """Return one sha256 over what decides a variant's scores: its own files, and those that all share."""
    others = {path for other in manifest.variants if other != entry for path in other.files}
    lines = sorted(
        f"{file.path}\0{file.sha256}\n"
        for file in manifest.files
        if file.path in entry.files or file.path not in others
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def rejudge(report: Report, bars: Mapping[str, Bars]) -> Report:
    """Hold a report's measurements against bars again; a variant without bars keeps its old checks.

    Bars are by a variant's id, or by a bare kind for all its variants that have none by their id.

    A report holds every interval that is held against a bar: judging needs no statistics library, and a
    report judged again by the same rules is the same report.

    Raises:
        RecipeError: none of the bars is for a variant of the report.
    """
    kinds = [*(row.kind for row in report.variants), *(row.kind for row in report.not_judged)]
    if not set(bars) & {name for kind in kinds for name in (kind, kind_of(kind))}:
        raise RecipeError(f"bars for {', '.join(bars)}, but the report is of {', '.join(kinds)}")

    rows = []
    for row in report.variants:
        if (own := bars.get(row.kind) or bars.get(kind_of(row.kind))) is not None:
            over_bf16 = report.reference.judged_over == "bfloat16"
            ratio = row.speedup_bf16 if over_bf16 else row.speedup_tuned
            checks = judge(own, row.fidelity, ratio)
            row = replace(row, checks=checks, verdict=outcome(checks))  # noqa: PLW2901 - judged anew
        rows.append(row)
    return replace(report, variants=tuple(rows), verdict=outcome(rows))


def why_stale(report: Report, machine: Machine) -> str | None:
    """Return why a stored report cannot stand for a measurement on this machine; None if it can."""
    if report.verdict == "invalid":
        return f"the report of {report.started_at} is invalid"
    if found := report.machine.differences(machine):
        return f"the report is of another machine or other packages ({', '.join(found)})"
    return None


def pairs_info(pair_set: PairSet) -> PairSetInfo:
    """Return what a report holds of a pair set."""
    return PairSetInfo(
        name=pair_set.name,
        digest=pair_set.digest,
        n_pairs=len(pair_set.pairs),
        n_queries=len(pair_set.query_ids),
        query_ids=pair_set.query_ids,
        query_of=tuple(pair_set.query_of.tolist()),
        labels=None if pair_set.labels is None else tuple(map(whole_if_possible, pair_set.labels.tolist())),
    )
