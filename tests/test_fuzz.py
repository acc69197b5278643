"""A short run of the fuzzer; `just fuzz` runs it for as long as asked."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.fuzz import fuzz
from tests.fuzz_inputs import TARGETS

SECONDS = 15.0


def test_changed_inputs_are_accepted_or_refused(tmp_path: Path) -> None:
    """Nothing crashes, hangs, takes much memory or raises what nobody planned; every target is reached."""
    # From a process of its own: it forks, and this one has run engines, whose threads a fork leaves behind.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        found = fresh.submit(fuzz, tmp_path, SECONDS, seed=0).result()
    assert not found.wrong, "\n".join(found.wrong)
    tried = {what.partition(":")[0] for what in found.counts}
    assert tried == set(TARGETS)
    for target in TARGETS:
        assert found.counts[f"{target}: accepted"], found.counts
        assert found.counts[f"{target}: refused"], found.counts
    assert found.n_inputs > 50
    assert not list(tmp_path.glob("input-*"))
