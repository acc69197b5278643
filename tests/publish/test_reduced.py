"""What is published of private pairs: measures, and none of their texts, labels, scores, names and places."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

import pytest
from pydantic import BaseModel

from exporter.artifact.files import REPORT, list_files
from exporter.artifact.manifest import Manifest, PairsEntry, SourceEntry, read_manifest
from exporter.context import Context
from exporter.errors import RecipeError
from exporter.export.folder import without_origin
from exporter.gate import Check
from exporter.measure.lengths import PairScore
from exporter.measure.quality import Quality
from exporter.measure.workspace import open_artifact
from exporter.publish.folder import Publication, make_publication
from exporter.publish.licence import Licence, licence_of
from exporter.publish.reduced import MADE_ANEW, OF_THE_PAIRS, OPEN, PLACES, reduced_manifest, reduced_report
from exporter.publish.statements import read_statements
from exporter.recipe.schema import Recipe
from exporter.report.compare import compare_with
from exporter.report.read import read_report, read_reports
from exporter.report.report import PairSetInfo, Report, rejudge
from tests.factories import (
    a_fidelity,
    a_parity,
    a_quality,
    a_recipe,
    a_report,
    a_variant_report,
    an_artifact,
    bars,
    measured_on,
    write_report,
    write_report_data,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

# Two of each: as a word of its own, and as a value that no measurement has.
CANARIES = {
    "a text": ("canaryquery", "canarypassage"),
    "a label": ("777",),
    "a score": ("0.123456789", "0.987654321"),
    "a query's name": ("canaryid", "canaryfar"),
    "a place": ("canaryhome", "canarypairs", "canarymodel"),
}


def private(folder: Path) -> None:
    """Write an artifact with canaries in every part that tells of pairs or of this machine."""
    recipe = a_recipe(
        model={"source": "/home/canaryhome/canarymodel"},
        pairs={
            "verify": "/home/canaryhome/canarypairs.jsonl",
            "calibrate": "/home/canaryhome/canarypairs.tsv",
        },
    )
    manifest = an_artifact(
        folder,
        recipe=recipe.model_dump_json(),
        recipe_digest=recipe.digest,
        source=SourceEntry("/home/canaryhome/canarymodel", None, "3" * 64, 400),
        pairs=(PairsEntry("verify", "/home/canaryhome/canarypairs.jsonl", "2" * 64, 4),),
    )
    pair = PairScore(3, "canaryid", "canaryquery", "canarypassage", 12, 0.123456789, 0.987654321)
    fidelity = a_fidelity()
    fidelity = dataclasses.replace(
        fidelity,
        parity=a_parity(worst_query="canaryid", farthest_query="canaryfar"),
        lengths=tuple(dataclasses.replace(bucket, worst=pair) for bucket in fidelity.lengths),
        worst_query="canaryquery",
        worst_pairs=(pair,),
        scores=(0.987654321, 0.5, 0.25, 0.75),
    )
    check = Check("worst_query_relative_rms", 0.1, "≤ 0.5", "pass", "query canaryfar: canaryquery")
    report = a_report(
        manifest_root=manifest.root,
        recipe_digest=recipe.digest,
        pairs=PairSetInfo(
            "/home/canaryhome/canarypairs.jsonl",
            "2" * 64,
            4,
            2,
            query_ids=("canaryid", "canaryfar"),
            query_of=(0, 0, 1, 1),
            labels=(777, 0, 0, 777),
        ),
        reference=dataclasses.replace(
            a_report().reference, source="/home/canaryhome/canarymodel", scores=(0.123456789, 0.1, 0.2, 0.3)
        ),
        variants=(a_variant_report(fidelity=fidelity, checks=(check,)),),
    )
    write_report(report, folder, measured_on(report, cpu="Other CPU"))


def publish(folder: Path, dest: Path, **how: Any) -> tuple[Manifest, Report]:
    """Publish what an artifact's report holds, and read the copy as a stranger would."""
    dest.mkdir()
    reports = read_reports(folder, read_manifest(folder))
    kinds = [row.kind for row in reports.newest.variants]
    make_publication(folder, reports, dest, kinds, Publication(**how), licence=Licence())
    read_statements(dest)
    return read_manifest(dest), read_report(dest, read_manifest(dest))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact with canaries. Read it, do not write it."""
    folder = tmp_path_factory.mktemp("private") / "tiny"
    private(folder)
    return folder


@pytest.fixture(scope="module")
def copy(tiny: Path) -> Path:
    """Its published copy. Read it, do not write it."""
    publish(tiny, tiny.parent / "copy")
    return tiny.parent / "copy"


def read(folder: Path) -> tuple[Manifest, Report]:
    """Read an artifact's manifest and report."""
    manifest = read_manifest(folder)
    return manifest, read_report(folder, manifest)


def found_in(folder: Path) -> dict[str, list[str]]:
    """Return the files of a folder that hold a canary, by the kind of canary."""
    texts = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}
    return {
        what: [name for name, text in sorted(texts.items()) if any(w.encode() in text for w in words)]
        for what, words in CANARIES.items()
    }


def test_nothing_private_is_published(tiny: Path, copy: Path) -> None:
    """No file of the copy has a text, label, score, query's name or place; the original has all of them."""
    assert all(found_in(tiny).values())
    assert not any(found_in(copy).values())


def test_all_of_it_when_asked_for(tiny: Path, tmp_path: Path) -> None:
    """With the full report everything is in the copy, as the artifact has it."""
    _, report = read(tiny)
    _, copied = publish(tiny, tmp_path / "out", report="full")
    assert all(found_in(tmp_path / "out").values())
    assert copied.variants == report.variants
    assert not copied.left_out


def test_the_report_says_what_it_lacks(copy: Path, tmp_path: Path) -> None:
    """What was left out is named in the report, its page and its card; the sample's pairs lack nothing."""
    _, copied = read(copy)
    assert copied.left_out == ("texts", "labels", "raw scores", "query names", "local paths")
    for name in ("report.md", "report.html", "README.md"):
        text = (copy / name).read_text(encoding="utf-8")
        assert "Not published: texts, labels, raw scores, query names, local paths." in text
        assert "Worst query" not in text

    manifest = an_artifact(tmp_path / "sample")
    public = dataclasses.replace(a_report().pairs, name="sample/verify")
    report = a_report(pairs=public, recipe_digest=manifest.recipe_digest, manifest_root=manifest.root)
    assert reduced_report(report, manifest, tmp_path) == report
    assert reduced_manifest(manifest, tmp_path).recipe == manifest.recipe


@pytest.mark.parametrize("name", ["sample/../x", "sample/", "sample/a/b", "sample", "x/sample/verify"])
def test_what_only_looks_like_the_sample(tmp_path: Path, name: str) -> None:
    """Pairs are public where the package brings them, not where their name begins like that."""
    manifest = an_artifact(tmp_path)
    report = a_report(pairs=dataclasses.replace(a_report().pairs, name=name))
    assert reduced_report(report, manifest, tmp_path).pairs.name == "not published"


def test_a_local_model_with_public_pairs(tmp_path: Path) -> None:
    """Where only the model is local its place is left out, and the sample's scores stay."""
    recipe = a_recipe(model={"source": "/home/canaryhome/canarymodel"})
    source = SourceEntry("/home/canaryhome/canarymodel", None, "3" * 64, 400)
    manifest = an_artifact(tmp_path, recipe=recipe.model_dump_json(), source=source)
    report = a_report(pairs=dataclasses.replace(a_report().pairs, name="sample/verify"))
    report = dataclasses.replace(
        report, reference=dataclasses.replace(report.reference, source=source.source)
    )
    reduced = reduced_report(report, manifest, tmp_path)
    assert reduced.left_out == ("local paths",)
    assert (reduced.reference.source, reduced.reference.scores) == ("a local model", report.reference.scores)
    assert reduced.variants == report.variants


def test_a_model_of_the_hub_keeps_its_name(tmp_path: Path) -> None:
    """A Hub id is no place of this machine: without it nobody could build the artifact again."""
    recipe = a_recipe(model={"source": "org/name"})
    source = SourceEntry("org/name", "f" * 40, "3" * 64, 400)
    manifest = an_artifact(tmp_path, recipe=recipe.model_dump_json(), source=source)
    reduced = reduced_manifest(manifest, tmp_path)
    assert reduced.source == source
    assert Recipe.model_validate_json(reduced.recipe) == recipe


def test_the_copy_is_judged_as_the_original(tiny: Path, copy: Path) -> None:
    """What is left is enough for every check: judged again it comes to the same, but for the names in it."""
    (manifest, report), (_, copied) = read(tiny), read(copy)
    limits = {"onnx": bars(min_kendall_tau=0.5)}
    assert rejudge(copied, limits) == copied
    judged = rejudge(report, limits)
    assert [(c.name, c.observed, c.bar, c.outcome) for c in copied.variants[0].checks] == [
        (c.name, c.observed, c.bar, c.outcome) for c in judged.variants[0].checks
    ]
    assert copied.recipe_digest == reduced_manifest(manifest, tiny).recipe_digest
    strict = rejudge(copied, {"onnx": bars(min_kendall_tau=0.999)})
    assert strict.verdict == rejudge(report, {"onnx": bars(min_kendall_tau=0.999)}).verdict == "fail"


@pytest.mark.parametrize("extent", ["reduced", "full"])
def test_published_again(copy: Path, tmp_path: Path, extent: str) -> None:
    """A copy is published as it is: nothing more is left out, and nothing says so twice."""
    assert publish(copy, tmp_path / "two", report=extent) == read(copy)


def test_copies_are_compared_query_by_query(copy: Path, tmp_path: Path) -> None:
    """Rankings of two copies are compared by query, though neither names one."""
    shutil.copytree(copy, tmp_path / "two")
    _, report = read(copy)
    row = report.variants[0]
    worse = a_quality(query_ndcgs=(0.4,) * 10, candidate_ndcg=0.4)
    fidelity = dataclasses.replace(row.fidelity, quality=worse)
    row = dataclasses.replace(row, files_digest="2" * 64, fidelity=fidelity)
    write_report_data(dataclasses.replace(report, variants=(row,)), tmp_path / "two")
    findings = compare_with(copy, tmp_path / "two").findings
    found = {one.what: one for one in findings if one.machine == str(report.machine)}
    assert (found["nDCG@10"].old, found["nDCG@10"].new, found["nDCG@10"].change) == (0.8, 0.4, "worse")
    assert found["Kendall tau-b"].change == "same"


def test_where_a_model_was_saved_is_left_out() -> None:
    """What transformers noted of the folder it loaded a model from is left out, and nothing else changes."""
    noted = b'{"model_type": "bert", "_name_or_path": "/home/canaryhome/model"}'
    assert json.loads(without_origin(noted)) == {"model_type": "bert"}
    assert without_origin(without_origin(noted)) == without_origin(noted)
    assert without_origin(b'{"model_type":   "bert"}') == b'{"model_type":   "bert"}'


def test_licence_of_a_copy_is_in_the_copy(tmp_path: Path) -> None:
    """A copy does not name its model's folder, so that its licence comes with it."""
    (tmp_path / "LICENSE").write_text("do what you want", encoding="utf-8")
    source = SourceEntry("a local model", None, "3" * 64, 400)
    assert licence_of(source, tmp_path).texts == (tmp_path / "LICENSE",)


# --- the tables ---


def held(cls: type) -> dict[str, Any]:
    """Return the fields of a class with their types."""
    if issubclass(cls, BaseModel):
        return {name: field.annotation for name, field in cls.model_fields.items()}
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def classes(annotation: Any) -> Iterator[type]:
    """Yield the classes with fields that a type holds."""
    if get_origin(annotation) is not None or isinstance(annotation, UnionType):
        for part in get_args(annotation):
            yield from classes(part)
    elif isinstance(annotation, type) and (
        issubclass(annotation, BaseModel) or dataclasses.is_dataclass(annotation)
    ):
        yield annotation


def reachable(*roots: type) -> set[type]:
    """Return every class that these hold, or that those hold."""
    found: set[type] = set()
    left = list(roots)
    while left:
        if (cls := left.pop()) not in found:
            found.add(cls)
            left += [held_by for annotation in held(cls).values() for held_by in classes(annotation)]
    return found


def placed(cls: type) -> list[str]:
    """Return the fields of a class that stand in a table, as often as they do."""
    return [
        *OPEN.get(cls, "").split(),
        *OF_THE_PAIRS.get(cls, {}),
        *PLACES.get(cls, {}),
        *MADE_ANEW.get(cls, "").split(),
    ]


def test_every_field_is_in_one_table() -> None:
    """Whoever adds a field to report, manifest or recipe decides here whether it may be published."""
    everything = reachable(Report, Manifest, Recipe)
    assert {Check, Quality, PairScore} <= everything
    wanted = {f"{cls.__name__}.{name}" for cls in everything for name in held(cls)}
    found = [f"{cls.__name__}.{name}" for cls in everything for name in placed(cls)]
    assert not wanted - set(found), "may these be published?"
    assert sorted(found) == sorted(wanted)
    assert {cls for table in (OPEN, OF_THE_PAIRS, PLACES, MADE_ANEW) for cls in table} <= everything


def test_a_field_in_no_table_stops_publishing(tiny: Path) -> None:
    """What nobody decided on is not published."""

    @dataclasses.dataclass(frozen=True)
    class Wider(Quality):
        raw_texts: tuple[str, ...] = ("canaryquery",)

    manifest, report = read(tiny)
    row = report.variants[0]
    wider = Wider(**{name: getattr(a_quality(), name) for name in held(Quality)})
    row = dataclasses.replace(row, fidelity=dataclasses.replace(row.fidelity, quality=wider))
    with pytest.raises(TypeError, match="Wider.* is in no table of what may be published"):
        reduced_report(dataclasses.replace(report, variants=(row,)), manifest, tiny)


def test_a_copy_cannot_be_measured_and_says_so(copy: Path) -> None:
    """Without its model and pairs a copy is not verified again; the line says what can be done."""
    with pytest.raises(RecipeError, match="published without the places of its model or pairs"):
        open_artifact(copy, Context())


def test_the_copy_is_sealed_anew(tiny: Path, copy: Path) -> None:
    """The copy's manifest and report are about the copy's own files, and are read without complaint."""
    (manifest, _), (copied, report) = read(tiny), read(copy)
    assert copied.files == list_files(copy)
    assert report.manifest_root == copied.root != manifest.root
    assert json.loads((copy / REPORT).read_bytes())["pairs"]["labels"] is None
