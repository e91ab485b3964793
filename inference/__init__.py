"""One engine: which models exist and how to start them, their weights, vLLM's command line, and the agent that
starts vLLM, watches it, holds its lease, keeps its adapters in step with the registry, and drains it."""
