"""The recipe: read whole, refused whole, every finding with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from exporter.errors import RecipeError
from exporter.recipe.kinds import KINDS
from exporter.recipe.load import load_bars, load_recipe
from exporter.recipe.schema import (
    Bars,
    Onnx,
    OnnxInt8,
    OpenVinoInt8,
    Recipe,
    isa_of,
    options_of,
    path_of,
)
from tests.factories import a_recipe

DATA = Path(__file__).resolve().parent.parent / "data/recipes"
MINIMAL = DATA / "good-minimal.yaml"


def written(folder: Path, text: str) -> Path:
    """Write a recipe's text."""
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


# --- every way of being wrong, one file each ---


@pytest.mark.parametrize("path", sorted(DATA.glob("bad-*.yaml")), ids=lambda path: path.stem)
def test_bad_recipe_says_what_is_wrong(path: Path) -> None:
    """Each bad recipe is refused with exactly the findings that its first lines expect."""
    lines = path.read_text(encoding="utf-8").splitlines()
    expected = [line.removeprefix("# expect: ") for line in lines if line.startswith("# expect: ")]
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    findings = str(caught.value).splitlines()
    for text in expected:
        assert any(text in finding for finding in findings), findings
    assert len(findings) == len(expected)


@pytest.mark.parametrize("path", sorted(DATA.glob("good-*.yaml")), ids=lambda path: path.stem)
def test_good_recipe_loads(path: Path) -> None:
    """Each good recipe loads, and what it was resolved to says the same once more."""
    recipe = load_recipe(path)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


# --- what a recipe says ---


def test_defaults() -> None:
    """The smallest recipe gets the documented rest."""
    recipe = load_recipe(MINIMAL)
    assert recipe.model.max_length is None
    assert recipe.model.revision is None
    assert recipe.pairs.verify == "sample/verify"
    assert recipe.pairs.calibrate is None
    assert recipe.reference.device == "cpu"


def test_small_number_is_a_number() -> None:
    """`1e-4` is a number, as in YAML 1.2, and not a text."""
    assert load_recipe(MINIMAL).variants[0].bars.max_abs_diff == 0.0001


def test_every_kind() -> None:
    """A recipe may ask for every kind there is, each with its own keys."""
    recipe = load_recipe(DATA / "good-every-kind.yaml")
    assert [variant.kind for variant in recipe.variants] == list(KINDS)
    onnx, int8, *_, openvino_int8 = recipe.variants
    assert isinstance(onnx, Onnx)
    assert onnx.opset == 17
    assert isinstance(int8, OnnxInt8)
    assert (int8.isa, int8.keep_fp32, int8.quantize_embeddings) == ("avx512_vnni", ("*.layer.0.*",), False)
    assert isinstance(openvino_int8, OpenVinoInt8)
    assert openvino_int8.isa == "arm64"


def test_onoff_words_are_texts(tmp_path: Path) -> None:
    """YAML 1.2: `on`, `no` and a leading zero mean what they say, so a model may be called so."""
    path = written(
        tmp_path, "name: no\nmodel: {source: 'on'}\nvariants: [{kind: onnx, bars: {min_speedup: 012}}]\n"
    )
    recipe = load_recipe(path)
    assert recipe.name == "no"
    assert recipe.variants[0].bars.min_speedup == 12


def test_frozen() -> None:
    """A recipe is data and does not change."""
    recipe = load_recipe(MINIMAL)
    with pytest.raises(ValidationError):
        recipe.name = "other"  # type: ignore[misc] # assigning to a frozen field is what is tested


def test_merged_keys_are_no_duplicates(tmp_path: Path) -> None:
    """A key that stands beside a merge (`<<`) takes the merged one's place; twice is said once."""
    text = (
        "name: x\nmodel: {source: sample}\nvariants:\n"
        "  - {kind: onnx, bars: &bars {min_speedup: 1, max_abs_diff: 1}}\n"
        "  - {kind: openvino, bars: {<<: *bars, min_speedup: 2}}\n"
    )
    bars = load_recipe(written(tmp_path, text)).variants[1].bars
    assert (bars.min_speedup, bars.max_abs_diff) == (2, 1)
    twice = text.replace("&bars {min_speedup: 1,", "&bars {min_speedup: 1, min_speedup: 3,")
    with pytest.raises(RecipeError) as caught:
        load_recipe(written(tmp_path, twice))
    assert str(caught.value).splitlines() == [f'{tmp_path}/recipe.yaml:4: found duplicate key "min_speedup"']


# --- paths ---


def test_paths_are_taken_from_the_recipes_folder() -> None:
    """A folder or pair file named relatively stands beside the recipe, wherever the command was typed."""
    recipe = load_recipe(DATA / "good-paths.yaml")
    assert recipe.model.source == str(DATA / "model")
    assert recipe.pairs.verify == str(DATA / "pairs/verify.jsonl")
    assert recipe.pairs.calibrate == str(DATA.parent / "calibrate.tsv")


def test_relative_path_to_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """How the recipe itself was named does not change what it says."""
    monkeypatch.chdir(DATA)
    assert load_recipe(Path("good-paths.yaml")) == load_recipe(DATA / "good-paths.yaml")


def test_folder_that_looks_like_a_hub_id(tmp_path: Path) -> None:
    """`org/model` is a folder where it, or `org`, is beside the recipe; else it is a Hub id."""
    path = written(
        tmp_path, "name: x\nmodel: {source: org/model}\nvariants: [{kind: onnx, bars: {min_speedup: 1}}]\n"
    )
    assert load_recipe(path).model.source == "org/model"
    (tmp_path / "org").mkdir()
    assert load_recipe(path).model.source == str(tmp_path / "org/model")
    (tmp_path / "org/model").mkdir()
    assert load_recipe(path).model.source == str(tmp_path / "org/model")


def test_address_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`hf://org/model` is on the Hub whatever folders are here, and may name a revision."""
    (tmp_path / "org/model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for address, revision in (("hf://org/model", None), ("hf://org/model@v1", "v1")):
        model = load_recipe(MINIMAL, model=address).model
        assert (model.source, model.revision) == ("org/model", revision)


def test_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = written(
        tmp_path, "name: x\nmodel: {source: ~/m}\nvariants: [{kind: onnx, bars: {min_speedup: 1}}]\n"
    )
    assert load_recipe(path).model.source == str(tmp_path / "home/m")


# --- --model and --set ---


def test_model_override_drops_revision_and_length() -> None:
    """Another model brings its own revision and length, not those of the one it replaces."""
    recipe = load_recipe(DATA / "good-every-kind.yaml", model="other/model")
    assert (recipe.model.source, recipe.model.revision) == ("other/model", None)
    assert recipe.model.max_length is None


def test_the_same_model_is_no_override() -> None:
    """`--model` with the recipe's own model changes nothing."""
    path = DATA / "good-every-kind.yaml"
    assert load_recipe(path, model="org/model") == load_recipe(path)


@pytest.mark.parametrize(
    ("old", "recipe", "name"),
    [
        ("org/ms-marco-MiniLM-L6-v2", "ms-marco-minilm-l6", "mine"),
        ("org/ms-marco-MiniLM-L6-v2", "ms-marco-minilm-l6-int8", "mine-int8"),
        ("./my-reranker", "my-reranker", "mine"),
        ("./my-reranker", "my-pairs", "mine-pairs"),
        ("./model", "int8", "mine-int8"),
        ("./sample", "sampled", "mine-sampled"),
    ],
)
def test_model_override_drops_the_old_ones_name(tmp_path: Path, old: str, recipe: str, name: str) -> None:
    """What a recipe's name has of the model that is replaced is not said of the new one."""
    text = MINIMAL.read_text(encoding="utf-8").replace("name: minimal", f"name: {recipe}")
    (tmp_path / "recipe.yaml").write_text(text.replace("source: sample", f"source: {old}"), encoding="utf-8")
    assert load_recipe(tmp_path / "recipe.yaml", model="./mine").name == name


@pytest.mark.parametrize(
    ("model", "recipe", "name"),
    [
        ("./mine", "sample-int8", "mine-int8"),
        ("org/My_Reranker", "sample-int8-static", "my_reranker-int8-static"),
        ("./Großes Modell (v2)", "sample-int8", "gro-es-modell-v2-int8"),
        ("./mine", "own", "mine-own"),
        ("./..-", "sample-onnx", "model-onnx"),
        ("./模型", "sample-onnx", "model-onnx"),
        (f"./models--org--tiny/snapshots/{'0a' * 20}", "sample-onnx", "tiny-onnx"),
        (f"./{'x' * 200}", "sample-onnx", f"{'x' * 95}-onnx"),
        ("./mine", "y" * 100, f"m-{'y' * 98}"),
    ],
)
def test_model_override_brings_a_name(tmp_path: Path, model: str, recipe: str, name: str) -> None:
    """The artifact of another model is called by that model, and the recipe's own is left as it is."""
    text = MINIMAL.read_text(encoding="utf-8").replace("name: minimal", f"name: {recipe}")
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    assert load_recipe(tmp_path / "recipe.yaml", model=model).name == name
    assert load_recipe(tmp_path / "recipe.yaml", model=model, changes=["name=chosen"]).name == "chosen"


def test_model_override_is_taken_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is typed is relative to where it is typed."""
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_recipe(MINIMAL, model="mine").model.source == str(tmp_path / "mine")
    assert load_recipe(MINIMAL, model="./none").model.source == str(tmp_path / "none")


@pytest.mark.parametrize("name", ["org/model: x", "#1", "modèle", 'a"b', "模型", "🙂/model", "1"])
def test_model_override_is_taken_literally(name: str) -> None:
    """A model's name is not read as YAML, whatever it holds."""
    assert load_recipe(MINIMAL, model=name).model.source == name


@pytest.mark.parametrize(
    ("change", "where", "value"),
    [
        ("name=other", "name", "other"),
        ("model.max_length=128", "model.max_length", 128),
        ("variants.0.bars.max_abs_diff=1e-3", "variants.0.bars.max_abs_diff", 0.001),
        ("variants.0.bars.min_speedup=2", "variants.0.bars.min_speedup", 2.0),
        ("variants.0.opset=17", "variants.0.opset", 17),
        ("pairs.calibrate=sample/calibrate", "pairs.calibrate", "sample/calibrate"),
        ("reference.device=auto", "reference.device", "auto"),
        ("model.revision=null", "model.revision", None),
        ("model.source=a=b", "model.source", "a=b"),
    ],
)
def test_set(change: str, where: str, value: object) -> None:
    """`--set where=value` changes a value that stands there, or adds it; the value is YAML."""
    node = load_recipe(MINIMAL, changes=[change]).model_dump()
    for step in where.split("."):
        node = node[int(step)] if step.isdecimal() else node[step]
    assert node == value


def test_set_a_whole_part() -> None:
    """A value may be a mapping or a list."""
    change = "variants=[{kind: openvino, bars: {min_kendall_tau: 0.9}}]"
    assert [v.kind for v in load_recipe(MINIMAL, changes=[change]).variants] == ["openvino"]
    change = "variants.0={kind: openvino, bars: {min_kendall_tau: 0.9}}"
    assert [v.kind for v in load_recipe(MINIMAL, changes=[change]).variants] == ["openvino"]


def test_set_in_order() -> None:
    """Of two changes to one value the later wins, and a change is made on top of `--model`."""
    recipe = load_recipe(MINIMAL, model="one/model", changes=["name=a", "name=b", "model.revision=main"])
    assert (recipe.name, recipe.model.source, recipe.model.revision) == ("b", "one/model", "main")


def test_set_is_taken_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pair file that is typed is relative to where it is typed."""
    monkeypatch.chdir(tmp_path)
    assert load_recipe(MINIMAL, changes=["pairs.verify=mine.tsv"]).pairs.verify == str(tmp_path / "mine.tsv")


def test_set_can_mend_a_recipe() -> None:
    """A recipe is checked after it was changed, not before."""
    path = DATA / "bad-name-with-a-folder.yaml"
    assert load_recipe(path, changes=["name=good"]).name == "good"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("name", "write where=value"),
        ("=1", "write where=value"),
        ("", "write where=value"),
        ("variants.7.opset=17", "'7' leads nowhere"),
        ("variants.x.opset=17", "'x' leads nowhere"),
        ("variants.-1.opset=17", "'-1' leads nowhere"),
        ("variants.7={}", "has no variants.7"),
        ("name.first=x", "has no name.first"),
        ("name.first.second=x", "'first' leads nowhere"),
        ("name=[", "'[' is not a YAML value"),
        ("name=2026-13-45", "2026-13-45"),
        ("name=!!int x", "x"),
        ("model.max_lenght=3", "did you mean 'max_length'?"),
        ("modle.source=sample", "did you mean 'model'?"),
        ("name=Not A Name", "found 'Not A Name'"),
        ("variants.0.bars={}", "a gate without a bar cannot fail"),
    ],
)
def test_set_refused(change: str, message: str) -> None:
    """A change that cannot be made, or makes no recipe, is refused, with what is wrong with it."""
    with pytest.raises(RecipeError) as caught:
        load_recipe(MINIMAL, changes=[change])
    assert message in str(caught.value)


# --- files that are no recipe ---


def test_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    """A recipe that is not there comes with those that are."""
    (tmp_path / "int8.yaml").write_text("", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"int9\.yaml: no such file; there is .*int8\.yaml"):
        load_recipe(tmp_path / "int9.yaml")


def test_missing_folder(tmp_path: Path) -> None:
    """A recipe in a folder that is not there is simply not there."""
    with pytest.raises(RecipeError, match=r"x\.yaml: no such file$"):
        load_recipe(tmp_path / "none" / "x.yaml")


def test_folder_instead_of_a_file(tmp_path: Path) -> None:
    """A folder is no recipe."""
    with pytest.raises(RecipeError, match="no file; a recipe is a YAML file"):
        load_recipe(tmp_path)


@pytest.mark.parametrize("raw", [b"\xff\xfe\x00", b"name: \xe9", b"name: a\0b", b"name: \x1b[31m"])
def test_bytes_that_are_no_text(tmp_path: Path, raw: bytes) -> None:
    """A file that is no UTF-8 text, or holds control characters, is refused and not shown."""
    (tmp_path / "x.yaml").write_bytes(raw)
    with pytest.raises(RecipeError, match=r"x\.yaml"):
        load_recipe(tmp_path / "x.yaml")


def test_too_large(tmp_path: Path) -> None:
    """A file no person wrote is refused unread."""
    with pytest.raises(RecipeError, match="larger than 256 KiB"):
        load_recipe(written(tmp_path, "#" * (256 * 1024 + 1)))


def test_too_deep(tmp_path: Path) -> None:
    """Brackets without end are refused like any other mistake."""
    with pytest.raises(RecipeError):
        load_recipe(written(tmp_path, "[" * 20_000))


def test_endless_source(tmp_path: Path) -> None:
    """A source longer than any file name is not a folder, and no reason to break."""
    name = "m" * 300
    text = f"name: x\nmodel: {{source: {name}}}\nvariants: [{{kind: onnx, bars: {{min_speedup: 1}}}}]\n"
    assert load_recipe(written(tmp_path, text)).model.source == name


YAML_TEXT = st.text(st.sampled_from("ab01:-.,[]{}&*!#|>'\"?%@~\n \t"), max_size=40)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(YAML_TEXT)
def test_any_text_is_read_or_refused(tmp_path: Path, text: str) -> None:
    """Whatever stands in the file, it is a finding with the file's name, never another exception."""
    with pytest.raises(RecipeError, match=r"recipe\.yaml"):
        load_recipe(written(tmp_path, text))


# --- the digest ---


def test_digest_is_of_what_is_said(tmp_path: Path) -> None:
    """Comments, order of keys and defaults written out do not change the digest."""
    same = written(
        tmp_path,
        "# the same\nvariants:\n- bars:\n    max_abs_diff: 0.0001\n  kind: onnx\n  opset: 18\n"
        "model: {revision: null, source: sample}\nname: minimal\n",
    )
    assert load_recipe(same).digest == load_recipe(MINIMAL).digest


@pytest.mark.parametrize(
    "change",
    [
        "name=other",
        "model.max_length=128",
        "variants.0.bars.max_abs_diff=2e-4",
        "variants.0.opset=17",
        "reference.device=auto",
    ],
)
def test_digest_changes_with_anything(change: str) -> None:
    """Any other recipe has another digest."""
    assert load_recipe(MINIMAL, changes=[change]).digest != load_recipe(MINIMAL).digest


# --- limits of values ---


@pytest.mark.parametrize("name", ["a", "0", "a" * 100, "sample-int8", "v1.0_b"])
def test_names(name: str) -> None:
    """A name is what a folder may be called on every system."""
    assert a_recipe(name=name).name == name


@pytest.mark.parametrize("name", ["", "a" * 101, ".hidden", "-flag", "a/b", "..", "a\n", "A", "ä", "a b"])
def test_names_refused(name: str) -> None:
    """A name that would leave the folder, hide, or read as a flag is refused."""
    with pytest.raises(ValidationError):
        a_recipe(name=name)


@pytest.mark.parametrize(
    "bar", [name for name in Bars.model_fields if name.startswith("min_") and name != "min_speedup"]
)
@pytest.mark.parametrize(
    ("limit", "allowed"), [(1, True), (0.5, True), (0, False), (1.01, False), (-0.1, False)]
)
def test_shares_are_above_0_and_at_most_1(bar: str, limit: float, *, allowed: bool) -> None:
    """A bar on a share is above 0, for 0 cannot fail, and at most 1, for more cannot pass."""
    if allowed:
        assert getattr(Bars.model_validate({bar: limit}), bar) == limit
    else:
        with pytest.raises(ValidationError):
            Bars.model_validate({bar: limit})


@pytest.mark.parametrize("bar", ["min_speedup", "max_abs_diff", "max_size_ratio"])
@pytest.mark.parametrize("limit", [0, -1, float("inf"), float("nan")])
def test_other_bars_are_positive_and_finite(bar: str, limit: float) -> None:
    """A bar that everything or nothing meets is a mistake."""
    with pytest.raises(ValidationError):
        Bars.model_validate({bar: limit})


def test_every_field_is_described() -> None:
    """Each bar says what it limits; the documentation is made of that."""
    assert all(field.description for field in Bars.model_fields.values())


# --- bars from a file ---


def test_load_bars(tmp_path: Path) -> None:
    """A bars file gives limits by kind."""
    path = written(
        tmp_path, "onnx: {max_abs_diff: 1e-4}\nonnx-int8: {min_speedup: 1.5, min_kendall_tau: 0.95}\n"
    )
    bars = load_bars(path)
    assert list(bars) == ["onnx", "onnx-int8"]
    assert bars["onnx"].max_abs_diff == 0.0001
    assert bars["onnx-int8"].model_dump(exclude_none=True) == {"min_speedup": 1.5, "min_kendall_tau": 0.95}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "bars are a mapping of kind to limits"),
        ("{}", "bars are a mapping of kind to limits"),
        ("[onnx]", "bars are a mapping of kind to limits"),
        ("onnx-int9: {min_speedup: 1}", "'onnx-int9' is no kind; the kinds are onnx, onnx-int8"),
        ("min_speedup: 1", "'min_speedup' is no kind"),
        ("1: {}", "1 is no kind"),
        ("onnx: {min_speedup: 1}\nonnx: {min_speedup: 2}", ":2: found duplicate key"),
        (
            "onnx:\n  max_abs_diff: 1\n  min_speed: 1",
            ":3: onnx.min_speed: unknown key, did you mean 'min_speedup'?",
        ),
        ("onnx:\n  min_speedup: fast", ":2: onnx.min_speedup: input should be a valid number"),
        ("onnx: {}", ":1: onnx: a gate without a bar cannot fail"),
        ("onnx: 1.5", ":1: onnx: input should be a valid dictionary"),
        ("onnx:", ":1: onnx: input should be a valid dictionary"),
    ],
)
def test_load_bars_refused(tmp_path: Path, text: str, message: str) -> None:
    """A bars file that is wrong says so with kind and line."""
    with pytest.raises(RecipeError) as caught:
        load_bars(written(tmp_path, text))
    assert message in str(caught.value)
    assert "recipe.yaml" in str(caught.value)


def test_load_bars_reports_everything(tmp_path: Path) -> None:
    """All that is wrong is said at once."""
    with pytest.raises(RecipeError) as caught:
        load_bars(written(tmp_path, "onnx: {min_speedup: 0}\nopenvino: {max_abs_diff: -1, oops: 1}\n"))
    findings = str(caught.value).splitlines()
    assert [finding.split(": ")[0].rpartition(":")[2] for finding in findings] == ["1", "2", "2"]


def test_load_bars_missing(tmp_path: Path) -> None:
    """A bars file that is not there is named."""
    with pytest.raises(RecipeError, match=r"bars\.yaml: no such file"):
        load_bars(tmp_path / "bars.yaml")


def test_recipe_as_json_names_every_bar() -> None:
    """The resolved recipe that goes into an artifact shows the bars that are not set, too."""
    dumped = json.loads(a_recipe().model_dump_json())
    assert set(dumped["variants"][0]["bars"]) == set(Bars.model_fields)


def test_very_many_mistakes_are_counted(tmp_path: Path) -> None:
    """Fifty lines are shown, and how many more there are."""
    variants = [{"kind": "onnx", f"no_such_key_{i}": 1} for i in range(120)]
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps({"name": "many", "variants": variants}), encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    *shown, last = str(caught.value).splitlines()
    assert len(shown) == 50
    assert last.startswith("and ")
    assert last.endswith(" more")


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
