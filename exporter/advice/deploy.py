"""Which variant to deploy: the fastest that passed, with its figures and how to load it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.artifact.names import kind_of
from exporter.gate import noise_problems
from exporter.recipe.kinds import KINDS

if TYPE_CHECKING:
    from exporter.advice.tip import Measured, Row


def fastest(report: Measured) -> Row | None:
    """Return the variant that passed and scored most pairs a second here; None if none passed."""
    passed = [row for row in report.variants if row.verdict == "pass"]
    return max(passed, key=lambda row: row.throughput.pairs_per_s, default=None)


def deploy(report: Measured, artifact: str) -> tuple[str, ...]:
    """Return three lines at most: the fastest that passed, its figures, and how to load it.

    `~` stands before a speed-up that a restless machine gave.

    Args:
        report: what was measured and judged.
        artifact: the folder, as a program names it.
    """
    row = fastest(report)
    if row is None:
        return ()
    found = row.fidelity
    kept = f"{found.quality.ndcg_retained.value:.1%} nDCG" if found.quality else _tau(row)
    which = f", {_quoted(row.kind)}" if len(report.variants) > 1 else ""
    lines = [
        f"Deploy {row.kind}: {_speed(row)}, {kept}, {found.size_bytes / 1e6:.1f} MB",
        f"  Reranker.load({_quoted(artifact)}{which})",
    ]
    row_of_kind = KINDS.get(kind_of(row.kind))
    if row_of_kind and found.traits.engine == "onnxruntime":
        path = row_of_kind.path(found.isa, one_of_several="@" in row.kind)
        lines.append(f"  sentence-transformers: file_name={_quoted(path)}")
    return tuple(lines)


def _speed(row: Row) -> str:
    """Return the speed-up over both types of PyTorch, so that int8 is not praised for what bfloat16 gives."""
    about = "~" if noise_problems(row.speedup_tuned) else ""
    tuned = f"{about}{row.speedup_tuned.value:.2f}x tuned"
    if row.speedup_bf16 is None:
        return f"{tuned} PyTorch"
    about = "~" if noise_problems(row.speedup_bf16) else ""
    return f"{tuned}, {about}{row.speedup_bf16.value:.2f}x bf16 PyTorch"


def _tau(row: Row) -> str:
    return f"tau-b {row.fidelity.parity.kendall_tau.value:.3f}"


def _quoted(text: str) -> str:
    """Return text as Python writes it in double quotes, where it can."""
    return f'"{text}"' if text.isprintable() and not {'"', "\\"} & set(text) else repr(text)
