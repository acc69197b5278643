"""The runtime: what a caller gives it and gets back. Uses the tiny artifact."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.artifact.manifest import Traits
from exporter.errors import BackendError, IntegrityError, RecipeError
from exporter.runtime import Pair, Plan, Reranker
from tests.hub_stand_in import serve
from tests.support import WORDS

TEXTS = st.lists(st.sampled_from(WORDS), max_size=80).map(" ".join)


@pytest.fixture(scope="module")
def reranker(built: Path) -> Reranker:
    return Reranker.load(built, "onnx")


def test_no_torch_is_loaded(built: Path) -> None:
    """Scoring needs numpy, tokenizers and the engine; torch and transformers stay out."""
    code = f"""
import sys
from exporter.runtime import Reranker
assert Reranker.load({str(built)!r}, "onnx-int8").score([("wing", "lift of a wing")]).shape == (1,)
print(*{{"torch", "transformers", "sentence_transformers", "optimum"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_scores_follow_the_callers_order(reranker: Reranker, pairs: list[Pair], seed: int) -> None:
    """Permuting pairs permutes scores, whatever lengths they have and however they fall into batches."""
    order = np.random.default_rng(seed).permutation(len(pairs))
    shuffled = reranker.score([pairs[i] for i in order])
    assert np.abs(shuffled - reranker.score(pairs)[order]).max() < 1e-5


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pairs=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=12),
    plan=st.builds(Plan, st.integers(1, 4), st.just(1), st.integers(1, 4096)),
    chunk=st.integers(1, 13),
)
def test_scores_do_not_depend_on_the_plan(
    reranker: Reranker, built: Path, pairs: list[Pair], plan: Plan, chunk: int
) -> None:
    """However many workers share however large batches: each pair scores as it does alone."""
    alone = np.concatenate([reranker.score([pair]) for pair in pairs])
    other = Reranker.load(built, "onnx", plan=plan, chunk_pairs=chunk)
    assert np.abs(other.score(pairs) - alone).max() < 1e-5


def test_an_iterator_is_read_as_it_is_scored(built: Path) -> None:
    """Pairs that would not fit in memory are read a chunk at a time; scores come as they are ready."""
    reranker = Reranker.load(built, "onnx", chunk_pairs=4)
    read = []

    def endless() -> Iterator[Pair]:
        for i in count():
            read.append(i)
            yield WORDS[i % len(WORDS)], "lift of a wing"

    chunks = reranker.stream(endless())
    first, second = next(chunks), next(chunks)
    assert (len(first), len(second), len(read)) == (4, 4, 8)
    whole = reranker.score(pair for pair in islice(endless(), 8))
    assert np.array_equal(whole, np.concatenate([first, second]))


def test_the_position_named_is_the_callers(built: Path) -> None:
    """A bad pair behind the first chunk is named by its place among all."""
    reranker = Reranker.load(built, "onnx", chunk_pairs=4)
    good = [("wing", "lift")] * 9
    with pytest.raises(RecipeError, match="pair 9 is"):
        reranker.score([*good, ("a",)])
    with pytest.raises(RecipeError, match="pair 9 is not valid Unicode"):
        reranker.score([*good, ("a", "\ud800")])


def test_a_forked_process_scores(built: Path) -> None:
    """A server that loads before it forks gets scores in its children: threads do not survive a fork."""
    code = f"""
import os, sys
from exporter.runtime import Plan, Reranker
reranker = Reranker.load({str(built)!r}, "onnx", plan=Plan(2, 1, 16))
pairs = [("wing", "lift of a wing")] * 8
before = reranker.score(pairs).tolist()
child = os.fork()
if child == 0:
    os._exit(0 if reranker.score(pairs).tolist() == before else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_load_from_the_hub(built: Path, tmp_path: Path) -> None:
    """Of `org/name` on the Hub only manifest, plans, tokenizer and the one variant's files are fetched."""
    with serve(built, "org/tiny") as hub:
        script = (
            "from pathlib import Path; from exporter.runtime import Reranker\n"
            "print(Reranker.load('org/tiny', 'onnx-int8', revision='main').score([('wing', 'lift')]).shape)\n"
            f"files = Path({str(tmp_path)!r}, 'hub').rglob('snapshots/*/**/*')\n"
            "print(*sorted(path.name for path in files if path.is_file()))"
        )
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == [
        "(1,)",
        "manifest.json model_qint8_avx2.onnx plans.json tokenizer.json",
    ]


def test_hub_id_where_the_hub_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An id that is no folder either says both; a path under a folder that is there is a folder."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        BackendError, match="org/name is not in the local cache .* org/name is no folder here either"
    ):
        Reranker.load("org/name")
    (tmp_path / "artifacts").mkdir()
    with pytest.raises(RecipeError, match="artifacts/typo: no such artifact folder"):
        Reranker.load("artifacts/typo")


def test_no_pairs_give_no_scores(reranker: Reranker) -> None:
    """An empty list is answered with an empty array."""
    assert reranker.score([]).shape == (0,)
    assert reranker.score(iter(())).shape == (0,)
    assert reranker.rank("wing", []) == []


@pytest.mark.parametrize(
    ("pairs", "found"),
    [
        ([("a", "b"), ("a",)], "pair 1 is"),
        (["ab"], "pair 0 is 'ab'"),
        ([("a", None)], "pair 0 is"),
        ([3], r"pair 0 is 3 \(int\)"),
        (7, r"pairs is 7 \(int\); wanted"),
        ([("a", "\ud800")], "not valid Unicode"),
    ],
)
def test_what_is_no_pair_is_named(reranker: Reranker, pairs: list, found: str) -> None:
    """Anything but pairs of strings is one error that says where."""
    with pytest.raises(RecipeError, match=found):
        reranker.score(pairs)


@pytest.mark.parametrize("text", ["", "\x00", "wing " * 20_000, "日本語 🛩"])
def test_odd_texts_get_a_score(reranker: Reranker, text: str) -> None:
    """Empty, NUL, very long and unknown text scores like any other."""
    assert np.isfinite(reranker.score([(text, text)])).all()


def test_a_very_long_text_is_cut_where_truncation_would(reranker: Reranker) -> None:
    """What lies behind the tokens that truncation keeps changes no score, whichever text is longer."""
    tail, short, long = "jet nozzle " * 4_000, "wing lift drag " * 3, "heat shock layer " * 40
    for before, after in (
        ((short, long), (short, long + tail)),
        ((long, short), (long + tail, short)),
        ((long + "gas ", long), (long + tail + tail, long + tail)),
        ((long, long + "gas "), (long + tail, long + tail + tail)),
        ((long, long), (long + tail, long + tail)),
    ):
        assert abs(reranker.score([before])[0] - reranker.score([after])[0]) < 1e-5


def test_rank_has_sentence_transformers_shape(reranker: Reranker) -> None:
    """`rank` sorts best first, keeps ties in order, cuts at top_k, and adds texts when asked."""
    documents = [
        "wing lift",
        "heat shock",
        "wing lift",
        "jet nozzle",
    ]  # of one length: padding may move a score by a rounding
    rows = reranker.rank("wing", documents, return_documents=True)
    assert sorted(row["corpus_id"] for row in rows) == [0, 1, 2, 3]
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    assert all(row["text"] == documents[row["corpus_id"]] for row in rows)
    ids = [row["corpus_id"] for row in rows]
    assert ids.index(0) < ids.index(2)
    assert reranker.rank("wing", documents, top_k=2) == [
        {k: v for k, v in row.items() if k != "text"} for row in rows[:2]
    ]


def test_threads_lay_the_plan_over_the_cores(built: Path) -> None:
    """`threads` limits workers times threads a worker."""
    plan = Reranker.load(built, "onnx", threads=1).plan
    assert plan.workers * plan.threads == 1


def test_wrong_folder_variant_or_file(built: Path, artifact: Path, tmp_path: Path) -> None:
    """No artifact, no such variant, a missing file, a file the engine refuses: one error each."""
    with pytest.raises(RecipeError, match="no such artifact folder"):
        Reranker.load(tmp_path / "nowhere")
    with pytest.raises(RecipeError, match="has no onnx-int4; it has onnx, "):
        Reranker.load(built, "onnx-int4")
    (artifact / "tokenizer.json").unlink()
    with pytest.raises(IntegrityError, match="tokenizer.json"):
        Reranker.load(artifact)
    from exporter.runtime.engine import open_engine

    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a graph")
    with pytest.raises(BackendError, match="onnxruntime cannot load"):
        open_engine(Traits("onnxruntime", "fp32", "fp32"), broken, Plan(1, 1, 64))
