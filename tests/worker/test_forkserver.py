"""Workers forked from a server that has imported PyTorch: the same answers, and nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from exporter import worker
from exporter.errors import BackendError
from exporter.scratch import clear_leftovers
from exporter.worker import forkserver, process
from exporter.worker.job import Call, TimeJob, TorchSpec

PAIRS = tuple(("wing lift", "drag flow " * n) for n in range(1, 9))
# Only there can a process take its children's orphans (prctl), and is fork safe after such imports:
# elsewhere every worker imports for itself, which `test_scores_as_one_that_imports` runs everywhere.
linux = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")


def torch_spec(tiny: Path, threads: int = 1) -> TorchSpec:
    """Return how the tiny model is run in PyTorch."""
    return TorchSpec(str(tiny / "model"), 64, "cpu", 8, 1, threads)


def of_server() -> list[psutil.Process]:
    """Return this process's server, and the workers that it forked: they have its command line."""
    found = [one for one in psutil.Process().children() if forkserver.SERVE in one.cmdline()]
    return sorted(found, key=psutil.Process.create_time)


def test_scores_as_one_that_imports(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked worker scores, to the last bit, what one scores that imports for itself."""
    scores = worker.score(torch_spec(tiny), PAIRS)
    monkeypatch.setattr(process, "forked", lambda *_: None)
    assert (worker.score(torch_spec(tiny), PAIRS) == scores).all()
    assert np.ptp(scores) > 0


@linux
def test_one_server(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of one model share a server, whatever their threads; another environment has another."""
    worker.score(torch_spec(tiny, 1), PAIRS)
    (first,) = of_server()
    worker.score(torch_spec(tiny, 2), PAIRS)
    assert of_server() == [first]
    monkeypatch.setenv("SOME_VARIABLE", "set")
    worker.score(torch_spec(tiny, 1), PAIRS)
    (second,) = of_server()
    assert second != first


@linux
def test_dead_server_is_replaced(tiny: Path) -> None:
    """A server that was killed costs one import, and no answer."""
    scores = worker.score(torch_spec(tiny), PAIRS)
    of_server()[0].kill()
    assert (worker.score(torch_spec(tiny), PAIRS) == scores).all()


@linux
def test_server_that_cannot_be_had(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server a worker imports for itself."""
    forkserver.end_server()
    monkeypatch.setattr(forkserver, "SERVE", "--no-such-thing")
    (run,) = worker.time(TimeJob(PAIRS, (torch_spec(tiny),), (Call(tuple(range(8)), 1),)))
    assert run.n_pairs == len(PAIRS)
    assert of_server() == []


@linux
def test_import_is_counted(tiny: Path) -> None:
    """`load_s` has what the server's import took, or a forked side would load in no time."""
    job = TimeJob(PAIRS, (torch_spec(tiny),), (Call(tuple(range(8)), 1),))
    worker.time(job)
    (run,) = worker.time(job)
    assert run.load_s > 0.8 * sum(of_server()[0].cpu_times()[:2]) > 0


@linux
def test_nothing_outlives_a_killed_parent(tiny: Path, tmp_path: Path) -> None:
    """Where the parent is killed, server and worker end, and the next run removes their folders."""
    script = (
        "import sys; from exporter import worker; from exporter.worker.job import TorchSpec\n"
        f"spec = TorchSpec({str(tiny / 'model')!r}, 64, 'cpu', 8, 1, 1)\n"
        f"with worker.TimedWorker(spec, {PAIRS!r}) as one:\n"
        "    one.wait_imported()\n"
        "    print('imported', flush=True)\n"
        "    one.load(); one.passes(10**9)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert parent.stdout is not None
    with parent, parent.stdout:
        assert parent.stdout.readline() == b"imported\n"
        family = psutil.Process(parent.pid).children(recursive=True)
        assert len(family) == 2
        parent.kill()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    clear_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


@linux
def test_worker_ends_as_a_child(tiny: Path) -> None:
    """A forked worker that is killed says so as any other; its memory is known."""
    with worker.TimedWorker(torch_spec(tiny), PAIRS) as one:
        one.wait_imported()
        of_server()[-1].kill()
        with pytest.raises(BackendError, match=r"a worker \(turns, 1x1, batch 8\) was killed.*used up to"):
            one.load()
