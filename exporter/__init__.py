"""Export a CrossEncoder reranker to ONNX, INT8 ONNX and OpenVINO IR, and prove that it ranks as before.

Score pairs with an artifact, which is a folder, or lies on the Hub, in an OCI registry or in a bucket.
Neither torch nor transformers is loaded:

    from exporter import Reranker

    reranker = Reranker.load("artifacts/sample-int8")
    scores = reranker.score([("what lifts a wing", "the flow over its upper side is faster")])
    best = reranker.rank("what lifts a wing", documents, top_k=3)

Build an artifact from a recipe, measure it against PyTorch and judge it by the recipe's bars:

    from pathlib import Path

    from exporter import load_recipe, pipeline
    from exporter.context import Context

    recipe = load_recipe(Path("recipes/int8.yaml"), changes=["variants.0.bars.min_speedup=2"])
    report = pipeline.export(recipe, Path("artifacts"), Context())
    print(report.verdict, [check for variant in report.variants for check in variant.checks])

Do one step of that alone:

    folder = pipeline.build(recipe, Path("artifacts"), Context())
    report = pipeline.verify(folder, Context())
    reports = pipeline.gate(folder)  # one of each machine that verified it

Deliver what passed; `pipeline.publish` raises `exporter.errors.GateRefused` if nothing did:

    pipeline.publish(folder, "hf://org/name", Context())

`exporter.errors` draws the tree of what these raise, each error with the exit code of the command line.
`Context` holds where finished build steps are kept and who is told how far the work is; by default the user's
cache, and nobody. Recipes are data: `exporter.recipe.schema` has every key, `exporter schema` prints them.

The three names here are imported when first asked for, so that `import exporter` costs nothing.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporter import pipeline
    from exporter.recipe.load import load_recipe
    from exporter.runtime import Reranker

__version__ = "0.3.0"
__all__ = ["Reranker", "load_recipe", "pipeline"]

# OpenVINO and NNCF report what they are used for to Google Analytics unless the user has opted out, and fork
# the process to do it, from threads: a build then waits for a lock for good (seen with 2026.4.1). Both do
# without the package that sends where it cannot be imported. Who imported it before us has chosen. The stubs
# of `sys.modules` know no None, which is what makes an import fail.
# Source: https://docs.python.org/3/reference/import.html#the-module-cache
# Source: https://docs.openvino.ai/2026/about-openvino/additional-resources/telemetry.html
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # None blocks an import
# So does onnxruntime on Linux from 1.29 on, in a thread that is started when it is imported; a forked process
# that did nothing but exit then waited for that thread for good (seen with 1.32.0).
# Source: https://github.com/microsoft/onnxruntime/pull/27379
# Source: https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for (PEP 562)."""
    match name:
        case "Reranker":
            return import_module("exporter.runtime").Reranker
        case "load_recipe":
            return import_module("exporter.recipe.load").load_recipe
        case "pipeline":
            return import_module("exporter.pipeline")
        case _:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})
