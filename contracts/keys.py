"""API keys as services see them. The secret itself is never stored."""

from typing import Literal

from pydantic import Field

from contracts.guardrails import GuardrailPolicy
from contracts.limits import NO_LIMITS, Limits

Scope = Literal["inference", "jobs", "admin"]
ALL_SCOPES: tuple[Scope, ...] = ("inference", "jobs", "admin")


class ApiKey(Limits):
    """A key with its own limits, and those that it shares with its tenant's other keys."""

    id: str
    tenant: str
    name: str
    hint: str = Field(description="First and last letters of the secret, to recognise it by.")
    scopes: frozenset[Scope]
    models: frozenset[str] | None = Field(None, description="Models that it may use; None allows all.")
    semantic_cache: bool = Field(
        False, description="A question that repeats may get the kept answer to a similar one of its tenant."
    )
    capture: float | None = Field(None, gt=0, le=1, description="Share of its traffic that is captured; None for none.")
    guardrails: GuardrailPolicy | None = Field(None, description="What its requests and answers must keep to.")
    tenant_limits: Limits = Field(NO_LIMITS, description="Known where a key was looked up by its secret.")
    created_at: int = Field(description="Unix seconds.")
    expires_at: int | None = Field(None, description="Unix seconds.")
    revoked_at: int | None = Field(None, description="Unix seconds.")

    def may_use(self, model: str, *, parent: str | None = None) -> bool:
        """An allow-list that names a base model allows its adapters too."""
        return self.models is None or model in self.models or (parent is not None and parent in self.models)
