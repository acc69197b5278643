"""Turn a cross-encoder into the files engines load."""
