"""The embedded model and pairs, and the script that made them."""
