"""The engine lease: what an engine's agent writes to Redis, and what gateways route by."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

EngineTask = Literal["generate", "embed", "classify", "token_classify"]


class EngineLoad(BaseModel):
    """Figures from vLLM's own /metrics, as of the lease's last renewal."""

    model_config = ConfigDict(frozen=True)

    running: int = Field(0, description="Requests in the running batch.")
    waiting: int = Field(0, description="Requests waiting for a place in the batch.")
    kv_cache_usage: float = Field(0.0, description="Share of KV-cache blocks in use, 0 to 1.")
    kv_cache_tokens: int = Field(0, description="Tokens that the KV cache holds; 0 if unknown.")
    prefix_queries: int = Field(0, description="Prompt tokens looked up in the prefix cache since vLLM started.")
    prefix_hits: int = Field(0, description="Of these, tokens that were there.")


class EngineLease(BaseModel):
    """An engine's claim to traffic. It lives `ttl_s` past its last renewal; no lease, no traffic."""

    model_config = ConfigDict(frozen=True)

    engine: str = Field(description="Identifier of the engine, `engine-…`; new at each start of the agent.")
    url: str = Field(description="Base URL without path, for example `http://10.0.0.7:8100`.")
    model: str = Field(description="Name of the base model that it serves.")
    task: EngineTask
    adapters: tuple[str, ...] = Field((), description="Names of the adapters that are loaded now.")
    capacity: int = Field(description="Requests that it batches at once (vLLM's max_num_seqs).")
    context_length: int = Field(description="Longest prompt plus completion, in tokens.")
    draining: bool = Field(False, description="Finishes what it has and takes nothing new.")
    load: EngineLoad = EngineLoad()

    def serves(self, model: str) -> bool:
        return model == self.model or model in self.adapters
