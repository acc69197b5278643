"""Test the gate itself: artifacts that are wrong on purpose, and the rate of its wrong answers."""
