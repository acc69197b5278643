"""A report's files are written as one whole, and what is not of one report is known."""

from __future__ import annotations

import resource
import shutil
import signal
from pathlib import Path

import pytest

from exporter.artifact.files import REPORT_HTML, REPORT_MD, REPORT_XML
from exporter.artifact.manifest import check_files, read_manifest
from exporter.errors import BackendError
from exporter.report.read import read_report, read_reports
from exporter.report.report import Report
from exporter.report.write import is_complete
from tests.factories import a_report, an_artifact, write_report

FORMS = (REPORT_MD, REPORT_XML, REPORT_HTML)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two artifacts, `tiny` and `other`, with reports that differ. Read them, do not write them."""
    both = tmp_path_factory.mktemp("written")
    for name, started_at in (("tiny", "2026-01-01"), ("other", "2027-01-01")):
        manifest = an_artifact(both / name)
        write_report(a_report(manifest_root=manifest.root, started_at=started_at), both / name)
    return both


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """An artifact with a report, to be changed at will."""
    return Path(shutil.copytree(written / "tiny", tmp_path / "tiny"))


def stored(folder: Path) -> Report:
    return read_report(folder, read_manifest(folder))


def complete(folder: Path) -> bool:
    manifest = read_manifest(folder)
    return is_complete(read_reports(folder, manifest), manifest, folder)


@pytest.mark.parametrize("form", FORMS)
def test_form_that_is_not_of_the_report(folder: Path, written: Path, form: str) -> None:
    """A form that is missing, empty, cut off or made of another report is found."""
    path, whole = folder / form, (folder / form).read_bytes()
    assert complete(folder)
    for harmed in (b"", whole[:-10], whole + b"more", (written / "other" / form).read_bytes()):
        path.write_bytes(harmed)
        assert not complete(folder)
    path.unlink()
    assert not complete(folder)


def test_made_again_it_is_the_same(folder: Path) -> None:
    """Forms made again of the stored report are complete, and no other file is touched."""
    before = contents(folder)
    for form in FORMS:
        (folder / form).unlink()
    write_report(stored(folder), folder)
    assert complete(folder)
    assert {name: raw for name, raw in contents(folder).items() if name != REPORT_HTML} == {
        name: raw for name, raw in before.items() if name != REPORT_HTML
    }


@pytest.mark.parametrize(
    ("n_bytes", "name"), [(0, r"reports/some-cpu-\w+-avx2-2\.json"), (20_000, "report.html")]
)
def test_full_disk_changes_nothing(folder: Path, written: Path, n_bytes: int, name: str) -> None:
    """Where not all files fit, whichever it is, the old ones stay as they are, and nothing is left beside."""
    before = contents(folder)
    new = stored(written / "other")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
        with pytest.raises(BackendError, match=f"{name}: cannot be written: File too large"):
            write_report(new, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert contents(folder) == before


def test_what_a_killed_run_left_is_written_over(folder: Path) -> None:
    """A file that a killed run left half-written is no stranger's, and goes with the next report."""
    (folder / f".{REPORT_HTML}.part").write_bytes(b"<html>")
    check_files(read_manifest(folder), folder)
    write_report(stored(folder), folder)
    assert not list(folder.glob(".*"))
