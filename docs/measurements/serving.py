"""Measure ways to serve: pairs per second and memory of threads, forked and spawned processes.

    python docs/measurements/serving.py artifacts/sample-int8 [SECONDS]   # a table
    python docs/measurements/serving.py artifacts/sample-int8 growth      # memory as 10,000 pairs are scored
    python docs/measurements/serving.py artifacts/sample-all growth openvino-int8

Memory is the sum over processes of what each holds alone and its part of what it shares (PSS), in MB.
"""

from __future__ import annotations

import multiprocessing
import random
import sys
import threading
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from exporter import Reranker
from exporter.machine import cores_allowed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import BaseContext
    from multiprocessing.queues import Queue

    from exporter.runtime import Pair

_WORDS = "the effect of aspirin on stroke in patients randomized trial therapy outcome risk".split()


def mixed_pairs(seed: int = 0) -> Iterator[Pair]:
    """Yield pairs without end: most of usual length, some long, a few of thousands of characters."""
    chosen = random.Random(seed)
    while True:
        n_words = chosen.choices(
            [chosen.randint(1, 30), chosen.randint(30, 300), chosen.randint(300, 20_000)], [70, 27, 3]
        )[0]
        passage = "中文!" * n_words if chosen.random() < 0.01 else " ".join(chosen.choices(_WORDS, k=n_words))
        yield " ".join(chosen.choices(_WORDS, k=8)), passage


def request() -> list[Pair]:
    """Return a query with 20 passages of some 100 words."""
    chosen = random.Random(1)
    return [("does aspirin prevent stroke?", " ".join(chosen.choices(_WORDS, k=100))) for _ in range(20)]


def pss_mb() -> float:
    """Return this process's memory, its part of what it shares included, in MB."""
    rows = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("Pss:")) / 1024


def serve(reranker: Reranker, n_threads: int, seconds: float) -> tuple[float, float]:
    """Score requests from threads for a while; return pairs per second and memory in MB."""
    pairs = request()
    reranker.score(pairs)
    counts = [0] * n_threads
    start = time.perf_counter()

    def work(i: int) -> None:
        while time.perf_counter() - start < seconds:
            counts[i] += len(reranker.score(pairs))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - start), pss_mb()


def worker(place: Reranker | str, seconds: float, out: Queue[tuple[float, float]]) -> None:
    """Serve from a process: with what the parent loaded, or with what it loads itself on its share."""
    reranker = place if isinstance(place, Reranker) else Reranker.load(place, threads=1)
    out.put(serve(reranker, 1, seconds))


def processes(context: BaseContext, place: Reranker | str, seconds: float) -> tuple[float, float]:
    """Serve from one process a core; return the sums of pairs per second and of memory in MB."""
    out = context.Queue()
    children = [
        context.Process(target=worker, args=(place, seconds, out))  # type: ignore[attr-defined] # every context has it
        for _ in range(cores_allowed())
    ]
    for child in children:
        child.start()
    found = [out.get() for _ in children]
    for child in children:
        child.join()
    return sum(speed for speed, _ in found), sum(memory for _, memory in found)


def growth(folder: str, kind: str | None) -> None:
    """Print memory after 1,000 mixed pairs in calls of 1 to 200, as a service gets them, and after 10,000."""
    reranker, pairs, chosen = Reranker.load(folder, kind), mixed_pairs(), random.Random(2)
    n_pairs, started = 0, time.perf_counter()
    for n_wanted in (1_000, 10_000):
        while n_pairs < n_wanted:
            call = list(islice(pairs, min(chosen.choice((1, 3, 10, 64, 200)), n_wanted - n_pairs)))
            n_pairs += len(reranker.score(call))
        speed = n_pairs / (time.perf_counter() - started)
        print(f"{n_pairs} pairs: {pss_mb():.1f} MB, {speed:.0f} pairs/s so far", flush=True)


def main(folder: str, argument: str = "10", kind: str | None = None) -> None:
    """Print a table of ways to serve, or of memory as pairs are scored."""
    if argument == "growth":
        growth(folder, kind)
        return
    seconds, n_cores = float(argument), cores_allowed()
    fork, spawn = multiprocessing.get_context("fork"), multiprocessing.get_context("spawn")
    rows = {
        f"one process, {n} threads call": serve(Reranker.load(folder), n, seconds) for n in (1, n_cores, 8)
    }
    rows[f"{n_cores} forked, loaded before"] = processes(fork, Reranker.load(folder, threads=1), seconds)
    rows[f"{n_cores} forked, loaded after"] = processes(fork, folder, seconds)
    rows[f"{n_cores} spawned"] = processes(spawn, folder, seconds)
    print("| way | pairs/s | memory, MB |\n|---|---|---|")
    for way, (speed, memory) in rows.items():
        print(f"| {way} | {speed:.1f} | {memory:.0f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
