"""Measure an artifact's variants against the PyTorch reference.

`run` tells the whole of it. All asking of workers stands in `scores` (what each pair scores), in `rounds` and
`tune` (how long it takes) and in `reference`; `parity`, `quality`, `lengths`, `batch_invariance` and `speed`
are pure functions on what was measured; `contents` and `saturation` read model files. Nothing here knows a
bar.
"""
