"""Make the graph that all variants of one opset are built from: exported, held against PyTorch, rewritten."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.artifact.files import from_json, to_json
from exporter.artifact.manifest import FlopCount
from exporter.export.external_data import INLINE_BYTES, pack
from exporter.export.flops import count_flops
from exporter.export.folder import artifact_tokenizer, feeds_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.export.source import Source
    from exporter.pairs import Pair


# Rows of a batch of proof pairs: some batches then have padding and some have not, without taking long.
_PROOF_ROWS = 4


@dataclass(frozen=True, slots=True)
class CommonGraph:
    """A folder with the graph that every kind is made from, and what is known of it."""

    folder: Path

    @property
    def path(self) -> Path:
        """The graph of plain operators, fp32."""
        return self.folder / "graph.onnx"

    @property
    def unmasked(self) -> Path:
        """The same for onnxruntime alone, whose attention other engines do not know."""
        return self.folder / "unmasked.onnx"

    @property
    def attention(self) -> str:
        """A fact about the graph for onnxruntime."""
        return (self.folder / "attention.txt").read_text(encoding="utf-8")

    @property
    def inputs(self) -> tuple[str, ...]:
        """The graph's input names in order."""
        return tuple((self.folder / "inputs.txt").read_text(encoding="utf-8").splitlines())

    @property
    def flop_count(self) -> FlopCount:
        """The graph's arithmetic."""
        return from_json(FlopCount, (self.folder / "flops.json").read_bytes())


def make_graph(
    source: Source,
    opset: int,
    proof: Sequence[Pair],
    folder: Path,
    *,
    inline_bytes: int = INLINE_BYTES,
) -> tuple[str, ...]:
    """Export a model and rewrite its graph, each step proven on real pairs.

    Args:
        source: the model.
        opset: ONNX opset, 17 or later.
        proof: the pairs, at least one.
        folder: an empty folder, to be read as a `CommonGraph`. All graphs in it share one file of weights
            where there is one.
        inline_bytes: weights beyond which they lie beside the graph.

    Returns:
        Facts for the manifest of every variant.

    Raises:
        BackendError: the model cannot be exported, or its graph does not score as PyTorch does.
    """
    from exporter.export.onnx import ALWAYS, export_plain
    from exporter.export.rewrites.attention import absorb_kv_projections, add_unpadded_fast_path
    from exporter.export.rewrites.branches import settle_branches
    from exporter.export.rewrites.last_layer import first_token_only
    from exporter.export.rewrites.proof import check_exported, rewrite_if_equivalent

    made = CommonGraph(folder)
    exported, settled, narrowed = (folder / f"{name}.onnx" for name in ("exported", "settled", "narrowed"))
    tokenizer = artifact_tokenizer(source)
    names = dict.fromkeys((*ALWAYS, *source.inputs))
    given = feeds_of(proof, tokenizer, tuple(names), batch_size=_PROOF_ROWS)

    with tempfile.TemporaryDirectory(prefix="export-", dir=folder) as scratch:
        found = export_plain(source, opset, Path(scratch, "plain.onnx"), given)
        pack(Path(scratch, "plain.onnx"), exported, inline_bytes)
    (folder / "inputs.txt").write_text("\n".join(found.inputs), encoding="utf-8")

    feeds = feeds_of(proof, tokenizer, found.inputs, batch_size=_PROOF_ROWS)
    check_exported(exported, feeds, found.scores)
    facts = (
        rewrite_if_equivalent("branches settled", settle_branches, exported, settled, feeds),
        rewrite_if_equivalent("first token only", first_token_only, settled, narrowed, feeds),
        rewrite_if_equivalent("keys and values absorbed", absorb_kv_projections, narrowed, made.path, feeds),
    )
    for step in (exported, settled, narrowed):
        step.unlink()

    feeds += feeds_of(proof, tokenizer, found.inputs)  # without padding
    attention = rewrite_if_equivalent(
        "attention without a mask", add_unpadded_fast_path, made.path, made.unmasked, feeds
    )
    (folder / "attention.txt").write_text(attention, encoding="utf-8")
    (folder / "flops.json").write_bytes(to_json(count_flops(made.path, found.inputs)))
    return tuple(fact for fact in facts if fact)
