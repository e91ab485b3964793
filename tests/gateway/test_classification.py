"""/v1/classify: limits, cache, metrics and routing as for embeddings, in vLLM's words."""

import httpx
import pytest

from tests.gateway.conftest import MODEL, Serving, model_card, wait_until

CLASSIFY = "/v1/classify"
CLASSIFIER = "fake-classifier"


@pytest.fixture
def classifying(serving: Serving, start_fake_engine, lease, redis_sync) -> Serving:
    """The engine beside `serving`'s is the classifier's."""
    engine = start_fake_engine(model=CLASSIFIER)
    serving.register(redis_sync, model_card(CLASSIFIER, task="classify", kind="full", parent=MODEL, on_demand=True))
    lease(engine, task="classify")
    wait_until(lambda: serving.models().get(CLASSIFIER) == "live")
    return Serving(serving.gateway, engine)


async def test_texts_are_classified_and_a_repeat_comes_from_the_cache(classifying: Serving):
    body = {"model": CLASSIFIER, "input": ["how nice", "how dull"]}
    async with classifying.gateway.client() as client:
        first = await client.post(CLASSIFY, json=body)
        second = await client.post(CLASSIFY, json=body)

    assert first.status_code == 200
    data = first.json()["data"]
    assert [item["index"] for item in data] == [0, 1]
    assert all({"label", "probs", "num_classes"} <= set(item) for item in data)
    assert second.json() == first.json()
    assert second.headers["x-flywheel-cache"] == "hit"
    assert [request["path"] for request in classifying.engine.requests()] == ["/classify"]
    metrics = httpx.get(f"{classifying.gateway.url}/metrics").text
    assert f'flywheel_requests_total{{model="{CLASSIFIER}",route="{CLASSIFY}",status="200"}}' in metrics
    assert f'flywheel_tokens_total{{direction="input",model="{CLASSIFIER}"}}' in metrics


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        (CLASSIFY, {"model": MODEL, "input": "a"}, 400, "model"),
        ("/v1/embeddings", {"model": CLASSIFIER, "input": "a"}, 400, "model"),
        (CLASSIFY, {"model": CLASSIFIER}, 400, "input"),
        (CLASSIFY, {"model": CLASSIFIER, "input": "a", "task": "classify"}, 400, "task"),
        (CLASSIFY, {"model": "nobody", "input": "a"}, 404, "model"),
    ],
)
async def test_what_cannot_be_classified_is_refused_by_its_field(
    classifying: Serving, path: str, body: dict, status: int, param: str
):
    async with classifying.gateway.client() as client:
        answer = await client.post(path, json=body)

    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert classifying.engine.requests() == []


def test_both_answers_are_documented(serving: Serving):
    document = httpx.get(f"{serving.gateway.url}/openapi.json").json()
    answer = document["paths"][CLASSIFY]["post"]["responses"]["200"]["content"]["application/json"]["schema"]

    assert [one["$ref"].rpartition("/")[2] for one in answer["anyOf"]] == [
        "ClassificationAnswer",
        "TokenClassificationAnswer",
    ]
    assert {"entities", "words"} <= set(document["components"]["schemas"]["TextEntities"]["properties"])
