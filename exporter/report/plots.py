"""The plots of report.html, drawn as SVG."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import numpy as np

from exporter.escape import one_line
from exporter.measure.estimate import Estimate

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

    from exporter.report.report import Report, VariantReport

# Told apart by the colour-blind too: Okabe and Ito's palette, orders changed.
# Source: https://jfly.uni-koeln.de/color/
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
GREY = "#888888"
# A label is text: no formulas in dollar signs, and no characters that XML cannot hold.
# Source: https://matplotlib.org/stable/users/explain/customizing.html (text.parse_math)
TEXT_ONLY = {"text.parse_math": False, "text.usetex": False}
# What needs the score of each pair, which a published report of private pairs lacks.
_OF_SCORES = ("Scores", "Differences")


def draw_figures(report: Report) -> list[tuple[str, str, str]]:
    """Return every plot: title, SVG, and what it shows; none where no variant was judged.

    Without scores, as in a published report of private pairs, the plots that show them are left out.
    """
    n = len(report.variants)
    if not n:
        return []

    drawn: list[tuple[str, str, Callable[[Figure], None], tuple[float, float]]] = [
        (
            "Speed against quality",
            "Each variant's speed over tuned PyTorch and the nDCG it keeps, with 95 % intervals. "
            "Up and to the right is better.",
            lambda figure: _frontier(figure.subplots(), report),
            (6, 4),
        ),
        (
            "Throughput by length",
            "Pairs per second on pairs of like length, from text to scores.",
            lambda figure: _by_length(figure.subplots(), report),
            (6, 4),
        ),
        (
            "Latency",
            "Milliseconds for one query, median and 95th percentile of the calls.",
            lambda figure: _latency(figure.subplots(), report),
            (6, 4),
        ),
        (
            "Rank agreement by query",
            "Kendall tau-b of every query, lowest first: how bad the worst are, and how many.",
            lambda figure: _taus(figure.subplots(), report),
            (6, 4),
        ),
        (
            "Scores",
            "Every pair: the reference's logit and the candidate's. A right candidate lies on the line.",
            lambda figure: _each(figure, report, _scatter),
            (6, 3.2 * -(-n // 2)),
        ),
        (
            "Differences",
            "Candidate minus reference, in logits; pairs on a logarithmic axis, so that a single one shows.",
            lambda figure: _each(figure, report, _histogram),
            (6, 3.2 * -(-n // 2)),
        ),
        (
            "Plans tried",
            "Pairs per second of each plan in the sweep: workers x threads, and tokens a batch. "
            "The best is what ships.",
            lambda figure: _each(figure, report, _sweep),
            (6, 2.2 * -(-n // 2)),
        ),
    ]
    figures = [
        (title, _svg(draw, size), caption)
        for title, caption, draw, size in drawn
        if report.reference.scores or title not in _OF_SCORES
    ]
    return [(title, svg, caption) for title, svg, caption in figures if svg]


def _svg(draw: Callable[[Figure], None], size: tuple[float, float]) -> str:
    """Return a figure as SVG: as wide as its place, text as text, the same bytes for the same numbers.

    Empty where matplotlib cannot draw the numbers, as of a candidate whose scores are off by 10^30; tables
    and report.json hold them.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(
        {
            **TEXT_ONLY,
            "svg.fonttype": "none",
            "svg.hashsalt": "exporter",
            "font.size": 11,
            "axes.spines.top": False,
        }
    ):
        figure = Figure(figsize=size, layout="constrained")
        out = io.StringIO()
        try:
            draw(figure)
            figure.savefig(out, format="svg", dpi=110, metadata={"Date": None})
        except (ArithmeticError, ValueError, IndexError, MemoryError):
            return ""
    svg = out.getvalue()
    return re.sub(r'(<svg [^>]*?)width="[^"]*" height="[^"]*"', r"\1", svg[svg.index("<svg ") :], count=1)


def _each(figure: Figure, report: Report, draw: Callable[[Axes, Report, VariantReport, str], None]) -> None:
    """Draw one panel a variant."""
    n_rows = -(-len(report.variants) // 2)
    panels = figure.subplots(n_rows, 2 if len(report.variants) > 1 else 1, squeeze=False).flat
    for axes in panels:
        axes.set_visible(False)
    for axes, row, colour in zip(figure.axes, report.variants, COLOURS, strict=False):
        axes.set_visible(True)
        axes.set_title(label(row.kind), fontsize=11)
        draw(axes, report, row, colour)


def _frontier(axes: Axes, report: Report) -> None:
    axes.plot(1, 100, "s", color=GREY)
    axes.annotate("torch tuned", (1, 100), textcoords="offset points", xytext=(6, -12), color=GREY)
    for row, colour in zip(report.variants, COLOURS, strict=False):
        ratio, quality = row.speedup_tuned, row.fidelity.quality
        kept = quality.ndcg_retained if quality else Estimate(1.0, 1.0, 1.0, 0)
        value, low, high = (100 * share for share in (kept.value, kept.low, kept.high))
        axes.errorbar(
            ratio.value,
            value,
            xerr=[[ratio.value - ratio.low], [ratio.high - ratio.value]],
            yerr=[[value - low], [high - value]],
            fmt="o",
            color=colour,
            capsize=2,
            label=label(row.kind),
        )
    axes.set_xlim(left=0)
    axes.set_xlabel("times tuned PyTorch")
    axes.set_ylabel("nDCG@10 kept, %")
    axes.legend(frameon=False)


def _by_length(axes: Axes, report: Report) -> None:
    names = list(dict.fromkeys(label(speed.name) for row in report.variants for speed in row.length_speeds))
    for row, colour in zip(report.variants, COLOURS, strict=False):
        rates = {label(speed.name): speed for speed in row.length_speeds}
        at = [name for name in names if name in rates]
        axes.plot(at, [rates[name].pairs_per_s for name in at], "o-", color=colour, label=label(row.kind))
        if row is report.variants[0]:
            tuned = [rates[name].pairs_per_s / rates[name].over_tuned for name in at]
            axes.plot(at, tuned, "s--", color=GREY, label="torch tuned")
    axes.set_yscale("log")
    _plain_numbers(axes.yaxis)
    axes.set_xlabel("tokens a pair")
    axes.set_ylabel("pairs per second")
    axes.legend(frameon=False)


def _latency(axes: Axes, report: Report) -> None:
    sides = [("torch tuned", report.reference.latency, GREY)]
    sides += [
        (label(row.kind), row.latency, colour) for row, colour in zip(report.variants, COLOURS, strict=False)
    ]
    for name, found, colour in sides:
        told = [(x.n_documents, p50, x.at(95)) for x in found if (p50 := x.at(50)) is not None]
        at, medians = [n for n, _, _ in told], [p50 for _, p50, _ in told]
        axes.plot(at, medians, "o-", color=colour, label=name)
        tails = [p95 if p95 is not None else p50 for _, p50, p95 in told]
        axes.fill_between(at, medians, tails, color=colour, alpha=0.2)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _plain_numbers(axes.xaxis)
    _plain_numbers(axes.yaxis)
    axes.set_xlabel("candidates of one query")
    axes.set_ylabel("ms")
    axes.legend(frameon=False)


def label(text: str) -> str:
    """Return text for a label; one that begins with an underscore would be left out of legends.

    Source: https://matplotlib.org/stable/api/_as_gen/matplotlib.axes.Axes.legend.html
    """
    return re.sub(r"^_", "\u200b_", one_line(text))


def _plain_numbers(axis: Axis) -> None:
    """Write 20, 50, 100 along a logarithmic axis, on which a power of ten may not lie."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _taus(axes: Axes, report: Report) -> None:
    for row, colour in zip(report.variants, COLOURS, strict=False):
        taus = np.sort(row.fidelity.parity.query_taus)
        axes.plot(
            np.arange(1, len(taus) + 1) / len(taus) * 100,
            taus,
            color=colour,
            label=label(row.kind),
            drawstyle="steps-post",
        )
    axes.set_xlabel("% of queries")
    axes.set_ylabel("tau-b")
    axes.legend(frameon=False)


def _finite(report: Report, row: VariantReport) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], ...]:
    theirs, ours = np.array(report.reference.scores, np.float64), np.array(row.fidelity.scores, np.float64)
    return theirs[np.isfinite(ours)], ours[np.isfinite(ours)]


def _scatter(axes: Axes, report: Report, row: VariantReport, colour: str) -> None:
    theirs, ours = _finite(report, row)
    axes.plot([theirs.min(), theirs.max()], [theirs.min(), theirs.max()], color=GREY, lw=0.8)
    axes.scatter(theirs, ours, s=3, color=colour, alpha=0.4, linewidths=0, rasterized=True)
    axes.set_xlabel("reference")
    axes.set_ylabel("candidate")


def _histogram(axes: Axes, report: Report, row: VariantReport, colour: str) -> None:
    theirs, ours = _finite(report, row)
    axes.hist(ours - theirs, bins=60, color=colour)
    axes.set_yscale("log")
    _plain_numbers(axes.yaxis)  # powers are written as formulas, and labels are text only
    axes.set_xlabel("logits")
    axes.set_ylabel("pairs")


def _sweep(axes: Axes, _report: Report, row: VariantReport, _colour: str) -> None:
    layouts = list(dict.fromkeys((found.workers, found.threads) for found in row.plan.sweep))
    budgets = sorted({found.token_budget for found in row.plan.sweep})
    rates = np.full((len(layouts), len(budgets)), np.nan)
    for found in row.plan.sweep:
        rates[layouts.index((found.workers, found.threads)), budgets.index(found.token_budget)] = (
            found.pairs_per_s
        )
    # Twice the range and nearly the lighter half of it: figures stay readable.
    axes.imshow(rates, aspect="auto", cmap="YlGn", vmin=0, vmax=1.8 * np.nanmax(rates))
    for (i, j), rate in np.ndenumerate(rates):
        if np.isfinite(rate):
            axes.text(j, i, f"{rate:.0f}", ha="center", va="center")
    axes.set_xticks(range(len(budgets)), [str(budget) for budget in budgets])
    axes.set_yticks(range(len(layouts)), [f"{workers}x{threads}" for workers, threads in layouts])
    axes.set_xlabel("tokens a batch")
