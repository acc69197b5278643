"""The attestation: what a verdict and a build become in in-toto's words, and what a reader refuses."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
from typing import TYPE_CHECKING

import pytest

from exporter.artifact.files import ATTESTATION, sha256_file
from exporter.artifact.manifest import read_manifest, write_manifest
from exporter.errors import BackendError, IntegrityError, RecipeError
from exporter.gate import Check, Outcome, outcome
from exporter.publish.attest import (
    LOCAL_BUILDER,
    PROVENANCE,
    STATEMENT,
    TEST_RESULT,
    provenance_of,
    result_of,
    statements,
    write_statements,
)
from exporter.publish.statements import read_statements
from exporter.report.report import Report
from tests.factories import FILES, a_report, a_variant_report, an_artifact, write_report_data

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from exporter.artifact.manifest import Manifest

HASH = "4" * 64


def attested(folder: Path, *outcomes: Outcome) -> tuple[Manifest, Report]:
    """Write an artifact of one variant whose checks ended so, its report and its attestation."""
    manifest = an_artifact(folder)
    report = judged(manifest, *outcomes or ("pass",))
    write_report_data(report, folder)
    write_statements(folder, manifest, (report,))
    return manifest, report


def judged(manifest: Manifest, *outcomes: Outcome) -> Report:
    """Return a report whose first variant has a check of each outcome, named by its position."""
    checks = tuple(Check(f"check {i}", 0.5, "≥ 0.5", found) for i, found in enumerate(outcomes))
    rows = (a_variant_report("onnx", checks=checks, verdict=outcome(checks)),)
    return a_report(manifest_root=manifest.root, variants=rows, verdict=outcome(rows))


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / ATTESTATION).read_text(encoding="utf-8").splitlines()]


def rewrite(folder: Path, change: Callable[[list[dict[str, object]]], None]) -> None:
    """Change the attestation as somebody who can write JSON would."""
    content = lines(folder)
    change(content)
    (folder / ATTESTATION).write_text("".join(json.dumps(line) + "\n" for line in content), encoding="utf-8")


def test_two_statements_about_every_file(tmp_path: Path) -> None:
    """Each line is a Statement v1 about all files of the manifest, and the manifest, with their hashes."""
    attested(tmp_path)
    content = lines(tmp_path)
    assert [line["predicateType"] for line in content] == [TEST_RESULT, PROVENANCE]
    for line in content:
        assert line["_type"] == STATEMENT
        subjects = {subject["name"]: subject["digest"] for subject in line["subject"]}
        assert subjects == {
            name: {"sha256": sha256_file(tmp_path / name)} for name in ("manifest.json", *FILES)
        }


def test_same_artifact_gives_the_same_bytes(tmp_path: Path) -> None:
    """No clock and no chance: writing again changes nothing, and a provenance names no invocation."""
    manifest, report = attested(tmp_path)
    before = (tmp_path / ATTESTATION).read_bytes()
    write_statements(tmp_path, manifest, (report,))
    assert (tmp_path / ATTESTATION).read_bytes() == before
    assert b"invocation" not in before


def test_read_gives_what_was_written(tmp_path: Path) -> None:
    """A reader gets the values the writer had."""
    manifest, report = attested(tmp_path)
    made = statements(
        manifest,
        (report,),
        manifest_sha256=sha256_file(tmp_path / "manifest.json"),
        report_sha256=lambda path: sha256_file(tmp_path / path),
    )
    assert read_statements(tmp_path) == made


@pytest.mark.parametrize(
    ("outcomes", "result", "passed", "failed"),
    [
        (("pass", "pass"), "PASSED", ["onnx: check 0", "onnx: check 1"], []),
        (("pass", "fail"), "FAILED", ["onnx: check 0"], ["onnx: check 1"]),
        (("pass", "invalid"), "FAILED", ["onnx: check 0"], ["onnx: check 1"]),
        (("invalid", "fail"), "FAILED", [], ["onnx: check 1", "onnx: check 0"]),
    ],
)
def test_undecided_is_not_passed(
    tmp_path: Path, outcomes: tuple[Outcome, ...], result: str, passed: list[str], failed: list[str]
) -> None:
    """A check without a verdict is in no list that a policy takes for passed."""
    manifest = an_artifact(tmp_path)
    found = result_of(manifest, judged(manifest, *outcomes), "reports/x.json", HASH)
    assert found["result"] == result
    assert found["passedTests"] == passed
    assert found["failedTests"] == failed
    assert found["warnedTests"] == []
    undecided = [f"onnx: check {i}" for i, outcome in enumerate(outcomes) if outcome == "invalid"]
    assert found.get("exporter_undecidedTests", []) == undecided


def test_configuration_says_what_was_asked_on_what_and_where(tmp_path: Path) -> None:
    """Recipe and pairs are named by digest, the machine with the instruction set of the verdict."""
    manifest = an_artifact(tmp_path)
    report = judged(manifest, "pass")
    recipe, pairs, machine = result_of(manifest, report, "reports/x.json", HASH)["configuration"]
    assert recipe["digest"] == {"sha256": hashlib.sha256(manifest.recipe.encode()).hexdigest()}
    assert pairs["digest"] == {"exporter_pairs": report.pairs.digest}
    assert json.loads(base64.b64decode(machine["content"]))["isa"] == "avx2"


def test_provenance_names_recipe_model_pairs_and_packages(tmp_path: Path) -> None:
    """The provenance has the resolved recipe, and all that it refers to by digest or version."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    manifest = an_artifact(tmp_path, tools=(("exporter", "0.5"), ("torch", "2.13.0+cpu")))
    manifest = dataclasses.replace(
        manifest, source=dataclasses.replace(manifest.source, source="org/tiny", revision=commit)
    )
    found = provenance_of(manifest, "https://github.com/org/repo/actions")
    assert found["buildDefinition"]["externalParameters"] == {"recipe": json.loads(manifest.recipe)}
    model, pairs, torch = found["buildDefinition"]["resolvedDependencies"]
    assert model == {
        "name": "model",
        "uri": f"pkg:huggingface/org/tiny@{commit}",
        "digest": {"exporter_model": manifest.source.digest, "gitCommit": commit},
    }
    assert pairs == {"name": "pairs.verify", "digest": {"exporter_pairs": manifest.pairs[0].digest}}
    assert torch == {"uri": "pkg:pypi/torch@2.13.0%2Bcpu"}
    assert found["runDetails"]["builder"] == {
        "id": "https://github.com/org/repo/actions",
        "version": {"exporter": "0.5"},
    }


@pytest.mark.parametrize("builder", ["", "me", "my machine", "HTTPS://UPPER.CASE", "a:b c", "a:\n"])
def test_builder_is_a_uri(tmp_path: Path, builder: str) -> None:
    """Whoever is named as the builder is named by a URI, its scheme in lower case."""
    manifest = an_artifact(tmp_path)
    with pytest.raises(RecipeError, match="is no URI; wanted for example https://"):
        provenance_of(manifest, builder)


def test_in_totos_own_classes_read_it(tmp_path: Path) -> None:
    """in-toto's published protobuf classes parse both statements, and find them valid."""
    pytest.importorskip("in_toto_attestation")
    from google.protobuf.json_format import ParseDict
    from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
    from in_toto_attestation.predicates.test_result.v0.test_result_pb2 import TestResult
    from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
    from in_toto_attestation.v1.statement import Statement
    from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage

    attested(tmp_path)
    for line in lines(tmp_path):
        Statement.copy_from_pb(ParseDict(line, StatementMessage())).validate()
    verdict, build = (line["predicate"] for line in lines(tmp_path))
    result = ParseDict(verdict, TestResult(), ignore_unknown_fields=True)
    assert result.result == "PASSED"
    origin = ParseDict(build, Provenance())
    assert origin.run_details.builder.id == LOCAL_BUILDER
    for descriptor in (*result.configuration, *origin.build_definition.resolved_dependencies):
        ResourceDescriptor.copy_from_pb(descriptor).validate()


@pytest.mark.parametrize("name", ["onnx/model.onnx", "manifest.json", "report.json"])
def test_other_bytes_are_named(tmp_path: Path, name: str) -> None:
    """A model, manifest or report that is not the attested one is refused, though all else fits."""
    manifest, report = attested(tmp_path)
    if name == "manifest.json":
        write_manifest(dataclasses.replace(manifest, pad_id=1), tmp_path)
    elif name == "report.json":
        write_report_data(dataclasses.replace(report, started_at="2027-01-01T00:00:00Z"), tmp_path)
    else:
        (tmp_path / name).write_text("other", encoding="utf-8")
    found = "exporter_report of the test result is not" if name == "report.json" else f"other bytes: {name}"
    with pytest.raises(IntegrityError, match=found):
        read_statements(tmp_path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    """A file that is gone is named."""
    attested(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(IntegrityError, match="tokenizer.json: missing"):
        read_statements(tmp_path)


def test_links_and_pipes_are_not_read(tmp_path: Path) -> None:
    """An attestation or a file of it that is a link or a pipe is refused, and not waited for."""
    attested(tmp_path)
    (tmp_path / "config.json").unlink()
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(IntegrityError, match="config.json: a link or special file"):
        read_statements(tmp_path)
    (tmp_path / ATTESTATION).rename(tmp_path / "elsewhere")
    (tmp_path / ATTESTATION).symlink_to("elsewhere")
    with pytest.raises(IntegrityError, match="attestation.intoto.jsonl: a link or special file"):
        read_statements(tmp_path)


def test_no_attestation(tmp_path: Path) -> None:
    """A folder without one is no error of the files; the next command is named."""
    attested(tmp_path)
    (tmp_path / ATTESTATION).unlink()
    with pytest.raises(RecipeError, match="has no attestation.intoto.jsonl; publish it again"):
        read_statements(tmp_path)


def _pass(content: list[dict[str, object]]) -> None:
    content[0]["predicate"] |= {"result": "PASSED", "passedTests": ["onnx: check 0"], "failedTests": []}


def _of_some(content: list[dict[str, object]]) -> None:
    del content[1]["subject"][0]


def _twice(content: list[dict[str, object]]) -> None:
    content[0]["subject"].append(content[0]["subject"][0])


def _more(content: list[dict[str, object]]) -> None:
    content[0]["subject"].append({"name": "evil.bin", "digest": {"sha256": HASH}})


def _weak(content: list[dict[str, object]]) -> None:
    content[0]["subject"][0]["digest"] = {"md5": "0" * 32}


def _old(content: list[dict[str, object]]) -> None:
    content[0]["_type"] = "https://in-toto.io/Statement/v0.1"


def _no_builder(content: list[dict[str, object]]) -> None:
    del content[1]["predicate"]["runDetails"]["builder"]


def _half(content: list[dict[str, object]]) -> None:
    del content[1]


def _two_results(content: list[dict[str, object]]) -> None:
    content.append(content[0])


def _other_recipe(content: list[dict[str, object]]) -> None:
    content[1]["predicate"]["buildDefinition"]["externalParameters"] = {"recipe": {"name": "other"}}


def _other_model(content: list[dict[str, object]]) -> None:
    content[1]["predicate"]["buildDefinition"]["resolvedDependencies"][0]["digest"] = {"exporter_model": HASH}


def _no_dependencies(content: list[dict[str, object]]) -> None:
    del content[1]["predicate"]["buildDefinition"]["resolvedDependencies"]


def _other_type(content: list[dict[str, object]]) -> None:
    content[1]["predicate"]["buildDefinition"]["buildType"] = "https://slsa.dev/github"


def _other_version(content: list[dict[str, object]]) -> None:
    content[1]["predicate"]["runDetails"]["builder"]["version"] = {"exporter": "99"}


def _more_details(content: list[dict[str, object]]) -> None:
    content[1]["predicate"]["runDetails"]["metadata"] = {"invocationId": "https://ci.example.org/1"}


def _no_uri(content: list[dict[str, object]]) -> None:
    content[1]["predicate"]["runDetails"]["builder"]["id"] = "me"


def _other_machine(content: list[dict[str, object]]) -> None:
    content[0]["predicate"]["configuration"].pop()


def _a_url(content: list[dict[str, object]]) -> None:
    content[0]["predicate"]["url"] = "https://ci.example.org/1"


def _maybe(content: list[dict[str, object]]) -> None:
    content[0]["predicate"]["result"] = "MAYBE"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_pass, "result, passedTests, failedTests of the test result is not what reports/some-cpu-"),
        (_of_some, "not in the statement: config.json"),
        (_twice, "a name stands twice"),
        (_more, "not in the folder: evil.bin"),
        (_weak, "other bytes: config.json"),
        (_old, r":1: no in-toto statement: _type: Input should be 'https://in-toto.io/Statement/v1'"),
        (_no_builder, r":2: no in-toto statement: runDetails.builder: Field required"),
        (
            _half,
            "wanted one test result and one provenance, found https://in-toto.io/attestation/test-result/v0.1",
        ),
        (_other_recipe, "buildDefinition.externalParameters of the provenance is not what manifest.json"),
        (_other_model, "buildDefinition.resolvedDependencies of the provenance is not"),
        (_no_dependencies, "buildDefinition.resolvedDependencies of the provenance is not"),
        (_other_type, "buildDefinition.buildType of the provenance is not"),
        (_other_version, "runDetails.builder of the provenance is not"),
        (_more_details, "runDetails.metadata of the provenance is not"),
        (_no_uri, "builder 'me' is no URI"),
        (_other_machine, "configuration of the test result is not what reports/some-cpu-"),
        (_a_url, "url of the test result is not what reports/some-cpu-"),
        (_two_results, "wanted one test result and one provenance"),
        (_maybe, ":1: no in-toto statement: result: Input should be 'PASSED', 'WARNED' or 'FAILED'"),
    ],
)
def test_wrong_statements_are_refused(
    tmp_path: Path, change: Callable[[list[dict[str, object]]], None], said: str
) -> None:
    """Statements that are malformed, about other files, or say more than the report: one line each."""
    attested(tmp_path, "fail")
    rewrite(tmp_path, change)
    with pytest.raises(IntegrityError, match=said) as caught:
        read_statements(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("raw", [b"\xff\xfe\n", b"{\n", b"[]\n", b"[" * 100_000, b" " * (5 << 20)])
def test_what_is_no_json_is_refused(tmp_path: Path, raw: bytes) -> None:
    """Bytes that are no text, no JSON, too deep or too many are refused with a line."""
    attested(tmp_path)
    (tmp_path / ATTESTATION).write_bytes(raw)
    with pytest.raises(IntegrityError, match="attestation.intoto.jsonl"):
        read_statements(tmp_path)


def test_other_kinds_of_statements_are_passed_over(tmp_path: Path) -> None:
    """As in-toto asks, what is not known is ignored."""
    attested(tmp_path)
    before = read_statements(tmp_path)
    rewrite(
        tmp_path, lambda content: content.append({**content[0], "predicateType": "https://spdx.dev/Document"})
    )
    assert read_statements(tmp_path) == before


def test_disk_that_refuses_is_one_line(tmp_path: Path) -> None:
    """A folder that cannot be written is an error of the disk."""
    manifest, report = attested(tmp_path)
    (tmp_path / ATTESTATION).unlink()
    (tmp_path / ATTESTATION).mkdir()
    with pytest.raises(BackendError, match="cannot be written"):
        write_statements(tmp_path, read_manifest(tmp_path), (report,))
    assert manifest == read_manifest(tmp_path)
