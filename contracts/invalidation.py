"""News that something cached in other processes is no longer true."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Invalidation(BaseModel):
    model_config = ConfigDict(frozen=True)

    kind: Literal["key", "tenant", "model", "engine", "job", "cache", "demand", "alias"]
    id: str
