"""A benchmark as JSON, as Markdown and as charts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.artifact.files import to_json
from exporter.bench.measure import AS_DOCUMENTED, AT_BEST, OURS, TUNED, Bench
from exporter.errors import BackendError
from exporter.escape import markdown as escaped
from exporter.packages import missing
from exporter.report.plots import TEXT_ONLY, label
from exporter.report.table import md_table
from exporter.report.words import milliseconds

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from exporter.bench.scaling import ScalingRow


FILES = ("bench.json", "bench.md", "bench.png", "bench.svg", "scaling.png", "scaling.svg")
_COLOURS = {OURS: "#1b7837", TUNED: "#5e8fc7", AT_BEST: "#5e8fc7", AS_DOCUMENTED: "#b9cbe4"}


def write_bench(bench: Bench, folder: Path) -> None:
    """Write `FILES` into a folder; the charts of scaling only where it was measured.

    Raises:
        BackendMissing: matplotlib is not installed.
        BackendError: the disk refuses.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing(error, what="charts") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "bench.json").write_bytes(to_json(bench, indent=1))
        (folder / "bench.md").write_text(markdown(bench), encoding="utf-8")
        with rc_context(TEXT_ONLY):
            figure = Figure(figsize=(9, 0.32 * len(bench.rows) + 1.4), layout="constrained")
            _draw_speeds(figure.subplots(), bench)
            _save(figure, folder, "bench")
            if bench.scaling:
                figure = Figure(figsize=(11, 3.6), layout="constrained")
                _draw_scaling(list(figure.subplots(1, 3)), bench.scaling)
                _save(figure, folder, "scaling")
    except OSError as error:
        raise BackendError(f"{folder}: cannot be written: {error.strerror}") from error


def markdown(bench: Bench) -> str:
    """Return the benchmark as a page: the table by speed, then lengths and scaling where measured."""
    machine = bench.machine
    rows = sorted(bench.rows, key=lambda row: -row.throughput.pairs_per_s)
    lines = [
        f"# {escaped(bench.name)}: side by side",
        "",
        escaped(
            f"Measured {bench.started_at} on {machine.cpu}, {machine.isa}, {machine.n_cores} cores, "
            f"exporter bench, exporter {dict(machine.packages)['exporter']}. {bench.pairs}."
        ),
        f"`x` is how many times faster {escaped(bench.ours)} is, the median of paired rounds, with its 95 % "
        "interval.",
        "",
        *md_table(
            (
                "side",
                "setting",
                "plan",
                "pairs/s",
                "95 %",
                "x",
                "95 %",
                "p50 ms",
                "p95 ms",
                "RSS MB",
                "load s",
                "nDCG kept",
                "r",
            ),
            [
                (
                    row.side,
                    row.setting,
                    row.throughput.plan,
                    f"{row.throughput.pairs_per_s:.1f}",
                    f"{row.low:.1f} to {row.high:.1f}",
                    f"{row.ours_over.value:.2f}" if row.ours_over else "",
                    f"{row.ours_over.low:.2f} to {row.ours_over.high:.2f}" if row.ours_over else "",
                    milliseconds(row.latency.at(50)),
                    milliseconds(row.latency.at(95)),
                    f"{row.throughput.peak_rss_bytes / 1e6:.0f}",
                    f"{row.load_s:.2f}",
                    f"{row.quality.ndcg_retained.value:.1%}" if row.quality else "no labels",
                    f"{row.pearson:.5f}",
                )
                for row in rows
            ],
        ),
        "",
        f"Latency: one query with its {rows[0].latency.n_documents} candidates, {rows[0].latency.n_calls} "
        "calls. RSS is the process's peak. nDCG@10 kept and Pearson's r are over PyTorch's scores.",
        "",
        *(f"- {escaped(name)}: not measured, {escaped(why)}" for name, why in bench.skipped),
        *(["", *_lengths(bench)] if bench.mixes else ()),
        *(["", *_scaling(bench)] if bench.scaling else ()),
        "",
        escaped(
            f"Versions: {', '.join(sorted({row.package for row in rows}))}; "
            f"{', '.join(f'{name} {version}' for name, version in machine.packages)}."
        ),
        "",
    ]
    return "\n".join(lines)


def _lengths(bench: Bench) -> list[str]:
    mixes = list(dict.fromkeys(row.mix for row in bench.mixes))
    tokens = {row.mix: row.n_tokens for row in bench.mixes}
    found = {(row.side, row.setting, row.mix): row for row in bench.mixes}
    table = []
    for side, setting in dict.fromkeys((row.side, row.setting) for row in bench.mixes):
        of_side = [found[side, setting, mix] for mix in mixes]
        table.append((side, setting, *(f"{row.pairs_per_s:.1f} ({row.ours_over:.2f}x)" for row in of_side)))
    titles = ("side", "setting", *(f"{mix}, {tokens[mix]} tokens" for mix in mixes))
    return [
        "## By length",
        "",
        f"Pairs/s, and how many times faster {escaped(bench.ours)} is; medians of "
        f"{bench.mixes[0].n_rounds} rounds.",
        "",
        *md_table(titles, table),
    ]


def _scaling(bench: Bench) -> list[str]:
    return [
        "## How the cost grows",
        "",
        *md_table(
            (
                "what",
                "kind",
                "cores",
                "pairs",
                "tokens a pair",
                "s",
                "pairs/s",
                "µs a token and core",
                "GFLOP/s",
                "RSS MB",
            ),
            [
                (
                    row.what,
                    row.kind,
                    str(row.n_cores),
                    str(row.n_pairs),
                    f"{row.n_tokens:.0f}",
                    f"{row.seconds:.2f}",
                    f"{row.pairs_per_s:.1f}",
                    f"{row.us_per_token:.1f}",
                    f"{row.flops * row.pairs_per_s / 1e9:.0f}",
                    f"{row.peak_rss_bytes / 1e6:.0f}",
                )
                for row in bench.scaling
            ],
        ),
    ]


def _draw_speeds(axes: Axes, bench: Bench) -> None:
    rows = sorted(bench.rows, key=lambda row: row.throughput.pairs_per_s)
    names = [label(row.side if row.setting == OURS else f"{row.side}, {row.setting}") for row in rows]
    speeds = [row.throughput.pairs_per_s for row in rows]
    errors = [
        [s - row.low for s, row in zip(speeds, rows, strict=True)],
        [row.high - s for s, row in zip(speeds, rows, strict=True)],
    ]
    bars = axes.barh(
        names, speeds, xerr=errors, color=[_COLOURS[row.setting] for row in rows], error_kw={"lw": 1}
    )
    axes.bar_label(bars, fmt="%.0f", padding=6, fontsize=8)
    axes.margins(x=0.08, y=0.01)
    axes.set_xlabel("pairs per second, more is better")
    machine = bench.machine
    axes.set_title(label(f"{machine.cpu}, {machine.isa}, {machine.n_cores} cores"), fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _draw_scaling(panels: list[Axes], rows: tuple[ScalingRow, ...]) -> None:
    for axes, what, title in zip(
        panels, ("tokens", "cores", "pairs"), ("tokens a pair", "cores", "pairs, 32 tokens each"), strict=True
    ):
        for kind in dict.fromkeys(row.kind for row in rows if row.what == what):
            of_kind = [row for row in rows if row.what == what and row.kind == kind]
            at = [
                {"tokens": row.n_tokens, "cores": row.n_cores, "pairs": row.n_pairs}[what] for row in of_kind
            ]
            axes.plot(at, [row.us_per_token for row in of_kind], marker="o", label=label(kind))
        axes.set_xscale("log", base=10 if what == "pairs" else 2)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(title)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    panels[0].set_ylabel("µs per token and core")


def _save(figure: Figure, folder: Path, name: str) -> None:
    for suffix in ("png", "svg"):
        # No date in the file: the same numbers give the same bytes.
        metadata = {"Date": None} if suffix == "svg" else None
        figure.savefig(folder / f"{name}.{suffix}", dpi=150, metadata=metadata)
