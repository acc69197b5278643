"""Publishing: what passed is copied, the rest is refused, and a copy proves itself like the original."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from exporter.artifact import check_files, list_files, read_manifest, write_manifest
from exporter.errors import ExporterError, GateRefused, NoVerdict, RecipeError
from exporter.publish.folder import publish_to_folder
from exporter.verify.gate import Outcome, outcome
from exporter.verify.report import read_report, write_report
from tests.factories import FILES, MODELS, a_report, a_variant_report, an_artifact

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.artifact import Manifest
    from exporter.verify.report import Report


def judged(folder: Path, onnx: Outcome, int8: Outcome) -> tuple[Manifest, Report]:
    """Write an artifact whose two variants have these verdicts."""
    manifest = an_artifact(folder)
    rows = tuple(a_variant_report(kind, verdict=verdict) for kind, verdict in zip(MODELS, (onnx, int8), strict=True))
    report = a_report(manifest_root=manifest.root, variants=rows, verdict=outcome(rows))
    write_report(report, folder)
    return manifest, report


def published(folder: Path) -> tuple[Manifest, Report]:
    """Read a published folder as a stranger would, checking everything."""
    manifest = read_manifest(folder)
    check_files(manifest, folder)
    return manifest, read_report(folder, manifest)


def test_all_that_passed_is_copied(tmp_path: Path) -> None:
    """When every variant passed, the copy holds the same files and proves itself."""
    manifest, report = judged(tmp_path / "tiny", "pass", "pass")
    left = publish_to_folder(tmp_path / "tiny", manifest, report, tmp_path / "out", replace_dest=False)
    assert left == ()
    assert published(tmp_path / "out") == (manifest, report)
    assert list_files(tmp_path / "out") == list_files(tmp_path / "tiny")


@pytest.mark.parametrize("verdict", ["fail", "invalid"])
def test_the_rest_stays_behind(tmp_path: Path, verdict: Outcome) -> None:
    """A variant without a pass is in no file of the copy, nor in its manifest or report; the shared files are."""
    manifest, report = judged(tmp_path / "tiny", verdict, "pass")
    left = publish_to_folder(tmp_path / "tiny", manifest, report, tmp_path / "out", replace_dest=False)
    assert left == ("onnx",)
    copied, of_copy = published(tmp_path / "out")
    assert [entry.kind for entry in copied.variants] == ["onnx-int8"]
    assert {file.path for file in copied.files} == set(FILES) - {"onnx/model.onnx"}
    assert [row.kind for row in of_copy.variants] == ["onnx-int8"]
    assert of_copy.verdict == "pass"
    assert of_copy.manifest_root == copied.root != manifest.root


def test_original_is_not_touched(tmp_path: Path) -> None:
    """Publishing leaves the artifact as it was."""
    manifest, report = judged(tmp_path / "tiny", "fail", "pass")
    publish_to_folder(tmp_path / "tiny", manifest, report, tmp_path / "out", replace_dest=False)
    assert published(tmp_path / "tiny") == (manifest, report)


@pytest.mark.parametrize("dest", [".", "out"])
def test_dest_is_not_the_artifact_itself(tmp_path: Path, dest: str) -> None:
    """A copy over or inside the artifact would change the artifact, and is refused."""
    manifest, report = judged(tmp_path / "tiny", "fail", "pass")
    with pytest.raises(RecipeError):
        publish_to_folder(tmp_path / "tiny", manifest, report, tmp_path / "tiny" / dest, replace_dest=True)
    assert published(tmp_path / "tiny") == (manifest, report)


@pytest.mark.parametrize(
    ("onnx", "int8", "refused"),
    [
        ("fail", "fail", GateRefused),
        ("fail", "invalid", GateRefused),
        ("invalid", "fail", GateRefused),
        ("invalid", "invalid", NoVerdict),
    ],
)
def test_nothing_passed(tmp_path: Path, onnx: Outcome, int8: Outcome, refused: type[ExporterError]) -> None:
    """With nothing to copy, a failure is refused; only where measuring again could help is there no verdict."""
    manifest, report = judged(tmp_path / "tiny", onnx, int8)
    with pytest.raises(refused, match=f"nothing to publish.*onnx: {onnx}, onnx-int8: {int8}.*report.md"):
        publish_to_folder(tmp_path / "tiny", manifest, report, tmp_path / "out", replace_dest=False)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_refused_even_over_an_older_copy(tmp_path: Path) -> None:
    """What failed does not replace what was published before."""
    before = judged(tmp_path / "out", "pass", "pass")
    manifest, report = judged(tmp_path / "tiny", "fail", "fail")
    with pytest.raises(GateRefused):
        publish_to_folder(tmp_path / "tiny", manifest, report, tmp_path / "out", replace_dest=True)
    assert published(tmp_path / "out") == before


def test_dest_is_replaced_only_when_asked(tmp_path: Path) -> None:
    """An older copy stays unless it is to be replaced, and then it is replaced entirely."""
    judged(tmp_path / "out", "pass", "pass")
    manifest, report = judged(tmp_path / "tiny", "pass", "fail")
    with pytest.raises(RecipeError, match="already exists"):
        publish_to_folder(tmp_path / "tiny", manifest, report, tmp_path / "out", replace_dest=False)
    publish_to_folder(tmp_path / "tiny", manifest, report, tmp_path / "out", replace_dest=True)
    assert [entry.kind for entry in published(tmp_path / "out")[0].variants] == ["onnx"]
    assert not (tmp_path / "out" / MODELS["onnx-int8"]).exists()


def test_dest_that_is_no_artifact(tmp_path: Path) -> None:
    """A folder of someone else's is not replaced, whatever was asked."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("years", encoding="utf-8")
    manifest, report = judged(tmp_path / "tiny", "pass", "pass")
    with pytest.raises(RecipeError, match="is no artifact"):
        publish_to_folder(tmp_path / "tiny", manifest, report, tmp_path / "out", replace_dest=True)
    assert (tmp_path / "out/thesis.tex").read_text(encoding="utf-8") == "years"


def test_published_again(tmp_path: Path) -> None:
    """A copy is an artifact like any other, and may be published itself."""
    manifest, report = judged(tmp_path / "tiny", "fail", "pass")
    publish_to_folder(tmp_path / "tiny", manifest, report, tmp_path / "one", replace_dest=False)
    publish_to_folder(tmp_path / "one", *published(tmp_path / "one"), tmp_path / "two", replace_dest=False)
    assert published(tmp_path / "two") == published(tmp_path / "one")


def test_file_of_two_variants_is_copied(tmp_path: Path) -> None:
    """A file that a variant that passed shares with one that failed goes with the one that passed."""
    folder = tmp_path / "tiny"
    manifest = an_artifact(folder)
    (folder / "onnx/weights.bin").write_text("w", encoding="utf-8")
    variants = tuple(dataclasses.replace(entry, files=(*entry.files, "onnx/weights.bin")) for entry in manifest.variants)
    manifest = dataclasses.replace(manifest, variants=variants, files=list_files(folder))
    write_manifest(manifest, folder)
    rows = (a_variant_report("onnx", verdict="fail"), a_variant_report("onnx-int8"))
    report = a_report(manifest_root=manifest.root, variants=rows, verdict="fail")
    publish_to_folder(folder, manifest, report, tmp_path / "out", replace_dest=False)
    copied, _ = published(tmp_path / "out")
    for entry in copied.variants:
        assert set(entry.files) <= {file.path for file in copied.files}
