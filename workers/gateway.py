"""How a job asks models as an application would: through the gateway, with its tenant's limits, budgets and cache."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from contracts.jobs import Job
from contracts.limits import Limits
from store.keys import KeyRepository

KEY_LIFE_S = 86_400
"""Of a key whose worker was killed; one that lives makes a new key at each attempt."""
UNBOUND_PER_MINUTE = 1_000_000_000
"""A job is no user who clicks: where the creator's key has no rates of its own, only the tenant's bound it."""


class CannotCall(Exception):
    """Models cannot be asked for this job; `message` is for the person who started it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclass(frozen=True, slots=True)
class Caller:
    """Where models are asked, and as whom. `url` ends with `/v1`."""

    url: str
    secret: str = field(repr=False)


class GatewayAccess:
    """Makes short-lived keys for jobs. `keys` is None where this worker does not know the pepper."""

    def __init__(self, url: str, keys: KeyRepository | None) -> None:
        self._url, self._keys = url, keys

    @contextmanager
    def calling_for(self, job: Job, creator: str) -> Iterator[Caller]:
        """A key with the models, limits and guardrails of the key `creator`, good while the block runs.

        Raises CannotCall where that key is no longer good, or where this worker can make none.
        """
        if self._keys is None:
            message = "This worker cannot ask models: it needs FLYWHEEL_AUTH__PEPPER, as the gateways have it."
            raise CannotCall("no_gateway", message)
        of = self._keys.get(creator)
        if of is None or of.revoked_at is not None or (of.expires_at is not None and of.expires_at <= time.time()):
            raise CannotCall("key_revoked", "The API key that started the job is no longer valid.")
        limits = of.model_dump(include=set(Limits.model_fields))
        for rate in ("requests_per_minute", "tokens_per_minute"):
            limits[rate] = limits[rate] or UNBOUND_PER_MINUTE
        name = f"job {job.id}"
        self._keys.delete_named(name, tenant=job.tenant)  # an earlier attempt's, whose worker was killed
        made = self._keys.create(
            tenant=job.tenant,
            name=name,
            scopes=("inference",),
            models=of.models,
            guardrails=of.guardrails,
            expires_at=int(time.time()) + KEY_LIFE_S,
            **limits,
        )
        try:
            yield Caller(self._url, made.secret)
        finally:
            self._keys.delete_named(name, tenant=job.tenant)
