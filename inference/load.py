"""vLLM's load, from its own Prometheus metrics (docs.vllm.ai, "Production Metrics")."""

import httpx
from prometheus_client.parser import text_string_to_metric_families

from contracts.engine import EngineLoad

_CACHE_CONFIG = "vllm:cache_config_info"
_ADAPTERS = "vllm:lora_requests_info"
_RELEVANT = ("vllm:num_requests_", "vllm:kv_cache_us", "vllm:prefix_cache_", _CACHE_CONFIG)


async def read_load(client: httpx.AsyncClient) -> EngineLoad:
    """Raises httpx.HTTPError when vLLM does not answer."""
    answer = await client.get("/metrics")
    answer.raise_for_status()
    return parse_load(answer.text)


def parse_load(metrics: str) -> EngineLoad:
    """Counts of a metric's series are added up; of the cache's usage the highest counts."""
    relevant = "\n".join(line for line in metrics.splitlines() if any(name in line for name in _RELEVANT))
    samples: dict[str, list[float]] = {}
    kv_cache_tokens = 0
    for family in text_string_to_metric_families(relevant + "\n"):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append(sample.value)
            if sample.name == _CACHE_CONFIG:
                kv_cache_tokens += _size_of(sample.labels)
    return EngineLoad(
        running=int(sum(samples.get("vllm:num_requests_running", []))),
        waiting=int(sum(samples.get("vllm:num_requests_waiting", []))),
        kv_cache_usage=max(samples.get("vllm:kv_cache_usage_perc", [0.0])),
        kv_cache_tokens=kv_cache_tokens,
        prefix_queries=int(sum(samples.get("vllm:prefix_cache_queries_total", []))),
        prefix_hits=int(sum(samples.get("vllm:prefix_cache_hits_total", []))),
    )


async def read_adapters_in_flight(client: httpx.AsyncClient) -> frozenset[str]:
    """Names of the adapters that vLLM answers requests for. Raises httpx.HTTPError when it does not answer."""
    answer = await client.get("/metrics")
    answer.raise_for_status()
    return parse_adapters_in_flight(answer.text)


def parse_adapters_in_flight(metrics: str) -> frozenset[str]:
    """vLLM tells them in labels, and by a series' value, a time, which of all that it ever told is true now."""
    relevant = "\n".join(line for line in metrics.splitlines() if _ADAPTERS in line)
    series = [sample for family in text_string_to_metric_families(relevant + "\n") for sample in family.samples]
    if not series:
        return frozenset()
    labels = max(series, key=lambda sample: sample.value).labels
    named = (labels.get(f"{state}_lora_adapters", "").split(",") for state in ("running", "waiting"))
    return frozenset(name for names in named for name in names if name)


def _size_of(cache: dict[str, str]) -> int:
    """Tokens of a KV cache, by the labels in which vLLM tells its configuration; 0 where it tells none."""
    block_tokens, blocks = cache.get("block_size", ""), cache.get("num_gpu_blocks", "")
    return int(block_tokens) * int(blocks) if block_tokens.isdigit() and blocks.isdigit() else 0
