"""Measure candidates against the PyTorch reference, and judge."""
