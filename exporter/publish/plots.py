"""The plots of the model card."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from exporter.artifact.files import CARD, PLOTS
from exporter.errors import BackendMissing

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

    from exporter.report.report import Report

SPEED, DIFFERENCES = f"{PLOTS}/speed.png", f"{PLOTS}/differences.png"
# Told apart by the colour-blind too. Source: https://www.nature.com/articles/nmeth.1618
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
_GREY = "#888888"


# --- plots ---


def png(draw: Callable[[Axes, Report], None], report: Report) -> bytes:
    """Draw a small PNG: the same bytes for the same numbers and the same matplotlib."""
    import io

    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BackendMissing(
            f"the plots of {CARD} need {error.name}; pip install 'exporter[verify]'"
        ) from error
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(6, 3), layout="constrained")
        draw(figure.subplots(), report)
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=100, metadata={"Software": None})
    return out.getvalue()


def speed(axes: Axes, report: Report) -> None:
    sides = [
        (side.side, side.pairs_per_s, _GREY) for side in (report.reference.default, report.reference.tuned)
    ]
    sides += [
        (row.kind, row.throughput.pairs_per_s, _COLOURS[i % len(_COLOURS)])
        for i, row in enumerate(report.variants)
    ]
    names, rates, colours = zip(*reversed(sides), strict=True)
    axes.bar_label(axes.barh(names, rates, color=colours), fmt="%.1f", padding=3)
    axes.set_xlabel("pairs per second, text to scores")
    axes.margins(x=0.1)


def differences(axes: Axes, report: Report) -> None:
    wanted = np.array(report.reference.scores, np.float64)
    for i, row in enumerate(report.variants):
        off = np.sort(np.abs(np.array(row.fidelity.scores, np.float64) - wanted))
        off = off[np.isfinite(off)]
        axes.plot(
            np.arange(1, len(off) + 1) / max(len(off), 1) * 100,
            off,
            color=_COLOURS[i % len(_COLOURS)],
            label=row.kind,
        )
    axes.set_xlabel("% of pairs")
    axes.set_ylabel("off by at most, logits")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
