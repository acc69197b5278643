"""What averages hide, on numbers made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from exporter.measure import batch_invariance as fidelity
from exporter.measure.batch_invariance import batch_invariance
from exporter.measure.lengths import bucket_names, by_length
from exporter.worker.job import ArtifactSpec
from tests.factories import a_pair_set

if TYPE_CHECKING:
    from exporter.worker.job import Job

SPEC = ArtifactSpec("artifact", "onnx-int8", workers=2, threads=1, token_budget=512)


@pytest.mark.parametrize(
    ("n_tokens", "max_length", "name"),
    [
        (1, 512, "1 to 64"),
        (64, 512, "1 to 64"),
        (65, 512, "65 to 128"),
        (512, 512, "257 to 512"),
        (513, 512, "truncated"),
        (100, 100, "65 to 100"),
        (101, 100, "truncated"),
        (40, 40, "1 to 40"),
    ],
)
def test_bucket_by_hand(n_tokens: int, max_length: int, name: str) -> None:
    """A bucket holds its upper end; what is longer than the model reads has one of its own."""
    assert bucket_names(np.array([n_tokens]), max_length) == [name]


def test_lengths_by_hand() -> None:
    """A length that is off by one logit shows beside one that is right, though the average does not tell."""
    reference = np.array([2.0, -2.0, 2.0, -2.0], np.float32)  # a standard deviation of 2
    candidate = np.array([2.0, -2.0, 1.0, -1.0], np.float32)
    short, long = by_length(reference, candidate, np.array([10, 20, 513, 513]), 512, a_pair_set((2, 2)))
    assert (short.name, short.n_pairs, short.relative_rms) == ("1 to 64", 2, 0.0)
    assert (long.name, long.n_pairs, long.max_abs_diff, long.relative_rms) == ("truncated", 2, 1.0, 0.5)
    assert (long.worst.position, long.worst.query_id, long.worst.reference, long.worst.candidate) == (
        2,
        "b",
        2.0,
        1.0,
    )


def test_lengths_leave_out_what_is_not_finite() -> None:
    """NaN is counted elsewhere; a length of which nothing is finite has no numbers."""
    reference, candidate = np.array([1.0, 0.0], np.float32), np.array([1.0, np.nan], np.float32)
    found = by_length(reference, candidate, np.array([10, 100]), 512, a_pair_set((2,)))
    assert [bucket.name for bucket in found] == ["1 to 64"]


def scored_by(monkeypatch: pytest.MonkeyPatch, company: float) -> list[Job]:
    """Replace the worker by one whose score is the passage's length, and in company so much more for every other pair."""
    jobs: list[Job] = []

    def run_job(job: Job, _progress: object = None) -> tuple[tuple[object, ...], np.ndarray]:
        jobs.append(job)
        groups = [call.positions for call in job.calls] or [(i,) for i in range(len(job.pairs))]
        lengths = [
            len(job.pairs[i][1]) + company * (len(group) - 1) * (i % 2) for group in groups for i in group
        ]
        return (), np.array(lengths, np.float32)

    monkeypatch.setattr(fidelity, "run_job", run_job)
    return jobs


def test_company_that_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pair that scores the same in every company has no difference and turns no order round."""
    jobs = scored_by(monkeypatch, 0.0)
    found = batch_invariance(SPEC, a_pair_set((3, 2)))
    assert (found.n_pairs, found.p99_delta, found.max_delta, found.n_inversions) == (5, 0.0, 0.0, 0)
    assert found.n_pairs_ordered == 3 * (3 + 1)  # three companies; three orders of three passages, one of two
    alone, together = jobs
    assert alone.specs[0].token_budget == 1  # type: ignore[union-attr] # an artifact's
    assert {i for call in together.calls for i in call.positions} == set(range(5))


def test_company_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five pairs in a batch move every second pair by four steps of company; an order of neighbours turns round."""
    scored_by(monkeypatch, 1.0)
    found = batch_invariance(SPEC, a_pair_set((3, 2)))
    assert found.max_delta >= 4.0
    assert found.n_inversions > 0
