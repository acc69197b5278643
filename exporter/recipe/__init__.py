"""The recipe: what a person asks for, and the kinds that can be asked for."""
