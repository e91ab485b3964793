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


ADMISSION_PROBE = "flywheel:admission-probe"
"""Written by gateways that wait for Redis to come back; it expires at once."""


def lease(engine: str) -> str:
    return f"flywheel:lease:{engine}"


def buckets(tenant: str, key: str = "") -> str:
    """Both token buckets of a key, or of the tenant itself: packed numbers, as gateway/limits/buckets.lua says."""
    return f"flywheel:{{{tenant}}}:buckets:{key}"


def concurrency_leases(tenant: str, key: str = "") -> str:
    """Sorted set of the requests that engines are answering, by the time in milliseconds at which each expires."""
    return f"flywheel:{{{tenant}}}:concurrency:{key}"


def budgets(tenant: str, key: str = "") -> str:
    """What was used this day and this month: packed numbers, as gateway/limits/budgets.lua says."""
    return f"flywheel:{{{tenant}}}:budgets:{key}"


def cached_answer(tenant: str, digest: str) -> str:
    return f"flywheel:{{{tenant}}}:cache:{digest}"
