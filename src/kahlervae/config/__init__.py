"""The configuration: filled in, checked, and what follows from it."""
