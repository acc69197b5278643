"""One measurement in a process of its own: `score` and `time` start a worker and sleep until it ends.

`job` holds what a worker is asked and what it answers, `process` is the parent's side, `__main__` the
child's; `scorers` and `timing` run in the child. `limits` and `watch` stop a worker that takes too much.
"""

from exporter.worker.limits import limited
from exporter.worker.process import (
    CountWorker,
    SweepWorker,
    TimedWorker,
    product_errors,
    score,
    score_each,
    time,
)

__all__ = [
    "CountWorker",
    "SweepWorker",
    "TimedWorker",
    "limited",
    "product_errors",
    "score",
    "score_each",
    "time",
]
