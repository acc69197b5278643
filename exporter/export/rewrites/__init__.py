"""Exact rewrites of an exported graph, each keep_if_equivalent on real pairs."""
