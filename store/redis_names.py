"""Every name that Flywheel uses in Redis, in one place.

What one request touches carries the tenant as a hash tag, so that one script may touch it all on a cluster
(redis.io/docs, "Redis cluster specification", "Hash tags").
"""

ENGINES = "flywheel:engines"
"""Set of engine identifiers that may have a lease."""

INVALIDATIONS = "flywheel:invalidations"
"""Channel. A message is an `Invalidation` as JSON: what changed in SQL or in a lease."""

ENGINE_REQUESTS = "flywheel:engine-requests"
"""Set of models that a request waits for and that have no engine; supervisors start those that they can."""


def lease(engine: str) -> str:
    return f"flywheel:lease:{engine}"


def request_bucket(tenant: str, key: str) -> str:
    return f"flywheel:{{{tenant}}}:limit:{key}:requests"


def token_bucket(tenant: str, key: str) -> str:
    return f"flywheel:{{{tenant}}}:limit:{key}:tokens"


def cached_answer(tenant: str, digest: str) -> str:
    return f"flywheel:{{{tenant}}}:cache:{digest}"
