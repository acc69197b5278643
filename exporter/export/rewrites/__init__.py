"""Exact rewrites of an exported graph, each proven on real pairs."""
