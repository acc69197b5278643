"""Check a published folder in the libraries that are expected to load it."""
