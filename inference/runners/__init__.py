"""Stands where vLLM does, for what vLLM cannot serve. Same command line, same `/health` and `/metrics`."""
