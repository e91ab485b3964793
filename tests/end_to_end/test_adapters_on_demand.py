"""More adapters than a real engine has places for."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from openai import OpenAI

from contracts.models import ModelCard
from tests.adapter_stage import AdapterStage
from tests.end_to_end.conftest import SLOW_S

pytestmark = [pytest.mark.real_stack, pytest.mark.long, pytest.mark.timeout(SLOW_S)]
PLACES, ADAPTERS = 2, 4


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdapterStage]:
    with ExitStack() as stack:
        yield AdapterStage(tmp_path_factory.mktemp("stage"), stack, places=PLACES)


@pytest.fixture(scope="module")
def adapters(stage: AdapterStage) -> list[ModelCard]:
    cards = [stage.make_adapter(seed) for seed in range(ADAPTERS)]
    for card in cards:
        stage.register(card)
        stage.first_token_s(card.name)  # every one is asked once, and most of them have left since
    return cards


def answer(stage: AdapterStage, name: str, *, tokens: int = 16) -> str:
    with OpenAI(base_url=stage.gateway.base_url, api_key=stage.key, max_retries=0, timeout=120) as client:
        chunks = client.chat.completions.create(
            model=name,
            messages=[{"role": "user", "content": "Tell me of the sea."}],
            temperature=0,
            max_tokens=tokens,
            stream=True,
        )
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_each_answers_with_its_own_weights_whenever_it_is_asked(stage: AdapterStage, adapters: list[ModelCard]):
    rounds = [{card.name: answer(stage, card.name) for card in adapters} for _ in range(2)]

    assert rounds[0] == rounds[1]
    assert len(set(rounds[0].values())) == ADAPTERS
    assert len(stage.loaded()) <= PLACES


def test_an_answer_is_whole_although_its_adapter_has_to_leave_meanwhile(stage: AdapterStage, adapters: list[ModelCard]):
    alone = answer(stage, adapters[0].name, tokens=100)
    told: list[str] = []
    long_one = threading.Thread(target=lambda: told.append(answer(stage, adapters[0].name, tokens=100)))
    long_one.start()
    others = [answer(stage, card.name) for card in adapters[1:]]
    long_one.join()

    assert all(others)
    assert told == [alone]
