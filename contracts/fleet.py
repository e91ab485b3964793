"""What an operator is told of the engines and of those who use them, by the gateway that is asked."""

from typing import Literal

from pydantic import BaseModel, Field


class EngineStatus(BaseModel):
    """A live engine. Its load is the lease's, of all gateways; `in_flight` and an ejection are this gateway's."""

    id: str
    object: Literal["engine"] = "engine"
    model: str
    adapters: list[str]
    state: Literal["live", "ejected", "draining"]
    capacity: int = Field(description="Requests that it batches at once.")
    in_flight: int = Field(description="Requests that it is answering for this gateway.")
    running: int
    waiting: int
    kv_cache_usage: float = Field(description="0 to 1.")
    prefix_queries: int = Field(description="Prompt tokens looked up in its prefix cache since it started.")
    prefix_hits: int = Field(description="Of these, tokens that were there.")


class EngineStatusList(BaseModel):
    object: Literal["list"] = "list"
    data: list[EngineStatus]


class TenantStatus(BaseModel):
    """A tenant's use of the engines through this gateway since it started."""

    tenant: str
    object: Literal["tenant"] = "tenant"
    in_flight: int
    waiting: int
    tokens: int = Field(description="Prompt and completion tokens of the requests that are done.")


class TenantStatusList(BaseModel):
    object: Literal["list"] = "list"
    data: list[TenantStatus]
