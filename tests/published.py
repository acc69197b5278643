"""Small published folders to send about: complete, with report and proof, and two of them different."""

from __future__ import annotations

from pathlib import Path

from exporter.artifact.files import REPORT, REPORT_MD, list_files, write_sealed
from exporter.artifact.manifest import write_manifest
from tests.factories import a_manifest, an_artifact


def a_published(folder: Path, letter: str = "x") -> Path:
    """Write a published folder; another letter gives another artifact with most files alike."""
    manifest = an_artifact(folder)
    (folder / "onnx/model.onnx").write_text(letter * 100, encoding="utf-8")
    (folder / "onnx" / f"only-{letter}.txt").write_text(letter, encoding="utf-8")
    return seal(folder, manifest.name)


def seal(folder: Path, name: str = "tiny") -> Path:
    """Write manifest and report of what is in a folder."""
    manifest = a_manifest(folder, name=name, files=list_files(folder))
    write_manifest(manifest, folder)
    # A real report would have its plots drawn each time, and nobody here reads it.
    write_sealed(folder / REPORT, {"manifest_root": manifest.root})
    (folder / REPORT_MD).write_text(f"measured: {manifest.root}\n", encoding="utf-8")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Read a folder whole."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
