"""The report: what was measured, as data and as text."""
