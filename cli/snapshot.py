"""How the engines, the queue and the tenants are at one moment, as the gateway tells it."""

import time
from collections import defaultdict
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families

from cli.errors import CliError
from cli.local_stack import Endpoint
from contracts.fleet import EngineStatus, EngineStatusList, TenantStatus, TenantStatusList

TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`counts` are the gateway's counters and gauges by name, added up over their labels."""

    taken_at: float
    engines: list[EngineStatus]
    tenants: list[TenantStatus]
    counts: dict[str, float]


class Gateway:
    """The operators' side of a gateway."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._client = httpx.Client(headers={"authorization": f"Bearer {endpoint.api_key}"}, timeout=TIMEOUT_S)

    def snapshot(self) -> Snapshot:
        """Raises CliError where the gateway does not answer, or does not answer this key."""
        engines = EngineStatusList.model_validate_json(self._get("/v1/flywheel/engines"))
        tenants = TenantStatusList.model_validate_json(self._get("/v1/flywheel/tenants"))
        counts = count_metrics(self._get("/metrics"))
        return Snapshot(time.monotonic(), engines.data, tenants.data, counts)

    def _get(self, path: str) -> str:
        try:
            answer = self._client.get(self._endpoint.base_url.removesuffix("/v1") + path)
        except httpx.TransportError:
            raise CliError(
                f"Nothing answers at {self._endpoint.base_url}.",
                advice="`flywheel status` says what runs; `make up` starts it.",
            ) from None
        if answer.status_code in (401, 403):
            raise CliError("This key may not see the engines.", advice="Use a key of scope `admin`.")
        if answer.is_error:
            raise CliError(f"The gateway answered {path} with status {answer.status_code}.")
        return answer.text


def count_metrics(text: str) -> dict[str, float]:
    counts: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            counts[sample.name] += sample.value
            if sample.name == "flywheel_cache_requests_total":
                counts[f"cache_{sample.labels['result']}"] += sample.value
    return counts
