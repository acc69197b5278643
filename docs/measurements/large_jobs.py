"""Measure what `exporter score` costs beside `Reranker.stream`, and whether its memory grows with the rows.

Usage: `large_jobs.py ARTIFACT [--pairs 20000] [--rounds 3] [--ray] [--memory 100000 1000000]`.

Cost: the pairs of `sample/verify`, repeated, are written as Parquet; in each round `stream` on all cores and
the command are timed after each other, each in a process of its own, from its start to its end. A second line
leaves out what the command takes for no rows and stream for its load, which a large job does not notice. With
`--ray` also the command on a local cluster of two worker nodes of one core.

Memory: rows of at most 32 tokens; the most that driver and workers together took, their resident sets summed
twice a second.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pyarrow as pa
from pyarrow import parquet

from exporter.pairs import load_pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

_STREAM = """
import sys, time
from pyarrow import parquet
from exporter.runtime import Reranker
reranker = Reranker.load(sys.argv[1])
began = time.monotonic()
table = parquet.ParquetFile(sys.argv[2])
columns = ((b["query"].to_pylist(), b["passage"].to_pylist()) for b in table.iter_batches(1024))
pairs = (pair for both in columns for pair in zip(*both))
n = sum(len(scores) for scores in reranker.stream(pairs))
print(n, time.monotonic() - began)
"""
_PART_ROWS = "1000"


def main() -> None:
    """Measure, and print a line a round and the medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("artifact")
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--memory", type=int, nargs="*", default=[])
    asked = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with tempfile.TemporaryDirectory() as folder:
        if asked.pairs:
            _cost(Path(folder), asked.artifact, asked.pairs, asked.rounds, on_ray=asked.ray)
        for n_rows in asked.memory:
            source = _short_rows(Path(folder) / f"{n_rows}.parquet", n_rows)
            seconds, peak = _score(asked.artifact, source, Path(folder) / f"out-{n_rows}", part_rows="10000")
            print(f"{n_rows} rows: {peak / 1e6:.0f} MB at most, {n_rows / seconds:.0f} pairs/s", flush=True)


def _cost(folder: Path, artifact: str, n_pairs: int, n_rounds: int, *, on_ray: bool) -> None:
    source, empty = _real_rows(folder / "in.parquet", n_pairs), _real_rows(folder / "empty.parquet", 0)
    ratios: dict[str, list[float]] = {"score": [], "score on ray": []}
    with _cluster() if on_ray else _nowhere() as address:
        for number in range(n_rounds):
            stream_s = _stream(artifact, source)
            print(f"round {number + 1}: stream {n_pairs / stream_s:.1f} pairs/s", flush=True)
            for name, options in (("score", ()), ("score on ray", ("--ray", address))):
                if "" in options:
                    continue
                out = folder / f"{name}-{number}"
                start_s, _ = _score(
                    artifact, empty, out.with_suffix(".empty"), *options, part_rows=_PART_ROWS
                )
                all_s, _ = _score(artifact, source, out, *options, part_rows=_PART_ROWS)
                ratios[name].append(stream_s / (all_s - start_s))
                print(
                    f"  {name}: {n_pairs / all_s:.1f} pairs/s in all, {n_pairs / (all_s - start_s):.1f} "
                    f"without {start_s:.1f} s of start, {ratios[name][-1]:.3f} of stream",
                    flush=True,
                )
    for name, found in ratios.items():
        if found:
            print(
                f"{name}: median {statistics.median(found):.3f} of stream, "
                f"{min(found):.3f} to {max(found):.3f}"
            )


def _stream(artifact: str, source: Path) -> float:
    command = [sys.executable, "-c", _STREAM, artifact, str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[1])


def _score(artifact: str, source: Path, out: Path, *options: str, part_rows: str) -> tuple[float, int]:
    """Return the seconds the command takes, and the bytes that its processes take at most."""
    began = time.monotonic()
    command = [sys.executable, "-m", "exporter", "score", artifact, str(source), str(out)]
    job = subprocess.Popen([*command, "--part-rows", part_rows, *options], stdout=subprocess.DEVNULL)
    peak = 0
    while job.poll() is None:
        peak = max(peak, _resident(job.pid))
        time.sleep(0.5 if time.monotonic() - began > 5 else 0.02)
    assert job.returncode == 0
    return time.monotonic() - began, peak


def _resident(pid: int) -> int:
    found = 0
    try:
        for one in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            found += one.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return found


def _real_rows(path: Path, n: int) -> Path:
    pairs = load_pairs("sample/verify").pairs
    chosen = [pairs[i % len(pairs)] for i in range(n)]
    columns = {"query": [q for q, _ in chosen], "passage": [p for _, p in chosen]}
    table = pa.table(columns, pa.schema([("query", pa.string()), ("passage", pa.string())]))
    parquet.write_table(table, path, row_group_size=5000)
    return path


def _short_rows(path: Path, n_rows: int) -> Path:
    chance = random.Random(1)
    words = (
        "protein gene cell dose drug patient rate effect of the in with on by heart lung trial risk".split()
    )
    schema = pa.schema([("query", pa.string()), ("passage", pa.string())])
    with parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, n_rows, 50_000):
            n = min(50_000, n_rows - start)
            texts = [[" ".join(chance.choices(words, k=k)) for _ in range(n)] for k in (5, 18)]
            writer.write_table(pa.table(texts, schema=schema))
    return path


@contextmanager
def _cluster() -> Iterator[str]:
    """Run a head without cores, and two worker nodes of one core each; yield its address."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()


@contextmanager
def _nowhere() -> Iterator[str]:
    yield ""


if __name__ == "__main__":
    main()
