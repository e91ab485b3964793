"""Repeats are answered from Redis: which requests repeat, and what is kept of their answers."""
