"""The model card of a published folder: README.md, its plots, and the licence files of the source.

Every number is the report's or the consumer table's, and the card says nothing else. The licence is what the
source states, if it states one. Whatever comes from outside (names, texts, a licence's name) is escaped.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING

from exporter.artifact.files import CARD, FLAT, PLOTS, QUANTIZED
from exporter.consumers.probe import LONG
from exporter.consumers.report import table as consumer_table
from exporter.errors import BackendError
from exporter.escape import code, markdown, one_line
from exporter.gate import noise_problems
from exporter.measure.lengths import TRUNCATED
from exporter.packages import missing
from exporter.publish.licence import Licence
from exporter.publish.plots import DIFFERENCES, SPEED, differences, png, speed
from exporter.report.machines import WHICH_FILE, which_file
from exporter.report.sections import checks
from exporter.report.table import Table, md_table
from exporter.report.text import table
from exporter.report.words import LEGEND, left_out

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exporter.artifact.manifest import Manifest, SourceEntry
    from exporter.consumers.report import ConsumerReport
    from exporter.report.machines import Reports
    from exporter.report.report import Report, VariantReport


_TEMPLATE = Path(__file__).with_name("card.md.j2")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


class Markdown(str):
    """Text that is Markdown already, and not escaped again."""

    __slots__ = ()


def write_card(
    folder: Path,
    manifest: Manifest,
    reports: Reports,
    licence: Licence,
    *,
    repo_id: str | None = None,
    consumers: ConsumerReport | None = None,
    loaded: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write the card, its plots and the source's licence files into a staged folder, before its manifest.

    Args:
        folder: the staged folder, laid out.
        manifest: the folder's future manifest, whose list of files may lack what is written here.
        reports: the reports of the variants in it; figures of all machines are shown, plots of the newest.
        licence: what the source says.
        repo_id: `org/name`, where it is published on the Hub.
        consumers: how other libraries scored the folder.
        loaded: which variant is loaded where, see `exporter.report.machines.chosen`.

    Raises:
        BackendError: the disk refuses.
        BackendMissing: matplotlib, jinja2 or huggingface_hub is not installed.
    """
    text = card(manifest, reports, licence, repo_id=repo_id, consumers=consumers, loaded=loaded)
    report = reports.newest
    try:
        (folder / PLOTS).mkdir(exist_ok=True)
        (folder / SPEED).write_bytes(png(speed, report))
        if report.reference.scores:
            (folder / DIFFERENCES).write_bytes(png(differences, report))
        (folder / CARD).write_text(text, encoding="utf-8")
        for path in licence.texts:
            shutil.copyfile(path, folder / path.name)
    except OSError as error:
        raise BackendError(f"{folder}: the card cannot be written: {error.strerror}") from error


def card(
    manifest: Manifest,
    reports: Reports,
    licence: Licence,
    *,
    repo_id: str | None = None,
    consumers: ConsumerReport | None = None,
    loaded: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return the text of README.md; for the arguments see `write_card`.

    Raises:
        BackendMissing: jinja2 or huggingface_hub is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise missing(error, what=CARD) from error
    report = reports.newest
    hashes = {file.path: file.sha256 for file in manifest.files}
    twice = next(
        (
            e.model
            for e in manifest.variants
            if QUANTIZED in hashes and hashes.get(e.model) == hashes[QUANTIZED]
        ),
        None,
    )
    # Escaping for HTML would be wrong here: `finalize` escapes every value for Markdown instead.
    environment = Environment(  # noqa: S701
        finalize=_escaped, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters |= {"code": _code, "folder": _folder, "name": _name}
    text = environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        manifest=manifest,
        report=report,
        front_matter=Markdown(_front_matter_of(manifest, licence)),
        source=_source(manifest.source),
        exporter=dict(manifest.tools).get("exporter", ""),
        pairs_name=PurePosixPath(report.pairs.name).name
        if report.pairs.name.startswith("/")
        else report.pairs.name,
        summary=_md(table(report)),
        which_file_title=WHICH_FILE,
        which_file=_md(which_file(reports, loaded, {e.kind: e.model for e in manifest.variants})),
        legend=LEGEND,
        intervals=_md(_intervals(report)),
        checks=_md(checks(report)),
        speed_plot=Markdown(SPEED),
        differences_plot=Markdown(DIFFERENCES) if report.reference.scores else None,
        left_out=left_out(report),
        files=_md(_files(manifest)),
        quantized=Markdown(QUANTIZED) if twice else None,
        quantized_as=twice,
        repo_id=repo_id,
        onnx=next((entry for entry in manifest.variants if entry.traits.engine == "onnxruntime"), None),
        openvino=next((entry for entry in manifest.variants if entry.traits.engine == "openvino"), None),
        dtype="q8" if twice else "fp32" if FLAT in hashes else None,
        flat=next((entry for entry in manifest.variants if entry.model == FLAT), None),
        consumers=consumers,
        consumers_table=_md(consumer_table(consumers)) if consumers else None,
        bounds=list(dict.fromkeys(f"{r.bound:.2g}: {r.bound_why}" for r in consumers.rows if r.bound))
        if consumers
        else [],
        long=LONG,
        limits=list(_limits(manifest, reports)),
        licence=_licence_said(licence),
    )
    return f"{text.rstrip()}\n"


# --- Markdown ---


def _escaped(value: object) -> str:
    """Return a value as plain text: no markup, no link, no line break."""
    return value if isinstance(value, Markdown) else markdown(str(value))


def _md(rows: Table) -> Markdown:
    return Markdown("\n".join(md_table(*rows)))


def _code(text: str) -> Markdown:
    return Markdown(code(text))


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _name(path: str) -> str:
    return path.rpartition("/")[2]


# --- what it says ---


def _front_matter_of(manifest: Manifest, licence: Licence) -> str:
    """Return the YAML that the Hub reads.

    Source: https://github.com/huggingface/hub-docs/blob/main/modelcard.md
    """
    try:
        from huggingface_hub import ModelCardData
    except ImportError as error:
        raise missing(error, what=CARD) from error
    base = manifest.source.source if _HUB_ID.fullmatch(manifest.source.source) else None
    engines = {entry.traits.engine for entry in manifest.variants}
    tags = ["cross-encoder", "reranker"]
    tags += ["onnx"] if "onnxruntime" in engines else []
    tags += ["openvino"] if "openvino" in engines else []
    tags += ["int8"] if any(entry.traits.weights == "int8" for entry in manifest.variants) else []
    tags += ["text-embeddings-inference"] if any(entry.model == FLAT for entry in manifest.variants) else []
    data = ModelCardData(
        library_name="sentence-transformers",
        pipeline_tag="text-ranking",
        license=licence.id,
        # A line that begins with --- would end the front matter.
        license_name=licence.name and one_line(licence.name),
        license_link=licence.link and one_line(licence.link),
        base_model=base,
        tags=tags,
        **({"base_model_relation": "quantized"} if base else {}),
    )
    return str(data.to_yaml())


def _source(source: SourceEntry) -> Markdown:
    """Return the source's name; of a folder, omit the local path (private) and name the digest."""
    if source.source == "sample":
        return Markdown(
            "the sample of exporter, sentence-transformers/all-MiniLM-L6-v2 "
            "trained to rank passages for biomedical questions"
        )
    if _HUB_ID.fullmatch(source.source):
        at = f" at commit {_escaped(source.revision)}" if source.revision else ""
        return Markdown(f"[{_escaped(source.source)}](https://huggingface.co/{source.source}){at}")
    return Markdown(f"a local model (sha256 of weights, config and tokenizer {source.digest[:12]})")


def _intervals(report: Report) -> Table:
    """Return the 95 % intervals of what the summary gives as one number."""

    def kept(row: VariantReport) -> str:
        quality = row.fidelity.quality
        return (
            f"{quality.ndcg_retained.low:.1%} to {quality.ndcg_retained.high:.1%}" if quality else "no labels"
        )

    return Table(
        ("variant", "nDCG kept, 95 %", "vs tuned, 95 %", "top-1 agrees", "score change when batched", "plan"),
        [
            (
                row.kind,
                kept(row),
                f"{row.speedup_tuned.low:.2f} to {row.speedup_tuned.high:.2f}"
                f"{' (invalid)' if noise_problems(row.speedup_tuned) else ''}",
                f"{row.fidelity.parity.top1_agreement.value:.1%}",
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
            (
                entry.kind,
                entry.model,
                f"{manifest.size_bytes(entry) / 1e6:.1f}",
                entry.isa or "any CPU",
                entry.traits.engine,
            )
            for entry in manifest.variants
        ],
    )


def _limits(manifest: Manifest, reports: Reports) -> Iterator[str]:
    report = reports.newest
    isas = " and ".join(sorted({one.machine.isa for one in reports}))
    yield f"The measurements hold for CPUs with {isas}; on others speed and int8 scores differ."
    judged = {row.kind: row for one in reports for row in one.variants}
    for row in judged.values():
        sums, isa = row.fidelity.saturation, row.fidelity.isa
        if isa:
            proof = (
                " No int16 sum of its products can saturate there, proven from its weights."
                if sums and sums.proven
                else ""
            )
            yield f"{row.kind} is for {isa}.{proof}"
        if default := row.engine_default:
            yield (
                f"In libraries that leave the precision to the engine, {row.kind} scores up to "
                f"{default.max_abs_diff:.2g} logits off PyTorch on this CPU "
                f"(tau-b {default.kendall_tau:.4f})."
            )
    truncated = sum(
        bucket.n_pairs for bucket in report.variants[0].fidelity.lengths if bucket.name == TRUNCATED
    )
    yield (
        f"It reads {manifest.max_length} tokens of a pair, special ones counted; longer pairs are truncated. "
        f"{truncated} of the measured pairs were."
    )
    yield from (f"Note on the model: {note}." for note in manifest.source.notes)
    if report.variants[0].fidelity.quality is None:
        yield (
            "The measured pairs have no labels: rankings were held against the reference's, "
            "not against what is relevant."
        )
    yield (
        "Languages are not known: nothing was measured but the pairs named above, "
        "and no claim of the source is repeated."
    )
    yield "GPUs were not measured, nor other versions of the engines than those in manifest.json."


def _licence_said(licence: Licence) -> str:
    if licence.id is None:
        return "The source states no licence, and none is made up here: ask its authors before you use it."
    along = (
        f" Its licence files are here: {', '.join(path.name for path in licence.texts)}."
        if licence.texts
        else ""
    )
    name = f"{licence.id} ({licence.name})" if licence.name else licence.id
    link = f" Its text: {licence.link}." if licence.link else ""
    return f"{name}, as the source says in {licence.where}.{link}{along}"
