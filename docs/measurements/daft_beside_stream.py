"""Time `exporter.runtime.daft.rerank` beside `Reranker.stream` on the same pairs, in turns, in one process.

Usage: `daft_beside_stream.py ARTIFACT [ROUNDS [PAIRS]]`, by default 3 rounds of 3,000 pairs.

Prints pairs/s by round and medians. To start Daft's processes and to load the artifact is part of a run, as
it is of a query; the last figure leaves it out: it is what a query over two rows takes.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from typing import TYPE_CHECKING

os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("DAFT_PROGRESS_BAR", "0")

import daft

from exporter.machine import cores_allowed, this_machine
from exporter.pairs import load_pairs
from exporter.runtime import Reranker
from exporter.runtime.daft import rerank

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.pairs import Pair


def main() -> None:
    """Measure, and print."""
    if not sys.argv[1:]:
        sys.exit("usage: daft_beside_stream.py ARTIFACT [ROUNDS [PAIRS]]")
    artifact = sys.argv[1]
    rounds, n_pairs = (int(given) for given in (*sys.argv[2:4], *("3", "3000")[len(sys.argv[2:4]) :]))
    pairs = load_pairs("sample/verify").pairs[:n_pairs]
    reranker = Reranker.load(artifact)
    n_cores = cores_allowed()

    def stream(of: Sequence[Pair]) -> None:
        assert sum(map(len, reranker.stream(iter(of)))) == len(of)

    def in_daft(processes: int) -> Callable[[Sequence[Pair]], None]:
        def run(of: Sequence[Pair]) -> None:
            df = daft.from_pydict({"q": [q for q, _ in of], "p": [p for _, p in of]})
            found = rerank(df, query="q", passage="p", artifact=artifact, processes=processes)
            assert len(found.to_pydict()["score"]) == len(of)

        return run

    sides = {"stream": stream, "Daft, 1 process": in_daft(1)}
    if n_cores > 1:
        sides[f"Daft, {n_cores} processes"] = in_daft(n_cores)
    print(f"{reranker}, {this_machine()}, {len(pairs)} pairs")
    rates: dict[str, list[float]] = {name: [] for name in sides}
    without: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, run in list(sides.items())[:: -1 if number % 2 else 1]:
            whole, start = _seconds(run, pairs), _seconds(run, pairs[:2])
            rates[name].append(len(pairs) / whole)
            without[name].append(len(pairs) / (whole - start))
    for name, of_side in rates.items():
        each = ", ".join(f"{rate:.1f}" for rate in of_side)
        print(
            f"{name}: {statistics.median(of_side):.1f} pairs/s ({each}); "
            f"without the start {statistics.median(without[name]):.1f}"
        )


def _seconds(run: Callable[[Sequence[Pair]], None], pairs: Sequence[Pair]) -> float:
    began = time.monotonic()
    run(pairs)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
