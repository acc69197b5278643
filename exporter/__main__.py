"""`python -m exporter`: the command line."""

from exporter.cli.app import app

app()
