"""Real workers on the tiny model: scores and runs come back, failures are one error, and nothing hangs."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from exporter import worker
from exporter.errors import ArgumentValueError, BackendError, RecipeError, Unplanned
from exporter.runtime import Plan, Reranker
from exporter.worker.job import ArtifactSpec, Call, ScoreJob, Scoring, SweepJob, TimeJob, TorchSpec

PAIRS = tuple(("wing lift", "drag flow " * n) for n in range(1, 9))
ALL = (Call(tuple(range(len(PAIRS))), 1),)


def spec(folder: Path, **changes: object) -> ArtifactSpec:
    """Return how the exact variant is run, one worker of one thread."""
    return ArtifactSpec(**{"folder": str(folder), "kind": "onnx", "workers": 1, "threads": 1, **changes})


def test_scores_are_the_runtimes(verified: Path) -> None:
    """A worker gives what the runtime gives, in the order of the pairs, and says how far it is."""
    done: list[int] = []
    scores = worker.score(spec(verified, token_budget=64), PAIRS, done.append)
    expected = Reranker.load(verified, "onnx", plan=Plan(1, 1, 64)).score(PAIRS)
    assert (scores == expected).all()
    assert done == [len(PAIRS)]


def test_several_scorings_in_one_process(verified: Path) -> None:
    """Each scoring has its own scores: of all pairs, or of its groups, one group after the other."""
    one = spec(verified, token_budget=1)
    job = ScoreJob(PAIRS, (Scoring(one), Scoring(one, ((3,), (0, 7)))))
    every, few = worker.score_each(job)
    assert every.shape == (len(PAIRS),)
    assert (few == every[[3, 0, 7]]).all()
    assert few.dtype == np.float32


def test_runs_by_spec_and_call(verified: Path) -> None:
    """A run a spec and call: of the call's pairs, with as many passes as asked for at least."""
    calls = (Call((0, 1), 3), Call((2,), 1))
    specs = (spec(verified, token_budget=64), spec(verified, token_budget=128))
    runs = worker.time(TimeJob(PAIRS, specs, calls, n_warmup=2))
    assert [(run.n_pairs, len(run.seconds)) for run in runs] == [(2, 3), (1, 1)] * 2
    assert all(run.clock > 0 and run.cpu_share > 0 and run.n_tokens > run.n_pairs for run in runs)


def break_save(folder: Path, monkeypatch: pytest.MonkeyPatch, does: str) -> None:
    """Have every process from now on do this line of code where it would save an array."""
    broken = f"import os, numpy\n\ndef save(*_):\n    {does}\n\nnumpy.save = save\n"
    (folder / "sitecustomize.py").write_text(broken, encoding="utf-8")
    root = str(Path(__file__).resolve().parents[2])
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{root}")


def test_unplanned_in_a_worker(verified: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody planned is 70 also from a worker, with its trace."""
    break_save(tmp_path, monkeypatch, "raise ValueError('a library changed')")
    with pytest.raises(Unplanned) as caught:
        worker.score(spec(verified, token_budget=64), PAIRS)
    assert str(caught.value) == "ValueError: a library changed"
    assert "sitecustomize.py" in caught.value.trace


def test_failures_are_one_error(verified: Path, tmp_path: Path) -> None:
    """What is raised on purpose in a worker comes through as it is."""
    with pytest.raises(RecipeError, match="no such artifact folder"):
        worker.time(TimeJob(PAIRS, (spec(tmp_path / "no", token_budget=64),), ALL))
    with pytest.raises(ArgumentValueError, match=r"plan\.workers is 0"):
        worker.score(spec(verified, workers=0, token_budget=64), PAIRS)


def test_crash_is_one_error(verified: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that crashes is a BackendError with its signal and its last words."""
    break_save(tmp_path, monkeypatch, "os.write(2, b'last words'); os.abort()")
    with pytest.raises(BackendError, match=r"(?s)a worker ended with -6 .*last words"):
        worker.score(spec(verified, token_budget=64), PAIRS)


def test_hung_worker_is_stopped(verified: Path) -> None:
    """A worker that uses no processor is killed and named, instead of holding a release for good."""
    asleep = spec(verified, token_budget=64, slowdown=1e9)  # sleeps for good after its first call
    with pytest.raises(BackendError, match=r"a worker hung and was stopped \(time, 1x1, 64 tokens\)"):
        worker.time(TimeJob(PAIRS, (asleep,), ALL), hung_s=4.0)


def test_killed_worker_says_memory(built: Path) -> None:
    """A worker that the system kills is one line that says memory, how much it had and how much there is."""
    asleep = spec(built, token_budget=64, slowdown=1e9)

    def workers() -> list[psutil.Process]:
        return [one for one in psutil.Process().children() if "job.json" in " ".join(one.cmdline())]

    def kill() -> None:
        while not (children := workers()):  # libraries start processes of their own
            time.sleep(0.05)
        children[0].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(BackendError) as killed:
        worker.time(TimeJob(PAIRS, (asleep,), ALL))
    killer.join()
    assert re.fullmatch(
        r"perhaps not enough memory: a worker \(time, 1x1, 64 tokens\) was killed, as the system does when "
        r"memory runs out; the worker had used up to [\d.]+ [MG]B of [\d.]+ GB that .* allows; free some, .*",
        str(killed.value),
    )


@pytest.mark.parametrize("most", [300_000_000, 600_000_000])
def test_worker_without_memory_says_so(tiny: Path, most: int) -> None:
    """A worker that gets no memory, at whatever library, is one line with what it had and may have."""
    script = (
        "import sys; from exporter import worker; from exporter.errors import BackendError\n"
        "from exporter.worker.job import TorchSpec\n"
        "try: worker.score(TorchSpec(sys.argv[1], 64, 'cpu', 1, 1, 8), (('wing', 'lift'),))\n"
        "except BackendError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tiny / "model")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (most, most)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("not enough memory: "), done.stderr
    assert f"of {most // 1_000_000} MB that ulimit -v allows" in done.stdout


def test_timed_workers_take_turns(verified: Path) -> None:
    """Two workers live side by side, pass when they are told to, and give what they measured."""
    side = spec(verified, token_budget=64)
    with worker.TimedWorker(side, PAIRS) as one, worker.TimedWorker(side, PAIRS) as other:
        for each in (one, other):
            each.wait_imported()
        for each in (one, other):
            each.load()
            assert each.warm_s > 0
        for _ in range(2):
            one.passes(3)
            other.passes(1)
        found = one.end(), other.end()
    assert [len(run.seconds) for run in found] == [6, 2]
    assert all(run.n_pairs == 8 and run.clock > 0 and run.cpu_share > 0 for run in found)


def test_sweep_worker_passes_with_the_spec_it_is_told(verified: Path, tiny: Path) -> None:
    """One process times any of its specs, in any order, PyTorch in several layouts and types among them."""
    torch = TorchSpec(str(tiny / "model"), 64, "cpu", batch_size=4, workers=1, threads=2)
    specs = (
        spec(verified, token_budget=64),
        spec(verified, token_budget=128, workers=2),
        torch,
        replace(torch, workers=2, threads=1, token_budget=64),
        replace(torch, dtype="bfloat16"),
    )
    with worker.SweepWorker(SweepJob(PAIRS, specs, n_warmup=2)) as sweep:
        assert all(sweep.seconds(one) > 0 for one in (*specs, *specs[::-1]))
    with (
        pytest.raises(RecipeError, match="no such artifact folder"),
        worker.SweepWorker(SweepJob(PAIRS, (spec(tiny / "none", token_budget=64),))) as sweep,
    ):
        sweep.seconds(spec(tiny / "none", token_budget=64))


def test_torch_scores_alike_under_every_plan(tiny: Path) -> None:
    """Layout and batches change the reference's speed, and no score."""
    torch = TorchSpec(str(tiny / "model"), 64, "cpu", batch_size=32, workers=1, threads=1)
    plans = (torch, replace(torch, workers=2, batch_size=1), replace(torch, workers=2, token_budget=64))
    every = tuple(range(len(PAIRS)))
    scores = worker.score_each(ScoreJob(PAIRS, tuple(Scoring(plan, (every,)) for plan in plans)))
    assert np.ptp(scores[0]) > 1e-3
    for other in scores[1:]:
        np.testing.assert_allclose(other, scores[0], atol=1e-5)


def test_timed_worker_that_cannot_start(tmp_path: Path) -> None:
    """What goes wrong before the first turn comes through as it is."""
    with worker.TimedWorker(spec(tmp_path / "none", token_budget=64), PAIRS) as started:
        started.wait_imported()
        with pytest.raises(RecipeError, match="no such artifact folder"):
            started.load()
