"""The in-toto statements of a published folder: what the artifact was made from, and how it was judged.

Statements about the same files: a test result for each machine (its report's checks), and SLSA provenance
(the manifest's recipe, model, pairs and packages). Everything but `write_statements` is pure; they are read
in the module `statements`.

Who vouches for the statements is not known here. Each line of `attestation.intoto.jsonl` is a bare statement,
not an envelope with a signature of its own: `signature` signs the file together with all files it is about,
so that no line can be taken out or put in.

`sha256` in a statement is that of bytes anybody can hash: a file's, or the text under `recipe` in
manifest.json. Two digests have names of their own: `exporter_model` is the manifest's `source.digest` (over
the names and hashes of weights, config and tokenizer files), `exporter_pairs` a pair set's (over texts,
labels and grouping, wherever the file lies).

Source: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
Source: https://github.com/in-toto/attestation/blob/main/spec/v1/digest_set.md
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote

from pydantic import JsonValue

from exporter.artifact.canonical import canonical_json
from exporter.artifact.files import ATTESTATION, MANIFEST, sha256_file
from exporter.errors import BackendError, RecipeError
from exporter.report.machines import report_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from exporter.artifact.manifest import Manifest
    from exporter.machine import Machine
    from exporter.report.report import Report


STATEMENT = "https://in-toto.io/Statement/v1"
# Source: https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
# Source: https://slsa.dev/spec/v1.0/provenance
PROVENANCE = "https://slsa.dev/provenance/v1"
# The recipe under externalParameters: `exporter export` builds it, `exporter reproduce` builds it again.
BUILD_TYPE = "urn:exporter:build:v1"
# A machine of which nothing is known: no more than SLSA build level 1.
LOCAL_BUILDER = "urn:exporter:builder:local"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_URI = re.compile(r"[a-z][a-z0-9+.-]*:[\x21-\x7e]+")

Object: TypeAlias = dict[str, JsonValue]


@dataclass(frozen=True, order=True, slots=True)
class Subject:
    """A file a statement is about; `name` is its path in the folder."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Statement:
    """An in-toto statement: a predicate of a known type, and the files it is about."""

    subjects: tuple[Subject, ...]
    predicate_type: str
    predicate: Object

    def to_json(self) -> bytes:
        """Return the statement as one line of canonical JSON, without a line break.

        Raises:
            BackendMissing: rfc8785 is not installed.
        """
        about: list[JsonValue] = [
            {"name": one.name, "digest": {"sha256": one.sha256}} for one in self.subjects
        ]
        content: Object = {"_type": STATEMENT, "subject": about, "predicateType": self.predicate_type}
        return canonical_json(content | {"predicate": self.predicate})


def subjects(manifest: Manifest, manifest_sha256: str) -> tuple[Subject, ...]:
    """Return every file of an artifact, and the manifest itself, as subjects sorted by path."""
    files = (Subject(file.path, file.sha256) for file in manifest.files)
    return tuple(sorted((*files, Subject(MANIFEST, manifest_sha256))))


def result_of(manifest: Manifest, report: Report, path: str, report_sha256: str) -> Object:
    """Return a report's verdict and checks as a test-result predicate.

    A check without a verdict (`invalid`) is under `failedTests`. The type has three lists, and a policy takes
    a test it finds in two of them, `passedTests` "or possibly `warnedTests`", for passed; a check that was
    not decided has not passed. The extension `exporter_undecidedTests` names those of the failed checks; a
    reader that ignores the extension refuses all the same.
    Source: https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md#asserting-test-results
    Source: https://github.com/in-toto/attestation/blob/main/spec/v1/README.md#parsing-rules

    Args:
        manifest: of the files that were judged.
        report: about them.
        path: of the report in the folder, see `report_path`.
        report_sha256: of that file, which holds the measurements that the checks are about.
    """
    undecided = _tests(report, "invalid")
    return {
        **_verdict(report, path, report_sha256),
        "configuration": [_recipe(manifest), _pairs("verify", report.pairs.digest), _machine(report.machine)],
        "warnedTests": [],
        **({"exporter_undecidedTests": undecided} if undecided else {}),
    }


def provenance_of(manifest: Manifest, builder: str = LOCAL_BUILDER) -> Object:
    """Return what an artifact was built from as a SLSA provenance predicate.

    Neither time nor invocation is named: a manifest knows neither, so that two builds can have equal
        manifests.

    Args:
        manifest: of the artifact.
        builder: a URI for the machine and the people trusted to have built it.

    Raises:
        RecipeError: `builder` is no URI.
    """
    if not _URI.fullmatch(builder):
        raise RecipeError(
            f"builder {builder!r} is no URI; wanted for example https://github.com/ORG/REPO/actions"
        )
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"recipe": json.loads(manifest.recipe)},
            "resolvedDependencies": [
                _model(manifest),
                *(_pairs(used.role, used.digest) for used in manifest.pairs),
                *(_package(name, at) for name, at in manifest.tools if name != "exporter"),
            ],
        },
        "runDetails": {
            "builder": {
                "id": builder,
                "version": {"exporter": dict(manifest.tools).get("exporter", "unknown")},
            },
        },
    }


def statements(
    manifest: Manifest,
    reports: Iterable[Report],
    *,
    manifest_sha256: str,
    report_sha256: Callable[[str], str],
    builder: str = LOCAL_BUILDER,
) -> tuple[Statement, ...]:
    """Return the statements about an artifact: a test result of each machine, then the provenance.

    Args:
        manifest: of the files that were judged.
        reports: about them.
        manifest_sha256: of manifest.json.
        report_sha256: returns that of a report's file, by its path in the folder.
        builder: see `provenance_of`.

    Raises:
        RecipeError: `builder` is no URI.
    """
    about = subjects(manifest, manifest_sha256)
    at = [(report, report_path(report.machine)) for report in reports]
    results = (result_of(manifest, report, path, report_sha256(path)) for report, path in at)
    return (
        *(Statement(about, TEST_RESULT, result) for result in results),
        Statement(about, PROVENANCE, provenance_of(manifest, builder)),
    )


def write_statements(
    folder: Path, manifest: Manifest, reports: Iterable[Report], *, builder: str = LOCAL_BUILDER
) -> Path:
    """Write the statements into a folder that holds its manifest and reports already; return the file's path.

    Raises:
        RecipeError: `builder` is no URI.
        BackendError: the disk refuses.
        BackendMissing: rfc8785 is not installed.
    """
    path = folder / ATTESTATION
    try:
        made = statements(
            manifest,
            reports,
            manifest_sha256=sha256_file(folder / MANIFEST),
            report_sha256=lambda report: sha256_file(folder / report),
            builder=builder,
        )
        path.write_bytes(b"".join(statement.to_json() + b"\n" for statement in made))
    except OSError as error:
        raise BackendError(f"{path}: cannot be written: {error.strerror}") from error
    return path


def _verdict(report: Report, path: str, report_sha256: str) -> Object:
    """Return what a test result takes from the report."""
    return {
        "result": "PASSED" if report.verdict == "pass" else "FAILED",
        "passedTests": _tests(report, "pass"),
        "failedTests": [*_tests(report, "fail"), *_tests(report, "invalid")],
        "exporter_report": _file(path, report_sha256),
    }


def _tests(report: Report, outcome: str) -> list[JsonValue]:
    """Return the names of all variants' checks that have this outcome."""
    return [
        f"{row.kind}: {check.name}"
        for row in report.variants
        for check in row.checks
        if check.outcome == outcome
    ]


def _recipe(manifest: Manifest) -> Object:
    return _file("recipe", hashlib.sha256(manifest.recipe.encode()).hexdigest())


def _file(name: str, sha256: str) -> Object:
    return {"name": name, "digest": {"sha256": sha256}, "mediaType": "application/json"}


def _pairs(role: str, digest: str) -> Object:
    return {"name": f"pairs.{role}", "digest": {"exporter_pairs": digest}}


def _machine(machine: Machine) -> Object:
    """Return the machine of the measurement in short: a policy needs its instruction set."""
    found: Object = {name: getattr(machine, name) for name in ("cpu", "isa", "n_cores", "system", "python")}
    return {
        "name": "machine",
        "content": base64.b64encode(canonical_json(found)).decode(),
        "mediaType": "application/json",
    }


def _model(manifest: Manifest) -> Object:
    source = manifest.source
    digest: Object = {"exporter_model": source.digest}
    model: Object = {"name": "model", "digest": digest}
    if source.revision:
        model["uri"] = _purl("huggingface", source.source, source.revision)
        if _COMMIT.fullmatch(source.revision):
            digest["gitCommit"] = source.revision
    return model


def _package(name: str, version: str) -> Object:
    return {"uri": _purl("pypi", name, version)}


def _purl(kind: str, name: str, version: str) -> str:
    """Return a package URL; `name` may have an owner before a slash.

    Source: https://github.com/package-url/purl-spec/blob/main/purl-specification.md
    """
    return f"pkg:{kind}/{quote(name, safe='/')}@{quote(version, safe='')}"
