"""Makes smaller and faster variants of a model, measures each by really serving it, and tells which to take."""
