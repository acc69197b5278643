"""Tests of exporter.guide."""
