"""Trains the classifiers of `contracts.text_classifiers`, and measures them on texts that they never saw.

`python -m workers.evaluate.text_classifiers FOLDER` writes the weights and prints the tables of docs/moderation.md.
"""
