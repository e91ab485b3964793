"""API keys as services see them. The secret itself is never stored."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Scope = Literal["inference", "jobs", "admin"]
ALL_SCOPES: tuple[Scope, ...] = ("inference", "jobs", "admin")


class ApiKey(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: str
    tenant: str
    name: str
    hint: str = Field(description="First and last letters of the secret, to recognise it by.")
    scopes: frozenset[Scope]
    models: frozenset[str] | None = Field(None, description="Models that it may use; None allows all.")
    requests_per_minute: int | None = Field(None, description="Overrides the default of the settings.")
    tokens_per_minute: int | None = Field(None, description="Overrides the default of the settings.")
    created_at: int = Field(description="Unix seconds.")
    expires_at: int | None = Field(None, description="Unix seconds.")
    revoked_at: int | None = Field(None, description="Unix seconds.")

    def may_use(self, model: str, *, parent: str | None = None) -> bool:
        """An allow-list that names a base model allows its adapters too."""
        return self.models is None or model in self.models or (parent is not None and parent in self.models)
