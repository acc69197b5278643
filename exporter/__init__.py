"""Export a CrossEncoder reranker to ONNX, INT8 ONNX and OpenVINO IR, and prove that it still ranks like its reference."""

from __future__ import annotations

__version__ = "0.3.0"
