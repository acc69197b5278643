"""How other libraries load and run the same model."""
