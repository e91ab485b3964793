"""What a model says to a held-out conversation, and how likely it finds the answer that is there."""

import http.client
import json
import random
import time
import urllib.request
from typing import Any

from contracts.chat_dataset import ChatExample
from contracts.engine import EngineLease
from contracts.models import ModelCard
from workers.evaluate.similarity import chrf
from workers.run import JobFailed, JobRun

WAIT_FOR_ENGINE_S = 600.0
LOOK_AGAIN_S = 1.0
LOOK_EVERY_S = 10.0
"""A model that is asked for more seldom may lose its place in an engine."""
TRIES = 4
ANSWER_TIMEOUT_S = 120.0
LONGER_THAN_REFERENCE = 2
"""An answer may be so many times as long as the reference before it is cut off; what rambles is not alike anyway."""
SHORTEST_ANSWER_TOKENS = 32


class EvaluatedModel:
    """A model behind whichever engines serve it."""

    def __init__(self, card: ModelCard, run: JobRun) -> None:
        self.card = card
        self._run = run
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._leases: list[EngineLease] = []
        self._looked_at = 0.0

    def wait_until_served(self) -> None:
        """Raises JobFailed where no engine serves the model in time, and what `run.check` raises."""
        deadline = time.monotonic() + WAIT_FOR_ENGINE_S
        while not self._look():
            self._run.check()
            if time.monotonic() > deadline:
                raise JobFailed("no_engine", f"No engine served `{self.card.name}` within {WAIT_FOR_ENGINE_S:.0f} s.")
            time.sleep(LOOK_AGAIN_S)

    def log_likelihood(self, example: ChatExample) -> tuple[float, int]:
        """Of the last answer: the sum over its tokens in nats, and how many tokens these are."""
        turns = [{"role": turn.role, "content": turn.content} for turn in example.messages]
        prompt = self._tokens(turns[:-1], add_generation_prompt=True)
        whole = self._tokens(turns, add_generation_prompt=False, continue_final_message=True)
        begun = _common_prefix(prompt, whole)
        answer = self._ask(
            "/v1/completions", {"prompt": whole, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
        )
        told = answer["choices"][0]["prompt_logprobs"][begun:]
        likelihoods = [of_token[str(token)]["logprob"] for of_token, token in zip(told, whole[begun:], strict=True)]
        return sum(likelihoods), len(likelihoods)

    def similarity(self, example: ChatExample) -> float:
        """Of the answer at temperature 0 to the one that is there."""
        turns = [{"role": turn.role, "content": turn.content} for turn in example.messages]
        reference = example.messages[-1].content
        room = self.card.context_length - len(self._tokens(turns[:-1], add_generation_prompt=True))
        longest = max(SHORTEST_ANSWER_TOKENS, LONGER_THAN_REFERENCE * len(self._tokens_of_text(reference)))
        answer = self._ask(
            "/v1/chat/completions",
            {"messages": turns[:-1], "max_tokens": max(1, min(longest, room)), "temperature": 0},
        )
        return chrf(answer["choices"][0]["message"]["content"] or "", reference)

    def _tokens(self, messages: list[dict[str, str]], **options: bool) -> list[int]:
        tokens: list[int] = self._ask("/tokenize", {"messages": messages, **options})["tokens"]
        return tokens

    def _tokens_of_text(self, text: str) -> list[int]:
        tokens: list[int] = self._ask("/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"]
        return tokens

    def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Of any engine that serves the model; another one where that fails. Raises JobFailed."""
        failure = "no engine serves it"
        for attempt in range(TRIES):
            self._run.check()
            if attempt or time.monotonic() - self._looked_at > LOOK_EVERY_S:
                self._look()
            if not self._leases:
                self.wait_until_served()
            lease = random.choice(self._leases)  # noqa: S311 (no secret)
            try:
                return self._post(f"{lease.url}{path}", {"model": self.card.name, **body})
            except (OSError, http.client.HTTPException, ValueError) as error:
                failure = f"{error} at {path}"
                time.sleep(attempt)
        raise JobFailed("engine_failed", f"The model `{self.card.name}` could not be asked: {failure}.")

    def _post(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 (an engine's address)
            url, json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with self._opener.open(request, timeout=ANSWER_TIMEOUT_S) as answer:
            said: dict[str, Any] = json.load(answer)
        return said

    def _look(self) -> bool:
        self._leases = self._run.resources.engines.serving(self.card)
        self._looked_at = time.monotonic()
        return bool(self._leases)


def _common_prefix(first: list[int], second: list[int]) -> int:
    for position, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return position
    return min(len(first), len(second))
