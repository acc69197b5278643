"""What is kept of a published folder that is fetched: what a signature, or the manifest, vouches for."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from exporter.artifact.files import ATTESTATION, REPORT, REPORT_HTML, REPORT_MD, SIGNATURE
from exporter.cli.app import app
from exporter.errors import IntegrityError
from exporter.publish.attest import write_statements
from exporter.publish.received import keep_vouched, receive
from exporter.publish.signature import KeySigner, KeyVerifier, sign
from tests.factories import a_report, an_artifact, write_report
from tests.published import contents

SCRIPT = b"<script>alert(1)</script>"
PAGES = "report.md, report.html, report.xml"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published folder of dummy files, with its report and statements. Read it, do not write it."""
    folder = tmp_path_factory.mktemp("published") / "tiny"
    manifest = an_artifact(folder)
    report = a_report(manifest_root=manifest.root)
    write_report(report, folder)
    write_statements(folder, manifest, (report,))
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy of it, to be attacked."""
    return Path(shutil.copytree(original, tmp_path / "tiny"))


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private key, its public one beside it."""
    path = tmp_path_factory.mktemp("keys") / "key.pem"
    make = ("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)
    subprocess.run(make, check=True, capture_output=True)
    public = ("openssl", "ec", "-in", path, "-pubout", "-out", path.with_suffix(".pub"))
    subprocess.run(public, check=True, capture_output=True)
    return path


def test_honest_copy_is_as_it_was(folder: Path, tmp_path: Path) -> None:
    """What was made of its report.json by this version stays byte for byte, and nothing is said."""
    lines: list[str] = []
    got, _ = receive(str(folder), tmp_path / "copy", None, lines.append)
    assert contents(got) == contents(folder)
    assert lines == []


@pytest.mark.parametrize("name", [REPORT_HTML, REPORT_MD, "report.xml"])
def test_page_of_a_stranger(folder: Path, original: Path, tmp_path: Path, name: str) -> None:
    """A page that report.json does not come to is made anew from it."""
    (folder / name).write_bytes(SCRIPT)
    lines: list[str] = []
    got, _ = receive(str(folder), tmp_path / "copy", None, lines.append)
    assert contents(got) == contents(original)
    assert lines == [f"{PAGES}: made anew from report.json, since nobody vouches for what was published"]


def test_pages_without_a_report(folder: Path, tmp_path: Path) -> None:
    """Where there is no report.json, there is nothing to make them from, nor to hold statements against."""
    (folder / REPORT).unlink()
    (folder / REPORT_HTML).write_bytes(SCRIPT)
    lines: list[str] = []
    got, _ = receive(str(folder), tmp_path / "copy", None, lines.append)
    assert {REPORT_HTML, REPORT_MD, "report.xml", ATTESTATION}.isdisjoint(contents(got))
    assert lines == [
        f"{ATTESTATION}: left out; {PAGES}: left out, since nobody vouches for what was published"
    ]


def test_pages_that_were_not_published_are_not_made(folder: Path, tmp_path: Path) -> None:
    """A copy has no more files than what was published."""
    (folder / REPORT_HTML).unlink()
    got, _ = receive(str(folder), tmp_path / "copy", None, print)
    assert contents(got) == contents(folder)


def test_report_about_other_files(folder: Path, tmp_path: Path) -> None:
    """A report that is not about this artifact is refused, as everywhere."""
    manifest = an_artifact(tmp_path / "other")
    write_report(a_report(manifest_root=manifest.root[::-1]), folder)
    with pytest.raises(IntegrityError, match=r"report\.json"):
        receive(str(folder), tmp_path / "copy", None, print)
    assert not (tmp_path / "copy").exists()


def test_statements_about_something_else(folder: Path, tmp_path: Path) -> None:
    """Unsigned statements are held against manifest and report too."""
    text = (folder / ATTESTATION).read_text(encoding="utf-8")
    (folder / ATTESTATION).write_text(
        text.replace('"buildType":"urn:', '"buildType":"urn:x'), encoding="utf-8"
    )
    with pytest.raises(IntegrityError, match="buildDefinition.buildType of the provenance is not what"):
        receive(str(folder), tmp_path / "copy", None, print)


def test_signed_pages_are_kept(folder: Path, tmp_path: Path, key: Path) -> None:
    """Whoever is trusted may bring a page that this version would not draw so."""
    (folder / REPORT_HTML).write_bytes(b"<p>drawn by an older version</p>")
    sign(folder, KeySigner(key))
    got, _ = receive(str(folder), tmp_path / "copy", KeyVerifier(key.with_suffix(".pub")), print)
    assert contents(got) == contents(folder)


def test_whose_signature_was_checked_is_said(folder: Path, tmp_path: Path, key: Path) -> None:
    """`pull` names the key that it was right by, or that nobody looked at it."""
    arguments = ["pull", str(folder)]
    bare = CliRunner().invoke(app, [*arguments, str(tmp_path / "bare")])
    assert "signature: none" in bare.stderr
    sign(folder, KeySigner(key))
    unchecked = CliRunner().invoke(app, [*arguments, str(tmp_path / "unchecked")])
    assert "signature: is there, and was not checked: pass --key FILE" in unchecked.stderr
    public = str(key.with_suffix(".pub"))
    checked = CliRunner().invoke(app, [*arguments, str(tmp_path / "checked"), "--key", public])
    assert (checked.exit_code, "signature: right, by key " in checked.stderr) == (0, True)


def test_a_wrong_key_is_told_of_the_place_that_was_named(folder: Path, tmp_path: Path, key: Path) -> None:
    """Not of the folder that it was fetched to, which is gone by then."""
    sign(folder, KeySigner(key))
    other = tmp_path / "other.pem"
    make = ("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", other)
    subprocess.run(make, check=True, capture_output=True)
    public = other.with_suffix(".pub")
    subprocess.run(
        ("openssl", "ec", "-in", other, "-pubout", "-out", public), check=True, capture_output=True
    )
    with pytest.raises(IntegrityError) as caught:
        receive(str(folder), tmp_path / "copy", KeyVerifier(public), print)
    assert str(caught.value).startswith(f"{folder}/model.sig was made with another key: ")


def test_signature_that_nobody_checked_vouches_for_nothing(folder: Path, tmp_path: Path, key: Path) -> None:
    """A signature of a stranger's does not keep a page; the line says what would."""
    (folder / REPORT_HTML).write_bytes(SCRIPT)
    sign(folder, KeySigner(key))
    lines: list[str] = []
    got, _ = receive(str(folder), tmp_path / "copy", None, lines.append)
    assert b"<script" not in (got / REPORT_HTML).read_bytes()
    assert lines[0].endswith("what was published; --key, --root or --identity keeps what is signed")


def test_copy_signed_by_somebody_else_does_not_appear(folder: Path, tmp_path: Path, key: Path) -> None:
    """Nor is anything of it left behind."""
    (folder / SIGNATURE).write_text("{}", encoding="utf-8")
    with pytest.raises(IntegrityError, match=r"model\.sig was made with something unknown"):
        receive(str(folder), tmp_path / "copy", KeyVerifier(key.with_suffix(".pub")), print)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_the_command_says_so(folder: Path, tmp_path: Path) -> None:
    """`pull` ends with 0, the folder on stdout and the line on stderr."""
    (folder / REPORT_HTML).write_bytes(SCRIPT)
    done = CliRunner().invoke(app, ["pull", str(folder), str(tmp_path / "copy")])
    assert done.exit_code == 0
    assert "report.html, report.xml: made anew from report.json" in done.stderr
    assert keep_vouched(tmp_path / "copy") == ""
