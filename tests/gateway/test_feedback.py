"""/v1/feedback: for every answer of the tenant, captured or not, by the model that gave it."""

import pytest

from gateway.capture.marks import AnswerMarks
from store.captures import CaptureRepository
from store.feedback import FeedbackRepository
from tests.gateway.conftest import CHAT, MODEL, Serving, chat_body, model_card, wait_until
from tests.gateway.test_capture import old_capture

FEEDBACK = "/v1/feedback"


async def test_any_answer_can_be_rated_and_corrected_and_its_model_is_known(serving: Serving):
    async with serving.gateway.client() as client:
        whole = (await client.post(CHAT, json=chat_body(temperature=0))).json()["id"]
        streamed = (await client.post(CHAT, json=chat_body(stream=True))).text.split('"id":"')[1].split('"')[0]
        completed = (await client.post("/v1/completions", json={"model": MODEL, "prompt": "Hi"})).json()["id"]
        kept = (await client.post(CHAT, json=chat_body(temperature=0))).json()["id"]
        given = {"response_id": whole, "rating": "down", "correction": "Write to ben@example.com.", "tags": ["b", "a"]}
        answers = [await client.post(FEEDBACK, json=given | {"comment": "call 0151 12345678"})]
        answers += [
            await client.post(FEEDBACK, json={"response_id": answer, "rating": "up"})
            for answer in (streamed, completed)
        ]

    first = answers[0].json()
    assert [answer.json()["model"] for answer in answers] == [MODEL] * 3
    assert kept == whole
    assert (first["object"], first["rating"], first["tags"]) == ("feedback", "down", ["a", "b"])
    assert (first["correction"], first["comment"]) == ("Write to [EMAIL].", "call [PHONE]")


async def test_each_model_marks_its_answers(serving: Serving, redis_sync):
    serving.register(redis_sync, model_card("ft:small", kind="adapter", parent=MODEL))
    wait_until(lambda: "ft:small" in serving.models())
    marks = AnswerMarks(serving.gateway.settings["FLYWHEEL_AUTH__PEPPER"])
    key = serving.gateway.new_key()
    response_id = "chatcmpl-" + marks.mark("req_1", key.key.tenant, "ft:small")
    async with serving.gateway.client(key.secret) as client:
        answer = await client.post(FEEDBACK, json={"response_id": response_id, "rating": "up"})
    assert answer.json()["model"] == "ft:small"


async def test_answers_that_the_tenant_was_not_given_cannot_be_judged(serving: Serving):
    async with serving.gateway.client() as client, serving.gateway.client() as stranger:
        response_id = (await client.post(CHAT, json=chat_body())).json()["id"]
        forged = response_id.replace("chatcmpl-", "chatcmpl-x")
        refused = [
            await stranger.post(FEEDBACK, json={"response_id": response_id, "rating": "down"}),
            await client.post(FEEDBACK, json={"response_id": forged, "rating": "down"}),
            await client.post(FEEDBACK, json={"response_id": "é-ü-", "rating": "down"}),
        ]
    assert [answer.status_code for answer in refused] == [404, 404, 404]
    assert refused[0].json()["error"]["param"] == "response_id"


async def test_a_captured_answer_is_judged_also_when_its_model_is_gone(serving: Serving):
    key = serving.gateway.new_key()
    captured = old_capture(key.key.tenant, "chatcmpl-1", days_ago=0, model="ft:gone")
    CaptureRepository(serving.gateway.database).add([captured])
    async with serving.gateway.client(key.secret) as client:
        answer = await client.post(FEEDBACK, json={"response_id": "chatcmpl-1", "rating": "up"})
    assert answer.json()["model"] == "ft:gone"


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"rating": "up"}, "response_id"),
        ({"response_id": "chatcmpl-1"}, "rating"),
        ({"response_id": "chatcmpl-1", "rating": "great"}, "rating"),
        ({"response_id": "chatcmpl-1", "correction": ""}, "correction"),
        ({"response_id": "chatcmpl-1", "tags": ["two words"]}, "tags.0"),
        ({"response_id": "chatcmpl-1", "stars": 5}, "stars"),
    ],
)
async def test_a_mistake_is_named(serving: Serving, given: dict, param: str):
    async with serving.gateway.client() as client:
        answer = await client.post(FEEDBACK, json=given)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_ratings_are_counted_by_model_for_releases(serving: Serving, redis_sync):
    name = "rated-model"
    serving.register(redis_sync, model_card(name))
    wait_until(lambda: name in serving.models())
    key = serving.gateway.new_key()
    marks = AnswerMarks(serving.gateway.settings["FLYWHEEL_AUTH__PEPPER"])
    async with serving.gateway.client(key.secret) as client:
        for number, rating in enumerate(("up", "up", "down", "up")):
            response_id = "chatcmpl-" + marks.mark(f"req_{number % 3}", key.key.tenant, name)
            await client.post(FEEDBACK, json={"response_id": response_id, "rating": rating})
    assert FeedbackRepository(serving.gateway.database).ratings_of(name, since=0) == (2, 1)
