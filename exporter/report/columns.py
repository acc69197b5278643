"""What each column of a report's tables holds, in a sentence; docs/glossary.md has the formulas."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOGITS = "of the score differences from the reference on the same pairs, in logits"

COLUMNS = {
    "variant": "what was built: a kind of file for an engine, or PyTorch's own sides to compare with",
    "machine": "CPU, instruction set and cores; a verdict holds for this type of machine only",
    "file": "what the engine opens",
    "speed-up, 95 %": "over PyTorch at its best plan, as a speed bar asks, with its 95 % interval",
    "loaded there": "whether Reranker.load takes it on such a machine, where no variant is named",
    "verdict": "the worst outcome of the variant's checks: fail before invalid before pass",
    "outcome": "pass, fail, invalid (the measurement cannot decide), or not judged",
    "check": "the bar's key in the recipe, or a built-in check that every variant has",
    "observed": "what was measured, with its 95 % interval where it is of a sample of queries or rounds",
    "bar": "the limit; an interval has to be on its right side as a whole",
    "why": "why it came out so, what it rests on, and where on this page to look",
    "MB": "size of the variant's own files, 1 MB is 10^6 bytes; tokenizer not counted",
    "nDCG kept": "nDCG@10 by the labels, over the reference's; 100 % keeps all ranking quality",
    "tau-b": "Kendall's tau-b of the two rankings of a query, mean over queries (of one query where one is "
    "named); 1 is the same order; in the table of intervals its 95 % interval",
    "max diff": f"largest {_LOGITS}",
    "pairs/s": "pairs scored a second, text in and scores out, tokenizing counted; median over rounds",
    "vs default": "times the pairs per second of CrossEncoder.predict with default arguments",
    "vs tuned": "times the pairs per second of PyTorch at its own best plan; min_speedup is over this",
    "vs bf16": "times the pairs per second of PyTorch in bfloat16 at its own best plan",
    "nDCG@10 retained": "95 % interval of nDCG kept, a bootstrap over queries",
    "tier": "99.9 % or 99.0 % where the interval's lower end shows that much nDCG kept",
    "top-1": "share of queries whose best passage is the reference's best; of intervals, its 95 % interval",
    "top-10": "share of the reference's ten best among the candidate's; of intervals, its 95 % interval",
    "queries that can tell": "how many queries have labels that differ, and how many an order to compare",
    "speed-up over tuned": "95 % interval of the speed-up over PyTorch at its best plan",
    "over default": "95 % interval of the speed-up over CrossEncoder.predict with default arguments",
    "over bf16": "95 % interval of the speed-up over PyTorch in bfloat16",
    "rounds": "how often all sides were timed by turns; six are needed",
    "spread": "how much rounds, or runs, differ from each other; of a speed-up 10 % are allowed",
    "drift": "by how much the speed-up moved between the first and the second half; 10 % are allowed",
    "clock": "by how much the CPU's clock differed between runs; 15 % are allowed",
    "side": "PyTorch or a variant",
    "plan": "how it was run: workers x threads, and tokens or pairs a batch",
    "tokens/s": "tokens scored a second, padding not counted",
    "CPU": "processor time over wall time and cores",
    "contention": "share of the cores that others took meanwhile; 5 % are allowed",
    "steal": "the virtual machine's host's part of it",
    "tokenizing": "the tokenizer's part of a pass",
    "load s": "seconds to import the engine and load the model",
    "peak RSS MB": "the most memory that a process held",
    "candidates": "passages of one query",
    "p50 ms": "milliseconds for one query, half of the calls took less",
    "p95 ms": "milliseconds for one query, 95 % of the calls took less",
    "p99 ms": "milliseconds for one query, 99 % of the calls took less",
    "calls": "how often it was timed; few calls tell no high percentile",
    "GFLOP/s": "multiplications and additions of matrix products a second, padding not counted",
    "peak GFLOP/s": "what the engine reaches on large matrix products on these cores",
    "of": "the type that the peak is of",
    "utilisation": "achieved over peak",
    "mean / p99 / max |diff|": f"mean, 99th percentile and largest {_LOGITS}",
    "rel. RMS: all, worst query": "root mean square of the differences over the standard deviation of the "
    "reference's scores: of all pairs, and of the query where it is largest",
    "rel. RMS": "root mean square of the differences over the standard deviation of the reference's scores",
    "batch invariance: p99, max, inversions": "a pair's score in a batch less its score alone, and passages "
    "that change order by it",
    "rerun diff": "largest difference of the same pairs' scores between two processes",
    "Pearson": "linear correlation of the two sides' scores",
    "worst query": "the query with the lowest tau-b",
    "nDCG@10 ref → cand": "nDCG@10 by the labels, the reference's and the candidate's",
    "MRR@10": "mean of 1 / rank of the first relevant passage, the reference's and the candidate's",
    "tokens": "tokens of a pair; truncated pairs are longer than the model reads",
    "pairs": "how many pairs have that length",
    "worst pair": "the pair with the largest difference; of sums, the two weights with the largest",
    "at the engine's default numerics": "a variant as the engine would run it by itself, not pinned",
    "max |diff|": f"largest {_LOGITS}",
    "pairs/s pinned, in the same process": "pairs a second at the pinned numerics, which ship",
    "constants": "bytes that the file stores, by type",
    "products' weights in int8, fp16": "share of the matrix products' weights stored in each",
    "operators": "how many of each the graph has",
    "no int16 sum saturates": "whether it is proven from the weights, for CPUs without VNNI",
    "sums from the weights": "the lowest and the highest sum of two products that any activations cause",
    "max |diff| to kernels that cannot": "the same scores from kernels that sum in 32 bits, in logits",
    "what was done": "rewrites, quantization, and what was kept in fp32",
}
# Of both rankings side by side.
RANKING = {
    "rank": "1 is best",
    "pair": "the pair's number in the pair set, from 1; its text stands below where the report has it",
    "label": "relevance by your labels, 0 is not relevant",
    "score": "raw logit of the side",
    "▲▼": "by how many ranks it stands higher (▲) or lower (▼) than in the reference's order",
    "diff": "the candidate's score less the reference's of the same pair",
}


def explained(titles: Sequence[str]) -> list[tuple[str, str]]:
    """Return the titles of a table's columns with what they hold; one that nobody explained is left out."""
    return [(title, COLUMNS[title]) for title in titles if title in COLUMNS]
