"""The manifest: what it says of a folder, and whether the folder is still what it says."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.artifact.files import MANIFEST, FileEntry, list_files, read_sealed, write_sealed
from exporter.artifact.manifest import (
    ManifestDiff,
    check_files,
    check_needed,
    compare_files,
    manifest_json,
    read_manifest,
    write_manifest,
)
from exporter.errors import IntegrityError, RecipeError
from exporter.report.read import read_report
from tests.factories import FILES, a_manifest, a_report, an_artifact, write_report


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
    """Whatever files a folder holds, in whatever order written, a copy of it has the same root hash."""
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


# --- manifests that are refused ---


@pytest.mark.parametrize("path", ["onnx/model.onnx", "tokenizer.json"])
def test_pointer_of_git_lfs(folder: Path, path: str) -> None:
    """A clone without Git LFS has pointers for files: they are named, and no new build is asked for."""
    manifest = read_manifest(folder)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n"
    (folder / path).write_text(pointer, encoding="utf-8")
    said = rf"{path} is a pointer of Git LFS and not the file; run `git lfs pull` in the clone"
    with pytest.raises(IntegrityError, match=said):
        check_files(manifest, folder)
    with pytest.raises(IntegrityError, match=said):
        check_needed(manifest, folder, [path])


def test_manifest_that_is_a_pointer(whole: Path, tmp_path: Path) -> None:
    """Where all of JSON is kept by Git LFS, the manifest is one as well."""
    folder = Path(shutil.copytree(whole, tmp_path / "clone"))
    (folder / MANIFEST).write_text("version https://git-lfs.github.com/spec/v1\noid x\n", encoding="utf-8")
    with pytest.raises(IntegrityError, match=r"manifest.json is a pointer of Git LFS .* `git lfs pull`"):
        read_manifest(folder)


def test_no_folder(tmp_path: Path) -> None:
    """A folder that is not there comes with the command that builds one."""
    with pytest.raises(RecipeError, match="exporter export"):
        read_manifest(tmp_path / "none")


def test_no_manifest(tmp_path: Path) -> None:
    """A folder without a manifest is no artifact."""
    with pytest.raises(RecipeError, match=r"no artifact, it has no manifest\.json"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("schema", [0, 4, "5", None])
def test_another_schema(folder: Path, schema: object) -> None:
    """A manifest of another schema is refused, with both numbers."""
    reseal(folder, schema=schema)
    with pytest.raises(IntegrityError, match=f"schema {schema}, this exporter reads 5"):
        read_manifest(folder)


@pytest.mark.parametrize("changes", [{"files": 3}, {"variants": [{}]}, {"name": None}, {"source": {}}])
def test_manifest_of_another_shape(folder: Path, changes: dict[str, object]) -> None:
    """A sealed manifest of another shape is refused; the error names the part that is wrong."""
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
