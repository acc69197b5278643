"""A Ray cluster of two worker nodes: one is killed, and every row is scored once, to the same bytes."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from exporter.errors import RecipeError
from exporter.jobs.cluster import cluster
from exporter.jobs.job import Columns
from exporter.jobs.run import Settings
from tests.jobs.jobs import rows, run, write_jsonl
from tests.jobs.killing import begun, ended, wait_for_parts

pytest.importorskip("ray", reason="ray is not installed: the extra `ray` brings it")


@pytest.fixture(scope="module")
def nodes():
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        two = [found.add_node(num_cpus=1) for _ in range(2)]
        found.wait_for_nodes()
        yield found.address, two
    finally:
        found.shutdown()


def test_a_node_is_killed(small, nodes, tmp_path):
    """The other one does its parts; the artifact was fetched by each node once."""
    address, (node, _) = nodes
    source = write_jsonl(tmp_path / "in.jsonl", rows(6000))
    run(small, source, tmp_path / "undisturbed", Settings(part_rows=20, columns=Columns(keep=("id",))))
    options = ("--part-rows", "20", "--keep", "id", "--ray", address)
    job = begun(small, source, tmp_path / "out", *options)
    wait_for_parts(tmp_path / "out", 20)
    raylet = node.all_processes["raylet"][0].process.pid
    for one in (*psutil.Process(raylet).children(recursive=True), psutil.Process(raylet)):
        one.kill()
    code, said = ended(job)
    assert code == 0, said
    written, wanted = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("out", "undisturbed")
    )
    assert written == wanted


def test_what_is_no_address():
    """Ray's client protocol runs its driver elsewhere, and is not spoken."""
    with pytest.raises(RecipeError, match="wanted HOST:PORT"):
        cluster("ray://127.0.0.1:10001")
