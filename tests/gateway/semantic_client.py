"""Asks questions of a gateway whose semantic cache is patient with a busy machine."""

import asyncio

import httpx
from prometheus_client.parser import text_string_to_metric_families

from contracts.keys import ApiKey
from store import redis_names
from tests.gateway.conftest import CHAT, chat_body

TIMEOUT_S = 2.0
PATIENT = {"FLYWHEEL_CACHE__SEMANTIC_TIMEOUT_S": str(TIMEOUT_S)}


def question(text: str, **fields: object) -> dict[str, object]:
    return chat_body(text, temperature=0, **fields)


async def ask(client: httpx.AsyncClient, body: dict[str, object], **headers: str) -> httpx.Response:
    """Asks, and leaves time for the answer to be kept."""
    answer = await client.post(CHAT, json=body, headers={name.replace("_", "-"): it for name, it in headers.items()})
    assert answer.status_code == 200, answer.text
    await asyncio.sleep(0.1)
    return answer


def result(answer: httpx.Response) -> str:
    return answer.headers["x-flywheel-cache"]


async def lookups(client: httpx.AsyncClient, of: str) -> float:
    for family in text_string_to_metric_families((await client.get("/metrics")).text):
        for sample in family.samples:
            if sample.name == "flywheel_semantic_lookups_total" and sample.labels["result"] == of:
                return sample.value
    return 0.0


def kept_questions(redis_sync, key: ApiKey) -> int:
    return sum(redis_sync.xlen(name) for name in redis_sync.keys(redis_names.cache_questions(key.tenant, "*")))
