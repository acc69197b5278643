"""Does a pair's score change with the batch it is scored in?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from exporter.pairs import PairSet
from exporter.worker.job import ArtifactSpec, Call, Job
from exporter.worker.process import score_job

# Whole queries whose pairs are scored in other company too.
N_COMPANY_QUERIES = 12
# Pairs a batch there: a padded batch of 512 tokens then takes tens of megabytes.
COMPANY_PAIRS = 16
# More than any batch has: nothing is split off.
_ONE_BATCH = 1 << 30
_SEED = 20_241
# Of scores; a constant model has none to divide by.
_SMALLEST_SPREAD = 1e-12


@dataclass(frozen=True, slots=True)
class BatchInvariance:
    """What plan and company do to a pair's score, in logits: |difference| of a pair alone and in batches of mixed lengths.

    Each pair is scored alone with all threads in one worker, and under the plan that ships among mixed lengths, in the same
    company the other way round, and beside the longest pair: whatever plan a user runs lies between. `relative_rms` is the
    root mean square of the differences over the spread of the scores, as in `LengthBucket`. Of `n_pairs_ordered` orders of two passages
    of one query that are told apart alone, `n_inversions` turned round in company.
    """

    n_pairs: int
    p99_delta: float
    max_delta: float
    relative_rms: float
    n_pairs_ordered: int
    n_inversions: int


def batch_invariance(spec: ArtifactSpec, pair_set: PairSet) -> BatchInvariance:
    """Score pairs alone and in three kinds of company, and compare.

    Args:
        spec: how the variant is run; its token budget is not kept to, and pairs alone have one worker of all its threads.
        pair_set: whole queries.
    """
    n = len(pair_set.pairs)
    shuffled = np.random.default_rng(_SEED).permutation(n)
    groups = [shuffled[start : start + COMPANY_PAIRS].tolist() for start in range(0, n, COMPANY_PAIRS)]
    longest = max(range(n), key=lambda i: len(pair_set.pairs[i][1]))
    companies = [
        groups,
        [group[::-1] for group in groups],
        [[*group[:-1], longest, group[-1]] for group in groups],
    ]
    calls = tuple(Call(tuple(group), 1) for company in companies for group in company)
    one_worker = replace(spec, token_budget=1, workers=1, threads=spec.workers * spec.threads)
    alone = score_job(Job("score", (one_worker,), pair_set.pairs))
    together = score_job(Job("score", (replace(spec, token_budget=_ONE_BATCH),), pair_set.pairs, calls))
    start, deltas, n_pairs_ordered, n_inversions = 0, [], 0, 0
    for company in companies:
        positions = [i for group in company for i in group]
        scores = alone.copy()
        scores[positions] = together[start : start + len(positions)]
        start += len(positions)
        deltas.append(np.abs(scores - alone)[np.isfinite(scores) & np.isfinite(alone)])
        for rows in (np.flatnonzero(pair_set.query_of == query) for query in range(len(pair_set.query_ids))):
            first, second = np.triu_indices(len(rows), 1)
            before = np.sign(alone[rows][first] - alone[rows][second])
            after = np.sign(scores[rows][first] - scores[rows][second])
            n_pairs_ordered += int((before != 0).sum())
            n_inversions += int(((before != after) & (before != 0)).sum())
    all_deltas = np.concatenate([*deltas, np.zeros(1)])
    return BatchInvariance(
        n_pairs=n,
        p99_delta=float(np.percentile(all_deltas, 99)),
        max_delta=float(all_deltas.max()),
        relative_rms=float(np.sqrt((all_deltas**2).mean()) / max(float(np.nanstd(alone)), _SMALLEST_SPREAD)),
        n_pairs_ordered=n_pairs_ordered,
        n_inversions=n_inversions,
    )
