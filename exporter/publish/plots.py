"""The plots of the model card."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from exporter.artifact.files import CARD, PLOTS
from exporter.packages import missing
from exporter.report.plots import COLOURS, GREY, TEXT_ONLY, label

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

    from exporter.report.report import Report

SPEED, DIFFERENCES = f"{PLOTS}/speed.png", f"{PLOTS}/differences.png"


def png(draw: Callable[[Axes, Report], None], report: Report) -> bytes:
    """Return a small PNG; equal numbers and the same matplotlib give equal bytes.

    Raises:
        BackendMissing: matplotlib is not installed.
    """
    import io

    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing(error, what=f"the plots of {CARD}") from error
    style = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    with mpl.rc_context({**TEXT_ONLY, **style}):
        figure = Figure(figsize=(6, 3), layout="constrained")
        draw(figure.subplots(), report)
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=100, metadata={"Software": None})
    return out.getvalue()


def speed(axes: Axes, report: Report) -> None:
    """Draw the pairs per second of both references and of each variant as bars."""
    sides = [
        (label(side.side), side.pairs_per_s, GREY)
        for side in (report.reference.default, report.reference.tuned)
    ]
    sides += [
        (label(row.kind), row.throughput.pairs_per_s, COLOURS[i % len(COLOURS)])
        for i, row in enumerate(report.variants)
    ]
    names, rates, colours = zip(*reversed(sides), strict=True)
    axes.bar_label(axes.barh(names, rates, color=colours), fmt="%.1f", padding=3)
    axes.set_xlabel("pairs per second, text to scores")
    axes.margins(x=0.1)


def differences(axes: Axes, report: Report) -> None:
    """Draw how far each variant's scores are from the reference, in logits, over the share of pairs."""
    wanted = np.array(report.reference.scores, np.float64)
    for i, row in enumerate(report.variants):
        off = np.sort(np.abs(np.array(row.fidelity.scores, np.float64) - wanted))
        off = off[np.isfinite(off)]
        axes.plot(
            np.arange(1, len(off) + 1) / max(len(off), 1) * 100,
            off,
            color=COLOURS[i % len(COLOURS)],
            label=label(row.kind),
        )
    axes.set_xlabel("% of pairs")
    axes.set_ylabel("off by at most, logits")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
