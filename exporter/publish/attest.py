"""Say in in-toto's words what an artifact was made from and how it was judged.

Two statements about the same files: a test result (the report's checks) and SLSA provenance (the manifest's recipe, model, pairs
and packages). Everything but `write_statements` and `read_statements` is pure.

Who vouches for the statements is not known here. Each line of `attestation.intoto.jsonl` is a bare statement, not an envelope
with a signature of its own: `signature` signs the file together with all it speaks of, so no line can be taken out or put in.

`sha256` in a statement is that of bytes anybody can hash: a file's, or the text under `recipe` in manifest.json. Two digests are
not, and have names of their own: `exporter_model` is the manifest's `source.digest` (over the names and hashes of weights, config
and tokenizer files), `exporter_pairs` a pair set's (over texts, labels and grouping, wherever the file lies).
Source: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
Source: https://github.com/in-toto/attestation/blob/main/spec/v1/digest_set.md
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NotRequired, TypeAlias
from urllib.parse import quote

from pydantic import JsonValue, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from exporter.artifact.files import ATTESTATION, MANIFEST, REPORT, plain_file, sha256_file
from exporter.artifact.manifest import read_manifest
from exporter.errors import BackendError, IntegrityError, RecipeError
from exporter.report.report import read_report

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.artifact.manifest import Manifest
    from exporter.machine import Machine
    from exporter.report.report import Report


STATEMENT = "https://in-toto.io/Statement/v1"
# Source: https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
# Source: https://slsa.dev/spec/v1.0/provenance
PROVENANCE = "https://slsa.dev/provenance/v1"
# What the recipe under externalParameters means: `exporter export` builds it, `exporter reproduce` builds it again.
BUILD_TYPE = "urn:exporter:build:v1"
# Somebody's machine, nothing known of it: no more than SLSA build level 1.
LOCAL_BUILDER = "urn:exporter:builder:local"
# Two statements name each file once; a thousand files are far below this.
_MAX_BYTES = 4 << 20
_COMMIT = re.compile(r"[0-9a-f]{40}")
_URI = re.compile(r"[a-z][a-z0-9+.-]*:[\x21-\x7e]+")

Json: TypeAlias = JsonValue
_Object: TypeAlias = dict[str, Json]


class _Subject(TypedDict):
    name: str
    digest: dict[str, str]


class _Line(TypedDict):
    _type: Literal["https://in-toto.io/Statement/v1"]
    subject: list[_Subject]
    predicateType: str
    predicate: _Object


class _TestResult(TypedDict):
    result: Literal["PASSED", "WARNED", "FAILED"]
    configuration: list[_Object]
    passedTests: NotRequired[list[str]]
    warnedTests: NotRequired[list[str]]
    failedTests: NotRequired[list[str]]


class _BuildDefinition(TypedDict):
    buildType: str
    externalParameters: _Object
    resolvedDependencies: NotRequired[list[_Object]]


class _Builder(TypedDict):
    id: str


class _RunDetails(TypedDict):
    builder: _Builder


class _Provenance(TypedDict):
    buildDefinition: _BuildDefinition
    runDetails: _RunDetails


_PREDICATES: dict[str, TypeAdapter[_TestResult] | TypeAdapter[_Provenance]] = {
    TEST_RESULT: TypeAdapter(_TestResult),
    PROVENANCE: TypeAdapter(_Provenance),
}


@dataclass(frozen=True, order=True, slots=True)
class Subject:
    """A file a statement is about; `name` is its path in the folder."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Statement:
    """An in-toto statement: something of a known type, said of files."""

    subjects: tuple[Subject, ...]
    predicate_type: str
    predicate: _Object

    def to_json(self) -> bytes:
        """Give the statement as one line of canonical JSON, without its end."""
        return _canonical(
            {
                "_type": STATEMENT,
                "subject": [
                    {"name": subject.name, "digest": {"sha256": subject.sha256}} for subject in self.subjects
                ],
                "predicateType": self.predicate_type,
                "predicate": self.predicate,
            }
        )


def subjects(manifest: Manifest, manifest_sha256: str) -> tuple[Subject, ...]:
    """Name every file of an artifact and the manifest itself, sorted by path."""
    files = (Subject(file.path, file.sha256) for file in manifest.files)
    return tuple(sorted((*files, Subject(MANIFEST, manifest_sha256))))


def result_of(manifest: Manifest, report: Report, report_sha256: str) -> _Object:
    """Give a report's verdict and checks as a test-result predicate.

    A check without a verdict (`invalid`) is under `failedTests`. The type has three lists, and a policy takes a test it finds in
    two of them, `passedTests` "or possibly `warnedTests`", for passed; one that was not decided has not passed. The extension
    `exporter_undecidedTests` says which of the failed those are; who ignores it refuses all the same.
    Source: https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md#asserting-test-results
    Source: https://github.com/in-toto/attestation/blob/main/spec/v1/README.md#parsing-rules

    Args:
        manifest: of the files that were judged.
        report: about them.
        report_sha256: of report.json, where the measurements stand that the checks are about.
    """
    found = {outcome: _tests(report, outcome) for outcome in ("pass", "fail", "invalid")}
    predicate: _Object = {
        "result": "PASSED" if report.verdict == "pass" else "FAILED",
        "configuration": [_recipe(manifest), _pairs("verify", report.pairs.digest), _machine(report.machine)],
        "passedTests": list(found["pass"]),
        "warnedTests": [],
        "failedTests": [*found["fail"], *found["invalid"]],
        "exporter_report": {
            "name": REPORT,
            "digest": {"sha256": report_sha256},
            "mediaType": "application/json",
        },
    }
    if found["invalid"]:
        predicate["exporter_undecidedTests"] = list(found["invalid"])
    return predicate


def provenance_of(manifest: Manifest, manifest_sha256: str, builder: str = LOCAL_BUILDER) -> _Object:
    """Give what an artifact was built from as a SLSA provenance predicate.

    When it was built stands nowhere: a manifest has no clock, so that building again can give the same one. `invocationId` is the
    manifest's hash, which the plans measured in that build make its own.

    Args:
        manifest: of the artifact.
        manifest_sha256: of manifest.json.
        builder: a URI for the machine and the people trusted to have built it.

    Raises:
        RecipeError: `builder` is no URI.
    """
    if not _URI.fullmatch(builder):
        raise RecipeError(
            f"builder {builder!r} is no URI; wanted for example https://github.com/ORG/REPO/actions"
        )
    versions = dict(manifest.tools)
    packages: list[Json] = [
        {"uri": _purl("pypi", name, version)} for name, version in manifest.tools if name != "exporter"
    ]
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"recipe": json.loads(manifest.recipe)},
            "resolvedDependencies": [
                _model(manifest),
                *(_pairs(used.role, used.digest) for used in manifest.pairs),
                *packages,
            ],
        },
        "runDetails": {
            "builder": {"id": builder, "version": {"exporter": versions.get("exporter", "unknown")}},
            "metadata": {"invocationId": f"sha256:{manifest_sha256}"},
        },
    }


def statements(
    manifest: Manifest,
    report: Report,
    *,
    manifest_sha256: str,
    report_sha256: str,
    builder: str = LOCAL_BUILDER,
) -> tuple[Statement, ...]:
    """Give both statements about an artifact: the test result, then the provenance.

    Raises:
        RecipeError: `builder` is no URI.
    """
    about = subjects(manifest, manifest_sha256)
    return (
        Statement(about, TEST_RESULT, result_of(manifest, report, report_sha256)),
        Statement(about, PROVENANCE, provenance_of(manifest, manifest_sha256, builder)),
    )


def write_statements(
    folder: Path, manifest: Manifest, report: Report, *, builder: str = LOCAL_BUILDER
) -> Path:
    """Write the statements into a folder that holds its manifest and report already, and give the file.

    Raises:
        RecipeError: `builder` is no URI.
        BackendError: the disk refuses.
    """
    path = folder / ATTESTATION
    try:
        made = statements(
            manifest,
            report,
            manifest_sha256=sha256_file(folder / MANIFEST),
            report_sha256=sha256_file(folder / REPORT),
            builder=builder,
        )
        path.write_bytes(b"".join(statement.to_json() + b"\n" for statement in made))
    except OSError as error:
        raise BackendError(f"{path}: cannot be written: {error.strerror}") from error
    return path


def read_statements(folder: Path) -> tuple[Statement, ...]:
    """Read a folder's statements and check that they are about its files, hashed anew, and say what its report says.

    Lines of other types are passed over, as in-toto asks.
    Source: https://github.com/in-toto/attestation/blob/main/spec/v1/bundle.md#data-structure

    Raises:
        RecipeError: the folder is no artifact, was not verified, or has no statements.
        IntegrityError: a line is no statement, one of the two types is missing or stands twice, or what it says is not so.
    """
    manifest = read_manifest(folder)
    report = read_report(folder, manifest)
    path = folder / ATTESTATION
    found = [statement for statement in _read(path) if statement.predicate_type in _PREDICATES]
    if sorted(statement.predicate_type for statement in found) != sorted(_PREDICATES):
        held = ", ".join(statement.predicate_type for statement in found) or "neither"
        raise IntegrityError(f"{path}: wanted one test result and one provenance, found {held}")
    on_disk = {
        name: _hash(folder, name) for name in sorted({MANIFEST, *(file.path for file in manifest.files)})
    }
    for statement in found:
        _check_subjects(path, statement, on_disk)
    _check_result(
        path,
        next(s.predicate for s in found if s.predicate_type == TEST_RESULT),
        report,
        _hash(folder, REPORT),
    )
    return tuple(found)


def _read(path: Path) -> list[Statement]:
    if not os.path.lexists(path):
        raise RecipeError(f"{path.parent} has no {ATTESTATION}; publish it again with `exporter publish`")
    plain_file(path.parent, path.name)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise IntegrityError(f"{path}: larger than {_MAX_BYTES >> 20} MiB, which no attestation is")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path}: cannot be read as text: {error}") from None
    return [_parsed(f"{path}:{number}", line) for number, line in enumerate(lines, 1) if line.strip()]


def _parsed(where: str, line: str) -> Statement:
    try:
        content = TypeAdapter(_Line).validate_json(line, strict=True)
        if adapter := _PREDICATES.get(content["predicateType"]):
            adapter.validate_python(content["predicate"], strict=True)
    except ValidationError as error:
        problem = error.errors()[0]
        loc = ".".join(str(step) for step in problem["loc"]) or "line"
        raise IntegrityError(f"{where}: no in-toto statement: {loc}: {problem['msg']}") from None
    about = (Subject(subject["name"], subject["digest"].get("sha256", "")) for subject in content["subject"])
    return Statement(tuple(about), content["predicateType"], content["predicate"])


def _check_subjects(path: Path, statement: Statement, on_disk: dict[str, str]) -> None:
    """Stop unless a statement's subjects are exactly these files."""
    said = {subject.name: subject.sha256 for subject in statement.subjects}
    parts = {
        "not in the folder": said.keys() - on_disk.keys(),
        "not in the statement": on_disk.keys() - said.keys(),
        "other bytes": {name for name in said.keys() & on_disk.keys() if said[name] != on_disk[name]},
    }
    if any(parts.values()) or len(said) != len(statement.subjects):
        text = "; ".join(f"{word}: {', '.join(sorted(names))}" for word, names in parts.items() if names)
        raise IntegrityError(
            f"{path}: {statement.predicate_type} is about other files: {text or 'a name stands twice'}"
        )


def _check_result(path: Path, said: _Object, report: Report, report_sha256: str) -> None:
    """Stop unless a test result is what the report comes to."""
    failed = [*_tests(report, "fail"), *_tests(report, "invalid")]
    wanted: _Object = {
        "result": "PASSED" if report.verdict == "pass" else "FAILED",
        "passedTests": list(_tests(report, "pass")),
        "failedTests": list(failed),
        "exporter_report": {
            "name": REPORT,
            "digest": {"sha256": report_sha256},
            "mediaType": "application/json",
        },
    }
    if wrong := [key for key, value in wanted.items() if said.get(key) != value]:
        raise IntegrityError(
            f"{path}: {', '.join(wrong)} of the test result is not what {REPORT} comes to; publish it again"
        )


def _hash(folder: Path, name: str) -> str:
    try:
        return sha256_file(plain_file(folder, name))
    except OSError as error:
        raise IntegrityError(f"{folder / name}: cannot be read: {error.strerror}") from None


def _tests(report: Report, outcome: str) -> tuple[str, ...]:
    """Name the checks of all variants that ended so."""
    return tuple(
        f"{row.kind}: {check.name}"
        for row in report.variants
        for check in row.checks
        if check.outcome == outcome
    )


def _recipe(manifest: Manifest) -> _Object:
    sha256 = hashlib.sha256(manifest.recipe.encode()).hexdigest()
    return {"name": "recipe", "digest": {"sha256": sha256}, "mediaType": "application/json"}


def _pairs(role: str, digest: str) -> _Object:
    return {"name": f"pairs.{role}", "digest": {"exporter_pairs": digest}}


def _machine(machine: Machine) -> _Object:
    """Describe where it was measured in less than a kilobyte; an int8 verdict holds for its instruction set only."""
    found = {name: getattr(machine, name) for name in ("cpu", "isa", "n_cores", "system", "python")}
    return {
        "name": "machine",
        "content": base64.b64encode(_canonical(found)).decode(),
        "mediaType": "application/json",
    }


def _model(manifest: Manifest) -> _Object:
    source = manifest.source
    digest: _Object = {"exporter_model": source.digest}
    model: _Object = {"name": "model", "digest": digest}
    if source.revision:
        model["uri"] = _purl("huggingface", source.source, source.revision)
        if _COMMIT.fullmatch(source.revision):
            digest["gitCommit"] = source.revision
    return model


def _purl(kind: str, name: str, version: str) -> str:
    """Give a package URL; `name` may have an owner before a slash.

    Source: https://github.com/package-url/purl-spec/blob/main/purl-specification.md
    """
    return f"pkg:{kind}/{quote(name, safe='/')}@{quote(version, safe='')}"


def _canonical(content: _Object) -> bytes:
    return json.dumps(
        content, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
    ).encode()
