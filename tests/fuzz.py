"""Feed exporter what strangers might send: `just fuzz --minutes 10 --seed 1`.

Inputs that are right are changed at random (JSON, XML and protobuf by their parts, or any bytes) and given to
the code that reads them, engines and tokenizers included. Each is accepted, or refused with one planned error
of ours. A crash, a hang, memory over its bound, another error, or one that is not a printable line is a
finding: its input is kept, and `--seed S --number N` makes it again.

The inputs run in forked processes, many in each, with a limit of time and memory for every one of them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.errors import ExporterError, Unplanned
from exporter.failures import trace_of
from tests.fuzz_inputs import TARGETS, Samples, write_samples

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

N_PROCESSES = 2
# Of one input. What is right takes a tenth of a second, and at most tens of megabytes.
MAX_S = 20.0
MAX_BYTES = 1 << 30
# A process is replaced after so many inputs: libraries keep a little of each.
N_INPUTS_EACH = 400
MAX_TEXT = 20_000  # characters of an error; a recipe's may be a line for each of its faults


@dataclass
class Found:
    """What a run counted, by target and outcome, and what went against the rules."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def n_inputs(self) -> int:
        """How many inputs were tried."""
        return self.counts.total()


@dataclass(frozen=True)
class Inputs:
    """Where inputs are written, and all that decides what they are; without `only` all targets in turn."""

    folder: Path
    samples: Samples
    seed: int
    only: str | None = None
    keep: Path | None = None

    def place(self, number: int) -> Path:
        """Return the folder of an input."""
        return self.folder / f"input-{number}"

    def target(self, number: int) -> str:
        """Return the target of an input."""
        return self.only or sorted(TARGETS)[number % len(TARGETS)]


@dataclass
class Running:
    """A process that tries inputs, its end of the line, the input it is at, and since when."""

    process: BaseProcess
    line: Connection
    number: int = -1
    since: float = 0.0
    n_done: int = 0


def fuzz(
    folder: Path, seconds: float, *, seed: int = 0, only: str | None = None, keep: Path | None = None
) -> Found:
    """Try inputs for a time, and return what was found.

    Args:
        folder: an empty folder.
        seconds: how long inputs are started.
        seed: of all inputs, together with their numbers.
        only: the name of a target, by default all in turn.
        keep: where the inputs of findings are kept.
    """
    found, inputs = Found(), Inputs(folder, write_samples(folder / "samples"), seed, only, keep)
    _import_libraries()
    deadline, number = time.monotonic() + seconds, 0
    running: list[Running] = []
    try:
        while running or time.monotonic() < deadline:
            while len(running) < N_PROCESSES and time.monotonic() < deadline:
                running.append(_started(inputs))
            for one in list(running):
                if one.number < 0 and (time.monotonic() >= deadline or one.n_done >= N_INPUTS_EACH):
                    _end(one)
                    running.remove(one)
                elif one.number < 0:
                    one.number, one.since = number, time.monotonic()
                    one.line.send(number)
                    number += 1
            wait([one.line for one in running], timeout=0.2)
            running = [one for one in running if _looked_at(one, found, inputs)]
    finally:
        for one in running:
            _end(one)
    return found


def _looked_at(one: Running, found: Found, inputs: Inputs) -> bool:
    """Take what a process says of its input; return False where it is no more."""
    if one.number < 0:
        return True
    answer: tuple[str, str] | None = None
    alive = True
    if one.line.poll():
        try:
            answer = one.line.recv()
        except EOFError:
            one.process.join()
            answer, alive = ("crashed", f"ended with {one.process.exitcode}"), False
    elif time.monotonic() - one.since > MAX_S:
        _end(one)
        answer, alive = ("hung", f"more than {MAX_S:g} s"), False
    if answer is None:
        return True
    outcome, text = answer
    target = inputs.target(one.number)
    found.counts[f"{target}: {outcome}"] += 1
    if outcome not in ("accepted", "refused"):
        only = f" --only {inputs.only}" if inputs.only else ""
        again = f"--seed {inputs.seed} --number {one.number}{only}{_kept(inputs, one.number)}"
        found.wrong.append(f"{target} {outcome}, {again}: {text}")
    shutil.rmtree(inputs.place(one.number), ignore_errors=True)
    one.number, one.n_done = -1, one.n_done + 1
    return alive


def _kept(inputs: Inputs, number: int) -> str:
    """Keep the input of a finding, and say where."""
    if inputs.keep is None or not inputs.place(number).exists():
        return ""
    to = inputs.keep / f"{inputs.target(number)}-{inputs.seed}-{number}"
    shutil.copytree(inputs.place(number), to, dirs_exist_ok=True, symlinks=True)
    return f" ({to})"


def _import_libraries() -> None:
    """Import once what every process needs; nothing is run, so that no thread is there when it forks."""
    import onnxruntime  # noqa: F401
    import openvino  # noqa: F401
    import sentence_transformers  # noqa: F401

    import exporter.report.html  # noqa: F401


def _started(inputs: Inputs) -> Running:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, ours, inputs), daemon=True)
    process.start()
    theirs.close()
    return Running(process, ours)


def _end(one: Running) -> None:
    one.process.kill()
    one.process.join()
    one.line.close()


def _work(line: Connection, other: Connection, inputs: Inputs) -> None:
    """Try the inputs whose numbers come, in a process of its own."""
    other.close()
    null = os.open(os.devnull, os.O_RDWR)
    for number in (1, 2):
        os.dup2(null, number)
    os.environ["EXPORTER_CACHE"] = str(inputs.folder / f"cache-{os.getpid()}")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most = _status("VmData") + 2 * MAX_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    while True:
        try:
            number = line.recv()
        except EOFError:
            return
        line.send(tried(number, inputs, inputs.place(number)))


def tried(number: int, inputs: Inputs, folder: Path) -> tuple[str, str]:
    """Make an input in a new folder and give it to what reads it; return the outcome and its words."""
    target = TARGETS[inputs.target(number)]
    draw = random.Random(f"{inputs.seed} {number}")
    folder.mkdir(parents=True)
    target.write(draw, inputs.samples, folder)
    _forget_peak()
    before = _status("VmRSS")
    try:
        target.read(folder, draw)
    except Unplanned as error:
        return "unplanned", f"{error}\n{error.trace}"
    except ExporterError as error:
        outcome = _judged(error)
    except BaseException as error:  # noqa: BLE001 # a finding, whatever it is
        return "unplanned", trace_of(error)[-3000:]
    else:
        outcome = "accepted", ""
    if (used := _status("VmHWM") - before) > MAX_BYTES:
        return "too much memory", f"{used / 1e6:.0f} MB"
    return outcome


def _judged(error: ExporterError) -> tuple[str, str]:
    text = str(error)
    if error.exit_code not in (2, 3, 4, 5):
        return "wrong exit code", f"{error.exit_code}: {text[:500]}"
    if not text or len(text) > MAX_TEXT:
        return "no line", f"{len(text)} characters: {text[:500]!a}"
    return "refused", text[:500]


def _forget_peak() -> None:
    """Let the kernel count this process's peak of memory anew.

    Source: https://man7.org/linux/man-pages/man5/proc_pid_clear_refs.5.html
    """
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _status(name: str) -> int:
    """Return a size of this process, in bytes."""
    for row in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if row.startswith(f"{name}:"):
            return int(row.split()[1]) * 1024
    raise KeyError(name)


def main() -> None:
    """Fuzz for as long as asked, print what was found, and end with 1 if something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--number", type=int, help="make this one input again, and try it in this process")
    parser.add_argument("--only", choices=sorted(TARGETS))
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        if given.number is not None:
            os.environ["EXPORTER_CACHE"] = str(folder / "cache")
            inputs = Inputs(folder, write_samples(folder / "samples"), given.seed, given.only)
            place = given.keep / f"{inputs.target(given.number)}-{given.seed}-{given.number}"
            shutil.rmtree(place, ignore_errors=True)
            outcome, text = tried(given.number, inputs, place)
            sys.stdout.write(f"{outcome}: {text}\nthe input is in {place}\n")
            sys.exit(outcome not in ("accepted", "refused"))
        found = fuzz(folder, given.minutes * 60, seed=given.seed, only=given.only, keep=given.keep)
    counts = "\n".join(f"  {what} {n}" for what, n in sorted(found.counts.items()))
    wrong = "\n".join(found.wrong) or "nothing was wrong"
    sys.stdout.write(f"seed {given.seed}: {found.n_inputs} inputs\n{counts}\n{wrong}\n")
    sys.exit(1 if found.wrong else 0)


if __name__ == "__main__":
    main()
