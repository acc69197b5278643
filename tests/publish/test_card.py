"""The card: the report's numbers, the source's licence, code that runs, and no markup from outside."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from exporter.artifact.files import list_files
from exporter.artifact.manifest import SourceEntry, read_manifest, write_manifest
from exporter.consumers.probe import RULE
from exporter.consumers.report import CONSUMERS_SCHEMA, ConsumerReport, ConsumerRow
from exporter.errors import IntegrityError, RecipeError
from exporter.export.source import model_digest
from exporter.publish.card import card, write_card
from exporter.publish.layout import lay_out, place
from exporter.publish.licence import Licence, find_licence, licence_of
from exporter.report.machines import Reports
from tests.factories import (
    MODELS,
    a_fidelity,
    a_machine,
    a_manifest,
    a_report,
    a_throughput,
    a_variant_report,
    an_artifact,
)

GOLDEN = Path(__file__).parent.parent / "data/goldens/card.md"
APACHE = Licence("apache-2.0", where="its README.md")


def a_consumer_report() -> ConsumerReport:
    """Return how two consumers scored the int8 file: one agrees, one is not installed."""
    row = ConsumerRow(
        consumer="fastembed",
        version="0.9.1",
        kind="onnx-int8",
        file=MODELS["onnx-int8"],
        outcome="agrees",
        bound=1e-4,
        bound_why="same file, same engine",
        max_abs_diff=2e-6,
        pearson=1.0,
        activation="none",
        n_incomparable=0,
        loses=(),
        why="",
    )
    missing = dataclasses.replace(
        row,
        consumer="flashrank",
        version=None,
        outcome="not run",
        bound=None,
        max_abs_diff=None,
        pearson=None,
        why="not installed",
    )
    return ConsumerReport(
        CONSUMERS_SCHEMA, "tiny", "2026-01-02T00:00:00Z", a_machine(), RULE, 50, 20, 15, (row, missing)
    )


@pytest.fixture
def manifest(tmp_path: Path):
    """The manifest of a published folder with two variants, int8 under two names."""
    manifest = an_artifact(tmp_path / "tiny")
    (tmp_path / "out").mkdir()
    place(lay_out(manifest, MODELS), tmp_path / "tiny", tmp_path / "out")
    tools = (("exporter", "0.1.0"), ("onnx", "1.19.0"))
    return dataclasses.replace(a_manifest(tmp_path / "out"), tools=tools)


def front_matter(text: str) -> dict[str, object]:
    """Read the YAML at the top of a card."""
    return yaml.safe_load(text.split("---\n")[1])


def test_card_of_a_fixed_report(manifest) -> None:
    """The whole card, as a reader of the repository sees it; `UPDATE_GOLDENS=1` writes it anew."""
    text = card(manifest, Reports(a_report()), APACHE, repo_id="org/tiny", consumers=a_consumer_report())
    if os.environ.get("UPDATE_GOLDENS"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


def test_front_matter_of_a_hub_model(manifest) -> None:
    """A model of the Hub is named as the base of a quantization of it."""
    source = dataclasses.replace(manifest.source, source="cross-encoder/ms-marco", revision="abc")
    text = card(dataclasses.replace(manifest, source=source), Reports(a_report()), APACHE)
    found = front_matter(text)
    assert found["library_name"] == "sentence-transformers"
    assert found["pipeline_tag"] == "text-ranking"
    assert (found["base_model"], found["base_model_relation"]) == ("cross-encoder/ms-marco", "quantized")
    assert found["license"] == "apache-2.0"
    assert found["tags"] == ["cross-encoder", "reranker", "onnx", "int8", "text-embeddings-inference"]
    assert "[cross-encoder/ms-marco](https://huggingface.co/cross-encoder/ms-marco) at commit abc" in text


def test_local_model_is_no_base_and_its_place_is_not_told(manifest) -> None:
    """A folder's path is private, and the Hub has no model of that name."""
    source = dataclasses.replace(manifest.source, source="/home/jane/secret-model")
    report = a_report(pairs=dataclasses.replace(a_report().pairs, name="/home/jane/pairs.jsonl"))
    text = card(dataclasses.replace(manifest, source=source), Reports(report), APACHE)
    assert not front_matter(text).keys() & {"base_model", "base_model_relation"}
    assert "jane" not in text
    assert "pairs.jsonl" in text
    assert manifest.source.digest[:12] in text


def test_notes_on_the_model_are_on_the_card(manifest) -> None:
    """Where the artifact does not read the model as sentence-transformers does, its readers are told."""
    source = dataclasses.replace(manifest.source, notes=("the recipe sets max_length 32",))
    text = card(dataclasses.replace(manifest, source=source), Reports(a_report()), APACHE)
    assert re.search(r"the recipe sets max\\?_length 32", text)
    assert "Note on the model" not in card(manifest, Reports(a_report()), APACHE)


def test_numbers_are_the_reports(manifest) -> None:
    """Another measurement gives another card; date, machine and instruction set stand beside it."""
    row = a_variant_report("onnx", throughput=a_throughput(side="onnx", pairs_per_s=123.4))
    machine = a_machine(cpu="Another CPU", isa="avx512_vnni", n_cores=7)
    text = card(
        manifest,
        Reports(a_report(variants=(row,), machine=machine, started_at="2027-05-05T00:00:00Z")),
        APACHE,
    )
    for words in (
        "123.4",
        "Another CPU, avx512_vnni, 7 cores, 2027-05-05T00:00:00Z",
        "CPUs with avx512_vnni",
    ):
        assert words in text


def test_without_labels(manifest) -> None:
    """Where ranking quality was not measured the card says so."""
    row = a_variant_report("onnx", fidelity=a_fidelity(quality=None))
    assert "have no labels: rankings were held against the reference's" in card(
        manifest, Reports(a_report(variants=(row,))), APACHE
    )


EVIL = "a|b\n# c <script>alert(1)</script> [x](http://evil) `d` **e** _f_ www.evil.example"


@pytest.mark.parametrize("where", ["cpu", "pairs", "licence", "consumer", "check"])
def test_texts_from_outside_are_no_markup(manifest, where: str) -> None:
    """No tag, link, heading, code or table cell comes from a name somebody else chose."""
    report, licence, consumers = a_report(), APACHE, a_consumer_report()
    match where:
        case "cpu":
            report = a_report(machine=a_machine(cpu=EVIL))
        case "pairs":
            report = a_report(pairs=dataclasses.replace(report.pairs, name=EVIL))
        case "licence":
            licence = Licence("other", EVIL, EVIL, where=EVIL)
        case "consumer":
            rows = (dataclasses.replace(consumers.rows[0], outcome="fails", why=EVIL),)
            consumers = dataclasses.replace(consumers, rows=rows)
        case _:
            row = a_variant_report("onnx")
            report = a_report(
                variants=(dataclasses.replace(row, checks=(dataclasses.replace(row.checks[0], name=EVIL),)),)
            )
    text = card(manifest, Reports(report), licence, consumers=consumers).split("---\n", 2)[2]
    assert "evil" in text
    for markup in ("<script", "\n# c", "](http://evil", "http://evil", "www.evil", " `d`", " **e**", " _f_"):
        assert markup not in text


def test_licence_in_yaml_is_a_value(manifest) -> None:
    """A licence's name cannot add keys to the front matter."""
    text = card(manifest, Reports(a_report()), Licence("other", "x: y # z", "a: b", where="its README.md"))
    assert front_matter(text)["license_name"] == "x: y # z"


# --- licences ---


def a_model_folder(folder: Path, readme: str | None = None, **files: str) -> Path:
    """Write a folder with a README.md and other files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in ({} if readme is None else {"README.md": readme} | files).items():
        (folder / name).write_text(text, encoding="utf-8")
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_licence_of_the_front_matter(tmp_path: Path) -> None:
    """What the source's card says is carried over as it is, its licence file goes along."""
    readme = "---\nlicense: other\nlicense_name: my-licence\nlicense_link: LICENSE\n---\n# x\n"
    found = find_licence(a_model_folder(tmp_path, readme, LICENSE="do as you like", NOTICE="thanks"))
    assert (found.id, found.name, found.link, found.where) == (
        "other",
        "my-licence",
        "LICENSE",
        "its README.md",
    )
    assert [path.name for path in found.texts] == ["LICENSE", "NOTICE"]


def test_licence_of_a_file_alone(tmp_path: Path) -> None:
    """A licence file is not read for which licence it is: the card points to it."""
    found = find_licence(a_model_folder(tmp_path, **{"LICENSE.txt": "Apache License 2.0, or so it says"}))
    assert (found.id, found.link, found.where) == ("other", "LICENSE.txt", "its LICENSE.txt")


@pytest.mark.parametrize(
    "readme",
    [
        None,
        "",
        "# just text",
        "---\nlicense: [\n---\n",
        "---\nlicense: {a: b}\n---\n",
        "---\nlicense: a b\n---\n",
    ],
)
def test_no_licence_is_none(tmp_path: Path, manifest, readme: str | None) -> None:
    """Where the source states none, or nothing that can be read, the card has none, and says so."""
    found = find_licence(a_model_folder(tmp_path / "model", readme))
    assert found == Licence()
    text = card(manifest, Reports(a_report()), found)
    assert "license" not in front_matter(text)
    assert "states no licence, and none is made up" in text


def test_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    """A stranger's folder cannot have a file of this machine published as its licence."""
    (tmp_path / "key").write_text("secret", encoding="utf-8")
    folder = a_model_folder(tmp_path / "model", "# x")
    (folder / "LICENSE").symlink_to(tmp_path / "key")
    assert find_licence(folder) == Licence()


def test_links_of_the_hubs_cache_are(tmp_path: Path) -> None:
    """The Hub's cache links every file of a snapshot to the repository's blobs."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs/1").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    folder = tmp_path / "snapshots/abc"
    folder.mkdir(parents=True)
    (folder / "README.md").symlink_to("../../blobs/1")
    assert find_licence(folder).id == "mit"


def test_licence_of_the_sample(tmp_path: Path) -> None:
    """The sample carries the licence of the model that it was made from."""
    assert licence_of(SourceEntry("sample", None, "", 0), tmp_path).id == "apache-2.0"


def test_source_that_is_gone(tmp_path: Path) -> None:
    """A folder that is not there any more is an error, not a model without a licence."""
    with pytest.raises(RecipeError, match="is gone"):
        licence_of(SourceEntry(str(tmp_path / "gone"), None, "", 0), tmp_path)


@pytest.mark.parametrize("what", ["a folder of keys", "another model", "a changed model", "a model"])
def test_source_that_a_manifest_names(tiny: Path, tmp_path: Path, what: str) -> None:
    """A manifest of a stranger may name any folder: only one that holds the recorded model is read."""
    folder = tmp_path / "source"
    if what == "a folder of keys":
        folder.mkdir()
    else:
        shutil.copytree(tiny / "model", folder)
    source = SourceEntry(str(folder), None, model_digest(tiny / "model"), 0)
    if what == "another model":
        source = dataclasses.replace(source, digest="0" * 64)
    if what == "a changed model":
        (folder / "vocab.txt").write_text("[PAD]\n", encoding="utf-8")
    (folder / "LICENSE").write_text("secret", encoding="utf-8")
    if what == "a model":
        assert licence_of(source, tmp_path).texts == (folder / "LICENSE",)
    else:
        with pytest.raises(IntegrityError, match=f"{folder}: not the model that the artifact was built from"):
            licence_of(source, tmp_path)


# --- the folder ---


@pytest.fixture(scope="module")
def published(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny artifact's ONNX kinds, laid out for the Hub, with the card of a made-up report."""
    folder = tmp_path_factory.mktemp("published") / "tiny"
    folder.mkdir()
    manifest = read_manifest(built)
    layout = lay_out(manifest, MODELS)
    place(layout, built, folder)
    manifest = dataclasses.replace(manifest, variants=layout.variants, files=list_files(folder))
    licence = find_licence(
        a_model_folder(folder.parent / "source", "---\nlicense: mit\n---\n", LICENSE="MIT")
    )
    write_card(folder, manifest, Reports(a_report()), licence)
    write_manifest(dataclasses.replace(manifest, files=list_files(folder)), folder)
    return folder


def test_card_lies_beside_its_plots_and_licence(published: Path) -> None:
    """Everything the card points to is in the folder; plots are small, and the manifest names them."""
    text = (published / "README.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert pictures == ["plots/speed.png", "plots/differences.png"]
    for name in pictures:
        assert (published / name).read_bytes().startswith(b"\x89PNG")
        assert (published / name).stat().st_size < 60_000
    assert (published / "LICENSE").read_text(encoding="utf-8") == "MIT"
    assert {"README.md", "LICENSE", *pictures} <= {file.path for file in read_manifest(published).files}
    for file in re.findall(r"`(onnx/[^`]+)`", text):
        assert (published / file).is_file()


def python_snippets(text: str) -> dict[str, str]:
    """Return the Python under each heading of a card, with the lines that come before all of it."""
    blocks = re.findall(r"(?:### ([^\n]+)\n\n)?```python\n(.*?)```", text, re.DOTALL)
    start = blocks[0][1]
    return {title: start + code for title, code in blocks[1:]}


SNIPPETS = ["exporter", "sentence-transformers, ONNX", "Optimum, ONNX", "fastembed", "FlashRank"]


def test_card_has_the_snippets(published: Path) -> None:
    """These are run below, one by one."""
    assert list(python_snippets((published / "README.md").read_text(encoding="utf-8"))) == SNIPPETS


@pytest.mark.parametrize("title", SNIPPETS)
def test_snippet_runs(published: Path, title: str) -> None:
    """What the card tells people to type prints a score, where the package is installed."""
    code = python_snippets((published / "README.md").read_text(encoding="utf-8"))[title]
    for package in re.findall(r"^from (\w+)", code, re.MULTILINE):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=published,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"-?\d+\.\d+", done.stdout)
