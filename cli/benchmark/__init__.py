"""`flywheel bench`: drives an OpenAI-compatible URL and tells how it answered."""
