"""The artifact folder: its manifest, its files, and how it comes to be there whole."""
