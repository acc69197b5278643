"""Kill exporters that share artifacts, cache and $TMPDIR at random: `just stress --minutes 10`.

Held throughout: every artifact on disk is whole, every exit code is one that fits what happened, and whoever
loads an artifact that is there gets it. Held at the end, after a run that nobody kills: nothing is left over,
and the report has all its forms.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from exporter.artifact.access import read_whole
from exporter.artifact.manifest import read_manifest
from exporter.report.read import read_reports
from exporter.report.write import is_complete
from exporter.runtime.model_file import check_artifact
from tests.support import write_pairs, write_recipe, write_tiny_model

AT_A_TIME = 6
# A signal comes after this time on average, in seconds: in the imports, in a build, in a measurement.
MEAN_LIFE_S = 8.0
MOST_S = 90.0  # what has no signal gets one after this time: measuring takes minutes on a busy machine
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
# Refusals that are right where others build, replace and are killed at the same time.
REFUSALS = (
    "already exists",
    "no such artifact folder",
    "was not verified yet",
    "holds another artifact",
    "was replaced",
    "was changed while",
)
# Replaces `swap` over and over with a copy of itself, through the cache and a temporary folder.
SWAP = """
import shutil, sys
from pathlib import Path
from exporter.artifact.staging import staged
from exporter.cache import Cache
from exporter.scratch import Scratch
source, swap = Path(sys.argv[1]), Path(sys.argv[2])
for i in range(60):
    made, _ = Cache.of_user().get("swap", {"i": i % 7}, lambda to: shutil.copytree(source, to / "copy"))
    with Scratch("swap") as scratch, staged(swap, replace=True) as new:
        shutil.copytree(made / "copy", scratch / "copy")
        shutil.copytree(scratch / "copy", new, dirs_exist_ok=True)
"""
LOAD = """
import sys
from exporter.runtime import Reranker
for _ in range(60):
    Reranker.load(sys.argv[1]).score([("wing", "lift")])
"""


@dataclass
class Found:
    """What a stress run counted, and what went against the rules."""

    ended: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


@dataclass
class Running:
    """A process, when a signal will be sent to it and which."""

    what: str
    process: subprocess.Popen[str]
    at: float
    signal: signal.Signals
    sent: bool = False


def actions(folder: Path, *, full: bool) -> dict[str, list[str]]:
    """Return what is run, by name: commands of exporter, and loops that replace and load."""
    out, exporter = folder / "artifacts", [sys.executable, "-m", "exporter"]
    export = [*exporter, "export", "--out", str(out)]
    swap, script = str(out / "swap"), [sys.executable, "-c"]
    light = {
        "swap": [*script, SWAP, str(folder / "first/tiny"), swap],
        "load": [*script, LOAD, swap],
        "gate": [*exporter, "gate", str(out / "tiny")],
        "publish": [*exporter, "publish", str(out / "tiny"), str(folder / "published/tiny")],
    }
    builds = {
        "build": [*export, "--build-only", str(folder / "one.yaml")],
        "build over": [*export, "--build-only", "--replace", str(folder / "two.yaml")],
    }
    whole = {
        "export": [*export, str(folder / "one.yaml")],
        "export over": [*export, "--replace", str(folder / "two.yaml")],
        "verify": [*exporter, "verify", str(out / "tiny")],
    }
    return light | builds | (whole if full else {})


def stress(folder: Path, seconds: float, *, seed: int = 0, full: bool = True) -> Found:
    """Run and kill exporters for a time, then once without, and return what was found.

    Args:
        folder: an empty folder, for all that they share.
        seconds: how long they are started.
        seed: of what is run, and when it is killed.
        full: verify too, which takes a minute each.
    """
    draw, found = random.Random(seed), Found()
    environment = _prepared(folder)
    commands, deadline = actions(folder, full=full), time.monotonic() + seconds
    running: list[Running] = []
    while running or time.monotonic() < deadline:
        while len(running) < AT_A_TIME and time.monotonic() < deadline:
            running.append(_started(draw, commands, environment))
        for one in list(running):
            _send_when_due(one, is_late=time.monotonic() > deadline + MEAN_LIFE_S)
            if one.process.poll() is not None:
                running.remove(one)
                _judge(one, found)
        _check_artifacts(folder / "artifacts", found)
        time.sleep(0.05)
    _finish(folder, environment, found, full=full)
    return found


def _prepared(folder: Path) -> dict[str, str]:
    write_tiny_model(folder / "model")
    write_pairs(folder / "pairs.jsonl")
    write_pairs(folder / "calibrate.jsonl", seed=5)
    write_recipe(folder, "onnx", file="one.yaml")
    write_recipe(folder, "onnx-int8", file="two.yaml")
    for name in ("tmp", "cache", "artifacts"):
        (folder / name).mkdir()
    environment = {
        **os.environ,
        "TMPDIR": str(folder / "tmp"),
        "EXPORTER_CACHE": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
    }
    for out, name in (("first", "tiny"), ("artifacts", "swap")):
        command = [*_build(folder, folder / out), "--set", f"name={name}"]
        subprocess.run(command, env=environment, check=True, capture_output=True)
    return environment


def _build(folder: Path, out: Path) -> list[str]:
    command = [sys.executable, "-m", "exporter", "export", "--build-only", str(folder / "one.yaml")]
    return [*command, "--out", str(out)]


def _started(draw: random.Random, commands: dict[str, list[str]], environment: dict[str, str]) -> Running:
    what = draw.choice(sorted(commands))
    process = subprocess.Popen(
        commands[what], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    life_s = draw.choice((draw.expovariate(1 / MEAN_LIFE_S), MOST_S))
    return Running(what, process, time.monotonic() + life_s, draw.choice(SIGNALS))


def _send_when_due(one: Running, *, is_late: bool) -> None:
    if not one.sent and (is_late or time.monotonic() > one.at):
        one.process.send_signal(one.signal)
        one.sent = True


def _judge(one: Running, found: Found) -> None:
    """Count how a process ended; it is wrong if neither its signal nor its own work explains it."""
    assert one.process.stderr is not None
    said, code = one.process.stderr.read(), one.process.returncode
    with_signal = (-one.signal, 128 + one.signal) if one.sent else ()
    # A script that is no command of exporter ends with Python's 1 after Ctrl-C.
    by_signal = code in with_signal or (one.sent and "KeyboardInterrupt" in said)
    refused = code in (2, 5) and any(text in said for text in REFUSALS)
    judged = code in (0, 1, 5) and one.what not in ("swap", "load")
    if not (code == 0 or by_signal or refused or judged):
        found.wrong.append(f"{one.what} ended with {code}: {said[-2000:]}")
    by = f"ended by {one.signal.name}" if by_signal else ""
    found.ended[by or ("refused" if refused else f"ended with {code}")] += 1
    found.ended[one.what] += 1


def _check_artifacts(out: Path, found: Found) -> None:
    for folder in (path for path in out.iterdir() if not path.name.startswith(".")):
        try:
            read_whole(folder, lambda folder=folder: check_artifact(read_manifest(folder), folder))
        except Exception as error:  # noqa: BLE001 # counted, whatever it is
            found.wrong.append(f"{folder} is not whole: {error!r}")


def _finish(folder: Path, environment: dict[str, str], found: Found, *, full: bool) -> None:
    """Run what nobody kills, and hold what is left against what belongs there."""
    out, commands = folder / "artifacts", actions(folder, full=full)
    for what in ("gate", "swap", "load", "build over"):
        done = subprocess.run(commands[what], env=environment, capture_output=True, text=True, check=False)
        refused = done.returncode == 2 and any(text in done.stderr for text in REFUSALS)
        if what == "gate" and not refused and not _has_all_forms(out / "tiny"):
            found.wrong.append("the report has not all its forms")
        if done.returncode not in (0, 1, 5) and not refused:
            found.wrong.append(f"the last {what} ended with {done.returncode}: {done.stderr[-2000:]}")
    left = [path for shared in (out, folder / "cache", folder / "published") for path in shared.glob(".*")]
    found.wrong += [f"left over: {path}" for path in (*left, *(folder / "tmp").glob("exporter-*"))]


def _has_all_forms(folder: Path) -> bool:
    manifest = read_manifest(folder)
    return is_complete(read_reports(folder, manifest), manifest, folder)


def main() -> None:
    """Run the stress for as long as asked, print what was found, and end with 1 if something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stress-") as folder:
        found = stress(Path(folder), given.minutes * 60, seed=given.seed)
    counts = ", ".join(f"{what} {n}" for what, n in sorted(found.ended.items()))
    wrong = "\n".join(found.wrong) or "nothing was wrong"
    sys.stdout.write(f"seed {given.seed}: {counts}\n{wrong}\n")
    sys.exit(1 if found.wrong else 0)


if __name__ == "__main__":
    main()
