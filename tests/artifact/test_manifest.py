"""The artifact folder: whole or not there, and every changed byte shows."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.artifact.files import MANIFEST, FileEntry, list_files, read_sealed, sha256_file, write_sealed
from exporter.artifact.manifest import (
    Manifest,
    ManifestDiff,
    check_files,
    compare_files,
    manifest_json,
    read_manifest,
    write_manifest,
)
from exporter.artifact.staging import staged
from exporter.errors import BackendError, ExporterError, IntegrityError, RecipeError
from exporter.report.report import read_report
from exporter.report.write import write_report
from tests.factories import FILES, a_manifest, a_report, an_artifact

# Above the largest number Linux gives a process.
# Source: https://man7.org/linux/man-pages/man5/proc_sys_kernel.5.html (pid_max)
DEAD_PID = 4_200_000


def load_all(folder: Path) -> None:
    """Read and check everything that is sealed in an artifact."""
    manifest = read_manifest(folder)
    check_files(manifest, folder)
    read_report(folder, manifest)


def reseal(folder: Path, **changes: object) -> None:
    """Change keys of a manifest and seal it anew, as someone who wants to mislead us would."""
    write_sealed(folder / MANIFEST, {**read_sealed(folder / MANIFEST), **changes})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact with a report. Read it, do not write it."""
    folder = tmp_path_factory.mktemp("artifact") / "tiny"
    manifest = an_artifact(folder)
    write_report(a_report(manifest_root=manifest.root), folder)
    load_all(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of `whole`, to be changed at will."""
    return Path(shutil.copytree(whole, tmp_path / "copy"))


# --- what a manifest says ---


def test_manifest_round_trip(folder: Path) -> None:
    """What was written is what is read."""
    manifest = a_manifest(folder)
    write_manifest(manifest, folder)
    assert read_manifest(folder) == manifest


def test_manifest_lists_every_file(whole: Path) -> None:
    """All files but manifest and report are listed, sorted, with their size and hash."""
    entries = read_manifest(whole).files
    assert [entry.path for entry in entries] == sorted(FILES)
    first = entries[0]
    text = FILES["config.json"].encode()
    assert first == FileEntry("config.json", len(text), hashlib.sha256(text).hexdigest())


def test_file_named_like_the_report_further_down_is_listed(folder: Path) -> None:
    """Only the artifact's own manifest and report go unlisted, not files of that name in its folders."""
    (folder / "onnx/report.json").write_text("{}", encoding="utf-8")
    assert "onnx/report.json" in [entry.path for entry in list_files(folder)]


def test_sha256_of_a_known_text(tmp_path: Path) -> None:
    """The hash is the published one of `abc`."""
    (tmp_path / "abc").write_bytes(b"abc")
    # Source: https://nvlpubs.nist.gov/nistpubs/FIPS/NIST.FIPS.180-4.pdf, and its example file SHA256.pdf
    assert sha256_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_moving_keeps_the_root(whole: Path, tmp_path: Path) -> None:
    """A folder that moves keeps its root hash."""
    moved = Path(shutil.copytree(whole, tmp_path / "elsewhere/with a space"))
    assert a_manifest(moved).root == read_manifest(whole).root


FILE_TREES = st.dictionaries(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(
        lambda parts: "/".join(f"{p}{len(parts)}" for p in parts)
    ),
    st.binary(max_size=20),
    max_size=5,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(FILE_TREES)
def test_moving_any_folder_keeps_the_root(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    """Whatever files it holds, in whatever order they were written, a copy of a folder has the same root hash."""
    here, there = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("there")
    for target, order in ((here, sorted(files)), (there, sorted(files, reverse=True))):
        for path in order:
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).write_bytes(files[path])
    assert a_manifest(here).root == a_manifest(there).root


def test_root_depends_on_path_and_content(folder: Path) -> None:
    """Renaming a file, or changing its content, gives another root hash."""
    before = a_manifest(folder).root
    (folder / "config.json").rename(folder / "config2.json")
    renamed = a_manifest(folder).root
    (folder / "config2.json").write_text("{}", encoding="utf-8")
    assert len({before, renamed, a_manifest(folder).root}) == 3


def test_variant(whole: Path) -> None:
    """A variant is found by its kind, and its size is that of its own files."""
    manifest = read_manifest(whole)
    entry = manifest.variant("onnx-int8")
    assert entry.model == "onnx/model_qint8_avx2.onnx"
    assert manifest.size_bytes(entry) == 25


def test_no_such_variant(whole: Path) -> None:
    """A kind the artifact does not have is named with those it has."""
    with pytest.raises(RecipeError, match="tiny has no openvino; it has onnx, onnx-int8"):
        read_manifest(whole).variant("openvino")


def test_manifest_as_json(whole: Path) -> None:
    """The manifest is given as JSON that holds the variants' kinds."""
    found = json.loads(manifest_json(read_manifest(whole)))
    assert [variant["kind"] for variant in found["variants"]] == ["onnx", "onnx-int8"]


# --- whether a folder is what its manifest says ---


def test_unchanged_folder_has_no_diff(whole: Path) -> None:
    """A folder as it was written differs in nothing."""
    assert not compare_files(read_manifest(whole), whole)


def test_diff_names_what_differs(folder: Path) -> None:
    """Extra, missing and changed files are told apart."""
    (folder / "extra.txt").write_text("", encoding="utf-8")
    (folder / "tokenizer.json").unlink()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    diff = compare_files(read_manifest(folder), folder)
    assert diff == ManifestDiff(extra=("extra.txt",), missing=("tokenizer.json",), changed=("config.json",))
    with pytest.raises(IntegrityError) as caught:
        check_files(read_manifest(folder), folder)
    for words in (
        "changed: config.json",
        "missing: tokenizer.json",
        "not in the manifest: extra.txt",
        "--replace",
    ):
        assert words in str(caught.value)


@pytest.mark.parametrize("path", [*sorted(FILES)])
def test_every_byte_of_a_file_counts(folder: Path, path: str) -> None:
    """Any one byte flipped in any file of the artifact is found, and so is one cut off or added."""
    manifest, raw = read_manifest(folder), (folder / path).read_bytes()
    changed = [raw[:i] + bytes((raw[i] ^ 1,)) + raw[i + 1 :] for i in range(len(raw))]
    for content in (*changed, raw[:-1], raw + b"\0"):
        (folder / path).write_bytes(content)
        with pytest.raises(IntegrityError, match=path):
            check_files(manifest, folder)


@pytest.mark.parametrize("name", ["manifest.json", "report.json"])
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_byte_of_a_sealed_file_counts(
    folder: Path, whole: Path, name: str, data: st.DataObject
) -> None:
    """Any one byte of manifest or report changed to any other is found, and nothing else goes wrong."""
    raw = bytearray((whole / name).read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1), label="at")
    raw[at] = data.draw(st.integers(0, 255).filter(lambda new: new != raw[at]), label="new")
    (folder / name).write_bytes(raw)
    with pytest.raises(IntegrityError):
        load_all(folder)


@pytest.mark.parametrize("name", ["manifest.json", "report.json"])
def test_flipped_bit_shows_from_the_sealed_file_alone(folder: Path, name: str) -> None:
    """A bit flipped in manifest or report is found by reading just that file; every fifth byte is tried."""
    raw = (folder / name).read_bytes()
    for at in range(0, len(raw), 5):
        flipped = bytes((raw[at] ^ (1 << at % 8),))
        (folder / name).write_bytes(raw[:at] + flipped + raw[at + 1 :])
        with pytest.raises(IntegrityError):
            read_sealed(folder / name)


# --- sealed JSON ---

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.dictionaries(st.text().filter(lambda key: key != "sha256"), JSON, max_size=4))
def test_sealed_round_trip(tmp_path: Path, content: dict[str, object]) -> None:
    """Whatever JSON can hold comes back from a sealed file."""
    write_sealed(tmp_path / "x.json", content)
    assert read_sealed(tmp_path / "x.json") == content


def test_sealed_is_the_same_bytes_every_time(tmp_path: Path) -> None:
    """The order in which keys were set does not show in the file, and nothing is left beside it."""
    write_sealed(tmp_path / "x.json", {"a": 1, "b": 2})
    write_sealed(tmp_path / "y.json", {"b": 2, "a": 1})
    assert (tmp_path / "x.json").read_bytes() == (tmp_path / "y.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.json", "y.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"a": 1}',
        "{",
        "[" * 100_000,
        '{"sha256": 7}',
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": "\\ud800"}',
        "\ufeff{}",
    ],
    ids=lambda text: text[:12] or "empty",
)
def test_sealed_refuses(tmp_path: Path, text: str) -> None:
    """A file that was never sealed is refused, whether or not it is JSON; no other exception gets out."""
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(IntegrityError, match=r"x\.json"):
        read_sealed(tmp_path / "x.json")


def test_sealed_number_turned_into_infinity(tmp_path: Path) -> None:
    """One byte that makes a number too large for a float is found like any other."""
    write_sealed(tmp_path / "x.json", {"ratio": 1.6180339887})
    text = (tmp_path / "x.json").read_text(encoding="utf-8").replace("1.618", "1e618")
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(IntegrityError):
        read_sealed(tmp_path / "x.json")


def test_sealed_refuses_binary(tmp_path: Path) -> None:
    """Bytes that are no text are refused."""
    (tmp_path / "x.json").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(IntegrityError):
        read_sealed(tmp_path / "x.json")


def test_sealed_refuses_reformatted(tmp_path: Path) -> None:
    """The same JSON with other white space is not what was written."""
    write_sealed(tmp_path / "x.json", {"a": 1})
    text = json.dumps(json.loads((tmp_path / "x.json").read_text(encoding="utf-8")))
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(IntegrityError, match="changed"):
        read_sealed(tmp_path / "x.json")


def test_sealed_missing(tmp_path: Path) -> None:
    """A sealed file that is not there is named."""
    with pytest.raises(IntegrityError, match=r"x\.json: missing"):
        read_sealed(tmp_path / "x.json")


def test_sealed_where_nothing_can_be_written(tmp_path: Path) -> None:
    """A disk that refuses is the backend's failure, and leaves the old file and nothing else."""
    with pytest.raises(BackendError, match="cannot be written"):
        write_sealed(tmp_path / "none" / "x.json", {})
    (tmp_path / "x.json").mkdir()
    with pytest.raises(BackendError, match="cannot be written"):
        write_sealed(tmp_path / "x.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


# --- manifests that are refused ---


def test_no_folder(tmp_path: Path) -> None:
    """A folder that is not there comes with the command that builds one."""
    with pytest.raises(RecipeError, match="exporter export"):
        read_manifest(tmp_path / "none")


def test_no_manifest(tmp_path: Path) -> None:
    """A folder without a manifest is no artifact."""
    with pytest.raises(RecipeError, match=r"no artifact, it has no manifest\.json"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("schema", [0, 2, "3", None])
def test_another_schema(folder: Path, schema: object) -> None:
    """A manifest of another schema is refused, with both numbers."""
    reseal(folder, schema=schema)
    with pytest.raises(IntegrityError, match=f"schema {schema}, this exporter reads 4"):
        read_manifest(folder)


@pytest.mark.parametrize("changes", [{"files": 3}, {"variants": [{}]}, {"name": None}, {"source": {}}])
def test_manifest_of_another_shape(folder: Path, changes: dict[str, object]) -> None:
    """A sealed manifest whose content is none names the part that is wrong."""
    reseal(folder, **changes)
    with pytest.raises(IntegrityError, match=next(iter(changes))):
        read_manifest(folder)


OUTSIDE = ["../x", "onnx/../../x", "/etc/passwd", "..", "a\\..\\x", "C:\\x", "a\nb", "a\0b", "a\u202eb", ""]


@pytest.mark.parametrize("path", OUTSIDE)
def test_file_outside_the_folder(folder: Path, path: str) -> None:
    """A manifest that lists a file outside its folder, or one that cannot be shown, is refused."""
    files = (*read_manifest(folder).files, FileEntry(path, 1, "0" * 64))
    reseal(folder, files=[dataclasses.asdict(entry) for entry in files])
    with pytest.raises(IntegrityError, match="leaves the artifact's folder"):
        read_manifest(folder)


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("key", ["model", "files"])
def test_variant_outside_the_folder(folder: Path, path: str, key: str) -> None:
    """A variant whose model or files lie outside its folder is refused."""
    manifest = read_manifest(folder)
    first = {**dataclasses.asdict(manifest.variants[0]), key: path if key == "model" else [path]}
    reseal(folder, variants=[first])
    with pytest.raises(IntegrityError, match="leaves the artifact's folder"):
        read_manifest(folder)


def test_dots_in_a_name_are_no_way_out(folder: Path) -> None:
    """A file whose name merely holds dots is a file like any other."""
    (folder / "a..b").write_text("", encoding="utf-8")
    write_manifest(a_manifest(folder), folder)
    assert "a..b" in [entry.path for entry in read_manifest(folder).files]


@pytest.mark.parametrize("target", ["config.json", "/etc/hostname", "onnx", "nowhere"])
def test_link_in_an_artifact(folder: Path, target: str) -> None:
    """A link, to whatever, is refused: an artifact brings all it needs itself."""
    manifest = read_manifest(folder)
    (folder / "link").symlink_to(target)
    with pytest.raises(IntegrityError, match="link or special file"):
        check_files(manifest, folder)


def test_file_swapped_for_a_link_to_its_twin(folder: Path, tmp_path: Path) -> None:
    """A link in place of a file is refused even if what it leads to has the right bytes."""
    manifest = read_manifest(folder)
    (folder / "config.json").rename(tmp_path / "config.json")
    (folder / "config.json").symlink_to(tmp_path / "config.json")
    with pytest.raises(IntegrityError, match="link"):
        check_files(manifest, folder)


def test_pipe_in_an_artifact(folder: Path) -> None:
    """A special file is refused, not read for ever."""
    os.mkfifo(folder / "pipe")
    with pytest.raises(IntegrityError, match="special file"):
        list_files(folder)


# --- whole or not there ---


def names(folder: Path) -> list[str]:
    """List what stands in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def test_staged_becomes_final(tmp_path: Path) -> None:
    """What the block wrote stands under the final name, missing parents are made, nothing is left beside it."""
    final = tmp_path / "artifacts" / "tiny"
    with staged(final) as scratch:
        assert not final.exists()
        an_artifact(scratch)
    assert isinstance(read_manifest(final), Manifest)
    assert names(final.parent) == ["tiny"]


@pytest.mark.parametrize("failure", [ValueError, RecipeError, KeyboardInterrupt, SystemExit])
def test_failure_leaves_nothing(tmp_path: Path, failure: type[BaseException]) -> None:
    """A block that fails, or is interrupted, leaves nothing behind, and its exception is the one that is seen."""
    with pytest.raises(failure), staged(tmp_path / "tiny") as scratch:  # noqa: PT012 - the block is what is tested
        (scratch / "half").write_text("", encoding="utf-8")
        raise failure
    assert names(tmp_path) == []


def test_failure_keeps_the_old(tmp_path: Path) -> None:
    """A block that fails while replacing leaves the old artifact as it was."""
    old = an_artifact(tmp_path / "tiny")
    with pytest.raises(ValueError, match="no"), staged(tmp_path / "tiny", replace=True):
        raise ValueError("no")
    assert names(tmp_path) == ["tiny"]
    check_files(old, tmp_path / "tiny")


def test_full_disk_is_the_backends_failure(tmp_path: Path) -> None:
    """A disk that fills up while the block writes is said in one line, and leaves nothing."""
    with pytest.raises(BackendError, match="No space left on device"), staged(tmp_path / "tiny"):
        raise OSError(28, "No space left on device")
    assert names(tmp_path) == []


def test_rename_that_fails_keeps_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the new folder cannot take its place at the last moment, the old one stands there again."""
    final = tmp_path / "tiny"
    old, rename = an_artifact(final), Path.rename

    def refuse_new(self: Path, target: Path) -> Path:
        if Path(target) == final and (self / "new").exists():
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_new)
    with pytest.raises(BackendError), staged(final, replace=True) as scratch:
        (scratch / "new").write_text("", encoding="utf-8")
    assert names(tmp_path) == ["tiny"]
    check_files(old, final)


def test_existing_is_not_replaced_unasked(tmp_path: Path) -> None:
    """An artifact of that name is left alone, and the flag that replaces it is named; the block does not run."""
    old = an_artifact(tmp_path / "tiny")
    with pytest.raises(RecipeError, match="already exists; pass --replace"), staged(tmp_path / "tiny"):
        pytest.fail("the block ran")
    check_files(old, tmp_path / "tiny")


def test_existing_is_replaced_when_asked(tmp_path: Path) -> None:
    """With `replace` the new folder takes the old one's place entirely."""
    an_artifact(tmp_path / "tiny")
    (tmp_path / "tiny/old").write_text("", encoding="utf-8")
    with staged(tmp_path / "tiny", replace=True) as scratch:
        an_artifact(scratch)
    assert names(tmp_path) == ["tiny"]
    assert "old" not in names(tmp_path / "tiny")


def test_other_folders_are_never_replaced(tmp_path: Path) -> None:
    """A folder that is no artifact is not deleted, whatever was asked."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.tex").write_text("years", encoding="utf-8")
    with (
        pytest.raises(RecipeError, match="is no artifact; it is left alone"),
        staged(tmp_path / "home", replace=True),
    ):
        pytest.fail("the block ran")
    assert (tmp_path / "home/thesis.tex").read_text(encoding="utf-8") == "years"


def test_other_files_are_never_replaced(tmp_path: Path) -> None:
    """A file of that name is not deleted either."""
    (tmp_path / "notes").write_text("years", encoding="utf-8")
    with pytest.raises(RecipeError), staged(tmp_path / "notes", replace=True):
        pytest.fail("the block ran")
    assert (tmp_path / "notes").read_text(encoding="utf-8") == "years"


def test_parent_that_is_a_file(tmp_path: Path) -> None:
    """Where no folder can be made, that is said."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ExporterError, match="cannot be written"), staged(tmp_path / "file" / "tiny"):
        pytest.fail("the block ran")


@pytest.mark.parametrize("name", ["tiny", "v1.0", "a+b", "run[1]"])
def test_leftovers_of_a_dead_process_are_cleared(tmp_path: Path, name: str) -> None:
    """What a killed run left beside the folder goes with the next run, whatever the folder is called."""
    (tmp_path / f".{name}.{DEAD_PID}-abc123").mkdir()
    (tmp_path / f".{name}.{DEAD_PID}-abc123/half").write_text("", encoding="utf-8")
    with staged(tmp_path / name) as scratch:
        an_artifact(scratch)
    assert names(tmp_path) == [name]


def test_leftovers_of_others_are_not_touched(tmp_path: Path) -> None:
    """What a living process, another artifact or a person put there stays."""
    theirs = [f".tiny.{os.getpid()}-abc123", f".tiny2.{DEAD_PID}-abc123", ".tiny.notes", ".tiny.2-b.x"]
    for name in theirs:
        (tmp_path / name).mkdir()
    with staged(tmp_path / "tiny") as scratch:
        an_artifact(scratch)
    assert names(tmp_path) == sorted([*theirs, "tiny"])


def test_old_folder_is_put_back(tmp_path: Path) -> None:
    """A run killed between moving the old folder away and the new one in loses nothing: the old one is put back."""
    old = an_artifact(tmp_path / f".tiny.{DEAD_PID}-abc123.old")
    (tmp_path / f".tiny.{DEAD_PID}-abc123").mkdir()
    with pytest.raises(RecipeError, match="already exists"), staged(tmp_path / "tiny"):
        pytest.fail("the block ran")
    assert names(tmp_path) == ["tiny"]
    check_files(old, tmp_path / "tiny")


def test_old_folder_is_dropped_once_the_new_one_is_there(tmp_path: Path) -> None:
    """A run killed after the new folder arrived leaves the old one beside it; it goes, the new one stays."""
    new = an_artifact(tmp_path / "tiny")
    (tmp_path / f".tiny.{DEAD_PID}-abc123.old").mkdir()
    with pytest.raises(RecipeError, match="already exists"), staged(tmp_path / "tiny"):
        pytest.fail("the block ran")
    assert names(tmp_path) == ["tiny"]
    check_files(new, tmp_path / "tiny")
