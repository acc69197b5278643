"""Make the embedded sample again: `python -m exporter.sample.train ori_pqal.json OUT`.

Writes `difference.safetensors`, `verify.jsonl` and `calibrate.jsonl` into OUT and prints how well each ranker
does on the held-out questions. Needs the training packages of `requirements.lock`; nothing at run time
imports this module.

Data: PubMedQA PQA-L (MIT), 1,000 questions with the sections of the abstract each was asked about. A
question's own sections are relevant, all others are not.
Source: https://github.com/pubmedqa/pubmedqa (data/ori_pqal.json, sha256 in DATA_SHA256).

Method. 300 questions, their sections included, are held out. The other 700, and their long answers as further
queries, train all encoder weights (embedding tables frozen): each step is 8 queries x (1 relevant + 3 other)
passages. The target mixes the backbone's own bi-encoder cosine, put on the logit scale by a logistic fit,
with the 0/1 label; the cosine's share falls from 1 to 0.3, the negatives go from random to hard, the passages
from short to long. Low-rank training from the start does not leave the base rate, so the low-rank difference
is taken afterwards, by SVD, and its cost measured.

Figures of the run that made the shipped files (nDCG@10 over 20 candidates of each of the 300 held-out
questions; hard negatives taken from both rankers' lists, so the task is hard for BM25 and cosine alike):

    BM25 0.7857    backbone's cosine 0.9247    all trained weights 0.9415    rank 40, shipped 0.9385

The truncation to rank 40 moves a logit by 0.080 on average, where logits have a standard deviation of 1.88.
1,150 steps of 32 pairs took 62 minutes on two cores of an AMD EPYC with AVX-512 BF16, not idle otherwise;
`difference.safetensors` is 3.76 MB. Thread timing makes float sums differ from run to run, so made again it
is equal in quality, not byte by byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rank_bm25 import BM25Okapi
from safetensors.numpy import load_file, save_file
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss, normalize
from transformers import AutoModel, AutoTokenizer, BertForSequenceClassification

from exporter.sample.model import backbone_dir, merge

DATA_SHA256 = "8b3276be8942ebbd77f3ddcda12c1749bf0e490045a736fd8438ee40cf37a41d"
SEED = 7
N_HELD_OUT = 300
N_VERIFY_CANDIDATES = 12  # what is shipped: 3,600 pairs, enough queries for a 99 % bar
N_EVAL_CANDIDATES = 20  # what the figures above are measured on
N_CALIBRATE = 240
N_LONG = 60  # questions whose verify list has one candidate of more than 512 tokens
QUERIES_PER_STEP, PASSAGES_PER_QUERY = 8, 4
RANK = 40


@dataclass(frozen=True)
class Stage:
    """One leg of the curriculum: how far it goes, and what it shows the model."""

    n_steps: int
    max_tokens: int
    hard_share: float  # of the negatives, the rest are random
    teacher_share: float  # of the loss, the rest is the label's


STAGES = (
    Stage(200, 96, 0.0, 1.0),
    Stage(300, 128, 0.4, 0.7),
    Stage(400, 192, 0.7, 0.4),
    Stage(250, 256, 0.8, 0.3),
)
PEAK_LR = 2e-4
HEAD_LR = 6e-4  # pooler and classifier start from nothing


@dataclass(frozen=True)
class Corpus:
    """The sections of one split, the queries over them, and each query's own sections."""

    passages: list[str]
    queries: list[str]
    relevant: list[frozenset[int]]


def split(data_path: Path) -> tuple[Corpus, Corpus]:
    """Cut the questions into training and held-out ones; no section stands in both."""
    raw = data_path.read_bytes()
    if hashlib.sha256(raw).hexdigest() != DATA_SHA256:
        raise SystemExit(f"{data_path} is not the PubMedQA file this script was written for")
    items = sorted(json.loads(raw).items())
    random.Random(SEED).shuffle(items)
    entries = [entry for _, entry in items]
    return corpus(entries[N_HELD_OUT:], with_answers=True), corpus(entries[:N_HELD_OUT], with_answers=False)


def corpus(entries: list[dict[str, object]], *, with_answers: bool) -> Corpus:
    """Lay out entries as passages, queries and relevance; long answers are further queries for training."""
    passages: list[str] = []
    queries: list[str] = []
    relevant: list[frozenset[int]] = []
    for entry in entries:
        own = frozenset(range(len(passages), len(passages) + len(entry["CONTEXTS"])))
        passages += entry["CONTEXTS"]
        for field in ("QUESTION", "LONG_ANSWER") if with_answers else ("QUESTION",):
            queries.append(str(entry[field]))
            relevant.append(own)
    return Corpus(passages, queries, relevant)


def cosines(folder: Path, of: Corpus) -> np.ndarray:
    """Score every query against every passage with the backbone as the bi-encoder it was trained to be.

    Returns:
        float32[n_queries, n_passages], cosine of mean-pooled embeddings.
    """
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()

    @torch.inference_mode()
    def embed(texts: list[str]) -> torch.Tensor:
        rows = []
        for start in range(0, len(texts), 16):
            batch = tokenizer(
                texts[start : start + 16], padding=True, truncation=True, max_length=256, return_tensors="pt"
            )
            mask = batch["attention_mask"].unsqueeze(-1)
            hidden = model(**batch).last_hidden_state
            rows.append(normalize((hidden * mask).sum(1) / mask.sum(1), dim=1))
        return torch.cat(rows)

    return (embed(of.queries) @ embed(of.passages).T).numpy()


def bm25(of: Corpus) -> np.ndarray:
    """Score every query against every passage with BM25 Okapi over lower-cased words.

    Returns float64[n_queries, n_passages].
    """
    words = [passage.lower().split() for passage in of.passages]
    index = BM25Okapi(words)
    return np.stack([index.get_scores(query.lower().split()) for query in of.queries])


def hard_negatives(cosine: np.ndarray, lexical: np.ndarray, of: Corpus, n: int) -> list[list[int]]:
    """Rank each query's best wrong passages, taken in turn from the cosine's and from BM25's list.

    From both, so that neither ranker is the only one its own hard negatives are held against.
    """
    found = []
    for row in range(len(of.queries)):
        orders = [np.argsort(-scores[row], kind="stable") for scores in (cosine, lexical)]
        mixed = [int(p) for pair in zip(*orders, strict=True) for p in pair if int(p) not in of.relevant[row]]
        found.append(list(dict.fromkeys(mixed[: 4 * n]))[:n])
    return found


def candidates(of: Corpus, hard: list[list[int]], n: int, rng: random.Random) -> list[list[int]]:
    """Give each query up to 4 relevant passages, hard negatives for half of the rest, and random ones."""
    lists = []
    for row, own in enumerate(of.relevant):
        chosen = sorted(own)[:4]
        chosen += hard[row][: (n - len(chosen) + 1) // 2]
        others = [p for p in range(len(of.passages)) if p not in own and p not in chosen]
        chosen += rng.sample(others, n - len(chosen))
        rng.shuffle(chosen)
        lists.append(chosen)
    return lists


def write_pairs(
    path: Path, of: Corpus, lists: list[list[int]], prefix: str, long_rows: frozenset[int]
) -> None:
    """Write pairs as JSONL.

    In `long_rows` one irrelevant candidate is followed by its neighbours past 512 tokens.
    """
    with path.open("w", encoding="utf-8") as out:
        for row, chosen in enumerate(lists):
            lengthened = next(p for p in chosen if p not in of.relevant[row]) if row in long_rows else None
            for p in chosen:
                text, name = of.passages[p], f"{prefix}p{p}"
                if p == lengthened:
                    rest = [q for q in range(p + 1, len(of.passages)) if q not in of.relevant[row]] + list(
                        range(p)
                    )
                    for q in rest:
                        if len(text.split()) > 480:
                            break
                        text += " " + of.passages[q]
                    name += "long"
                pair = {
                    "query": of.queries[row],
                    "passage": text,
                    "label": int(p in of.relevant[row]),
                    "query_id": f"{prefix}q{row}",
                    "passage_id": name,
                }
                out.write(json.dumps(pair, ensure_ascii=False) + "\n")


def learning_rate(step: int, n_steps: int) -> float:
    """One cycle: 8 % linear warm-up to 1, then a cosine down to 0.02. Relative to each group's peak."""
    warm = 0.08 * n_steps
    if step < warm:
        return (step + 1) / warm
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm) / (n_steps - warm)))


def train(
    folder: Path, of: Corpus, cosine: np.ndarray, hard: list[list[int]]
) -> BertForSequenceClassification:
    """Train all encoder weights on the training split and give the model back in evaluation mode."""
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = BertForSequenceClassification.from_pretrained(folder, num_labels=1)
    for table in (model.bert.embeddings.word_embeddings, model.bert.embeddings.position_embeddings):
        table.requires_grad_(False)
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    head = [weight for name, weight in named if "pooler" in name or "classifier" in name]
    body = [weight for name, weight in named if "pooler" not in name and "classifier" not in name]
    optimizer = torch.optim.AdamW(
        [{"params": body, "lr": PEAK_LR}, {"params": head, "lr": HEAD_LR}], weight_decay=0.01, fused=True
    )
    n_steps = sum(stage.n_steps for stage in STAGES)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(step, n_steps))
    slope, offset = logit_scale(of, cosine, hard)
    plan = [stage for stage in STAGES for _ in range(stage.n_steps)]
    order: list[int] = []
    started, recent = time.monotonic(), []
    model.train()
    for step, stage in enumerate(plan):
        if len(order) < QUERIES_PER_STEP:
            order += rng.sample(range(len(of.queries)), len(of.queries))
        texts, labels, targets = [], [], []
        for _ in range(QUERIES_PER_STEP):
            row = order.pop(0)
            picked = [rng.choice(sorted(of.relevant[row]))]
            while len(picked) < PASSAGES_PER_QUERY:
                is_hard = rng.random() < stage.hard_share
                p = rng.choice(hard[row]) if is_hard else rng.randrange(len(of.passages))
                if p not in of.relevant[row] and p not in picked:
                    picked.append(p)
            texts += [(of.queries[row], of.passages[p]) for p in picked]
            labels += [float(p in of.relevant[row]) for p in picked]
            targets += [float(slope * cosine[row, p] + offset) for p in picked]
        batch = tokenizer(
            texts, padding=True, truncation="longest_first", max_length=stage.max_tokens, return_tensors="pt"
        )
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(**batch).logits
        logits = logits.float().squeeze(1)
        by_teacher = mse_loss(logits, torch.tensor(targets)) / 4
        by_label = binary_cross_entropy_with_logits(logits, torch.tensor(labels))
        loss = stage.teacher_share * by_teacher + (1 - stage.teacher_share) * by_label
        loss.backward()
        torch.nn.utils.clip_grad_norm_([weight for _, weight in named], 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        recent.append((by_teacher.item(), by_label.item()))
        if step % 25 == 24:
            teacher, label = np.mean(recent, axis=0)
            print(
                f"step {step + 1:4d}/{n_steps} teacher {teacher:.3f} label {label:.3f} "
                f"{time.monotonic() - started:.0f} s",
                flush=True,
            )
            recent = []
    return model.eval()


def logit_scale(of: Corpus, cosine: np.ndarray, hard: list[list[int]]) -> tuple[float, float]:
    """Fit the line that takes a cosine to the log-odds of relevance: one unit for teacher and label."""
    rng = np.random.default_rng(SEED)
    x, y = [], []
    for row, own in enumerate(of.relevant):
        others = [*hard[row][:3], *rng.integers(len(of.passages), size=3).tolist()]
        for p in [*own, *others]:
            x.append([cosine[row, p]])
            y.append(p in own)
    fit = LogisticRegression(C=1e3).fit(x, y)
    print(f"teacher: logit = {fit.coef_[0][0]:.2f} cos + {fit.intercept_[0]:.2f}")
    return float(fit.coef_[0][0]), float(fit.intercept_[0])


def difference(
    trained: dict[str, np.ndarray], bare: dict[str, np.ndarray], rank: int
) -> dict[str, np.ndarray]:
    """Store what training changed: encoder matrices as float16 factors, everything small whole.

    `rank` is the rank of the factors.
    """
    stored: dict[str, np.ndarray] = {}
    for name, weight in trained.items():
        if name.startswith("bert.encoder") and weight.ndim == 2:
            left, size, right = np.linalg.svd((weight - bare[name]).astype(np.float64), full_matrices=False)
            root = np.sqrt(size[:rank])
            stored[f"{name}.left"] = (left[:, :rank] * root).astype(np.float16)
            stored[f"{name}.right"] = (root[:, None] * right[:rank]).astype(np.float16)
        elif name not in bare or not np.array_equal(weight, bare[name]):
            stored[f"{name}.whole"] = weight.astype(np.float16 if weight.size > 10_000 else np.float32)
    return stored


@torch.inference_mode()
def logits(
    model: BertForSequenceClassification, folder: Path, of: Corpus, lists: list[list[int]]
) -> list[np.ndarray]:
    """Score each query's candidates in float32, longest pairs together."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pairs = [(of.queries[row], of.passages[p]) for row, chosen in enumerate(lists) for p in chosen]
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][1]))
    scores = np.empty(len(pairs), np.float32)
    for start in range(0, len(order), 8):
        rows = order[start : start + 8]
        batch = tokenizer(
            [pairs[i] for i in rows], padding=True, truncation=True, max_length=512, return_tensors="pt"
        )
        scores[rows] = model(**batch).logits.squeeze(1).numpy()
    return np.split(scores, np.cumsum([len(chosen) for chosen in lists])[:-1])


def ndcg_at_10(of: Corpus, lists: list[list[int]], scores: list[np.ndarray]) -> float:
    """Mean nDCG@10 with ir-measures, the same provider the verifier uses."""
    import ir_measures

    qrels = [
        ir_measures.Qrel(str(r), str(p), int(p in of.relevant[r]))
        for r, chosen in enumerate(lists)
        for p in chosen
    ]
    run = [
        ir_measures.ScoredDoc(str(r), str(p), float(s))
        for r, chosen in enumerate(lists)
        for p, s in zip(chosen, scores[r], strict=True)
    ]
    return float(ir_measures.calc_aggregate([ir_measures.nDCG @ 10], qrels, run)[ir_measures.nDCG @ 10])


def main() -> None:
    """Train, shorten, measure, write."""
    parser = argparse.ArgumentParser(description="Make the embedded sample again.")
    parser.add_argument("data", type=Path, help="PubMedQA's ori_pqal.json")
    parser.add_argument("out", type=Path, help="folder to write into")
    parser.add_argument(
        "--reuse", action="store_true", help="shorten and measure the trained model already in OUT"
    )
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    folder = backbone_dir()
    learn, held = split(arguments.data)
    rng = random.Random(SEED)

    held_cosine, held_bm25 = cosines(folder, held), bm25(held)
    held_hard = hard_negatives(held_cosine, held_bm25, held, N_EVAL_CANDIDATES)
    verify_lists = candidates(held, held_hard, N_VERIFY_CANDIDATES, rng)
    write_pairs(
        out / "verify.jsonl", held, verify_lists, "h", frozenset(rng.sample(range(N_HELD_OUT), N_LONG))
    )
    eval_lists = candidates(held, held_hard, N_EVAL_CANDIDATES, rng)

    learn_cosine = cosines(folder, learn)
    learn_hard = hard_negatives(learn_cosine, bm25(learn), learn, 24)
    calibrate_rows = rng.sample(range(0, len(learn.queries), 2), N_CALIBRATE // 4)
    by_row = candidates(learn, learn_hard, N_VERIFY_CANDIDATES, rng)
    calibrate = [by_row[row][:4] if row in calibrate_rows else [] for row in range(len(learn.queries))]
    long_rows = frozenset(
        row for row in calibrate_rows[:12] if any(p not in learn.relevant[row] for p in calibrate[row])
    )
    write_pairs(out / "calibrate.jsonl", learn, calibrate, "t", long_rows)

    full_path = out / "trained-full.safetensors"
    if arguments.reuse:
        model = BertForSequenceClassification.from_pretrained(folder, num_labels=1)
        model.load_state_dict(
            {name: torch.from_numpy(w) for name, w in load_file(full_path).items()}, strict=True
        )
        model.eval()
    else:
        model = train(folder, learn, learn_cosine, learn_hard)
    trained = {name: weight.detach().numpy() for name, weight in model.state_dict().items()}
    save_file(trained, full_path)

    bare = {f"bert.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    stored = difference(trained, bare, RANK)
    save_file(stored, out / "difference.safetensors")

    full = logits(model, folder, held, eval_lists)
    merged = {
        name: torch.from_numpy(weight) for name, weight in merge(bare, stored).items() if name in trained
    }
    model.load_state_dict(merged, strict=True)
    short = logits(model, folder, held, eval_lists)
    take = lambda table: [table[row, chosen] for row, chosen in enumerate(eval_lists)]  # noqa: E731
    print(f"held-out nDCG@10 over {N_EVAL_CANDIDATES} candidates, {N_HELD_OUT} questions")
    for name, scores in {
        "BM25": take(held_bm25),
        "backbone cosine": take(held_cosine),
        "all trained weights": full,
        f"rank {RANK} (shipped)": short,
    }.items():
        print(f"  {name:20s} {ndcg_at_10(held, eval_lists, scores):.4f}")
    gap = np.concatenate(full) - np.concatenate(short)
    print(
        f"  truncation: mean |d logit| {np.abs(gap).mean():.3f}, logits' sd {np.concatenate(full).std():.2f}"
    )
    written = (out / "difference.safetensors").read_bytes()
    print(
        f"  difference.safetensors {len(written) / 1e6:.2f} MB, sha256 {hashlib.sha256(written).hexdigest()}"
    )


if __name__ == "__main__":
    main()
