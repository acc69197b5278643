"""Publishing into a working copy: version control's files stay as they are, and nobody's are lost."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from exporter.artifact.files import MANIFEST, SIGNATURE
from exporter.artifact.manifest import check_files, read_manifest, write_manifest
from exporter.artifact.staging import staged
from exporter.errors import IntegrityError, RecipeError
from exporter.remote import fetch_artifact
from exporter.remote.send import send
from tests.factories import an_artifact
from tests.published import a_published, contents, seal

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    """Run git without this machine's own configuration."""
    name = {"NAME": "me", "EMAIL": "me@example.org"}
    who = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in name.items()}
    alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(
        ("git", *arguments),
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **who, **alone},
    )
    return done.stdout.strip()


def commit(folder: Path, **files: str) -> str:
    """Write files, commit everything, and return the commit."""
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "x")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A fresh clone as hosts make it: with attributes, a README and a licence."""
    origin = tmp_path / "origin"
    origin.mkdir()
    git(origin, "init", "--quiet")
    made = {".gitattributes": "*.onnx filter=lfs\n", ".gitignore": "*.tmp\n"}
    commit(origin, **made, **{"README.md": "# new\n", "LICENSE": "do what you want\n"})
    git(tmp_path, "clone", "--quiet", str(origin), "clone")
    return tmp_path / "clone"


def kept(folder: Path) -> dict[str, bytes]:
    """Read what is not the artifact's: version control and the licence."""
    return {
        name: text for name, text in contents(folder).items() if name.startswith(".git") or name == "LICENSE"
    }


def with_card(folder: Path) -> Path:
    """Give a published folder a card of its own."""
    (folder / "README.md").write_text("# the card\n", encoding="utf-8")
    return seal(folder)


def test_a_fresh_clone(clone: Path, tmp_path: Path) -> None:
    """A clone with nothing of its own is published into, and is an artifact to everybody who reads it."""
    folder, before = with_card(a_published(tmp_path / "a")), kept(clone)
    assert send(folder, str(clone)).n_files == len(contents(folder))
    assert {**contents(folder), **before}.items() <= contents(clone).items()
    assert set(contents(clone)) == {*contents(folder), *before}
    check_files(read_manifest(clone), clone)
    got, _ = fetch_artifact(str(clone), tmp_path / "back")
    assert contents(got) == contents(folder)
    assert send(folder, str(clone)).n_files is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "back", "clone", "origin"]


def test_an_older_publication_with_a_commit_of_its_own(clone: Path, tmp_path: Path) -> None:
    """Another artifact needs permission, takes the old one's files away, and loses no commit."""
    send(with_card(a_published(tmp_path / "a")), str(clone))
    unpushed, before = commit(clone), kept(clone)
    folder = with_card(a_published(tmp_path / "b", "y"))
    with pytest.raises(RecipeError, match="holds another artifact"):
        send(folder, str(clone))
    send(folder, str(clone), replace=True)
    assert kept(clone) == before
    assert git(clone, "rev-parse", "HEAD") == unpushed
    assert contents(folder).items() <= contents(clone).items()
    assert not (clone / "onnx/only-x.txt").exists()
    check_files(read_manifest(clone), clone)


def test_git_as_a_file(clone: Path, tmp_path: Path) -> None:
    """A worktree, as a submodule, has a file that leads to its repository, which still knows it after."""
    git(clone, "worktree", "add", "--quiet", "-b", "two", str(tmp_path / "tree"))
    tree = tmp_path / "tree"
    leads = (tree / ".git").read_bytes()
    send(with_card(a_published(tmp_path / "a")), str(tree))
    send(with_card(a_published(tmp_path / "b", "y")), str(tree), replace=True)
    assert (tree / ".git").read_bytes() == leads
    assert "manifest.json" in git(tree, "status", "--porcelain")
    assert str(tree) in git(clone, "worktree", "list")


@pytest.mark.parametrize("name", [".hg", ".svn", ".jj", "CVS"])
def test_other_version_control(name: str, tmp_path: Path) -> None:
    """What other tools keep is left alone as well."""
    place = tmp_path / "there"
    (place / name).mkdir(parents=True)
    (place / name / "store").write_text("years", encoding="utf-8")
    send(a_published(tmp_path / "a"), str(place))
    send(a_published(tmp_path / "b", "y"), str(place), replace=True)
    assert (place / name / "store").read_text(encoding="utf-8") == "years"


def test_what_is_not_committed(clone: Path, tmp_path: Path) -> None:
    """A README that git could not bring back is overwritten only when asked, and named."""
    (clone / "README.md").write_text("# an evening's work\n", encoding="utf-8")
    folder = with_card(a_published(tmp_path / "a"))
    for _ in range(2):  # changed, then staged only
        with pytest.raises(RecipeError, match=r"README\.md of its own, which git would not bring back"):
            send(folder, str(clone))
        git(clone, "add", "README.md")
    assert (clone / "README.md").read_text(encoding="utf-8") == "# an evening's work\n"
    assert not (clone / MANIFEST).exists()
    send(folder, str(clone), replace=True)
    assert (clone / "README.md").read_text(encoding="utf-8") == "# the card\n"


def test_an_untracked_readme(tmp_path: Path) -> None:
    """In a repository without a commit nothing can be brought back."""
    place = tmp_path / "there"
    place.mkdir()
    git(place, "init", "--quiet")
    (place / "README.md").write_text("mine", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"README\.md of its own"):
        send(with_card(a_published(tmp_path / "a")), str(place))


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("published", [False, True])
def test_files_of_others_are_refused_by_name(
    clone: Path, tmp_path: Path, *, published: bool, asked: bool
) -> None:
    """A file that no artifact brought is named and never lost, whatever was asked."""
    folder = with_card(a_published(tmp_path / "a"))
    if published:
        send(folder, str(clone))
    (clone / "onnx").mkdir(exist_ok=True)
    (clone / "onnx/train.py").write_text("years", encoding="utf-8")
    before = contents(clone)
    with pytest.raises(RecipeError, match=r"has a onnx/train\.py of its own"):
        send(with_card(a_published(tmp_path / "b", "y")), str(clone), replace=True)
    (folder / SIGNATURE).write_text("new", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"has a onnx/train\.py of its own"):
        send(folder, str(clone), replace=asked)
    assert contents(clone) == before


def test_a_link_is_not_followed(clone: Path, tmp_path: Path) -> None:
    """A folder that leads out of the clone is not written through."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (clone / "onnx").symlink_to(outside)
    with pytest.raises((RecipeError, IntegrityError)):
        send(with_card(a_published(tmp_path / "a")), str(clone), replace=True)
    assert not list(outside.iterdir())
    assert (clone / ".git").is_dir()


def test_a_damaged_manifest(clone: Path, tmp_path: Path) -> None:
    """Over a damaged manifest only files that the delivery brings too are replaced."""
    folder = with_card(a_published(tmp_path / "a"))
    send(folder, str(clone))
    before = kept(clone)
    (clone / MANIFEST).write_text("{}", encoding="utf-8")
    with pytest.raises(RecipeError, match="is damaged"):
        send(folder, str(clone))
    with pytest.raises(RecipeError, match=r"only-x\.txt of its own"):
        send(with_card(a_published(tmp_path / "b", "y")), str(clone), replace=True)
    send(folder, str(clone), replace=True)
    assert kept(clone) == before
    assert contents(folder).items() <= contents(clone).items()


@pytest.mark.parametrize("n_moved", [0, 1, 3])
def test_killed_half_way(clone: Path, tmp_path: Path, n_moved: int) -> None:
    """Whatever a killed send had replaced, the same again completes it, and the history is whole."""
    send(with_card(a_published(tmp_path / "a")), str(clone))
    unpushed = commit(clone)
    folder = with_card(a_published(tmp_path / "b", "y"))
    # The order in which a send replaces: new files, then old ones removed, the manifest last.
    there = contents(clone)
    changed = sorted(name for name, text in contents(folder).items() if there.get(name) != text)
    changed.remove(MANIFEST)
    for name in changed[:n_moved]:
        shutil.copyfile(folder / name, clone / name)
    with pytest.raises(IntegrityError):
        check_files(read_manifest(clone), clone) if n_moved else check_files(read_manifest(folder), clone)
    send(folder, str(clone), replace=True)
    check_files(read_manifest(clone), clone)
    assert contents(folder).items() <= contents(clone).items()
    assert git(clone, "rev-parse", "HEAD") == unpushed


def test_an_empty_folder(tmp_path: Path) -> None:
    """A folder with nothing in it is as good as none."""
    (tmp_path / "there").mkdir()
    folder = a_published(tmp_path / "a")
    send(folder, str(tmp_path / "there"))
    assert contents(tmp_path / "there") == contents(folder)


def test_a_folder_is_not_renamed_over_a_working_copy(clone: Path, tmp_path: Path) -> None:
    """Neither fetching nor building again takes a working copy's place."""
    folder = with_card(a_published(tmp_path / "a"))
    send(folder, str(clone))
    before = kept(clone)
    with pytest.raises(RecipeError, match=r"is a working copy, it has \.git"):
        fetch_artifact(str(folder), clone, replace=True)
    with pytest.raises(RecipeError, match="is left alone"), staged(clone, replace=True) as scratch:
        an_artifact(scratch)
    assert kept(clone) == before


@pytest.mark.parametrize("name", [".git/hooks/post-checkout", ".GIT/config", "onnx/.git", ".gitattributes"])
def test_no_artifact_brings_version_control(name: str, tmp_path: Path) -> None:
    """What is fetched cannot put a hook into a repository: no manifest may name a file of one."""
    folder = a_published(tmp_path / "a")
    manifest = read_manifest(folder)
    files = tuple(
        replace(file, path=name) if file.path == "onnx/only-x.txt" else file for file in manifest.files
    )
    write_manifest(replace(manifest, files=files), folder)
    with pytest.raises(IntegrityError, match="leaves the artifact's folder, or is no name for a file of one"):
        read_manifest(folder)
