"""Read the in-toto statements of a published folder, and hold them against its files, manifest and report.

The statements are plain JSON with typed shapes, not in-toto's protobuf classes: those have no required
fields, so that a statement without a builder would be read, and they turn the recipe's integers into floats.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, NotRequired

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from exporter.artifact.files import ATTESTATION, MANIFEST, REPORT, sha256_file
from exporter.artifact.manifest import read_manifest
from exporter.artifact.names import plain_file
from exporter.errors import IntegrityError, RecipeError
from exporter.publish.attest import (
    PROVENANCE,
    TEST_RESULT,
    Object,
    Statement,
    Subject,
    provenance_of,
    result_of,
)
from exporter.report.machines import report_path
from exporter.report.read import read_reports

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.artifact.manifest import Manifest


# Two statements name each file once; a thousand files are far below this.
_MAX_BYTES = 4 << 20


class _Subject(TypedDict):
    name: str
    digest: dict[str, str]


class _Line(TypedDict):
    _type: Literal["https://in-toto.io/Statement/v1"]
    subject: list[_Subject]
    predicateType: str
    predicate: Object


class _TestResult(TypedDict):
    result: Literal["PASSED", "WARNED", "FAILED"]
    configuration: list[Object]
    passedTests: NotRequired[list[str]]
    warnedTests: NotRequired[list[str]]
    failedTests: NotRequired[list[str]]


class _BuildDefinition(TypedDict):
    buildType: str
    externalParameters: Object
    resolvedDependencies: NotRequired[list[Object]]


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


def read_statements(folder: Path) -> tuple[Statement, ...]:
    """Read a folder's statements, and check them against its files, hashed anew, and its reports.

    What they say of recipe, model, pairs, packages and machines has to be what manifest and reports say.
    Lines of other types are passed over, as in-toto asks.
    Source: https://github.com/in-toto/attestation/blob/main/spec/v1/bundle.md#data-structure

    Raises:
        RecipeError: the folder is no artifact, was not verified, or has no statements.
        IntegrityError: a line is no statement; there is not one test result for each report and one
            provenance; or a statement does not fit the files, the manifest or its report.
    """
    manifest = read_manifest(folder)
    reports = tuple(read_reports(folder, manifest))
    path = folder / ATTESTATION
    found = [statement for statement in _read(path) if statement.predicate_type in _PREDICATES]
    results = [one.predicate for one in found if one.predicate_type == TEST_RESULT]
    provenances = [one.predicate for one in found if one.predicate_type == PROVENANCE]
    if (len(results), len(provenances)) != (len(reports), 1):
        held = ", ".join(statement.predicate_type for statement in found) or "neither"
        n = "one test result" if len(reports) == 1 else f"{len(reports)} test results"
        raise IntegrityError(f"{path}: wanted {n} and one provenance, found {held}")

    on_disk = {name: _hash(folder, name) for name in (MANIFEST, *(file.path for file in manifest.files))}
    for statement in found:
        _check_subjects(path, statement, on_disk)
    for said, report in zip(results, reports, strict=True):
        at = report_path(report.machine)
        if not (folder / at).exists():  # published before there were reports by machine
            at = REPORT
        _check_result(path, said, result_of(manifest, report, at, _hash(folder, at)), at)
    _check_provenance(path, provenances[0], manifest)
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
    """Raise unless a statement's subjects are exactly the files in `on_disk`, by name and hash."""
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


def _check_result(path: Path, said: Object, wanted: Object, at: str) -> None:
    """Raise unless a test result has its report's verdict, checks and machine, and the manifest's recipe."""
    if wrong := _differing(said, wanted):
        raise IntegrityError(
            f"{path}: {', '.join(wrong)} of the test result is not what {at} comes to; publish it again"
        )


def _check_provenance(path: Path, said: Object, manifest: Manifest) -> None:
    """Raise unless a provenance says of recipe, model, pairs and packages what the manifest says.

    Who built it is for the publisher to say, and for a signature to vouch for.
    """
    builder = TypeAdapter(_Provenance).validate_python(said)["runDetails"]["builder"]["id"]
    try:
        wanted = provenance_of(manifest, builder)
    except RecipeError as error:
        raise IntegrityError(f"{path}: {error}") from None
    if wrong := _differing(said, wanted, levels=2):
        raise IntegrityError(
            f"{path}: {', '.join(wrong)} of the provenance is not what {MANIFEST} says; publish it again"
        )


def _differing(said: Object, wanted: Object, levels: int = 1) -> list[str]:
    """Return the keys under which two objects differ, those of objects in them too, so many levels deep."""
    found = []
    for key in (*wanted, *sorted(said.keys() - wanted.keys())):
        one, other = said.get(key), wanted.get(key)
        if levels > 1 and isinstance(one, dict) and isinstance(other, dict):
            found += [f"{key}.{inner}" for inner in _differing(one, other, levels - 1)]
        elif one != other:
            found.append(key)
    return found


def _hash(folder: Path, name: str) -> str:
    try:
        return sha256_file(plain_file(folder, name))
    except OSError as error:
        raise IntegrityError(f"{folder / name}: cannot be read: {error.strerror}") from None
