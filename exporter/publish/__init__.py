"""Deliver what passed."""
