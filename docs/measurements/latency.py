"""Print memory and latency of an artifact's variants as a Markdown table: calls of 10 and of 100 documents.

    python docs/measurements/latency.py ARTIFACT [VARIANT ...]

Each variant runs in a process of its own, one after the other, on the cores that the process may use, with
the plan that a service would get. A call is `Reranker.rank` of one query: text in, ranked documents out.
Memory is read from the system after loading and after the last call: RSS, and PSS, in which what several
processes share is counted once. The documents are made of biomedical words, 5 to 200 each, and differ from
call to call.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from exporter import Reranker
from exporter.artifact.manifest import read_manifest
from exporter.errors import ExporterError
from exporter.machine import cores_allowed, this_machine

# Documents of a call, and calls: a p95 needs 20 at least.
_CALLS = ((10, 60), (100, 24))
_N_WARM_UP = 5  # calls that are not counted
_WORDS = (
    "the effect of aspirin on stroke in patients with atrial fibrillation a randomized controlled trial of "
    "antiplatelet therapy outcome risk reduced mortality compared placebo group treatment after months"
).split()


def memory_mb() -> dict[str, float]:
    """Return this process's RSS and PSS, in MB of 10^6 bytes. Linux only."""
    text = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8")
    rows = dict(row.split(":", 1) for row in text.splitlines() if ":" in row.split(" ")[0])
    return {name: int(rows[name].split()[0]) * 1024 / 1e6 for name in ("Rss", "Pss")}


def call(chosen: random.Random, n_documents: int) -> tuple[str, list[str]]:
    """Return a query and its documents."""
    documents = [
        " ".join(chosen.choices(_WORDS, k=min(200, 5 + int(chosen.expovariate(1 / 60)))))
        for _ in range(n_documents)
    ]
    return " ".join(chosen.choices(_WORDS, k=8)), documents


def latencies_ms(reranker: Reranker, n_documents: int, n_calls: int) -> list[float]:
    """Return how long each of `n_calls` calls takes, in milliseconds."""
    chosen, found = random.Random(n_documents), []
    for i in range(_N_WARM_UP + n_calls):
        query, documents = call(chosen, n_documents)
        start = time.perf_counter()
        reranker.rank(query, documents)
        if i >= _N_WARM_UP:
            found.append(1e3 * (time.perf_counter() - start))
    return found


def measure(artifact: str, variant: str) -> dict[str, object]:
    """Load one variant here and measure it."""
    start = time.perf_counter()
    reranker = Reranker.load(artifact, variant)
    loaded = {"load_s": time.perf_counter() - start, "plan": str(reranker.plan), "loaded": memory_mb()}
    latency = {str(n): latencies_ms(reranker, n, n_calls) for n, n_calls in _CALLS}
    return {**loaded, "latency_ms": latency, "used": memory_mb()}


def row(variant: str, found: dict[str, dict[str, float]], latency: dict[str, list[float]]) -> str:
    """Return a variant's row: memory as RSS / PSS, latency as p50 / p95."""
    memory = [f"{found[when]['Rss']:.0f} / {found[when]['Pss']:.0f}" for when in ("loaded", "used")]
    times = [
        " / ".join(
            f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}" for ms in np.percentile(latency[str(n)], [50, 95])
        )
        for n, _ in _CALLS
    ]
    return f"| `{variant}` | {' | '.join([*memory, *times])} |"


def main() -> None:
    """Measure each variant in a process of its own and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifact", help="a folder")
    parser.add_argument("variants", nargs="*", help="by default all")
    parser.add_argument("--here", action="store_true", help="measure one variant in this process, print JSON")
    given = parser.parse_args()
    if given.here:
        try:
            print(json.dumps(measure(given.artifact, given.variants[0])))
        except ExporterError as error:
            raise SystemExit(f"error: {error}") from None
        return
    machine, n_calls = this_machine(), " and ".join(f"{calls} calls of {n}" for n, calls in _CALLS)
    print(f"{machine.cpu}, {machine.isa}, {cores_allowed()} cores; {n_calls} documents\n")
    titles = ["variant", "MB loaded, RSS / PSS", "MB after the calls"]
    titles += [f"{n} documents, ms p50 / p95" for n, _ in _CALLS]
    print(f"| {' | '.join(titles)} |")
    print("|---|---|---|---|---|")
    failed = 0
    for variant in given.variants or [entry.kind for entry in read_manifest(Path(given.artifact)).variants]:
        done = subprocess.run(
            [sys.executable, __file__, given.artifact, variant, "--here"],
            stdout=subprocess.PIPE,
            check=False,
            text=True,
        )
        if done.returncode:
            failed = 1
            print(f"| `{variant}` | not measured | | | |", flush=True)
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        print(row(variant, found, found["latency_ms"]), flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
