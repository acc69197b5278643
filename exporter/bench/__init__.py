"""Measure the artifact beside other libraries, and PyTorch on a GPU."""
