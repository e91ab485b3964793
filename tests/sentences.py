"""What classifiers are asked in tests, on both sides of an environment's border."""

SENTENCES = ["Grace Hopper wrote a compiler.", "Naïve café-goers met Ada Lovelace in Zürich!"]
