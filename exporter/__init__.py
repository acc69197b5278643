"""Export a CrossEncoder reranker to ONNX, INT8 ONNX and OpenVINO IR, and prove that it still ranks like its reference."""

__version__ = "0.3.0"
