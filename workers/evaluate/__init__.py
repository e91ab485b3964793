"""Judges models on data that they were not trained on."""
