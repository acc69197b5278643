"""What a user does next: a first recipe for their model, and what follows a verdict."""
