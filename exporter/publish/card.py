"""The model card of a published folder: README.md, its plots, and the licence files of the source.

Every number is the report's or the consumer table's; what neither says the card does not say. The licence is the source's own
word, or none. Whatever comes from outside (names, texts, a licence's name) is escaped.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from exporter.errors import BackendError, BackendMissing, RecipeError
from exporter.hub import fetch
from exporter.publish.consumers import LONG
from exporter.publish.consumers import table as consumer_table
from exporter.publish.layout import CARD, FLAT, PLOTS, QUANTIZED
from exporter.verify.fidelity import TRUNCATED
from exporter.verify.report_text import LEGEND, Table, checks, md_table, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from matplotlib.axes import Axes

    from exporter.artifact import Manifest, SourceEntry
    from exporter.publish.consumers import ConsumerReport
    from exporter.verify.report import Report, VariantReport

_TEMPLATE = Path(__file__).with_name("card.md.j2")
_SPEED, _DIFFERENCES = f"{PLOTS}/speed.png", f"{PLOTS}/differences.png"
# Told apart by the colour-blind too. Source: https://www.nature.com/articles/nmeth.1618
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
_GREY = "#888888"
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
# How licences are named in a card. Source: https://huggingface.co/docs/hub/repositories-licenses
_LICENCE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}")
_LICENCE_FILE = re.compile(r"(LICEN[CS]E|COPYING|NOTICE)([-.].*)?", re.IGNORECASE)
_LICENCE_FILES = ("LICENSE*", "LICENCE*", "COPYING*", "NOTICE*", "license*")
_MAX_LICENCE_BYTES = 1 << 20
_MAX_LINK = 500


class Markdown(str):
    """Text that is Markdown already, and not escaped again."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Licence:
    """What a model's source says about its licence.

    `id`, `name` and `link` are `license`, `license_name` and `license_link` of a card; None where the source says nothing.
    `texts` are its licence files, which go along. `where` names the place, for people.
    """

    id: str | None = None
    name: str | None = None
    link: str | None = None
    texts: tuple[Path, ...] = ()
    where: str = ""


def licence_of(source: SourceEntry) -> Licence:
    """Find the licence of an artifact's source: the sample's backbone, a folder, or a Hub repository at its commit.

    Raises:
        RecipeError: the folder or repository is gone.
        BackendError: the Hub cannot be reached.
        BackendMissing: the sample's backbone, or huggingface_hub, is not installed.
    """
    if source.source == "sample":
        from exporter.sample.model import backbone_dir

        return find_licence(backbone_dir())
    if Path(source.source).is_absolute():
        if not Path(source.source).is_dir():
            raise RecipeError(f"{source.source}: the model's folder is gone, and with it what it says about its licence")
        return find_licence(Path(source.source))
    instead = "publish where the model was fetched before"
    folder, _ = fetch(source.source, source.revision, [CARD, *_LICENCE_FILES], instead=instead)
    return find_licence(folder)


def find_licence(folder: Path) -> Licence:
    """Read what a model folder says about its licence: the front matter of its README.md, or a licence file; nothing is guessed.

    A link out of the folder is not followed, so that a stranger's folder cannot have a file of this machine published.

    Raises:
        BackendMissing: huggingface_hub is not installed.
    """
    texts = tuple(path for path in sorted(folder.iterdir()) if _LICENCE_FILE.fullmatch(path.name) and _is_own(path, folder))
    said = _front_matter(folder / CARD) if _is_own(folder / CARD, folder) else {}
    stated = said.get("license")
    if isinstance(stated, str) and _LICENCE_ID.fullmatch(stated):
        return Licence(stated, _plain(said.get("license_name")), _plain(said.get("license_link")), texts, f"its {CARD}")
    if texts:
        return Licence("other", "license-of-the-source", texts[0].name, texts, f"its {texts[0].name}")
    return Licence()


def _is_own(path: Path, folder: Path) -> bool:
    """Tell whether a file lies in the folder, or, in the Hub's cache, among the blobs of its repository, and is no giant."""
    try:
        real = path.resolve(strict=True)
        if not real.is_file() or real.stat().st_size > _MAX_LICENCE_BYTES:
            return False
    except (OSError, RuntimeError):
        return False
    folder = folder.resolve()
    blobs = folder.parent.parent / "blobs"
    return real.is_relative_to(folder) or (folder.parent.name == "snapshots" and real.is_relative_to(blobs))


def _front_matter(path: Path) -> dict[str, object]:
    import yaml

    try:
        from huggingface_hub import metadata_load
    except ImportError:
        raise BackendMissing(f"{CARD} needs huggingface_hub; pip install 'exporter[hub]'") from None
    try:
        found = metadata_load(path)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _plain(value: object) -> str | None:
    return value if isinstance(value, str) and value.isprintable() and 0 < len(value) <= _MAX_LINK else None


def write_card(
    folder: Path,
    manifest: Manifest,
    report: Report,
    licence: Licence,
    *,
    repo_id: str | None = None,
    consumers: ConsumerReport | None = None,
) -> None:
    """Write the card, its plots and the source's licence files into a staged folder; its manifest is to be written after.

    Args:
        folder: the staged folder, laid out.
        manifest: the manifest it is to get; its list of files may still lack what is written here.
        report: the report of the variants in it.
        licence: what the source says.
        repo_id: `org/name`, where it is published on the Hub.
        consumers: what came of loading the folder in other libraries.

    Raises:
        BackendError: the disk refuses.
        BackendMissing: matplotlib, jinja2 or huggingface_hub is not installed.
    """
    text = card(manifest, report, licence, repo_id=repo_id, consumers=consumers)
    try:
        (folder / PLOTS).mkdir(exist_ok=True)
        (folder / _SPEED).write_bytes(_png(_speed, report))
        (folder / _DIFFERENCES).write_bytes(_png(_differences, report))
        (folder / CARD).write_text(text, encoding="utf-8")
        for path in licence.texts:
            shutil.copyfile(path, folder / path.name)
    except OSError as error:
        raise BackendError(f"{folder}: the card cannot be written: {error.strerror}") from error


def card(
    manifest: Manifest,
    report: Report,
    licence: Licence,
    *,
    repo_id: str | None = None,
    consumers: ConsumerReport | None = None,
) -> str:
    """Give the text of README.md; see `write_card`.

    Raises:
        BackendMissing: jinja2 or huggingface_hub is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise BackendMissing(f"{CARD} needs {error.name}; pip install 'exporter[verify]'") from error
    hashes = {file.path: file.sha256 for file in manifest.files}
    twice = next((e.model for e in manifest.variants if QUANTIZED in hashes and hashes.get(e.model) == hashes[QUANTIZED]), None)
    # Escaping for HTML would be wrong here: `finalize` escapes every value for Markdown instead.
    environment = Environment(finalize=_escaped, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)  # noqa: S701
    environment.filters |= {"code": _code, "folder": _folder, "name": _name}
    text = environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        manifest=manifest,
        report=report,
        front_matter=Markdown(_front_matter_of(manifest, licence)),
        source=_source(manifest.source),
        exporter=dict(manifest.tools).get("exporter", ""),
        pairs_name=PurePosixPath(report.pairs.name).name if report.pairs.name.startswith("/") else report.pairs.name,
        summary=_md(table(report)),
        legend=LEGEND,
        intervals=_md(_intervals(report)),
        checks=_md(checks(report)),
        plots={"speed": Markdown(_SPEED), "differences": Markdown(_DIFFERENCES)},
        files=_md(_files(manifest)),
        quantized=Markdown(QUANTIZED) if twice else None,
        quantized_as=twice,
        repo_id=repo_id,
        onnx=next((entry for entry in manifest.variants if entry.engine == "onnxruntime"), None),
        openvino=next((entry for entry in manifest.variants if entry.engine == "openvino"), None),
        dtype="q8" if twice else "fp32" if FLAT in hashes else None,
        flat=next((entry for entry in manifest.variants if entry.model == FLAT), None),
        consumers=consumers,
        consumers_table=_md(consumer_table(consumers)) if consumers else None,
        bounds=list(dict.fromkeys(f"{r.bound:.2g}: {r.bound_why}" for r in consumers.rows if r.bound)) if consumers else [],
        long=LONG,
        limits=list(_limits(manifest, report)),
        licence=_licence_said(licence),
    )
    return f"{text.rstrip()}\n"


# --- Markdown ---

_SPECIAL = re.compile(r"://|www\.|[\\`*\[\]<>&~$#]|(?<!\w)_|_(?!\w)")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "://": "&#58;//", "www.": "www&#46;"}


def _escaped(value: object) -> object:
    """Make a value plain text: no markup, no link, no line of its own."""
    if isinstance(value, Markdown):
        return value
    line = "".join(c if c.isprintable() else " " for c in str(value))
    return _SPECIAL.sub(lambda found: _ENTITIES.get(found[0], f"\\{found[0]}"), line)


def _md(rows: Table) -> Markdown:
    escaped = Table([str(_escaped(title)) for title in rows.titles], [[str(_escaped(c)) for c in row] for row in rows.rows])
    return Markdown("\n".join(md_table(*escaped)))


def _code(text: str) -> Markdown:
    """Write a text as a string of Python and of JavaScript, which JSON's are."""
    return Markdown(json.dumps(text))


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _name(path: str) -> str:
    return path.rpartition("/")[2]


# --- what it says ---


def _front_matter_of(manifest: Manifest, licence: Licence) -> str:
    """Give the YAML that the Hub reads.

    Source: https://github.com/huggingface/hub-docs/blob/main/modelcard.md
    """
    try:
        from huggingface_hub import ModelCardData
    except ImportError:
        raise BackendMissing(f"{CARD} needs huggingface_hub; pip install 'exporter[hub]'") from None
    base = manifest.source.source if _HUB_ID.fullmatch(manifest.source.source) else None
    engines = {entry.engine for entry in manifest.variants}
    tags = ["cross-encoder", "reranker"]
    tags += ["onnx"] if "onnxruntime" in engines else []
    tags += ["openvino"] if "openvino" in engines else []
    tags += ["int8"] if any("int8" in entry.kind for entry in manifest.variants) else []
    tags += ["text-embeddings-inference"] if any(entry.model == FLAT for entry in manifest.variants) else []
    data = ModelCardData(
        library_name="sentence-transformers",
        pipeline_tag="text-ranking",
        license=licence.id,
        license_name=licence.name,
        license_link=licence.link,
        base_model=base,
        tags=tags,
        **({"base_model_relation": "quantized"} if base else {}),
    )
    return str(data.to_yaml())


def _source(source: SourceEntry) -> Markdown:
    """Name the source; a folder's place is nobody's business, its digest says which model it was."""
    if source.source == "sample":
        said = "the sample of exporter, sentence-transformers/all-MiniLM-L6-v2 trained to rank passages for biomedical questions"
        return Markdown(said)
    if _HUB_ID.fullmatch(source.source):
        at = f" at commit {_escaped(source.revision)}" if source.revision else ""
        return Markdown(f"[{_escaped(source.source)}](https://huggingface.co/{source.source}){at}")
    return Markdown(f"a local model (sha256 of weights, config and tokenizer {source.digest[:12]})")


def _intervals(report: Report) -> Table:
    """Give the 95 % intervals of what the summary gives as one number."""

    def kept(row: VariantReport) -> str:
        quality = row.fidelity.quality
        return f"{quality.ndcg_retained_low:.1%} to {quality.ndcg_retained_high:.1%}" if quality else "no labels"

    return Table(
        ("variant", "nDCG kept, 95 %", "x tuned, 95 %", "top-1 agrees", "company moves a score by", "plan"),
        [
            (
                row.kind,
                kept(row),
                f"{row.speedup_tuned.low:.2f} to {row.speedup_tuned.high:.2f}",
                f"{row.fidelity.parity.top1_agreement:.1%}",
                f"{row.fidelity.batches.max_delta:.2g}",
                f"{row.plan.workers}x{row.plan.threads}, {row.plan.token_budget} tokens",
            )
            for row in report.variants
        ],
    )


def _files(manifest: Manifest) -> Table:
    return Table(
        ("variant", "file", "MB", "for", "engine"),
        [
            (entry.kind, entry.model, f"{manifest.size_bytes(entry) / 1e6:.1f}", entry.isa or "any CPU", entry.engine)
            for entry in manifest.variants
        ],
    )


def _limits(manifest: Manifest, report: Report) -> Iterator[str]:
    machine = report.machine
    yield f"The measurements hold for CPUs with {machine.isa}; on others speed and int8 scores differ."
    for row in report.variants:
        sums, isa = row.fidelity.saturation, row.fidelity.isa
        if isa:
            proof = " No int16 sum of its products can saturate there, proven from its weights." if sums and sums.proven else ""
            yield f"{row.kind} is for {isa}.{proof}"
    truncated = sum(bucket.n_pairs for bucket in report.variants[0].fidelity.lengths if bucket.name == TRUNCATED)
    yield (
        f"It reads {manifest.max_length} tokens of a pair, special ones counted; longer pairs are truncated. {truncated} of the "
        "measured pairs were."
    )
    if report.variants[0].fidelity.quality is None:
        yield "The measured pairs have no labels: rankings were held against the reference's, not against what is relevant."
    yield "Languages are not known: nothing was measured but the pairs named above, and no claim of the source is repeated."
    yield "GPUs were not measured, nor other versions of the engines than those in manifest.json."


def _licence_said(licence: Licence) -> str:
    if licence.id is None:
        return "The source states no licence, and none is made up here: ask its authors before you use it."
    along = f" Its licence files are here: {', '.join(path.name for path in licence.texts)}." if licence.texts else ""
    name = f"{licence.id} ({licence.name})" if licence.name else licence.id
    link = f" Its text: {licence.link}." if licence.link else ""
    return f"{name}, as the source says in {licence.where}.{link}{along}"


# --- plots ---


def _png(draw: Callable[[Axes, Report], None], report: Report) -> bytes:
    """Draw a small PNG: the same bytes for the same numbers and the same matplotlib."""
    import io

    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BackendMissing(f"the plots of {CARD} need {error.name}; pip install 'exporter[verify]'") from error
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(6, 3), layout="constrained")
        draw(figure.subplots(), report)
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=100, metadata={"Software": None})
    return out.getvalue()


def _speed(axes: Axes, report: Report) -> None:
    sides = [(side.side, side.pairs_per_s, _GREY) for side in (report.reference.default, report.reference.tuned)]
    sides += [(row.kind, row.throughput.pairs_per_s, _COLOURS[i % len(_COLOURS)]) for i, row in enumerate(report.variants)]
    names, rates, colours = zip(*reversed(sides), strict=True)
    axes.bar_label(axes.barh(names, rates, color=colours), fmt="%.1f", padding=3)
    axes.set_xlabel("pairs per second, text to scores")
    axes.margins(x=0.1)


def _differences(axes: Axes, report: Report) -> None:
    wanted = np.array(report.reference.scores, np.float64)
    for i, row in enumerate(report.variants):
        off = np.sort(np.abs(np.array(row.fidelity.scores, np.float64) - wanted))
        off = off[np.isfinite(off)]
        axes.plot(np.arange(1, len(off) + 1) / max(len(off), 1) * 100, off, color=_COLOURS[i % len(_COLOURS)], label=row.kind)
    axes.set_xlabel("% of pairs")
    axes.set_ylabel("off by at most, logits")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
