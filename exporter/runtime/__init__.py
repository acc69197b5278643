"""Run an artifact: `Reranker.load(folder).score(pairs)`. Loads neither torch nor transformers."""

from exporter.pairs import Pair
from exporter.runtime.plan import Plan, choose_plan, default_plan
from exporter.runtime.reranker import Ranked, Reranker
from exporter.runtime.tokenizer import PairTokenizer

__all__ = ["Pair", "PairTokenizer", "Plan", "Ranked", "Reranker", "choose_plan", "default_plan"]
