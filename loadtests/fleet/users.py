"""Users who talk in turns, after one of a few system prompts that many of them share.

Lengths have the medians of Azure's conversation trace, 1,020 prompt and 129 answer tokens (Patel et al., 2024,
"Splitwise"), and log-normal tails. A prompt is made of blocks of 16 tokens, each of which follows the same blocks
wherever it occurs, so that its number names it and all before it.
"""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from contracts.openai import ChatCompletionRequest, ChatMessage
from gateway.routing.rendezvous import mix
from gateway.routing.request import RoutingRequest
from loadtests.fleet.engine import MODEL
from tests.fake_engine.prefix_cache import BLOCK_TOKENS

SEED = 0x5EED
COPIES_OF_A_NUMBER = 5  # of 16 characters: 80 bytes for a block, 5 for a token


@dataclass(frozen=True, slots=True)
class Habits:
    """Medians are of log-normal distributions with `sigma`; system prompts are as popular as Zipf's words."""

    system_prompts: int = 64
    system_tokens: int = 640
    question_tokens: int = 64
    answer_tokens: int = 129
    sigma: float = 0.8
    mean_turns: float = 4.0
    think_s: float = 10.0


@dataclass(slots=True)
class Conversation:
    """What has been said so far, as text for the gateway and as blocks for the engine."""

    tenant: str
    messages: list[ChatMessage] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)

    def say(self, role: str, blocks: Sequence[int]) -> None:
        self.messages.append(ChatMessage(role=role, content="".join(_text_of(block) for block in blocks)))
        self.blocks += blocks

    def request(self) -> RoutingRequest:
        return RoutingRequest(MODEL, ChatCompletionRequest(model=MODEL, messages=list(self.messages)))


class Crowd:
    """Makes conversations, the same ones for the same seed."""

    def __init__(self, habits: Habits, seed: int) -> None:
        self.habits = habits
        self.random = random.Random(seed)
        self.numbers = itertools.count(1)
        self._systems = [self.new_blocks(habits.system_tokens) for _ in range(habits.system_prompts)]
        self._popularity = list(itertools.accumulate(1 / (rank + 1) for rank in range(habits.system_prompts)))

    def conversation(self) -> Conversation:
        (place,) = self.random.choices(range(len(self._systems)), cum_weights=self._popularity)
        talk = Conversation(tenant=f"tenant-{place}")
        talk.say("system", self._systems[place])
        return talk

    def ask(self, talk: Conversation) -> None:
        talk.say("user", self.new_blocks(self.habits.question_tokens))

    def answer_blocks(self) -> list[int]:
        return self.new_blocks(self.habits.answer_tokens)

    def turns(self) -> int:
        """Geometric: after each turn as many go on as before."""
        turns = 1
        while self.random.random() > 1 / self.habits.mean_turns:
            turns += 1
        return turns

    def new_blocks(self, median_tokens: int) -> list[int]:
        tokens = median_tokens * self.random.lognormvariate(0, self.habits.sigma)
        count = min(max(1, round(tokens / BLOCK_TOKENS)), 40 * median_tokens // BLOCK_TOKENS + 1)
        return list(itertools.islice(self.numbers, count))


def _text_of(block: int) -> str:
    return f"{mix(block, SEED):016x}" * COPIES_OF_A_NUMBER
