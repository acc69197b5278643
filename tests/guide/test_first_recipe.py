"""`exporter init`: a first recipe that can be carried out as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter import preflight
from exporter.cache import Cache
from exporter.context import Context
from exporter.errors import RecipeError
from exporter.guide.first_recipe import Wanted, write_first_recipe
from exporter.guide.recipe_text import Names, recipe_text
from exporter.recipe.load import load_recipe, read_recipe
from tests.factories import a_machine, a_pair_set
from tests.support import write_pairs

if TYPE_CHECKING:
    from pathlib import Path

NAMES = Names("my-model", "my-model.yaml", "./my-model", None, "./pairs.jsonl", None)


def text_for(n_queries: int, *, labels: bool = True, isa: str = "avx2") -> str:
    """Return the recipe for so many queries of two passages, one of them relevant."""
    sizes = (2,) * n_queries
    pair_set = a_pair_set(sizes, [1.0, 0.0] * n_queries if labels else None)
    return recipe_text(NAMES, pair_set, a_machine(isa=isa))


def bars_of(text: str, kind: str, tmp_path: Path) -> dict[str, float]:
    """Return the bars of a kind in a recipe's text."""
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    (variant,) = (one for one in load_recipe(path).variants if one.kind == kind)
    return variant.bars.model_dump(exclude_none=True)


@pytest.fixture
def here(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory beside nothing; the tiny model and its pairs are named by their paths."""
    del tiny
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_bars_are_what_the_queries_can_show(tmp_path: Path) -> None:
    """40 queries without a loss show 0.9278, 300 show 0.9901: bars lie just below, at most 0.99."""
    few = bars_of(text_for(40), "onnx-int8", tmp_path)
    assert few["min_ndcg_retained"] == 0.92
    assert bars_of(text_for(300), "onnx-int8", tmp_path)["min_ndcg_retained"] == 0.99
    assert few["min_top1_agreement"] < 0.92  # one of 40 may differ


def test_unlabelled_pairs_have_no_bar_on_ndcg(tmp_path: Path) -> None:
    """A bar that nothing could tell is left out, and why stands there."""
    text = text_for(40, labels=False)
    assert "min_ndcg_retained" not in bars_of(text, "onnx-int8", tmp_path)
    assert "no min_ndcg_retained: no labels" in text


def test_three_queries_have_no_bar_on_the_best_passage(tmp_path: Path) -> None:
    """What three queries can show (0.368) is not worth a bar."""
    assert "min_top1_agreement" not in bars_of(text_for(3), "onnx", tmp_path)


def test_the_cpu_decides_isa() -> None:
    """8-bit weights where int8 sums have 32 bits, 7 bits elsewhere."""
    assert "isa: avx512_vnni" in text_for(40, isa="avx512_vnni")
    assert "isa: avx512_vnni" in text_for(40, isa="avx_vnni")
    assert "isa: avx2 " in text_for(40, isa="avx512")


def test_the_recipe_passes_plan_as_it_is(tiny: Path, here: Path) -> None:
    """Nothing speaks against it, and no bar is out of reach."""
    made = write_first_recipe(
        Wanted(str(tiny / "model"), str(tiny / "pairs.jsonl"), str(tiny / "calibrate.jsonl")), Context()
    )
    found = preflight.look(read_recipe(made.path), here / "artifacts", Context(cache=Cache.of_user()))
    assert (found.errors, found.warnings) == ([], [])
    assert load_recipe(made.path).name == "model"
    assert "onnx-int8-static" in made.text


def test_paths_start_at_the_recipe(tiny: Path, here: Path) -> None:
    """What was typed relatively is written relatively to the recipe's own folder."""
    write_pairs(here / "my pairs.jsonl")
    (here / "recipes").mkdir()
    made = write_first_recipe(
        Wanted(str(tiny / "model"), "my pairs.jsonl"), Context(), to=here / "recipes/mine.yaml"
    )
    assert 'verify: "../my pairs.jsonl"' in made.text
    assert load_recipe(made.path).pairs.verify == str(here / "my pairs.jsonl")


def test_a_file_that_is_there_is_left_alone(tiny: Path, here: Path) -> None:
    """Nothing is overwritten."""
    (here / "mine.yaml").write_text("mine", encoding="utf-8")
    with pytest.raises(RecipeError, match="left alone"):
        write_first_recipe(
            Wanted(str(tiny / "model"), str(tiny / "pairs.jsonl")), Context(), to=here / "mine.yaml"
        )
    assert (here / "mine.yaml").read_text(encoding="utf-8") == "mine"


def test_a_name_that_is_taken_gets_a_number(tiny: Path, here: Path) -> None:
    """Else `plan` would refuse: another artifact stands there."""
    (here / "artifacts/model").mkdir(parents=True)
    made = write_first_recipe(Wanted(str(tiny / "model"), str(tiny / "pairs.jsonl")), Context())
    assert load_recipe(made.path).name == "model-2"


def test_model_and_pairs_are_checked_at_once(tiny: Path, here: Path) -> None:
    """Both are named, and nothing is written."""
    with pytest.raises(RecipeError, match=r"(?s)gone\.jsonl.*no such"):
        write_first_recipe(Wanted(str(tiny / "nothing"), "gone.jsonl"), Context())
    assert list(here.iterdir()) == []
