"""What a key's policy does to its requests and to what engines answer (contracts/guardrails)."""
