"""Run an artifact: `Reranker.load(folder).score(pairs)`. Loads neither torch nor transformers."""

from exporter.runtime.plan import Plan, choose_plan, default_plan
from exporter.runtime.reranker import Pair, Ranked, Reranker

__all__ = ["Pair", "Plan", "Ranked", "Reranker", "choose_plan", "default_plan"]
