"""Data frames of Daft's, scored by an artifact: the runtime's own scores, whatever Daft makes of the rows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from exporter.errors import BackendMissing, ExporterError, IntegrityError, RecipeError
from exporter.runtime import Reranker
from exporter.runtime.daft import Layout, layout

if TYPE_CHECKING:
    from collections.abc import Iterator

STATIC = "onnx-int8-static"
QUERIES = ["what is a cell", "what is a cell", "why", None, "how", "", "why", "what is a cell"]
PASSAGES = ["the cell divides", "", "because of sums " * 9, "a text", None, "b", "because of sums " * 9, "c"]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ((8, None, None), Layout(1, 8)),
        ((8, 2, None), Layout(2, 4)),
        ((8, 3, None), Layout(3, 2)),
        ((8, None, 2), Layout(4, 2)),
        ((8, 2, 3), Layout(2, 3)),
        ((1, None, None), Layout(1, 1)),
    ],
)
def test_layout_by_hand(asked: tuple[int, int | None, int | None], found: Layout) -> None:
    """All cores to one process, or shared evenly among those asked for."""
    assert layout(*asked) == found


@pytest.mark.parametrize("asked", [(2, 3, None), (2, None, 3), (4, 2, 3), (2, 0, None), (2, None, True)])
def test_layouts_refused(asked: tuple[int, int | None, int | None]) -> None:
    """More than the cores allowed, none, and what is no number."""
    with pytest.raises(RecipeError, match="cores|wanted a whole number"):
        layout(*asked)


def test_without_daft(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is named, with its extra and the lock it is pinned in; the module itself imports."""
    from exporter.runtime.daft import rerank

    monkeypatch.setitem(sys.modules, "daft", None)
    with pytest.raises(BackendMissing, match=r"daft is not installed; .*\[daft\].*requirements-cluster.lock"):
        rerank(None, query="q", passage="p", artifact="a")  # type: ignore[arg-type] # no frame: it fails before it looks at one


@pytest.fixture(scope="module")
def daft() -> Iterator[Any]:
    """Daft, which reports nothing home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DO_NOT_TRACK", "true")
        yield pytest.importorskip("daft", reason="daft is not installed (requirements-cluster.lock)")


def frame(daft: Any) -> Any:
    """Return the rows above, numbered."""
    return daft.from_pydict({"q": QUERIES, "p": PASSAGES, "i": list(range(len(QUERIES)))})


def expected(folder: Path, variant: str) -> list[float | None]:
    """Return what the runtime gives of the rows above."""
    there = [(q, p) for q, p in zip(QUERIES, PASSAGES, strict=True) if q is not None and p is not None]
    scores = iter(Reranker.load(folder, variant).score(there).tolist())
    return [None if q is None or p is None else next(scores) for q, p in zip(QUERIES, PASSAGES, strict=True)]


@pytest.mark.parametrize("batch_size", [1, 3, 1024])
def test_scores_of_static_int8_however_daft_cuts(daft: Any, built: Path, batch_size: int) -> None:
    """The runtime's scores to the bit, in the rows' order; nulls stay nulls, an empty text is scored."""
    from exporter.runtime.daft import rerank

    found = rerank(frame(daft), query="q", passage="p", artifact=built, variant=STATIC, batch_size=batch_size)
    rows = found.to_pydict()
    assert rows["score"] == expected(built, STATIC)
    assert rows["i"] == list(range(len(QUERIES)))
    assert found.schema()["score"].dtype == daft.DataType.float64()


def test_best_of_lists(daft: Any, built: Path) -> None:
    """The k best of each list as `Reranker.rank` has them; nulls in it are left out, null rows stay null."""
    from exporter.runtime.daft import rerank_topk

    lists = [["the cell divides", None, "b", "the cell divides"], None, [], ["a"]]
    df = daft.from_pydict({"q": ["what is a cell", "why", "how", None], "ps": lists})
    found = rerank_topk(df, query="q", passages="ps", k=2, artifact=built, variant=STATIC)
    best, *others = found.to_pydict()["ranked"]
    ranked = Reranker.load(built, STATIC).rank(
        "what is a cell", ["the cell divides", "b", "the cell divides"]
    )
    assert [row["score"] for row in best] == [row["score"] for row in ranked[:2]]
    assert [row["corpus_id"] for row in best] == [[0, 2, 3][row["corpus_id"]] for row in ranked[:2]]
    assert others == [None, [], None]


def test_dynamic_int8_says_what_its_scores_depend_on(daft: Any, built: Path) -> None:
    """One line for a kind whose scores depend on the batch; none for others."""
    from exporter.runtime.daft import rerank

    with pytest.warns(UserWarning, match="depends on the pairs it is scored with"):
        rerank(frame(daft), query="q", passage="p", artifact=built, variant="onnx-int8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rerank(frame(daft), query="q", passage="p", artifact=built, variant="onnx")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"query": "z"}, "query is 'z' .*the columns are q, p, i"),
        ({"query": 3}, "query is 3 "),
        ({"passage": "i"}, "column i is of type Int64"),
        ({"score": "p"}, "a column 'p' already"),
        ({"score": None}, "name is None"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"processes": 10_000}, "10000 processes"),
        ({"artifact": 5}, "folder is 5"),
        ({"variant": "onnx-int9"}, "has no onnx-int9"),
        ({"df": {"q": [], "p": []}}, "df is .*wanted a daft.DataFrame"),
    ],
)
def test_mistakes_show_before_anything_runs(
    daft: Any, built: Path, wrong: dict[str, object], said: str
) -> None:
    """Each in one line that names the value, while the query is written and not when it runs."""
    from exporter.runtime.daft import rerank

    given: dict[str, Any] = {"df": frame(daft), "query": "q", "passage": "p", "artifact": built} | wrong
    with pytest.raises(ExporterError, match=said) as raised:
        rerank(given.pop("df"), **given)
    assert "\n" not in str(raised.value)
    with pytest.raises(RecipeError, match="no such"):
        rerank(frame(daft), query="q", passage="p", artifact="/nowhere")


def test_an_artifact_that_was_replaced_is_not_scored_with(daft: Any, built: Path, artifact: Path) -> None:
    """A query written with one artifact does not run with another that lies in its place by then."""
    from exporter.runtime.daft import Scorer, rerank

    other = Reranker.load(built, "onnx")
    with pytest.raises(IntegrityError, match="was replaced after the query was written"):
        Scorer(lambda: other, "0" * 64)
    found = rerank(frame(daft), query="q", passage="p", artifact=artifact, variant="onnx")
    shutil.rmtree(artifact)
    with pytest.raises(Exception, match="no such artifact folder|UDF"):
        found.to_pydict()


_ON_RAY = """
import sys, daft
from exporter.runtime.daft import rerank

daft.set_runner_ray()
df = daft.from_pydict({"q": ["a", None, "b"] * 4, "p": ["one", "two", "three"] * 4})
try:
    rerank(df, query="q", passage="p", artifact=sys.argv[1], variant="onnx-int8-static", threads=10_000)
except ValueError as error:
    print(error)
found = rerank(df, query="q", passage="p", artifact=sys.argv[1], variant="onnx-int8-static")
print(found.to_pydict()["score"])
"""


def test_on_ray(daft: Any, built: Path) -> None:
    """On a cluster, here one that Daft starts by itself, scores are the same, and threads have to fit."""
    del daft
    pytest.importorskip("ray", reason="ray is not installed (requirements-cluster.lock)")
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "DAFT_PROGRESS_BAR": "0"}
    done = subprocess.run(
        [sys.executable, "-c", _ON_RAY, str(built)],
        env=os.environ | quiet,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    refused, scores = done.stdout.splitlines()[-2:]
    assert "10000 threads" in refused
    one, two = Reranker.load(built, "onnx-int8-static").score([("a", "one"), ("b", "three")]).tolist()
    assert json.loads(scores.replace("None", "null")) == [one, None, two] * 4


_DIES = """
import sys, threading, time
import daft, psutil
from exporter.runtime import daft as ours

def kill() -> None:
    while True:
        for child in psutil.Process().children(recursive=True):
            if sum(child.cpu_times()[:2]) > 3:  # it scores; Daft waits without end for one killed before
                child.kill()
        time.sleep(0.1)

df = daft.from_pydict({"q": ["a"] * 50_000, "p": ["a passage"] * 50_000})
reranked = ours.rerank(df, query="q", passage="p", artifact=sys.argv[1], variant="onnx", batch_size=1)
threading.Thread(target=kill, daemon=True).start()
print(len(reranked.to_pydict()["score"]))
"""


def test_a_process_that_dies_ends_the_query(daft: Any, built: Path) -> None:
    """Daft restarts none: the query ends with an error, and with no half of a result."""
    del daft
    done = subprocess.run(
        [sys.executable, "-c", _DIES, str(built)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1, done.stdout
    assert done.stdout == ""
    assert "UDF" in done.stderr
