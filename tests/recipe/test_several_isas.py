"""A kind for several instruction sets: a variant for each, with an id, a file and bars of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.errors import RecipeError
from exporter.recipe.load import load_bars, load_recipe
from exporter.recipe.schema import Recipe, isa_of, options_of, path_of

if TYPE_CHECKING:
    from pathlib import Path


def written(folder: Path, text: str) -> Path:
    """Write a recipe's text."""
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_several_isas(tmp_path: Path) -> None:
    """A kind for several instruction sets is a variant for each, with the entry's bars; one is as it was."""
    several = load_recipe(written(tmp_path, _int8("isa: [avx2, avx512_vnni]")))
    assert {name: isa_of(one) for name, one in several.by_id.items()} == {
        "onnx-int8@avx2": "avx2",
        "onnx-int8@avx512_vnni": "avx512_vnni",
    }
    assert len({one.bars for one in several.by_id.values()}) == 1
    assert Recipe.model_validate_json(several.model_dump_json()) == several
    plain = load_recipe(written(tmp_path, _int8("isa: avx2")))
    assert load_recipe(written(tmp_path, _int8("isa: [avx2]"))).digest == plain.digest
    assert list(plain.by_id) == ["onnx-int8"]


def test_several_isas_have_files_of_their_own() -> None:
    """A file name says the instruction set where a kind is there for several; else it is what it was."""
    for kind in ("onnx-int8", "onnx-int8-static", "openvino-int8"):
        one = options_of(kind).model_validate({"kind": kind, "isa": "avx2", "bars": {"min_speedup": 1.0}})
        both = {path_of(f"{kind}@{isa}", one.model_copy(update={"isa": isa})) for isa in ("avx2", "arm64")}
        assert len(both) == 2
    assert path_of("openvino-int8", one) == "openvino/openvino_model_qint8_quantized.xml"


@pytest.mark.parametrize(
    ("isa", "message"),
    [
        ("isa: [avx2, avx2]", "variants.0.isa: avx2 stands twice"),
        ("isa: []", "variants.0.isa: "),
        ("isa: [avx2, avx3]", "variants.0.isa.1: input should be 'avx2', "),
        ("isa: avx3", "variants.0.isa: input should be 'avx2', "),
    ],
)
def test_isas_refused(tmp_path: Path, isa: str, message: str) -> None:
    """An instruction set that stands twice, or is none, is one finding that says where."""
    with pytest.raises(RecipeError) as caught:
        load_recipe(written(tmp_path, _int8(isa)))
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_kind_twice_with_isas(tmp_path: Path) -> None:
    """A kind stands in a recipe once, also where each time it is for another instruction set."""
    text = _int8("isa: avx2") + "  - {kind: onnx-int8, isa: avx512_vnni, bars: {min_speedup: 1}}\n"
    with pytest.raises(RecipeError, match="onnx-int8 stands twice"):
        load_recipe(written(tmp_path, text))


def test_load_bars_by_id(tmp_path: Path) -> None:
    """Bars are by kind or by id; an instruction set that is none, or of a kind without, is refused."""
    assert list(load_bars(written(tmp_path, "onnx-int8@avx2: {min_speedup: 2}\n"))) == ["onnx-int8@avx2"]
    for wrong in ("onnx-int8@avx3", "onnx@avx2", "onnx-int8@"):
        with pytest.raises(RecipeError, match="is no kind"):
            load_bars(written(tmp_path, f"'{wrong}': {{min_speedup: 2}}\n"))


def _int8(isa: str) -> str:
    """Return a recipe of one int8 variant."""
    head = "name: a\nmodel: {source: sample}\nvariants:\n"
    return f"{head}  - {{kind: onnx-int8, {isa}, bars: {{min_speedup: 1}}}}\n"
