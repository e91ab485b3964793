"""How much a key may use: token buckets for requests and tokens per minute, kept in Redis."""
