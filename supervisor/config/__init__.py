"""Configuration: what can be set, where it is read from, and how an edit is applied while running."""
