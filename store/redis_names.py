"""Every name that Flywheel uses in Redis, in one place.

What one request touches carries the tenant as a hash tag, so that one script may touch it all on a cluster
(redis.io/docs, "Redis cluster specification", "Hash tags").
"""

import re

ENGINES = "flywheel:engines"
"""Set of engine identifiers that may have a lease."""

INVALIDATIONS = "flywheel:invalidations"
"""Channel. A message is an `Invalidation` as JSON: what changed in SQL or in a lease."""

ENGINE_REQUESTS = "flywheel:engine-requests"
"""Set of models that a request waits for and that have no engine; supervisors start those that they can."""

ON_DEMAND_USES = "flywheel:on-demand-uses"
"""Sorted set of the models whose engines start on demand, by their last use in Unix seconds."""

LANDINGS = "flywheel:landings"
"""Channel. A message is `<tenant> <digest>`: a generation that another gateway waits for has ended."""


def admission_probe(tag: str) -> str:
    """Written by gateways that wait for Redis to come back; it expires at once."""
    return f"flywheel:{{{tag}}}:admission-probe"


def tagged(tag: str) -> str:
    """Pattern of all names that carry a tenant, a release or another hash tag (redis.io/docs, "SCAN", "MATCH")."""
    return f"flywheel:{{{_escaped(tag)}}}:*"


def _escaped(tag: str) -> str:
    return re.sub(r"([*?\[\]^\\-])", r"\\\1", tag)


def lease(engine: str) -> str:
    return f"flywheel:lease:{engine}"


def adapter_uses(base: str) -> str:
    """Sorted set of a base model's adapters by their last use in Unix seconds, as far as they are remembered."""
    return f"flywheel:{{{base}}}:adapter-uses"


def adapters_wanted(base: str) -> str:
    """Sorted set of a base model's adapters that a request waits for, by when it began to, in Unix seconds."""
    return f"flywheel:{{{base}}}:adapters-wanted"


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


def flight(tenant: str, digest: str) -> str:
    """Hash: who generates the answer to this question now. Without one, nobody does."""
    return f"flywheel:{{{tenant}}}:flight:{digest}"


def cache_epoch(tenant: str) -> str:
    """Number that grows when the tenant's kept answers are cleared."""
    return f"flywheel:{{{tenant}}}:cache-epoch"


def cache_uses(tenant: str) -> str:
    """Sorted set of kept answers' digests by their last use, in milliseconds."""
    return f"flywheel:{{{tenant}}}:cache-uses"


def cache_questions(tenant: str, context: str) -> str:
    """Stream of questions with a kept answer that differ in nothing but their text: text, vector, answer's digest."""
    return f"flywheel:{{{tenant}}}:cache-questions:{context}"


def cache_places(tenant: str) -> str:
    """Hash: where the question of a kept answer stands, `<context> <id in its stream>`, by the answer's digest."""
    return f"flywheel:{{{tenant}}}:cache-places"


def cache_sizes(tenant: str) -> str:
    """Hash: bytes and model of each kept answer by digest, and the sum of bytes."""
    return f"flywheel:{{{tenant}}}:cache-sizes"


RELEASE_CONTROLLER = "flywheel:release-controller"
"""Renewed by every controller of releases; while there is none, nothing moves by itself."""


def release_figures(release: str, stage: str, arm: str) -> str:
    """Hash: what all gateways counted of one arm of a release in one stage."""
    return f"flywheel:{{{release}}}:figures:{stage}:{arm}"
