"""The metrics' series are as many for a million users as for a thousand."""

import io
import random

from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from contracts.keys import ApiKey
from gateway.metrics import MOST_MODELS, OTHER, Metrics
from gateway.relay.access_log import AccessLog
from gateway.relay.exchange import AsgiExchange
from gateway.relay.record import Progress, Recorder
from gateway.relay.route import CHAT_COMPLETIONS
from gateway.relay.sse import Usage
from gateway.relay.tracing import RequestTrace
from gateway.relay.trials import TrialCounts
from tests.gateway.conftest import model_card

MADE_UP = 1_000_000
STATUSES = (200, 200, 400, 404, 429, 503)


def series(registry: CollectorRegistry) -> int:
    return sum(len(metric.samples) for metric in registry.collect())


def test_a_million_users_keys_tenants_and_models_make_no_series_of_their_own():
    """Each request is of a user, key, tenant and model that were never seen before, as the recording code gets them."""
    metrics = Metrics()
    recorder = Recorder(metrics, AccessLog(io.BytesIO(), service="gateway"), TrialCounts(Redis(), metrics))
    chance = random.Random(1)
    card = model_card(input_price=1.0, output_price=2.0)
    key = ApiKey(id="key", tenant="tenant", name="key", hint="sk", scopes=frozenset(), created_at=1)
    exchange = AsgiExchange({"headers": []}, _nothing, _nothing)
    progress = Progress(RequestTrace("0" * 32, b"", None), usage=Usage(prompt_tokens=3, completion_tokens=2))

    counts = []
    for number in range(MADE_UP):
        progress.key = key.model_copy(update={"id": f"key-{number}", "tenant": f"tenant-{number}"})
        progress.card = card.model_copy(update={"name": f"ft:base:tenant-{number}:made-up"})
        progress.first_byte_s, progress.cache = 0.1, "miss"
        exchange.request_id = f"user-{number}"
        exchange.status = STATUSES[chance.randrange(len(STATUSES))]
        recorder.record(CHAT_COMPLETIONS, exchange, progress)
        if number in (20 * MOST_MODELS, MADE_UP - 1):
            counts.append(series(metrics.registry))

    early, late = counts
    assert early == late
    assert late < 100 * MOST_MODELS
    told = metrics.requests.labels(CHAT_COMPLETIONS.path, OTHER, "200")._value.get()
    assert told > MADE_UP * 0.3 - 20 * MOST_MODELS


def test_a_known_model_keeps_its_name_once_there_are_too_many():
    metrics = Metrics()
    assert metrics.label_of("first") == "first"
    for number in range(2 * MOST_MODELS):
        metrics.label_of(f"model-{number}")

    assert metrics.label_of("first") == "first"
    assert metrics.label_of("last") == OTHER


async def _nothing(*_: object) -> dict[str, object]:
    return {}
