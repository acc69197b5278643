"""The report: every measurement of an artifact with the checks it was held against, as data, JSON and Markdown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from pydantic import TypeAdapter, ValidationError

from exporter.artifact.files import PLANS, REPORT, read_sealed
from exporter.artifact.manifest import Manifest
from exporter.artifact.plans import PlanEntry, plans_sha256
from exporter.errors import IntegrityError, RecipeError
from exporter.gate import Check, Outcome, judge, outcome
from exporter.machine import Machine
from exporter.measure.fidelity import EngineDefault, Fidelity
from exporter.measure.speed import Latency, LengthSpeed, Ratio, Throughput, Utilization, speedup
from exporter.pairs import PairSet

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from exporter.recipe.schema import Bars


# 1: first version. 2: arithmetic against the machine's peak. 3: fidelity with raw scores, lengths, contents, saturation.
# 4: the field's words, checks under their bars' keys, a kind's traits, the sha256 of plans.json.
REPORT_SCHEMA = 4


@dataclass(frozen=True, slots=True)
class PairSetInfo:
    """Which pairs were scored; how they are grouped and labelled as in `PairSet`, but not their texts."""

    name: str
    digest: str
    n_pairs: int
    n_queries: int
    query_ids: tuple[str, ...]
    query_of: tuple[int, ...]
    labels: tuple[int, ...] | None

    def without_texts(self) -> PairSet:
        """Give the set as far as rankings and labels go; the texts are empty."""
        labels = None if self.labels is None else np.array(self.labels, np.int64)
        return PairSet(
            self.name, (("", ""),) * self.n_pairs, labels, np.array(self.query_of, np.int64), self.query_ids
        )


@dataclass(frozen=True, slots=True)
class ReferenceReport:
    """The PyTorch reference: its raw logits, how fast it is as it comes and at its own best plan, and its latency there."""

    source: str
    revision: str | None
    device: str
    weights_bytes: int
    default: Throughput
    tuned: Throughput
    latency: tuple[Latency, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class VariantReport:
    """One candidate: measurements, checks, verdict. Speed-ups are over the reference's `tuned` and `default`.

    `plan` is what it was run by; `engine_default` is the engine's, where that may differ from the stated one.
    """

    kind: str
    facts: tuple[str, ...]
    fidelity: Fidelity
    plan: PlanEntry
    throughput: Throughput
    utilization: Utilization
    speedup_tuned: Ratio
    speedup_default: Ratio
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
class Report:
    """All measurements of one artifact on one machine. A verdict holds for that machine's instruction set only."""

    schema: int
    name: str
    manifest_root: str
    plans_sha256: str | None
    recipe_digest: str
    started_at: str  # ISO 8601, UTC
    machine: Machine
    pairs: PairSetInfo
    reference: ReferenceReport
    variants: tuple[VariantReport, ...]
    verdict: Outcome


def rejudge(report: Report, bars: Mapping[str, Bars]) -> Report:
    """Hold a report's measurements against bars again; a kind without bars of its own keeps its old checks.

    The speed-up is taken from the recorded runs anew, so a report says the same as it did, or shows that the rule has changed.

    Raises:
        RecipeError: none of the bars is for a variant of the report.
    """
    if not set(bars) & {row.kind for row in report.variants}:
        raise RecipeError(
            f"bars for {', '.join(bars)}, but the report is of {', '.join(r.kind for r in report.variants)}"
        )
    rows = []
    for row in report.variants:
        if row.kind in bars:
            ratio = speedup(row.throughput.runs, report.reference.tuned.runs)
            checks = judge(bars[row.kind], row.fidelity, ratio)
            row = replace(row, speedup_tuned=ratio, checks=checks, verdict=outcome(checks))  # noqa: PLW2901 - judged anew
        rows.append(row)
    return replace(report, variants=tuple(rows), verdict=outcome(rows))


def read_report(folder: Path, manifest: Manifest) -> Report:
    """Read an artifact's report and check that it is about these files.

    Raises:
        RecipeError: there is none yet.
        IntegrityError: it was changed, is of another schema, or of other files than the manifest's.
    """
    if not (folder / REPORT).is_file():
        raise RecipeError(
            f"{folder} was not verified yet, it has no {REPORT}; run `exporter verify {folder}`"
        )
    report = read_report_file(folder / REPORT)
    if report.manifest_root != manifest.root:
        raise IntegrityError(
            f"{folder / REPORT} is about other files (root {report.manifest_root[:12]}, the manifest's is "
            f"{manifest.root[:12]}); run `exporter verify {folder}`"
        )
    if report.plans_sha256 != plans_sha256(folder):
        raise IntegrityError(
            f"{folder / REPORT} was measured with other plans than {folder / PLANS} has, and a plan moves the scores "
            f"of dynamic int8; run `exporter verify {folder}`"
        )
    return report


def read_report_file(path: Path) -> Report:
    """Read a report wherever it lies, without the artifact it is about.

    Raises:
        RecipeError: there is no such file.
        IntegrityError: it was changed since it was written, or is of another schema.
    """
    if not path.is_file():
        raise RecipeError(f"{path}: no such report")
    content = read_sealed(path)
    if content.get("schema") != REPORT_SCHEMA:
        raise IntegrityError(f"{path}: schema {content.get('schema')}, this exporter reads {REPORT_SCHEMA}")
    try:
        return TypeAdapter(Report).validate_python(content)
    except ValidationError as error:
        raise IntegrityError(f"{path}: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from None


def to_json(report: Report) -> bytes:
    """Give the report as JSON, for machines."""
    return TypeAdapter(Report).dump_json(report, indent=1)


def json_schema() -> dict[str, object]:
    """Give the JSON schema of report.json, its seal included."""
    schema = TypeAdapter(Report).json_schema()
    schema["properties"] = {
        "sha256": {"type": "string", "title": "Sha256 of the canonical JSON of the rest"},
        **schema["properties"],
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def pairs_info(pair_set: PairSet) -> PairSetInfo:
    return PairSetInfo(
        name=pair_set.name,
        digest=pair_set.digest,
        n_pairs=len(pair_set.pairs),
        n_queries=len(pair_set.query_ids),
        query_ids=pair_set.query_ids,
        query_of=tuple(pair_set.query_of.tolist()),
        labels=None if pair_set.labels is None else tuple(pair_set.labels.tolist()),
    )
