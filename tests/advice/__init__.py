"""Tests of exporter.advice."""
