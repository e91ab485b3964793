"""Who calls: API keys, and a guard against guessing them."""
