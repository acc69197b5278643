"""Run an artifact: `Reranker.load(folder).score(pairs)`. Loads neither torch nor transformers."""

from exporter.runtime.plan import Plan, default_plan
from exporter.runtime.reranker import Pair, Ranked, Reranker

__all__ = ["Pair", "Plan", "Ranked", "Reranker", "default_plan"]
