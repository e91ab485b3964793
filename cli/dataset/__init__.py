"""Training files out of captured answers and tables."""
