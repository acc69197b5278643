"""Layouts: which file goes where, and one file under two names."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from exporter.artifact.files import list_files
from exporter.errors import RecipeError
from exporter.publish.layout import Placed, lay_out, place
from exporter.recipe.kinds import KINDS
from tests.factories import FILES, MODELS, a_manifest, an_artifact

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.artifact.manifest import Manifest

SHARED = ("config.json", "tokenizer.json")


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return an_artifact(tmp_path / "tiny")


def test_hub_has_int8_under_a_second_name(manifest: Manifest) -> None:
    """Every variant keeps its name; transformers.js and infinity find int8 under theirs."""
    layout = lay_out(manifest, MODELS)
    assert layout.variants == manifest.variants
    assert {placed.path: placed.source for placed in layout.files} == {
        **{path: path for path in FILES},
        "onnx/model_quantized.onnx": "onnx/model_qint8_avx2.onnx",
    }
    assert list(layout.files) == sorted(layout.files)


def test_hub_without_int8(manifest: Manifest) -> None:
    """What is not int8 is not called quantized, and a variant that stays behind leaves no file."""
    assert lay_out(manifest, ["onnx"]).files == tuple(
        Placed(path, path) for path in (*SHARED[:1], MODELS["onnx"], *SHARED[1:])
    )


def test_flat_is_one_variant_as_model_onnx(manifest: Manifest) -> None:
    """Whoever opens onnx/model.onnx gets int8, and the manifest says so."""
    layout = lay_out(manifest, ["onnx-int8"], "flat")
    assert layout.files == (
        Placed("config.json", "config.json"),
        Placed("onnx/model.onnx", "onnx/model_qint8_avx2.onnx"),
        Placed("tokenizer.json", "tokenizer.json"),
    )
    (entry,) = layout.variants
    assert (entry.kind, entry.model, entry.files) == ("onnx-int8", "onnx/model.onnx", ("onnx/model.onnx",))


def test_external_data_keeps_its_name(manifest: Manifest, tmp_path: Path) -> None:
    """A graph names the file its weights are in, so only the graph's own file is renamed."""
    (tmp_path / "tiny/onnx/weights.bin").write_text("w", encoding="utf-8")
    entry = dataclasses.replace(manifest.variants[1], files=(MODELS["onnx-int8"], "onnx/weights.bin"))
    changed = dataclasses.replace(
        manifest, variants=(manifest.variants[0], entry), files=list_files(tmp_path / "tiny")
    )
    layout = lay_out(changed, ["onnx-int8"], "flat")
    assert layout.variants[0].files == ("onnx/model.onnx", "onnx/weights.bin")
    assert Placed("onnx/weights.bin", "onnx/weights.bin") in layout.files


@pytest.mark.parametrize("kinds", [["onnx", "onnx-int8"], ["openvino"]])
def test_flat_holds_one_onnx_variant(manifest: Manifest, kinds: list[str]) -> None:
    """With several, or none, there is nothing to choose by; the error says how to choose."""
    openvino = dataclasses.replace(
        manifest.variants[0], kind="openvino", traits=KINDS["openvino"].traits, files=("openvino/m.xml",)
    )
    with pytest.raises(
        RecipeError, match="one ONNX variant, found (onnx, onnx-int8|none of openvino);.*--variant"
    ):
        lay_out(dataclasses.replace(manifest, variants=(*manifest.variants, openvino)), kinds, "flat")


def test_unknown_kind(manifest: Manifest) -> None:
    """A kind that the artifact has not is named, with those it has."""
    with pytest.raises(RecipeError, match="tiny has no openvino; it has onnx, onnx-int8"):
        lay_out(manifest, ["openvino"])


def test_file_under_two_names_is_one_on_disk(manifest: Manifest, tmp_path: Path) -> None:
    """The second name costs no space; the artifact itself shares nothing with what is published."""
    (tmp_path / "out").mkdir()
    place(lay_out(manifest, MODELS), tmp_path / "tiny", tmp_path / "out")
    first, second = (tmp_path / "out" / path for path in ("onnx/model_quantized.onnx", MODELS["onnx-int8"]))
    assert first.samefile(second)
    assert not first.samefile(tmp_path / "tiny" / MODELS["onnx-int8"])
    hashes = {file.path: file.sha256 for file in list_files(tmp_path / "out")}
    assert hashes["onnx/model_quantized.onnx"] == hashes[MODELS["onnx-int8"]]


def test_disk_without_hard_links(manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk has no hard links, the second name is a copy."""

    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    (tmp_path / "out").mkdir()
    place(lay_out(manifest, MODELS), tmp_path / "tiny", tmp_path / "out")
    assert (tmp_path / "out/onnx/model_quantized.onnx").read_text(encoding="utf-8") == FILES[
        MODELS["onnx-int8"]
    ]


def test_published_again(manifest: Manifest, tmp_path: Path) -> None:
    """What a publication adds (card, plots, second name) is made anew by the next, not taken over."""
    layout = lay_out(manifest, MODELS)
    out = tmp_path / "out"
    out.mkdir()
    place(layout, tmp_path / "tiny", out)
    (out / "README.md").write_text("# card", encoding="utf-8")
    (out / "plots").mkdir()
    (out / "plots/speed.png").write_text("png", encoding="utf-8")
    assert lay_out(a_manifest(out), MODELS) == layout
    assert lay_out(a_manifest(out), ["onnx"]) == lay_out(manifest, ["onnx"])


@pytest.mark.parametrize("order", [("avx2", "avx512_vnni"), ("avx512_vnni", "avx2")])
def test_second_name_is_right_everywhere(manifest: Manifest, order: tuple[str, str]) -> None:
    """Of several int8 variants the second name is that of one that is right on every CPU."""
    int8 = manifest.variant("onnx-int8")
    entries = [
        dataclasses.replace(
            int8, kind=f"onnx-int8@{isa}", isa=isa, model=f"onnx/{isa}.onnx", files=(f"onnx/{isa}.onnx",)
        )
        for isa in order
    ]
    several = dataclasses.replace(manifest, variants=tuple(entries))
    layout = lay_out(several, [entry.kind for entry in entries])
    assert Placed("onnx/model_quantized.onnx", "onnx/avx2.onnx") in layout.files
