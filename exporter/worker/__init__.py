"""One measurement in a process of its own."""
