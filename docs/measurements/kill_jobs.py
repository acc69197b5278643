"""Kill `exporter score` at random moments, and compare what it wrote in the end with an undisturbed run.

Usage: `kill_jobs.py ARTIFACT [--times 10] [--rows 6000] [--ray]`. Prints a line a trial; ends with 1 if a row
was lost, scored twice, or came out with other bytes.

Here: in turn one of the workers and the driver is killed with SIGKILL, the driver's job is started again.
With `--ray`: on a local cluster of two worker nodes of one core each, in turn a node and the driver.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

_PART_ROWS = 250
_PAUSE_S = 0.5
_KEEP = ("--keep", "id", "--part-rows", str(_PART_ROWS))


def main() -> None:
    """Run the trials."""
    parser = argparse.ArgumentParser()
    parser.add_argument("artifact")
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--ray", action="store_true")
    asked = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    chance = random.Random(7)
    with tempfile.TemporaryDirectory() as folder:
        trials = _Trials(Path(folder), asked.artifact, asked.rows)
        print(f"{asked.rows} rows in parts of {_PART_ROWS}, undisturbed: {trials.took_s:.1f} s")
        ok = [trials.run(i, chance, on_ray=asked.ray) for i in range(asked.times)]
    print(f"{sum(ok)} of {len(ok)}: every row once, in order, the bytes of an undisturbed run")
    sys.exit(not all(ok))


class _Trials:
    """One input, what an undisturbed run makes of it, and how long that takes."""

    def __init__(self, folder: Path, artifact: str, n_rows: int) -> None:
        self._folder, self._artifact, self._n_rows = folder, artifact, n_rows
        self._source = folder / "in.jsonl"
        _write_rows(self._source, n_rows)
        began = time.monotonic()
        assert self._begun(folder / "undisturbed").wait() == 0
        self.took_s = time.monotonic() - began
        self._wanted = _hashes(folder / "undisturbed")

    def run(self, number: int, chance: random.Random, *, on_ray: bool) -> bool:
        """Run a trial; return whether all is as it was undisturbed."""
        out = self._folder / f"trial-{number}"
        after = chance.randint(1, self._n_rows // _PART_ROWS - 4)
        began = time.monotonic()
        if on_ray:
            what = self._on_ray(out, after, kills_node=number % 2 == 0, chance=chance)
        else:
            what = self._here(out, after, kills_worker=number % 2 == 0, chance=chance)
        same = _hashes(out) == self._wanted and _in_order(out, self._n_rows)
        print(
            f"{number + 1}: {what}; {time.monotonic() - began:.1f} s; {'same' if same else 'OTHER'}",
            flush=True,
        )
        return same

    def _begun(self, out: Path, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "exporter", "score", self._artifact, str(self._source), str(out)]
        return subprocess.Popen([*command, *_KEEP, *options], stdout=subprocess.DEVNULL)

    def _here(self, out: Path, after: int, *, kills_worker: bool, chance: random.Random) -> str:
        job = self._begun(out)
        n_before = _wait_for(out, after)
        if kills_worker and (workers := psutil.Process(job.pid).children()):
            chance.choice(workers).kill()
            assert job.wait() == 0
            return f"a worker killed with {n_before} parts done"
        return self._killed(job, out, n_before)

    def _killed(self, job: subprocess.Popen[bytes], out: Path, n_before: int, *options: str) -> str:
        job.kill()
        job.wait()
        assert self._begun(out, *options).wait() == 0
        return f"the driver killed with {n_before} parts done, and started again"

    def _on_ray(self, out: Path, after: int, *, kills_node: bool, chance: random.Random) -> str:
        with _cluster() as (address, nodes):
            job = self._begun(out, "--ray", address)
            n_before = _wait_for(out, after)
            if not kills_node:
                return self._killed(job, out, n_before, "--ray", address)
            _kill_node(chance.choice(nodes))
            assert job.wait() == 0
            return f"a node killed with {n_before} parts done"


def _wait_for(out: Path, n_parts: int) -> int:
    """Wait until so many parts are there, and for a part of a second; return how many there are then."""
    while len(list(out.glob("part-*"))) < n_parts:
        time.sleep(0.01)
    time.sleep(random.random() * _PAUSE_S)
    return len(list(out.glob("part-*")))


@contextmanager
def _cluster() -> Iterator[tuple[str, list[Any]]]:
    """Run a head without cores, and two worker nodes of one core each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        cluster.wait_for_nodes()
        yield cluster.address, nodes
    finally:
        cluster.shutdown()


def _kill_node(node: Any) -> None:
    """Kill everything of a node at once, as where its machine loses power."""
    for _, process in node.live_processes():
        with suppress(psutil.NoSuchProcess):
            found = psutil.Process(process.pid)
            for one in (*found.children(recursive=True), found):
                with suppress(psutil.NoSuchProcess):
                    one.kill()


def _write_rows(path: Path, n_rows: int) -> None:
    chance = random.Random(1)
    words = (
        "protein gene cell dose drug patient rate effect of the in with on by heart lung trial risk".split()
    )
    with path.open("w", encoding="utf-8") as file:
        for i in range(n_rows):
            query, passage = (" ".join(chance.choices(words, k=k)) for k in (4, chance.randint(4, 40)))
            row = {"id": str(i), "query": None if i % 997 == 0 else query, "passage": passage}
            file.write(f"{json.dumps(row)}\n")


def _hashes(out: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.iterdir())
        if not path.name.startswith(".")
    }


def _in_order(out: Path, n_rows: int) -> bool:
    from pyarrow import parquet

    ids: list[str] = []
    for path in sorted(out.glob("part-*.parquet")):
        ids += parquet.read_table(path)["id"].to_pylist()
    return ids == [str(i) for i in range(n_rows)]


if __name__ == "__main__":
    main()
