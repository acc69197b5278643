"""Publishing: what passed is laid out and delivered, the rest is refused, and a copy has its own proof."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from exporter.artifact.files import (
    ATTESTATION,
    CARD,
    MANIFEST,
    QUANTIZED,
    list_files,
    machine_reports,
    read_sealed,
    write_sealed,
)
from exporter.artifact.manifest import check_files, read_manifest, write_manifest
from exporter.errors import ExporterError, GateRefused, IntegrityError, NoVerdict, RecipeError
from exporter.gate import Outcome, outcome
from exporter.publish.attest import TEST_RESULT
from exporter.publish.folder import Publication, make_publication, passed_kinds
from exporter.publish.licence import Licence
from exporter.publish.received import receive
from exporter.publish.statements import read_statements
from exporter.remote.send import send
from exporter.report.read import read_report, read_reports
from tests.factories import (
    FILES,
    MODELS,
    a_not_judged,
    a_report,
    a_variant_report,
    an_artifact,
    measured_on,
    write_report,
)
from tests.published import contents

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from exporter.artifact.manifest import Manifest
    from exporter.publish.layout import LayoutProfile
    from exporter.report.report import Report

# What a publication writes itself.
MADE = {CARD, "plots/speed.png", "plots/differences.png"}


def judged(folder: Path, onnx: Outcome, int8: Outcome) -> tuple[Manifest, Report]:
    """Write an artifact whose two variants have these verdicts."""
    manifest = an_artifact(folder)
    rows = tuple(
        a_variant_report(kind, verdict=verdict) for kind, verdict in zip(MODELS, (onnx, int8), strict=True)
    )
    report = a_report(
        manifest_root=manifest.root,
        recipe_digest=manifest.recipe_digest,
        pairs=dataclasses.replace(a_report().pairs, name="sample/verify"),
        variants=rows,
        verdict=outcome(rows),
    )
    write_report(report, folder)
    return manifest, report


def publish(
    folder: Path,
    dest: Path,
    *,
    kinds: Sequence[str] = (),
    layout: LayoutProfile = "hub",
    replace: bool = False,
) -> tuple[Manifest, Report]:
    """Publish an artifact to a folder, and read it there as a stranger would, checking everything."""
    reports = read_reports(folder, read_manifest(folder))
    chosen = passed_kinds(folder, reports, kinds)
    staged = dest.with_name(f"{dest.name}-staged")
    staged.mkdir()
    try:
        make_publication(folder, reports, staged, chosen, Publication(layout=layout), licence=Licence())
        send(staged, str(dest), replace=replace)
    finally:
        for path in sorted(staged.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        staged.rmdir()
    return published(dest)


def published(folder: Path) -> tuple[Manifest, Report]:
    """Read a published folder as a stranger would, checking everything."""
    manifest = read_manifest(folder)
    check_files(manifest, folder)
    read_statements(folder)
    return manifest, read_report(folder, manifest)


def names(manifest: Manifest) -> set[str]:
    """Return the files of a manifest."""
    return {file.path for file in manifest.files}


def test_all_that_passed_is_copied(tmp_path: Path) -> None:
    """When every variant passed, the copy holds all files, card, statements, and int8 a second time."""
    _, report = judged(tmp_path / "tiny", "pass", "pass")
    copied, of_copy = publish(tmp_path / "tiny", tmp_path / "out")
    assert names(copied) == set(FILES) | MADE | {QUANTIZED}
    assert (tmp_path / "out" / ATTESTATION).is_file()
    assert of_copy == dataclasses.replace(report, manifest_root=copied.root)
    assert (tmp_path / "out" / QUANTIZED).samefile(tmp_path / "out" / MODELS["onnx-int8"])


@pytest.mark.parametrize("verdict", ["fail", "invalid"])
def test_the_rest_stays_behind(tmp_path: Path, verdict: Outcome) -> None:
    """A variant without a pass is in no file of the copy, nor in manifest or report; shared files are."""
    judged(tmp_path / "tiny", verdict, "pass")
    copied, of_copy = publish(tmp_path / "tiny", tmp_path / "out")
    assert [entry.kind for entry in copied.variants] == ["onnx-int8"]
    assert names(copied) == (set(FILES) - {"onnx/model.onnx"}) | MADE | {QUANTIZED}
    assert [row.kind for row in of_copy.variants] == ["onnx-int8"]
    assert of_copy.verdict == "pass"


def test_what_is_asked_for_must_have_passed(tmp_path: Path) -> None:
    """One kind of several may be asked for; one that failed is refused, an unknown one is a mistake."""
    judged(tmp_path / "tiny", "pass", "fail")
    copied, _ = publish(tmp_path / "tiny", tmp_path / "out", kinds=("onnx",))
    assert [entry.kind for entry in copied.variants] == ["onnx"]
    with pytest.raises(GateRefused, match="onnx-int8: fail"):
        publish(tmp_path / "tiny", tmp_path / "two", kinds=("onnx", "onnx-int8"))
    with pytest.raises(RecipeError, match="has no openvino; it has onnx, onnx-int8"):
        publish(tmp_path / "tiny", tmp_path / "two", kinds=("openvino",))


def test_flat_has_one_variant_under_the_one_name(tmp_path: Path) -> None:
    """For a server that cannot choose a file, the variant asked for is onnx/model.onnx, and runs as such."""
    judged(tmp_path / "tiny", "pass", "pass")
    copied, _ = publish(tmp_path / "tiny", tmp_path / "out", kinds=("onnx-int8",), layout="flat")
    assert [(entry.kind, entry.model) for entry in copied.variants] == [("onnx-int8", "onnx/model.onnx")]
    int8 = (tmp_path / "tiny" / MODELS["onnx-int8"]).read_bytes()
    assert (tmp_path / "out/onnx/model.onnx").read_bytes() == int8


def test_original_is_not_touched(tmp_path: Path) -> None:
    """Publishing leaves the artifact as it was."""
    before = judged(tmp_path / "tiny", "fail", "pass")
    publish(tmp_path / "tiny", tmp_path / "out")
    manifest = read_manifest(tmp_path / "tiny")
    check_files(manifest, tmp_path / "tiny")
    assert (manifest, read_report(tmp_path / "tiny", manifest)) == before


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
    """With nothing to copy, a failure is refused; where measuring again could help, there is no verdict."""
    judged(tmp_path / "tiny", onnx, int8)
    with pytest.raises(refused, match=f"nothing is published.*onnx: {onnx}, onnx-int8: {int8}.*report.md"):
        publish(tmp_path / "tiny", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_refused_even_over_an_older_copy(tmp_path: Path) -> None:
    """What failed does not replace what was published before."""
    judged(tmp_path / "old", "pass", "pass")
    before = publish(tmp_path / "old", tmp_path / "out")
    judged(tmp_path / "tiny", "fail", "fail")
    with pytest.raises(GateRefused):
        publish(tmp_path / "tiny", tmp_path / "out", replace=True)
    assert published(tmp_path / "out") == before


def test_dest_is_replaced_only_when_asked(tmp_path: Path) -> None:
    """Another artifact is replaced only when asked, and then entirely; the same one needs no permission."""
    judged(tmp_path / "old", "pass", "pass")
    before = publish(tmp_path / "old", tmp_path / "out")
    assert publish(tmp_path / "old", tmp_path / "out") == before
    judged(tmp_path / "tiny", "pass", "fail")
    with pytest.raises(RecipeError, match="holds another artifact"):
        publish(tmp_path / "tiny", tmp_path / "out")
    assert published(tmp_path / "out") == before
    copied, _ = publish(tmp_path / "tiny", tmp_path / "out", replace=True)
    assert [entry.kind for entry in copied.variants] == ["onnx"]
    assert not (tmp_path / "out" / MODELS["onnx-int8"]).exists()


def test_dest_that_is_no_artifact(tmp_path: Path) -> None:
    """A folder of someone else's is not replaced, whatever was asked."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("years", encoding="utf-8")
    judged(tmp_path / "tiny", "pass", "pass")
    with pytest.raises(RecipeError, match="is no artifact"):
        publish(tmp_path / "tiny", tmp_path / "out", replace=True)
    assert (tmp_path / "out/thesis.tex").read_text(encoding="utf-8") == "years"


def test_published_again(tmp_path: Path) -> None:
    """A copy is an artifact like any other, and may be published itself."""
    judged(tmp_path / "tiny", "fail", "pass")
    one = publish(tmp_path / "tiny", tmp_path / "one")
    assert publish(tmp_path / "one", tmp_path / "two") == one


def test_file_of_two_variants_is_copied(tmp_path: Path) -> None:
    """A file that a variant that passed shares with one that failed goes with the one that passed."""
    folder = tmp_path / "tiny"
    manifest = an_artifact(folder)
    (folder / "onnx/weights.bin").write_text("w", encoding="utf-8")
    variants = tuple(
        dataclasses.replace(entry, files=(*entry.files, "onnx/weights.bin")) for entry in manifest.variants
    )
    manifest = dataclasses.replace(manifest, variants=variants, files=list_files(folder))
    (folder / MANIFEST).unlink()
    write_manifest(manifest, folder)
    rows = (a_variant_report("onnx", verdict="fail"), a_variant_report("onnx-int8"))
    write_report(a_report(manifest_root=manifest.root, variants=rows, verdict="fail"), folder)
    copied, _ = publish(folder, tmp_path / "out")
    for entry in copied.variants:
        assert set(entry.files) <= names(copied)


def two_machines(folder: Path, *verdicts: Outcome) -> Manifest:
    """Write an artifact that two types of machine judged; the verdicts are those of the second."""
    manifest, report = judged(folder, "pass", "pass")
    other = measured_on(report, cpu="Other CPU", isa="avx512_vnni", n_cores=4)
    rows = [dataclasses.replace(row, verdict=v) for row, v in zip(other.variants, verdicts, strict=True)]
    other = dataclasses.replace(other, variants=tuple(rows), verdict=outcome(rows))
    write_report(report, folder, other)
    return manifest


def test_what_passed_on_every_machine_that_judged_it(tmp_path: Path) -> None:
    """A variant that failed on one machine is not published; a statement each says how it was judged."""
    two_machines(tmp_path / "tiny", "fail", "pass")
    copied, _ = publish(tmp_path / "tiny", tmp_path / "out")
    assert [entry.kind for entry in copied.variants] == ["onnx-int8"]
    reports = read_reports(tmp_path / "out", copied)
    assert [one.machine.cpu for one in reports] == ["Some CPU", "Other CPU"]
    assert all([row.kind for row in one.variants] == ["onnx-int8"] for one in reports)
    assert [one.predicate_type for one in read_statements(tmp_path / "out")].count(TEST_RESULT) == 2
    card = (tmp_path / "out" / CARD).read_text(encoding="utf-8")
    assert "| Other CPU, avx512_vnni, 4 cores | onnx-int8 |" in card
    with pytest.raises(GateRefused, match="onnx: fail on Other CPU"):
        publish(tmp_path / "tiny", tmp_path / "again", kinds=("onnx",))


def test_a_machine_that_judged_nothing_of_it_is_left_behind(tmp_path: Path) -> None:
    """Where the newest report is of a machine that could not run what passed, the card is of the others."""
    _, report = judged(tmp_path / "tiny", "pass", "pass")
    skipped = tuple(a_not_judged(kind) for kind in MODELS)
    idle = dataclasses.replace(
        measured_on(report, cpu="Old CPU"), variants=(), not_judged=skipped, verdict="not judged"
    )
    write_report(idle, tmp_path / "tiny", report)
    copied, of_copy = publish(tmp_path / "tiny", tmp_path / "out")
    assert [entry.kind for entry in copied.variants] == list(MODELS)
    assert (of_copy.machine, len(machine_reports(tmp_path / "out"))) == (report.machine, 1)


def test_any_machines_report_is_held_by_its_statement(tmp_path: Path) -> None:
    """Another machine's report that was changed and sealed anew is refused; so is its loss."""
    two_machines(tmp_path / "tiny", "pass", "pass")
    publish(tmp_path / "tiny", tmp_path / "out")
    got, _ = receive(str(tmp_path / "out"), tmp_path / "copy", None, print)
    assert contents(got) == contents(tmp_path / "out")
    path = next(got / name for name in machine_reports(got) if "other-cpu" in name)
    whole = path.read_bytes()
    write_sealed(path, {**read_sealed(path), "started_at": "2030-01-01T00:00:00Z"})
    with pytest.raises(
        IntegrityError, match="exporter_report of the test result is not what reports/other-cpu"
    ):
        read_statements(got)
    with pytest.raises(IntegrityError, match="exporter_report of the test result"):
        receive(str(got), tmp_path / "third", None, print)
    path.write_bytes(whole.replace(b'"Other CPU"', b'"Mother CPU"'))
    with pytest.raises(IntegrityError, match="changed since it was written"):
        receive(str(got), tmp_path / "third", None, print)
    path.unlink()
    with pytest.raises(IntegrityError, match="plans.json has another verdict"):
        read_statements(got)
