"""Streamed chat completions, a steady number at once, with the time of each token.

Each of the workers has a connection of its own and asks again as soon as it has its answer (a closed loop). Prompts
differ in their first words, so that neither answers nor prefixes are found in a cache. Each request is of another user,
so that of an alias's two models either gets its share of them.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx

TIMEOUT_S = 300.0
PROMPT = "Explain to a new colleague, in plain words, how a flywheel stores energy and where it is used."


@dataclass(frozen=True, slots=True)
class Target:
    base_url: str
    api_key: str
    model: str
    max_tokens: int


@dataclass(slots=True)
class Answer:
    """One request. Times are seconds since the level began; `tokens` is the server's count where it tells one."""

    asked_s: float
    token_times_s: list[float] = field(default_factory=list)
    ended_s: float = 0.0
    tokens: int = 0
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """All answers at one concurrency."""

    concurrency: int
    duration_s: float
    answers: list[Answer]


async def run_level(target: Target, *, concurrency: int, requests: int) -> Level:
    headers = {"authorization": f"Bearer {target.api_key}", "cache-control": "no-store"}
    certificates = httpx.create_ssl_context()  # once: reading them takes longer than many a first token
    answers: list[Answer] = []
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(httpx.AsyncClient(headers=headers, timeout=TIMEOUT_S, verify=certificates))
            for _ in range(min(concurrency, requests))
        ]
        began = time.perf_counter()

        async def work(client: httpx.AsyncClient) -> None:
            while len(answers) < requests:
                answers.append(Answer(time.perf_counter() - began))
                await ask(client, target, answers[-1], began)

        await asyncio.gather(*(work(client) for client in clients))
        return Level(concurrency, time.perf_counter() - began, answers)


async def ask(client: httpx.AsyncClient, target: Target, answer: Answer, began: float) -> None:
    """Fills in the answer, whose times count from `began`. Raises nothing for a request that fails."""
    body = {
        "model": target.model,
        "messages": [{"role": "user", "content": f"{secrets.token_hex(8)} {PROMPT}"}],
        "user": f"bench-{secrets.token_hex(4)}",
        "max_tokens": target.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    try:
        async with client.stream("POST", f"{target.base_url}/chat/completions", json=body) as response:
            if response.is_error:
                answer.failure = _reason(response.status_code, await response.aread())
                return
            async for line in response.aiter_lines():
                _note(answer, line, time.perf_counter() - began)
    except httpx.HTTPError as error:
        answer.failure = f"{type(error).__name__}: {error}".rstrip(": ")
    finally:
        answer.ended_s = time.perf_counter() - began
    if answer.failure is None and not answer.token_times_s:
        answer.failure = "The answer had no token."
    answer.tokens = answer.tokens or len(answer.token_times_s)


def _note(answer: Answer, line: str, now_s: float) -> None:
    if not line.startswith("data: {"):
        return
    event = json.loads(line.removeprefix("data: "))
    if "error" in event:
        answer.failure = str(event["error"].get("message", "The stream ended with an error."))
    if usage := event.get("usage"):
        answer.tokens = usage.get("completion_tokens") or answer.tokens
    answer.token_times_s += [now_s for _ in _texts(event)]


def _texts(event: dict[str, Any]) -> Iterator[str]:
    for choice in event.get("choices") or ():
        delta = choice.get("delta") or {}
        if text := delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning"):
            yield text


def _reason(status: int, body: bytes) -> str:
    try:
        return f"{status}: {json.loads(body)['error']['message']}"
    except (ValueError, KeyError, TypeError):
        return f"{status}: {body[:200].decode(errors='replace')}"
