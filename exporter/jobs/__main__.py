"""`python -m exporter.jobs`: a worker of `processes`. Its first line is its order, every other one a part."""

from __future__ import annotations

import os
import queue
import sys
import threading
from pathlib import Path
from typing import BinaryIO

from exporter.artifact.files import from_json, to_json
from exporter.jobs.body import Body, Order
from exporter.jobs.job import Part
from exporter.jobs.processes import Answer, Failure


def main() -> None:
    """Do what stdin says until it ends, which it also does when whoever writes there ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print
    lines = _lines(sys.stdin.buffer)

    def say(answer: Answer) -> None:
        answers.write(to_json(answer) + b"\n")
        answers.flush()

    try:
        order = from_json(Order, lines.get())
        body = Body(order, Path(order.folder))
        say(Answer("ready", maker=body.maker))
        while True:
            part = from_json(Part, lines.get())
            done = body.score(part, lambda n: say(Answer("rows", n=n)))
            say(Answer("done", done=done))
    except Exception as error:  # noqa: BLE001 - worded, whatever it is, by whoever reads
        say(Answer("failed", failure=Failure.of(error)))


def _lines(stdin: BinaryIO) -> queue.SimpleQueue[bytes]:
    """Return the lines of stdin as they come; at its end the process ends, whatever it does."""
    found: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        for line in stdin:
            found.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return found


if __name__ == "__main__":
    main()
