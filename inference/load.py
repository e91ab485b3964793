"""vLLM's load, from its own Prometheus metrics (docs.vllm.ai, "Production Metrics")."""

import httpx
from prometheus_client.parser import text_string_to_metric_families

from contracts.engine import EngineLoad


async def read_load(client: httpx.AsyncClient) -> EngineLoad:
    """Raises httpx.HTTPError when vLLM does not answer."""
    answer = await client.get("/metrics")
    answer.raise_for_status()
    return parse_load(answer.text)


def parse_load(metrics: str) -> EngineLoad:
    """Counts of a metric's series are added up; of the cache's usage the highest counts."""
    relevant = "\n".join(line for line in metrics.splitlines() if "vllm:num_requests_" in line or "kv_cache_us" in line)
    samples: dict[str, list[float]] = {}
    for family in text_string_to_metric_families(relevant + "\n"):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append(sample.value)
    return EngineLoad(
        running=int(sum(samples.get("vllm:num_requests_running", []))),
        waiting=int(sum(samples.get("vllm:num_requests_waiting", []))),
        kv_cache_usage=max(samples.get("vllm:kv_cache_usage_perc", [0.0])),
    )
