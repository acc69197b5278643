"""Why a check came out as it did, in words: what it measures, by how much it missed, and where to look."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from exporter.gate import Check


class About(NamedTuple):
    """What a check measures, and the parts of the page that show it, by their titles."""

    what: str
    shown_in: tuple[str, ...]


# Titles of parts of the page: of its rankings, and of its sections of tables; plots are the others.
WORST_QUERIES = "Worst queries"
WORST_PAIRS = "Worst pairs"
TABLES = frozenset(("Parity", "Files", "Builds", "Intervals (95 %)", "Speed and memory"))

ABOUT = {
    "nonfinite_scores": About("Scores that are NaN or infinite.", (WORST_PAIRS, "Parity")),
    "relative_rms": About(
        "Root mean square of the score differences over the standard deviation of the reference's scores. "
        "About 1 is another model's scores, or another scale.",
        ("Scores", "Differences", WORST_PAIRS),
    ),
    "worst_query_relative_rms": About(
        "Root mean square of one query's score differences over the standard deviation of all of the "
        "reference's scores, the worst query's.",
        (WORST_QUERIES, "Scores", "Parity"),
    ),
    "worst_length_relative_rms": About(
        "Root mean square of the score differences of pairs of one length over the standard deviation of the "
        "reference's scores, the worst length's.",
        ("Parity", "Differences"),
    ),
    "batch_relative_rms": About(
        "How far a pair's score in a batch is from its score alone, as a root mean square over the scores' "
        "standard deviation. Wrong padding or an ignored mask shows here.",
        ("Parity",),
    ),
    "lower_precision_share": About(
        "Share of the matrix products' weights stored in less than float32, in a kind that promises float32.",
        ("Files", "Builds"),
    ),
    "promised_weight_share": About(
        "Share of the matrix products' weights stored in the precision that the kind promises.",
        ("Files", "Builds"),
    ),
    "max_int16_sum": About(
        "The largest sum of two int8 products that any activations could cause. Above 32,767 it is cut off "
        "on CPUs without VNNI, without an error.",
        ("Files",),
    ),
    "repeat_diff": About(
        "Largest difference of the same pairs' scores from two processes under one plan.", ("Parity",)
    ),
    "min_ndcg_retained": About(
        "nDCG@10 by your labels, the candidate's over the reference's.",
        ("Speed against quality", WORST_QUERIES, "Intervals (95 %)"),
    ),
    "min_kendall_tau": About(
        "Kendall's tau-b of the two rankings of a query's passages, mean over queries; 1 is the same order.",
        ("Rank agreement by query", WORST_QUERIES, "Intervals (95 %)"),
    ),
    "min_top1_agreement": About(
        "Share of queries whose best passage is the reference's best.",
        (WORST_QUERIES, "Rank agreement by query", "Intervals (95 %)"),
    ),
    "min_top10_overlap": About(
        "Share of the reference's ten best passages among the candidate's, mean over queries.",
        (WORST_QUERIES, "Rank agreement by query", "Intervals (95 %)"),
    ),
    "max_abs_diff": About(
        "The largest difference of two scores of one pair, in logits.", ("Differences", WORST_PAIRS)
    ),
    "max_batch_delta": About(
        "The largest difference, in logits, of a pair's score in a batch from its score alone.", ("Parity",)
    ),
    "max_size_ratio": About(
        "Bytes of the variant's files over bytes of the reference's weights.", ("Files",)
    ),
    "min_speedup": About(
        "Pairs per second over PyTorch's at its own best plan.",
        ("Speed against quality", "Speed and memory", "Intervals (95 %)"),
    ),
}


def limit(check: Check) -> float | None:
    """Return the number in a check's bar, or None where it holds none."""
    try:
        number = float(check.bar.split()[-1])
    except (ValueError, IndexError):
        return None
    return number if math.isfinite(number) else None


def why(check: Check) -> str:
    """Return in sentences why a check failed or has no verdict, with its interval; empty of others."""
    if check.outcome not in ("fail", "invalid"):
        return ""
    about = ABOUT.get(check.name)
    said = [about.what] if about else []
    said += _failed(check) if check.outcome == "fail" else [f"No verdict: {check.why or 'not measured'}."]
    if check.outcome == "invalid" and check.low is not None:
        said.append(
            f"Observed {check.observed:.4g}, 95 % interval {check.low:.4g} to {check.high:.4g}; "
            f"all of it has to be {check.bar}."
        )
    if check.note:
        said.append(f"{check.note[0].upper()}{check.note[1:]}.")
    return " ".join(said)


def _failed(check: Check) -> list[str]:
    place = [f"Found in {check.why}."] if check.why else []
    short = _short_by(check)
    if check.low is None:
        return [
            f"Observed {check.observed:.4g}, wanted {check.bar}{short}; exact, no interval.",
            *place,
        ]
    return [
        f"Observed {check.observed:.4g}; the whole 95 % interval, {check.low:.4g} to {check.high:.4g}, "
        f"is on the wrong side of the bar, {check.bar}{short}.",
        *place,
    ]


def _short_by(check: Check) -> str:
    """Return by how much a check missed its bar, from the end of its interval that is nearer to it."""
    if (bar := limit(check)) is None:
        return ""
    best = check.observed if check.high is None else check.high
    missing = bar - best if check.bar.startswith("≥") else check.observed - bar
    end = "" if check.high is None else "its upper end is "
    return (
        f"; {end}{missing:.3g} {'short' if check.bar.startswith('≥') else 'too much'}"
        if math.isfinite(missing) and missing > 0
        else ""
    )


def interval_picture(check: Check) -> str:
    """Return an SVG of a check's interval and its bar side by side; empty where it has none.

    Only numbers computed here stand in it.
    """
    bar = limit(check)
    if bar is None or check.low is None or check.high is None:
        return ""
    ends = (check.low, check.observed, check.high, bar)
    if not all(map(math.isfinite, ends)) or max(ends) <= min(ends):
        return ""

    least, width = min(ends), max(ends) - min(ends)
    low, observed, high, at = (f"{8 + 144 * (end - least) / width:.1f}" for end in ends)
    label = f"interval {check.low:.4g} to {check.high:.4g}, observed {check.observed:.4g}, bar {bar:.4g}"
    return (
        f'<svg class="interval" viewBox="0 0 160 18" role="img" aria-label="{label}">'
        f'<line class="range" x1="{low}" x2="{high}" y1="9" y2="9"/>'
        f'<circle cx="{observed}" cy="9" r="3.5"/>'
        f'<line class="limit" x1="{at}" x2="{at}" y1="1" y2="17"/></svg>'
    )
