"""Forks, pickles, threads and the end of the interpreter: scores as before, or one line.

Uses the tiny artifact. Each case is a program of its own, with a time limit: what went wrong here once hung,
or ended the process.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from exporter.errors import ArgumentTypeError
from exporter.runtime import PairTokenizer, Plan, Reranker

ENGINES = ["onnx", "openvino"]
START = """
import asyncio, atexit, copy, multiprocessing, os, pickle, sys, threading, time
from exporter.runtime import Plan, Reranker
folder, kind = sys.argv[1:]
pairs = [(f"wing {'lift ' * (i % 7)}", "drag of a wing " * (i % 5)) for i in range(40)]
def load(plan=Plan(2, 1, 16)):
    return Reranker.load(folder, kind, plan=plan)
def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


def run(built: Path, kind: str, code: str, *, exit_code: int = 0, before: str = "") -> str:
    """Run a program about one engine's variant, with `before` its imports; return what it printed."""
    done = subprocess.run(
        # Unbuffered: a forked child would print its parent's buffered lines once more.
        [sys.executable, "-u", "-c", before + START + code, str(built), kind],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == exit_code, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize("plan", ["Plan(2, 1, 16)", "Plan(1, 2, 512)"])
def test_forked_processes_score_and_end(built: Path, kind: str, plan: str) -> None:
    """A forked process that scores, or does nothing, ends with 0, whether its parent scored before or not."""
    out = run(
        built,
        kind,
        f"""
reranker = load({plan})
for parent_scores in (False, True):
    wanted = reranker.score(pairs).tolist() if parent_scores else None
    for child_scores in (False, True):
        child = os.fork()
        if child == 0:
            if child_scores:
                found = reranker.score(pairs).tolist()
                assert wanted is None or found == wanted
                assert reranker.score(pairs[:1]).shape == (1,)
            sys.exit(0)
        print(ended(child))
assert reranker.score(pairs).tolist() == wanted
""",
    )
    assert out.split() == ["0"] * 4


@pytest.mark.parametrize("kind", ENGINES)
def test_workers_forked_one_after_another(built: Path, kind: str) -> None:
    """As a server that loads first and replaces its workers after a few requests; a worker may fork, too."""
    out = run(
        built,
        kind,
        """
reranker = load()
wanted = reranker.score(pairs).tolist()
for generation in range(3):
    workers = []
    for _ in range(2):
        workers.append(os.fork())
        if workers[-1] == 0:
            for _ in range(3):
                assert reranker.score(pairs).tolist() == wanted
            grandchild = os.fork()
            if grandchild == 0:
                assert reranker.score(pairs).tolist() == wanted
                sys.exit(0)
            sys.exit(ended(grandchild))
    print(*map(ended, workers))
""",
    )
    assert out.split() == ["0"] * 6


@pytest.mark.parametrize("kind", ENGINES)
def test_a_fork_while_other_threads_score(built: Path, kind: str) -> None:
    """Whatever the parent's threads do, a forked process scores with an engine and threads of its own."""
    out = run(
        built,
        kind,
        """
reranker = load()
wanted = reranker.score(pairs).tolist()
go_on = True
def work():
    while go_on:
        reranker.score(pairs)
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(4):
    child = os.fork()
    if child == 0:
        assert reranker.score(pairs).tolist() == wanted
        os._exit(0)
    print(ended(child))
go_on = False
for thread in threads:
    thread.join()
""",
    )
    assert out.split() == ["0"] * 4


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(built: Path, tmp_path: Path, method: str) -> None:
    """A pool's processes get a reranker by fork or by pickle, whatever the folder they work in."""
    script = tmp_path / "script.py"
    script.write_text(
        START.replace("sys.argv[1:]", "sys.argv[1:3]")
        + f"""
def score(reranker):
    os.chdir("/")
    return reranker.score(pairs).tolist()
if __name__ == "__main__":
    os.chdir(os.path.dirname(folder))
    folder = os.path.basename(folder)
    reranker = load()
    wanted = reranker.score(pairs).tolist()
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        assert pool.map(score, [reranker] * 2) == [wanted] * 2
    with multiprocessing.get_context({method!r}).Pool(1, maxtasksperchild=1) as pool:
        assert pool.map(score, [reranker] * 3, chunksize=1) == [wanted] * 3
""",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, str(script), str(built), "onnx"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("kind", ENGINES)
def test_scores_at_the_end_of_the_interpreter(built: Path, kind: str) -> None:
    """Pairs are scored in an `atexit` function, and in a thread that outlives the main one."""
    out = run(
        built,
        kind,
        """
first, second = load(), load()
wanted = first.score(pairs).tolist()
def at_exit():
    assert first.score(pairs).tolist() == wanted
    print(len(second.score(pairs)), flush=True)
atexit.register(at_exit)
def outlive():
    threading.main_thread().join()
    time.sleep(0.2)
    print(len(load().score(pairs)), flush=True)
threading.Thread(target=outlive).start()
""",
    )
    assert out.split() == ["40", "40"]


@pytest.mark.parametrize("kind", ENGINES)
def test_scores_while_modules_are_taken_down(built: Path, kind: str) -> None:
    """An object that scores what is left in its `__del__` does so when the interpreter is at its very end.

    Once it has scored before: what engines import at their first run cannot be imported any more.
    """
    out = run(
        built,
        kind,
        """
class Buffer:
    def __init__(self):
        self.reranker, self.pairs = load(), pairs
        self.reranker.score(pairs)
    def __del__(self, write=os.write):
        write(1, str(len(self.reranker.score(self.pairs))).encode())
buffer = Buffer()
""",
    )
    assert out == "40"


@pytest.mark.parametrize("kind", ENGINES)
def test_daemon_threads_that_score_until_the_end(built: Path, kind: str) -> None:
    """They do not end the process by a signal."""
    run(
        built,
        kind,
        """
reranker = load()
def work():
    while True:
        reranker.score(pairs)
        reranker.score(pairs[:1])
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.3)
""",
    )


def test_a_daemon_thread_that_is_waited_for_at_the_end(built: Path) -> None:
    """What was registered with `atexit` before the runtime was imported runs last, and still gets scores."""
    out = run(
        built,
        "onnx",
        """
reranker = load()
def answer():
    answers.put(len(reranker.score(asked.get())))
threading.Thread(target=answer, daemon=True).start()
""",
        before="""
import atexit, queue
asked, answers = queue.SimpleQueue(), queue.SimpleQueue()
def last():
    asked.put(pairs)
    print(answers.get(timeout=60))
atexit.register(last)
""",
    )
    assert out.split() == ["40"]


def test_ctrl_c_while_threads_score(built: Path) -> None:
    """What was begun is waited for and the rest left out: the process ends as any other does."""
    run(
        built,
        "onnx",
        """
import signal
reranker = load()
signal.setitimer(signal.ITIMER_REAL, 0.2)
signal.signal(signal.SIGALRM, signal.default_int_handler)
try:
    while True:
        reranker.score(pairs * 25)
except KeyboardInterrupt:
    sys.exit(7)
""",
        exit_code=7,
    )


@pytest.mark.parametrize("kind", ENGINES)
def test_threads_and_coroutines_share_one(built: Path, kind: str) -> None:
    """Threads that come and go, and coroutines, get the scores that one thread gets."""
    out = run(
        built,
        kind,
        """
reranker = load()
wanted = reranker.score(pairs).tolist()
found = []
def score():
    found.append(reranker.score(pairs).tolist())
for _ in range(3):
    threads = [threading.Thread(target=score) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
async def main():
    return await asyncio.gather(*(asyncio.to_thread(reranker.score, pairs) for _ in range(8)))
found += [scores.tolist() for scores in asyncio.run(main())]
print(len(found), all(scores == wanted for scores in found))
""",
    )
    assert out.split() == ["32", "True"]


def test_pools_end_with_their_reranker(built: Path) -> None:
    """A reranker that is let go of takes its threads with it."""
    out = run(
        built,
        "onnx",
        """
before = threading.active_count()
for _ in range(3):
    load().score(pairs)
for _ in range(100):
    if threading.active_count() == before:
        break
    time.sleep(0.05)
print(threading.active_count() - before)
""",
    )
    assert out.split() == ["0"]


def test_a_process_that_can_start_no_thread(built: Path) -> None:
    """Where the system gives no more threads, the calling thread scores."""
    out = run(
        built,
        "onnx",
        """
reranker = load()
def refuse(self):
    raise RuntimeError("can't start new thread")
threading.Thread.start = refuse
print(len(reranker.score(pairs)))
""",
    )
    assert out.split() == ["40"]


def test_files_that_change_between_load_and_fork(artifact: Path) -> None:
    """A forked process does not score with another model than its parent loaded: it says so in one line."""
    out = run(
        artifact,
        "onnx",
        """
reranker = load()
with open(f"{folder}/onnx/model.onnx", "ab") as file:
    file.write(b" ")
child = os.fork()
if child == 0:
    try:
        reranker.score(pairs)
    except Exception as error:
        print(type(error).__name__, str(error).replace(folder, "FOLDER"), flush=True)
    sys.exit(0)
print(ended(child), len(reranker.score(pairs)))
""",
    )
    first, second = out.splitlines()
    assert first.startswith("IntegrityError FOLDER was replaced after it was loaded")
    assert second == "0 40"


def test_a_copy_and_a_pickle_score_alike(built: Path) -> None:
    """Copies and pickles are loaded again from the same place, with the same plan."""
    out = run(
        built,
        "onnx",
        """
reranker = load()
for again in (copy.copy(reranker), copy.deepcopy(reranker), pickle.loads(pickle.dumps(reranker))):
    print(again.score(pairs).tolist() == reranker.score(pairs).tolist(), again.plan == reranker.plan)
print(len(pickle.dumps(reranker)) < 2_000)
""",
    )
    assert out.split() == ["True"] * 7


def test_what_cannot_be_pickled_says_so(built: Path) -> None:
    """A reranker put together by hand has no place to be loaded from again."""
    import pickle

    from exporter.artifact.manifest import read_manifest
    from exporter.runtime.engine import open_engine

    manifest, plan = read_manifest(built), Plan(1, 1, 64)
    entry = manifest.variants[0]

    def engine() -> object:
        return open_engine(entry.traits, built / entry.model, plan)

    reranker = Reranker(entry.kind, plan, PairTokenizer.load(built, manifest), engine)
    with pytest.raises(ArgumentTypeError, match="was not made by Reranker.load, and cannot be pickled"):
        pickle.dumps(reranker)


def test_it_prints_as_one_line(built: Path) -> None:
    """A reranker says where it is from, what it is and how it runs."""
    found = repr(Reranker.load(built, "onnx", plan=Plan(1, 1, 64)))
    assert found == f"Reranker({str(built)!r}, 'onnx', plan 1x1, 64 tokens)"
    assert "\n" not in found
