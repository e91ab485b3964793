"""What the semantic cache holds is bounded, in Redis and in the gateway."""

import numpy as np
import pytest

from gateway.cache.embedder import Vector
from gateway.cache.questions import KnownQuestions, PlacedQuestion, QuestionIndex
from gateway.redis_pipe import RedisPipe
from store import redis_names
from tests.fake_engine.process import FakeEngineProcess
from tests.gateway.conftest import Serving
from tests.gateway.semantic_client import PATIENT, ask, kept_questions, question, result

FEW_BYTES = PATIENT | {"FLYWHEEL_CACHE__MAX_TENANT_BYTES": "12000", "FLYWHEEL_CACHE__LOCAL_BYTES": "0"}
FEW_QUESTIONS = PATIENT | {"FLYWHEEL_CACHE__SEMANTIC_QUESTIONS": "3"}
NUMBERED = "Tell me about the town of {} please"
IN_OTHER_WORDS = "Please tell me about the town of {} please"
TOWNS = ("Ulm", "Gent", "Bath", "York", "Nice", "Brno", "Pisa", "Lyon")


@pytest.mark.parametrize("gateway", [FEW_BYTES], indirect=True)
async def test_a_question_goes_with_its_answer_and_counts_as_bytes(
    serving: Serving, embedder: FakeEngineProcess, redis_sync
):
    key = serving.gateway.new_key(semantic_cache=True)
    async with serving.gateway.client(key.secret) as client:
        for town in TOWNS:
            await ask(client, question(NUMBERED.format(town)))
        oldest, newest = [await ask(client, question(IN_OTHER_WORDS.format(TOWNS[at]))) for at in (0, -1)]

    answers = redis_sync.keys(redis_names.cached_answer(key.key.tenant, "*"))
    assert [result(answer) for answer in (oldest, newest)] == ["miss", "semantic"]
    assert 2 < len(answers) < len(TOWNS)
    assert kept_questions(redis_sync, key.key) == len(answers)
    assert redis_sync.hlen(redis_names.cache_places(key.key.tenant)) == len(answers)
    assert sum(redis_sync.strlen(name) + 768 for name in answers) < 12_000


@pytest.mark.parametrize("gateway", [FEW_QUESTIONS], indirect=True)
async def test_a_question_is_compared_with_the_newest_only(serving: Serving, embedder: FakeEngineProcess, redis_sync):
    key = serving.gateway.new_key(semantic_cache=True)
    async with serving.gateway.client(key.secret) as client:
        for town in TOWNS[:4]:
            await ask(client, question(NUMBERED.format(town)))
        answers = [await ask(client, question(IN_OTHER_WORDS.format(TOWNS[at]))) for at in (1, 0)]

    assert [result(answer) for answer in answers] == ["semantic", "miss"]
    assert kept_questions(redis_sync, key.key) == 3


def axis(at: int, of: int = 8) -> Vector:
    return np.eye(of, dtype=np.float32)[at]


def entry(number: int, vector: Vector, answer: str) -> tuple[bytes, list[bytes]]:
    packed = PlacedQuestion("", "", vector).packed()
    return b"5-%d" % number, [b"text", b"q", b"vector", packed, b"answer", answer.encode()]


def digests(known: KnownQuestions, vector: Vector) -> list[str]:
    return [neighbour.digest for neighbour in known.near(vector, at_least=0.9)]


def test_copies_are_the_newest_and_what_was_told_twice_counts_once():
    known = KnownQuestions(3)
    told = [entry(at, axis(at), f"a{at}") for at in range(5)]
    known.take(told[:4])
    known.take(told[2:])

    assert [digests(known, axis(at)) for at in range(5)] == [[], [], ["a2"], ["a3"], ["a4"]]
    assert known.since == "(5-4"
    known.forget("a3")
    assert digests(known, axis(3)) == []


def test_the_nearest_comes_first_and_half_precision_does_no_harm():
    known = KnownQuestions(10)
    near = np.array([0.95, (1 - 0.95**2) ** 0.5], dtype=np.float32)
    known.take([entry(1, near, "near"), entry(2, axis(0, 2), "same"), entry(3, axis(1, 2), "far")])

    found = list(known.near(axis(0, 2), at_least=0.9))
    assert [neighbour.digest for neighbour in found] == ["same", "near"]
    assert found[1].similarity == pytest.approx(0.95, abs=0.001)


async def test_copies_of_many_contexts_stay_within_their_bytes(
    redis_url: str, redis_sync, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gateway.cache.questions.MAX_LOCAL_BYTES", 20_000)
    pipe = RedisPipe(redis_url, timeout_s=5)
    index = QuestionIndex(pipe, most=10)
    for number in range(50):
        fields = {"text": "q", "vector": PlacedQuestion("", "", axis(0)).packed(), "answer": "a"}
        redis_sync.xadd(redis_names.cache_questions("acme", f"c{number}"), fields)
        assert digests(await index.look("acme", f"c{number}"), axis(0)) == ["a"]

    assert 10_000 < index.held_bytes <= 20_000
    assert digests(await index.look("acme", "c0"), axis(0)) == ["a"]
    index.forget("acme")
    assert index.held_bytes == 0
    await pipe.close()
