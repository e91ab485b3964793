"""/v1/moderations by the openai SDK, through a real gateway."""

import asyncio
from typing import get_args

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from openai.types import ModerationModel

from contracts.text_classifiers import JUDGED_CATEGORIES, MODERATION_CATEGORIES
from gateway.api.moderations import MODEL, MOST_CHARACTERS
from tests.gateway_process import GatewayProcess

MODERATIONS = "/v1/moderations"
RUDE = "You are a fucking idiot, shut up you stupid piece of shit."
KIND = "Thank you for your help with my bicycle yesterday."


def sdk(gateway: GatewayProcess, **fields: object) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.new_key(**fields).secret, max_retries=0)


async def test_a_rude_text_is_flagged_and_a_kind_one_is_not(gateway: GatewayProcess):
    answer = await sdk(gateway).moderations.create(input=[RUDE, KIND], model="omni-moderation-latest")
    rude, kind = answer.results

    assert answer.id.startswith("modr-")
    assert answer.model == MODEL
    assert (rude.flagged, rude.categories.harassment) == (True, True)
    assert rude.category_scores.harassment > 0.5 > kind.category_scores.harassment
    assert not kind.flagged
    assert not any(kind.categories.model_dump().values())


async def test_every_category_is_told_and_those_that_are_not_judged_apply_to_nothing(gateway: GatewayProcess):
    async with gateway.client() as client:
        result = (await client.post(MODERATIONS, json={"input": RUDE})).json()["results"][0]

    assert tuple(result["categories"]) == tuple(result["category_scores"]) == MODERATION_CATEGORIES
    applied = result["category_applied_input_types"]
    assert {name for name, types in applied.items() if types == ["text"]} == set(JUDGED_CATEGORIES)
    assert all(result["category_scores"][name] == 0 for name, types in applied.items() if types == [])


@pytest.mark.parametrize("name", get_args(ModerationModel))
async def test_every_model_that_the_sdk_knows_is_taken(gateway: GatewayProcess, name: str):
    assert (await sdk(gateway).moderations.create(input=KIND, model=name)).model == MODEL


async def test_the_text_parts_of_a_message_are_judged_as_one(gateway: GatewayProcess):
    parts = [{"type": "text", "text": KIND}, {"type": "text", "text": RUDE}]
    answer = await sdk(gateway).moderations.create(input=parts)
    assert [result.flagged for result in answer.results] == [True]


async def test_one_sentence_is_found_in_a_long_text(gateway: GatewayProcess):
    answer = await sdk(gateway).moderations.create(input=f"{KIND} " * 100 + RUDE + f" {KIND}" * 100)
    assert answer.results[0].categories.harassment


@pytest.mark.parametrize(
    ("body", "status", "param", "word"),
    [
        ({}, 400, "input", "Missing"),
        ({"input": []}, 400, "input", "1 to 256 texts"),
        ({"input": 5}, 400, "input", "a text"),
        ({"input": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}, 400, "input", "Images"),
        ({"input": "a" * (MOST_CHARACTERS + 1)}, 400, "input", "100,000"),
        ({"input": "a", "model": "gpt-4"}, 404, "model", "gpt-4"),
        ({"input": "a", "threshold": 1}, 400, "threshold", "Unknown"),
    ],
)
async def test_what_cannot_be_judged_is_refused_with_its_field(gateway: GatewayProcess, body, status, param, word):
    async with gateway.client() as client:
        answer = await client.post(MODERATIONS, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["type"]) == (status, param, "invalid_request_error")
    assert word in error["message"]


async def test_keys_scopes_and_requests_a_minute_hold_here_too(gateway: GatewayProcess):
    with pytest.raises(openai.AuthenticationError):
        await AsyncOpenAI(base_url=gateway.base_url, api_key="sk-fw-none", max_retries=0).moderations.create(input="a")
    with pytest.raises(openai.PermissionDeniedError):
        await sdk(gateway, scopes=["jobs"]).moderations.create(input="a")

    known = await sdk(gateway, requests_per_minute=9).moderations.with_raw_response.create(input=KIND)
    assert known.headers["x-ratelimit-remaining-requests"] == "8"
    limited = sdk(gateway, requests_per_minute=2)
    answers = await asyncio.gather(*(limited.moderations.create(input=KIND) for _ in range(4)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, openai.RateLimitError)]
    assert len(refused) == 2
    assert int(refused[0].response.headers["retry-after"]) >= 1


async def test_metrics_count_what_was_judged_and_the_document_describes_it(gateway: GatewayProcess):
    async with gateway.client() as client:
        before = await counted(client)
        await client.post(MODERATIONS, json={"input": [RUDE, KIND, KIND]})
        after = await counted(client)
        document = (await client.get("/openapi.json")).json()

    assert {result: after[result] - before[result] for result in after} == {"flagged": 1, "passed": 2}
    assert document["paths"][MODERATIONS]["post"]["tags"] == ["Moderations"]


async def counted(client: httpx.AsyncClient) -> dict[str, float]:
    lines = (await client.get("/metrics")).text.splitlines()
    prefix = 'flywheel_moderated_texts_total{result="'
    return {
        line[len(prefix) :].partition('"')[0]: float(line.rsplit(" ", 1)[1])
        for line in lines
        if line.startswith(prefix)
    }
